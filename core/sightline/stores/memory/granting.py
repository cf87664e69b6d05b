"""Registrations, and who sees which process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import structs

from sightline.errors import HandleNotGranted
from sightline.observation.model import SessionState
from sightline.process.appending import cancel_request
from sightline.process.model import (
    GrantHolder,
    GrantsEnded,
    HandleGrant,
    NewGrant,
    ProcessScope,
    Registered,
    Registration,
)
from sightline.process.rules import as_stored, check_same, checked, grant_of, new_record, scopes_of, visible
from sightline.stores.memory.processes import Process, append_event
from sightline.stores.memory.state import State

__all__ = [
    "cancel_unreferenced",
    "end_grants",
    "grant_process",
    "grants_of_process",
    "list_grants",
    "register_process",
    "revoke_process",
    "transfer_grants",
    "with_processes",
]


def register_process(state: State, registration: Registration, grants: Sequence[NewGrant], now: int) -> Registered:
    record = new_record(checked(registration), now)
    granted = {grant.scope: as_stored("descriptor", grant.descriptor) for grant in grants}
    by_id = state.processes.by_id
    before = by_id.get(record.process_id)
    if before is not None:
        check_same(before.record, record)
        return Registered(record=before.record, created=False)
    for scope in granted:
        state.session(scope.session_id)
    by_id[record.process_id] = Process(len(by_id) + 1, record, grants=granted)
    return Registered(record=record, created=True)


def grant_process(state: State, process_id: str, scope: ProcessScope, descriptor: dict[str, Any]) -> HandleGrant:
    process = state.processes.process(process_id)
    state.session(scope.session_id)
    process.grants[scope] = descriptor = as_stored("descriptor", descriptor)
    return grant_of(process.record, descriptor)


def revoke_process(state: State, process_id: str, scope: ProcessScope) -> bool:
    process = state.processes.by_id.get(process_id)
    return process is not None and process.grants.pop(scope, None) is not None


def transfer_grants(
    state: State, source: ProcessScope, target: ProcessScope, process_ids: Sequence[str]
) -> tuple[HandleGrant, ...]:
    if not process_ids:
        return ()
    state.session(target.session_id)
    processes = [(name, state.processes.by_id.get(name)) for name in sorted(set(process_ids))]
    moved = []
    for name, process in processes:
        if process is None or source not in process.grants:
            raise HandleNotGranted(source.session_id, name)
        moved.append(process)
    for process in moved:
        process.grants[target] = process.grants.pop(source)
    return tuple(grant_of(process.record, process.grants[target]) for process in moved)


def cancel_unreferenced(state: State, scope: ProcessScope, keep: Sequence[str], reason: str, now: int) -> GrantsEnded:
    kept = frozenset(keep)
    return _end(state, lambda process: (scope,) if process.record.process_id not in kept else (), reason, now)


def end_grants(state: State, session_id: str, reason: str, now: int) -> GrantsEnded:
    return _end(
        state, lambda process: [scope for scope in process.grants if scope.session_id == session_id], reason, now
    )


def _end(state: State, scopes_of: Callable[[Process], Iterable[ProcessScope]], reason: str, now: int) -> GrantsEnded:
    revoked, cancelled, preserved = [], [], []
    for name, process in sorted(state.processes.by_id.items()):
        taken = [scope for scope in scopes_of(process) if process.grants.pop(scope, None) is not None]
        if not taken:
            continue
        revoked += [name] * len(taken)
        if process.record.is_terminal or process.grants:
            preserved.append(name)
        else:
            cancelled.append(append_event(state.processes, name, cancel_request(name, reason), now=now))
    return GrantsEnded(revoked=tuple(revoked), cancelled=tuple(cancelled), preserved=tuple(preserved))


def grants_of_process(state: State, process_id: str) -> tuple[GrantHolder, ...]:
    process = state.processes.by_id.get(process_id)
    grants = {} if process is None else process.grants
    holders = [GrantHolder(scope=scope, descriptor=descriptor) for scope, descriptor in grants.items()]
    return tuple(sorted(holders, key=lambda holder: (holder.scope.session_id, holder.scope.agent_frame_id)))


def list_grants(state: State, scope: ProcessScope, *, live: bool) -> tuple[HandleGrant, ...]:
    return tuple(
        grant_of(process.record, process.grants[scope])
        for _, process in sorted(state.processes.by_id.items())
        if scope in process.grants and not (live and process.record.is_terminal)
    )


def with_processes(state: State, session: SessionState) -> SessionState:
    """The session with the live processes that it sees."""
    scopes = scopes_of(session.record.session_id, session.record.agent_frame_id)
    granted = [grant for scope in scopes for grant in list_grants(state, scope, live=True)]
    return structs.replace(session, processes=visible(granted))
