"""The transactions that register processes, and those about who sees them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
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
from sightline.process.rules import as_stored, check_same, grant_of, new_record, scopes_of, visible
from sightline.stores.sqlite import sessions
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.processes import append_event, get_process, process_of, record_of_process
from sightline.stores.sqlite.rows import decode, text
from sightline.stores.sqlite.sessions import require_session
from sightline.stores.sqlite.statements import first, run

__all__ = [
    "cancel_unreferenced",
    "end_grants",
    "grant_process",
    "grants_of_process",
    "list_grants",
    "load_session",
    "register_process",
    "revoke_process",
    "transfer_grants",
]


def register_process(db: Connection, registration: Registration, grants: Sequence[NewGrant], now: int) -> Registered:
    """`registration` is a checked one."""
    record = new_record(registration, now)
    granted = [(grant.scope, text(as_stored("descriptor", grant.descriptor))) for grant in grants]
    before = process_of(db, record.process_id)
    if before is not None:
        check_same(before.record, record)
        return Registered(record=before.record, created=False)
    for scope, _ in granted:
        require_session(db, scope.session_id)
    run(
        db,
        "insert_process",
        process_id=record.process_id,
        registration_hash=record.registration_hash,
        kind=record.kind,
        disposition=record.disposition,
        host_profile_id=record.provenance.host_profile_id,
        registration=text(structs.replace(registration, event_types=())),
        event_types=text(registration.event_types),
        now=now,
    )
    for scope, descriptor in granted:
        _put(db, scope, record.process_id, descriptor)
    return Registered(record=record, created=True)


def grant_process(db: Connection, process_id: str, scope: ProcessScope, descriptor: dict[str, Any]) -> HandleGrant:
    record = get_process(db, process_id)
    require_session(db, scope.session_id)
    descriptor = as_stored("descriptor", descriptor)
    _put(db, scope, process_id, text(descriptor))
    return grant_of(record, descriptor)


def revoke_process(db: Connection, process_id: str, scope: ProcessScope) -> bool:
    return _delete(db, scope, process_id)


def transfer_grants(
    db: Connection, source: ProcessScope, target: ProcessScope, process_ids: Sequence[str]
) -> tuple[HandleGrant, ...]:
    if not process_ids:
        return ()
    require_session(db, target.session_id)
    granted = [(name, _descriptor(db, source, name)) for name in sorted(set(process_ids))]
    moved = []
    for name, descriptor in granted:
        if descriptor is None:
            raise HandleNotGranted(source.session_id, name)
        moved.append((name, descriptor))
    for name, descriptor in moved:
        _delete(db, source, name)
        _put(db, target, name, descriptor)
    return tuple(grant_of(get_process(db, name), decode(descriptor, dict)) for name, descriptor in moved)


def cancel_unreferenced(db: Connection, scope: ProcessScope, keep: Sequence[str], reason: str, now: int) -> GrantsEnded:
    rows = run(db, "granted_to_scope", session_id=scope.session_id, agent_frame_id=scope.agent_frame_id).fetchall()
    kept = frozenset(keep)
    return _end(db, scope.session_id, [row for row in rows if row["process_id"] not in kept], reason, now)


def end_grants(db: Connection, session_id: str, reason: str, now: int) -> GrantsEnded:
    return _end(db, session_id, run(db, "granted_to_session", session_id=session_id).fetchall(), reason, now)


def _end(db: Connection, session_id: str, rows: Iterable[sqlite3.Row], reason: str, now: int) -> GrantsEnded:
    revoked = []
    for row in rows:
        _delete(db, ProcessScope(session_id, row["agent_frame_id"]), row["process_id"])
        revoked.append(row["process_id"])
    cancelled, preserved = [], []
    for name in sorted(set(revoked)):
        if get_process(db, name).is_terminal or first(db, "grants_of_process", process_id=name):
            preserved.append(name)
        else:
            cancelled.append(append_event(db, name, cancel_request(name, reason), now=now))
    return GrantsEnded(revoked=tuple(sorted(revoked)), cancelled=tuple(cancelled), preserved=tuple(preserved))


def grants_of_process(db: Connection, process_id: str) -> tuple[GrantHolder, ...]:
    return tuple(
        GrantHolder(
            scope=ProcessScope(row["session_id"], row["agent_frame_id"]), descriptor=decode(row["descriptor"], dict)
        )
        for row in run(db, "grants_of_process", process_id=process_id)
    )


def list_grants(db: Connection, scope: ProcessScope, *, live: bool) -> tuple[HandleGrant, ...]:
    rows = run(db, "grants_of_scope", session_id=scope.session_id, agent_frame_id=scope.agent_frame_id, live=live)
    return tuple(grant_of(record_of_process(row), decode(row["descriptor"], dict)) for row in rows)


def load_session(db: Connection, session_id: str, newest: int) -> SessionState:
    """The session with the live processes that it sees."""
    session = sessions.load_session(db, session_id, newest)
    scopes = scopes_of(session_id, session.record.agent_frame_id)
    granted = [grant for scope in scopes for grant in list_grants(db, scope, live=True)]
    return structs.replace(session, processes=visible(granted))


def _put(db: Connection, scope: ProcessScope, process_id: str, descriptor: str) -> None:
    run(
        db,
        "put_process_grant",
        session_id=scope.session_id,
        agent_frame_id=scope.agent_frame_id,
        process_id=process_id,
        descriptor=descriptor,
    )


def _descriptor(db: Connection, scope: ProcessScope, process_id: str) -> str | None:
    row = first(
        db,
        "get_process_grant",
        session_id=scope.session_id,
        agent_frame_id=scope.agent_frame_id,
        process_id=process_id,
    )
    return None if row is None else row["descriptor"]


def _delete(db: Connection, scope: ProcessScope, process_id: str) -> bool:
    deleted = run(
        db,
        "delete_process_grant",
        session_id=scope.session_id,
        agent_frame_id=scope.agent_frame_id,
        process_id=process_id,
    )
    return deleted.rowcount == 1
