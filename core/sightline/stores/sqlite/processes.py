"""The transactions about processes, their logs and their leases. What an event does, the rules say; here it is kept."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, structs

from sightline.errors import HandleNotVisible, ProcessLeaseLost, ProcessNotFound, ProcessValueNotFound
from sightline.process.appending import abandoned, appended, replayed
from sightline.process.leasing import Hold, abandonment, acquired, forgiven, released, renewed
from sightline.process.model import (
    Appended,
    AwaitOutput,
    EventType,
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
    Registration,
)
from sightline.process.rules import checked_ref
from sightline.queue.model import ProcessWake
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.rows import decode, text
from sightline.stores.sqlite.statements import first, run

__all__ = [
    "abandon_process",
    "acquire_process_lease",
    "append_event",
    "get_process",
    "list_process_events",
    "list_processes",
    "pending_wakes",
    "process_of",
    "process_value",
    "record_of_process",
    "release_process_lease",
    "renew_process_lease",
    "runnable_processes",
    "set_external_ref",
]

_NEWEST = 2**63 - 1


class Process(Struct, frozen=True):
    """A row: the record with what only the store knows of it."""

    position: int
    record: ProcessRecord
    hold: Hold


def process_of(db: Connection, process_id: str) -> Process | None:
    row = first(db, "get_process", process_id=process_id)
    return None if row is None else _process(row)


def get_process(db: Connection, process_id: str) -> ProcessRecord:
    return _required(db, process_id).record


def list_processes(
    db: Connection, limit: int, after: int | None, status: ProcessStatus | None, kind: str | None
) -> ProcessPage:
    bounds: dict[str, Any] = {"after": _NEWEST if after is None else after, "limit": limit + 1}
    if status is not None:
        found = run(db, "list_processes_by_status", status=status, kind=kind, **bounds)
    elif kind is not None:
        found = run(db, "list_processes_by_kind", kind=kind, **bounds)
    else:
        found = run(db, "list_processes", **bounds)
    rows = found.fetchall()
    page = rows[:limit]
    more = len(rows) > limit
    return ProcessPage(tuple(map(record_of_process, page)), str(page[-1]["position"]) if more and page else None)


def runnable_processes(
    db: Connection, now: int, limit: int, after: str, host_profile_id: str | None
) -> tuple[ProcessRecord, ...]:
    rows = run(db, "runnable_processes", now=now, limit=limit, after=after, profile=host_profile_id)
    return tuple(map(record_of_process, rows))


def set_external_ref(db: Connection, process_id: str, ref: ExternalRef, now: int) -> ProcessRecord:
    process = _required(db, process_id)
    updated = max(process.record.updated_at_ms, now)
    record = structs.replace(process.record, external_ref=checked_ref(ref), updated_at_ms=updated)
    _write(db, process, record, process.hold)
    return record


# The log


def list_process_events(
    db: Connection, process_id: str, after: int, limit: int, event_type: str | None
) -> tuple[ProcessEvent, ...]:
    if event_type is None:
        rows = run(db, "process_events", process_id=process_id, after=after, limit=limit).fetchall()
    else:
        rows = run(
            db, "process_events_of_type", process_id=process_id, event_type=event_type, after=after, limit=limit
        ).fetchall()
    if not rows and first(db, "get_process", process_id=process_id) is None:
        raise ProcessNotFound(process_id)
    return tuple(decode(row["body"], ProcessEvent) for row in rows)


def process_value(db: Connection, process_id: str, attachment_id: str) -> bytes:
    row = first(db, "get_process_value", process_id=process_id, attachment_id=attachment_id)
    if row is None:
        _required(db, process_id)
        raise ProcessValueNotFound(process_id, attachment_id)
    return bytes(row["data"])


def append_event(
    db: Connection,
    process_id: str,
    event: NewEvent,
    *,
    now: int,
    lease: ProcessLease | None = None,
    seen_from: Sequence[ProcessScope] | None = None,
) -> Appended:
    process = _required(db, process_id)
    if seen_from is not None and not any(_sees(db, scope, process_id) for scope in seen_from):
        raise HandleNotVisible(seen_from[0].session_id if seen_from else "", process_id)
    stored = None
    if event.replay_key is not UNSET:
        stored = first(db, "process_event_by_key", process_id=process_id, replay_key=event.replay_key)
    if stored is not None:
        return replayed(process.record, decode(stored["body"], ProcessEvent), event)
    result = appended(process.record, process.hold, event, lease=lease, now=now)
    _keep(db, process, result)
    return result


def abandon_process(db: Connection, process_id: str, found_by: str, now: int) -> Appended:
    process = _required(db, process_id)
    output = abandonment(process.record, process.hold, found_by=found_by, now=now)
    result = abandoned(process.record, output, now)
    _keep(db, process, result)
    return result


def _keep(db: Connection, process: Process, result: Appended) -> None:
    event = result.event
    if event is None:
        return
    _write(db, process, result.record, process.hold if event.output is UNSET else process.hold.freed())
    run(
        db,
        "insert_process_event",
        process_id=event.process_id,
        sequence=event.sequence,
        event_type=event.event_type,
        replay_key=None if event.replay_key is UNSET else event.replay_key,
        body=text(event),
    )
    for kept in result.kept:
        run(
            db,
            "keep_process_value",
            process_id=event.process_id,
            attachment_id=kept.attachment.attachment_id,
            data=kept.data,
        )
    if event.wake is not UNSET:
        wake = event.wake
        run(db, "put_process_wake", process_id=wake.process_id, wake_id=wake.wake_id, wake=text(wake))


def _sees(db: Connection, scope: ProcessScope, process_id: str) -> bool:
    row = first(
        db,
        "get_process_grant",
        session_id=scope.session_id,
        agent_frame_id=scope.agent_frame_id,
        process_id=process_id,
    )
    return row is not None


def pending_wakes(db: Connection, limit: int, after: int) -> tuple[PendingWake, ...]:
    return tuple(
        PendingWake(position=row["position"], wake=decode(row["wake"], ProcessWake))
        for row in run(db, "pending_process_wakes", after=after, limit=limit)
    )


# Leases


def acquire_process_lease(
    db: Connection, process_id: str, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> ProcessLease | ProcessBusy:
    process = _required(db, process_id)
    got = acquired(process.record, process.hold, owner_id=owner_id, lease_token=lease_token, now=now, ttl_ms=ttl_ms)
    if isinstance(got, ProcessBusy):
        return got
    record, lease = got
    _write(db, process, record, Hold.of(lease))
    return lease


def renew_process_lease(db: Connection, lease: ProcessLease, now: int, ttl_ms: int, waits: bool) -> ProcessLease:
    process = process_of(db, lease.process_id)
    if process is None:
        raise ProcessLeaseLost(lease.process_id, lease.fencing_token)
    longer = renewed(process.hold, lease, now=now, ttl_ms=ttl_ms)
    _write(db, process, forgiven(process.record) if waits else process.record, Hold.of(longer))
    return longer


def release_process_lease(db: Connection, lease: ProcessLease, charge: bool) -> None:
    process = process_of(db, lease.process_id)
    freed = None if process is None else released(process.record, process.hold, lease, charge=charge)
    if process is not None and freed is not None:
        _write(db, process, *freed)


# Rows


def record_of_process(row: sqlite3.Row) -> ProcessRecord:
    registered: Registration = decode(row["registration"], Registration)
    return ProcessRecord(
        process_id=registered.process_id,
        registration_hash=row["registration_hash"],
        kind=registered.kind,
        input=registered.input,
        disposition=registered.disposition,
        provenance=registered.provenance,
        event_types=_event_types(row["event_types"]),
        wake_target=registered.wake_target,
        created_at_ms=row["created_at_ms"],
        updated_at_ms=row["updated_at_ms"],
        status=row["status"],
        output=UNSET if row["output"] is None else decode(row["output"], AwaitOutput),
        external_ref=UNSET if row["external_ref"] is None else decode(row["external_ref"], ExternalRef),
        cancel_requested=bool(row["cancel_requested"]),
        progress=UNSET if row["progress"] is None else decode(row["progress"], Any),
        last_sequence=row["last_sequence"],
        attempts=row["attempts"],
        started_at_ms=UNSET if row["started_at_ms"] is None else row["started_at_ms"],
    )


@functools.lru_cache(maxsize=256)
def _event_types(raw: str) -> tuple[EventType, ...]:
    """Read once for all processes that have the same: they are most of what there is to read of a row."""
    declared: tuple[EventType, ...] = decode(raw, tuple[EventType, ...])
    return declared


def _process(row: sqlite3.Row) -> Process:
    hold = Hold(
        row["fencing"],
        row["lease_owner_id"],
        row["lease_token"],
        row["lease_claimed_at_ms"],
        row["lease_expires_at_ms"],
    )
    return Process(row["position"], record_of_process(row), hold)


def _required(db: Connection, process_id: str) -> Process:
    process = process_of(db, process_id)
    if process is None:
        raise ProcessNotFound(process_id)
    return process


def _write(db: Connection, process: Process, record: ProcessRecord, hold: Hold) -> None:
    run(
        db,
        "update_process",
        position=process.position,
        updated=record.updated_at_ms,
        status=record.status,
        output=None if record.output is UNSET else text(record.output),
        external_ref=None if record.external_ref is UNSET else text(record.external_ref),
        cancel_requested=record.cancel_requested,
        progress=None if record.progress is UNSET else text(record.progress),
        last_sequence=record.last_sequence,
        attempts=record.attempts,
        started=None if record.started_at_ms is UNSET else record.started_at_ms,
        fencing=hold.fencing_token,
        owner_id=hold.owner_id,
        lease_token=hold.lease_token,
        claimed=hold.claimed_at_ms,
        expires=hold.expires_at_ms,
    )
