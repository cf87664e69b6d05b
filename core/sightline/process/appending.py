"""What an event does to its process: the one decision behind every change of a process.

In this order:

1. *Replay.* An event whose key is in the log already is that event, if it is the same; also in a process that has ended
   since, and whoever's lease it was written under. Another content is a conflict, and of the end it means that somebody
   else was first.
2. *Cancel.* A request to cancel what has ended is nothing, and is not even logged.
3. *Authority.* Under a lease: the lease rules. Without: only who does the work of an externally owned process may end
   it, and only the worker of any other one notes what it did; all else may be said by anybody who was let in.
4. *Declaration.* The type is declared, ends and cancels have a key, and the payload fits type and limit.
5. *Meaning.* Its end and its wake follow from the payload (`sightline.process.semantics`). There is one end. What is no
   end is logged after it too: a late line of output is worth having. A signal is not: nobody would hear it.

Whoever stores the result stores all of it in one transaction: event, record, free lease if it was the end, what is too
large to stand in them (`sightline.process.attaching`), and the wake, which is put into the outbox unless one with the
same id of the same process was put there before.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, structs

from sightline.errors import (
    InvalidInput,
    ProcessConflict,
    ProcessNotYours,
    ProcessTerminal,
)
from sightline.process.attaching import attached, check_no_name, parts_of_end, payload_without
from sightline.process.kinds import NOTED, SPAWNED
from sightline.process.leasing import Hold, check_rules
from sightline.process.model import (
    AbandonedOutput,
    Appended,
    AwaitOutput,
    CancelledOutput,
    EventType,
    FailureOutput,
    NewEvent,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    ProcessStatus,
    SuccessOutput,
)
from sightline.process.rules import ABANDONED, CANCEL_REQUESTED, MAX_STORED, PROGRESS, SIGNAL, as_stored, woken_by
from sightline.process.schemas import check_payload
from sightline.process.semantics import output_of, wake_of
from sightline.queue.model import ProcessWake

__all__ = [
    "MAX_PAYLOAD",
    "MAX_SHOWN_PROGRESS",
    "abandoned",
    "appended",
    "cancel_request",
    "checked_output",
    "ending",
    "replayed",
    "signal",
]

MAX_PAYLOAD = 1 << 20
"""Bytes of the JSON of one payload, and of what a process came to."""
MAX_SHOWN_PROGRESS = 1 << 10
"""Bytes of the JSON of progress that is shown with the process."""

_CANONICAL = msgspec.json.Encoder(order="sorted")
_WORKERS_OWN = (NOTED.name, SPAWNED.name)
"""What later attempts, and operators, rely on as the worker's word."""
_STATUS: dict[type[SuccessOutput | FailureOutput | CancelledOutput], ProcessStatus] = {
    SuccessOutput: "completed",
    FailureOutput: "failed",
    CancelledOutput: "cancelled",
}


# The events that every process knows


def ending(process_id: str, output: SuccessOutput | FailureOutput | CancelledOutput) -> NewEvent:
    """The end of a process, by the type that every process has for it. Told twice it is the same end."""
    event_type = f"process.{_STATUS[type(output)]}"
    return NewEvent(
        event_type=event_type,
        payload={"await_output": msgspec.to_builtins(output)},
        replay_key=f"process:{process_id}:terminal:{event_type}",
    )


def checked_output(value: Any) -> Any:
    """What a process came to, as it is stored. Raises InvalidInput for what cannot be, under the name it came by."""
    value = as_stored("output", value, MAX_PAYLOAD)
    check_no_name("output", value)
    return value


def cancel_request(process_id: str, reason: str) -> NewEvent:
    """The wish that a process end. For the same reason it is one wish, for another it is another."""
    payload = {"reason": reason}
    return NewEvent(
        event_type=CANCEL_REQUESTED,
        payload=payload,
        replay_key=f"process:{process_id}:cancel_requested:{hashlib.sha256(_CANONICAL.encode(payload)).hexdigest()}",
    )


def signal(process_id: str, signal_id: str, payload: Any) -> NewEvent:
    """Something that a process is to know; told twice by the same id it is told once. Raises InvalidInput."""
    if not signal_id.strip():
        raise InvalidInput("signal_id", "must not be blank")
    return NewEvent(event_type=SIGNAL, payload=payload, replay_key=f"process:{process_id}:signal:{signal_id}")


# What they do


def replayed(record: ProcessRecord, stored: ProcessEvent, event: NewEvent) -> Appended:
    """The answer to an event whose key the log has. Raises ProcessConflict, ProcessTerminal."""
    payload, _ = payload_without(_stored(event).payload)
    same = _CANONICAL.encode(stored.payload) == _CANONICAL.encode(payload)
    if same and stored.event_type == event.event_type:
        return Appended(record=record, event=stored, replayed=True)
    if stored.output is not UNSET:
        raise ProcessTerminal(record.process_id, record.status)
    raise ProcessConflict(record.process_id, f"had the replay key {event.replay_key!r} with other content before")


