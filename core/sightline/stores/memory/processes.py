"""Processes, their logs and their leases. What an event does, the rules say; here it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, field, structs

from sightline.errors import HandleNotVisible, ProcessLeaseLost, ProcessNotFound, ProcessValueNotFound
from sightline.process.appending import abandoned, appended, replayed
from sightline.process.leasing import Hold, abandonment, acquired, forgiven, is_free, released, renewed
from sightline.process.model import (
    Appended,
    ExternalRef,
    NewEvent,
    PendingWake,
    ProcessBusy,
    ProcessEvent,
    ProcessLease,
    ProcessPage,
    ProcessRecord,
    ProcessScope,
    ProcessStatus,
)
from sightline.process.rules import checked_ref

__all__ = [
    "Process",
    "Processes",
    "abandon_process",
    "acquire_process_lease",
    "append_event",
    "list_process_events",
    "list_processes",
    "pending_wakes",
    "process_value",
    "release_process_lease",
    "renew_process_lease",
    "runnable_processes",
    "set_external_ref",
]


class Process(Struct):
    """A process with what only the store knows of it. `position`: in the order of registrations."""

    position: int
    record: ProcessRecord
    hold: Hold = Hold()
    events: list[ProcessEvent] = field(default_factory=list)
    keys: dict[str, ProcessEvent] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    """What the log only names, by its name."""
    grants: dict[ProcessScope, dict[str, Any]] = field(default_factory=dict)
    """By scope: how the process is called there."""


class Processes:
    """All processes, by registration, and the outbox of their wakes."""

    def __init__(self) -> None:
        self.by_id: dict[str, Process] = {}
        self.wakes: dict[int, PendingWake] = {}
        """Those that are to be delivered, by their position."""
        self.wake_ids: set[tuple[str, str]] = set()

    def process(self, process_id: str) -> Process:
        """Raises ProcessNotFound."""
        process = self.by_id.get(process_id)
        if process is None:
            raise ProcessNotFound(process_id)
        return process


def list_processes(
    state: Processes, limit: int, after: int | None, status: ProcessStatus | None, kind: str | None
) -> ProcessPage:
    found = [
        process
        for process in reversed(state.by_id.values())
        if after is None or process.position < after
        if status is None or process.record.status == status
        if kind is None or process.record.kind == kind
    ]
    page = found[:limit]
    more = len(found) > limit
    return ProcessPage(tuple(process.record for process in page), str(page[-1].position) if more and page else None)


def runnable_processes(
    state: Processes, now: int, limit: int, after: str, host_profile_id: str | None
) -> tuple[ProcessRecord, ...]:
    found = (
        process.record
        for name, process in sorted(state.by_id.items())
        if name > after
        if not process.record.is_terminal and process.record.disposition != "externally_owned"
        if is_free(process.hold, now)
        if host_profile_id is None or process.record.provenance.host_profile_id == host_profile_id
    )
    return tuple(found)[:limit]


def set_external_ref(state: Processes, process_id: str, ref: ExternalRef, now: int) -> ProcessRecord:
    process = state.process(process_id)
    updated = max(process.record.updated_at_ms, now)
    process.record = structs.replace(process.record, external_ref=checked_ref(ref), updated_at_ms=updated)
    return process.record


# The log


def list_process_events(
    state: Processes, process_id: str, after: int, limit: int, event_type: str | None
) -> tuple[ProcessEvent, ...]:
    events = state.process(process_id).events[max(0, after) :]
    return tuple(event for event in events if event_type is None or event.event_type == event_type)[:limit]


def process_value(state: Processes, process_id: str, attachment_id: str) -> bytes:
    value = state.process(process_id).values.get(attachment_id)
    if value is None:
        raise ProcessValueNotFound(process_id, attachment_id)
    return value


def append_event(
    state: Processes,
    process_id: str,
    event: NewEvent,
    *,
    now: int,
    lease: ProcessLease | None = None,
    seen_from: Sequence[ProcessScope] | None = None,
) -> Appended:
    process = state.process(process_id)
    if seen_from is not None and process.grants.keys().isdisjoint(seen_from):
        raise HandleNotVisible(seen_from[0].session_id if seen_from else "", process_id)
    stored = None if event.replay_key is UNSET else process.keys.get(event.replay_key)
    if stored is not None:
        return replayed(process.record, stored, event)
    result = appended(process.record, process.hold, event, lease=lease, now=now)
    _keep(state, process, result)
    return result


def abandon_process(state: Processes, process_id: str, found_by: str, now: int) -> Appended:
    process = state.process(process_id)
    output = abandonment(process.record, process.hold, found_by=found_by, now=now)
    result = abandoned(process.record, output, now)
    _keep(state, process, result)
    return result


def _keep(state: Processes, process: Process, result: Appended) -> None:
    process.record = result.record
    event = result.event
    if event is None:
        return
    process.events.append(event)
    process.values.update((kept.attachment.attachment_id, kept.data) for kept in result.kept)
    if event.replay_key is not UNSET:
        process.keys[event.replay_key] = event
    if event.output is not UNSET:
        process.hold = process.hold.freed()
    if event.wake is not UNSET and (event.process_id, event.wake.wake_id) not in state.wake_ids:
        state.wake_ids.add((event.process_id, event.wake.wake_id))
        position = len(state.wake_ids)
        state.wakes[position] = PendingWake(position=position, wake=event.wake)


def pending_wakes(state: Processes, limit: int, after: int) -> tuple[PendingWake, ...]:
    return tuple(entry for entry in state.wakes.values() if entry.position > after)[:limit]


# Leases


def acquire_process_lease(
    state: Processes, process_id: str, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> ProcessLease | ProcessBusy:
    process = state.process(process_id)
    got = acquired(process.record, process.hold, owner_id=owner_id, lease_token=lease_token, now=now, ttl_ms=ttl_ms)
    if isinstance(got, ProcessBusy):
        return got
    process.record, lease = got
    process.hold = Hold.of(lease)
    return lease


def renew_process_lease(state: Processes, lease: ProcessLease, now: int, ttl_ms: int, waits: bool) -> ProcessLease:
    process = state.by_id.get(lease.process_id)
    if process is None:
        raise ProcessLeaseLost(lease.process_id, lease.fencing_token)
    longer = renewed(process.hold, lease, now=now, ttl_ms=ttl_ms)
    process.hold = Hold.of(longer)
    if waits:
        process.record = forgiven(process.record)
    return longer


def release_process_lease(state: Processes, lease: ProcessLease, charge: bool) -> None:
    process = state.by_id.get(lease.process_id)
    freed = None if process is None else released(process.record, process.hold, lease, charge=charge)
    if process is not None and freed is not None:
        process.record, process.hold = freed