def appended(record: ProcessRecord, hold: Hold, event: NewEvent, *, lease: ProcessLease | None, now: int) -> Appended:
    """What comes of an event whose key, if it has one, the log does not have. The order is told above.

    Raises InvalidInput, InvalidPayload, ProcessLeaseLost, ProcessNotYours, ProcessTerminal.
    """
    if event.event_type == CANCEL_REQUESTED and record.is_terminal:
        return Appended(record=record, event=None)
    if lease is not None:
        check_rules(hold, lease)
    declared = next((known for known in record.event_types if known.name == event.event_type), None)
    if declared is None:
        raise InvalidInput("event_type", f"{event.event_type!r} is not declared by process {record.process_id!r}")
    is_end = declared.semantics is not UNSET and declared.semantics.terminal is not UNSET
    if lease is None and record.disposition != "externally_owned":
        if is_end and record.is_terminal:
            raise ProcessTerminal(record.process_id, record.status)
        if is_end:
            raise ProcessNotYours(record.process_id, "ends when the worker that runs it says so")
        if event.event_type in _WORKERS_OWN:
            raise ProcessNotYours(record.process_id, f"has {event.event_type!r} from the worker that runs it only")
    if (is_end or event.event_type == CANCEL_REQUESTED) and not event.replay_key:
        raise InvalidInput("replay_key", f"is needed for {event.event_type!r}")
    if event.replay_key == "":
        raise InvalidInput("replay_key", "must not be empty")
    event = _stored(event)
    if declared.schema is not UNSET:
        check_payload(event.payload, declared.schema)
    if record.is_terminal and (is_end or event.event_type == SIGNAL):
        raise ProcessTerminal(record.process_id, record.status)
    output = _output(declared, event.payload)
    wake = _wake(record, declared, event, now)
    status = record.status if output is UNSET else _status_of(output)
    return attached(_logged(record, event, output=output, wake=wake, status=status, now=now))


def abandoned(record: ProcessRecord, output: AbandonedOutput, now: int) -> Appended:
    """The end that the registry finds itself. Nobody is woken by it but those who await it."""
    event = NewEvent(
        event_type=ABANDONED,
        payload={"await_output": msgspec.to_builtins(output)},
        replay_key=f"process:{record.process_id}:terminal:{ABANDONED}",
    )
    return _logged(record, event, output=output, wake=UNSET, status="abandoned", now=now)


def _logged(
    record: ProcessRecord,
    event: NewEvent,
    *,
    output: AwaitOutput | UnsetType,
    wake: ProcessWake | UnsetType,
    status: ProcessStatus,
    now: int,
) -> Appended:
    logged = ProcessEvent(
        process_id=record.process_id,
        sequence=record.last_sequence + 1,
        event_type=event.event_type,
        payload=event.payload,
        occurred_at_ms=now,
        replay_key=event.replay_key,
        caused_by=event.caused_by,
        output=output,
        wake=wake,
    )
    after = structs.replace(
        record,
        last_sequence=logged.sequence,
        updated_at_ms=max(record.updated_at_ms, now),
        status=status,
        output=record.output if output is UNSET else output,
        cancel_requested=record.cancel_requested or event.event_type == CANCEL_REQUESTED,
        progress=_shown(event.payload) if event.event_type == PROGRESS else record.progress,
    )
    return Appended(record=after, event=logged)


def _shown(progress: Any) -> Any:
    """The payload, if it is small enough to be shown wherever the process is."""
    return progress if len(_CANONICAL.encode(progress)) <= MAX_SHOWN_PROGRESS else UNSET


def _output(declared: EventType, payload: Any) -> AwaitOutput | UnsetType:
    if declared.semantics is UNSET or declared.semantics.terminal is UNSET:
        return UNSET
    return output_of(declared.semantics.terminal, payload)


def _status_of(output: AwaitOutput) -> ProcessStatus:
    return "abandoned" if isinstance(output, AbandonedOutput) else _STATUS[type(output)]


def _wake(record: ProcessRecord, declared: EventType, event: NewEvent, now: int) -> ProcessWake | UnsetType:
    if declared.semantics is UNSET or declared.semantics.wake is UNSET:
        return UNSET
    wake = wake_of(
        declared.semantics.wake,
        event.payload,
        process_id=record.process_id,
        sequence=record.last_sequence + 1,
        event_type=event.event_type,
        target=woken_by(record.provenance, record.wake_target),
        invocation=event.caused_by,
        caused_by=record.provenance.caused_by,
        now=now,
    )
    return UNSET if wake is None else wake


def _stored(event: NewEvent) -> NewEvent:
    """The event as every store gives it back. Raises InvalidInput for one that none could."""
    limit = MAX_PAYLOAD
    for member, value in parts_of_end(event.payload).items():
        as_stored(f"payload/await_output/{member}", value, MAX_PAYLOAD)
        limit = MAX_PAYLOAD + MAX_STORED  # what the value comes in does not count
    stored = structs.replace(event, payload=as_stored("payload", event.payload, limit))
    check_no_name("payload", stored.payload)
    if event.caused_by is UNSET:
        return stored
    return structs.replace(stored, caused_by=as_stored("caused_by", event.caused_by))
