"""Decisions about processes: what may be registered, what makes two registrations the same, who sees what.

**Sameness.** A registration is repeated when its answer was lost, so the same id with the same content finds the first
one. The content is all that its author chose: kind, input, types of events, disposition, owner, profile and target.
What caused it is not: the turn that repeats it may be another attempt, and the process is the same.

**Core types.** Every process can be cancelled, signalled and ended, so the types of those events are added to the
declared ones. Whoever declares one of that name means it: theirs stays, as long as it says the same of the end.

**Visibility.** A session sees the processes granted to it, and those granted to its current agent frame. Grants of
frames that are over do not show, unless they were transferred. What is granted to both is shown as it is granted to
the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType, structs

from sightline.errors import HandleNotVisible, InvalidInput, ProcessConflict
from sightline.process.model import (
    AbandonedOutput,
    CancelledOutput,
    EventSemantics,
    EventType,
    ExternalRef,
    FailureOutput,
    HandleGrant,
    HandleSummary,
    PointerSelector,
    ProcessEvent,
    ProcessRecord,
    ProcessScope,
    Provenance,
    Registration,
    SuccessOutput,
    TerminalRule,
    TerminalState,
)
from sightline.process.semantics import check_event_type

__all__ = [
    "ABANDONED",
    "CANCEL_REQUESTED",
    "CORE_TYPES",
    "MAX_STORED",
    "PROGRESS",
    "SESSION_DELETED",
    "SIGNAL",
    "as_stored",
    "check_same",
    "check_visible",
    "checked",
    "checked_ref",
    "definition_of",
    "grant_of",
    "new_record",
    "scopes_of",
    "told_as",
    "visible",
    "woken_by",
]

MAX_EVENT_TYPES = 100
MAX_REGISTRATION = 1 << 20
"""Bytes of the JSON of one registration."""
MAX_STORED = 1 << 16
"""Bytes of the JSON of what else is kept with a process: a descriptor, a cause."""

ABANDONED = "process.abandoned"
CANCEL_REQUESTED = "process.cancel_requested"
SIGNAL = "process.signal"
PROGRESS = "progress"
"""Under this name a process tells how far it has come."""

SESSION_DELETED = "session deleted"
"""Why a process is asked to end that only a deleted session saw."""

_OWN = "process."
"""How the names of those types of events begin that the kernel knows."""
_HASH_VERSION = "1"
_CANONICAL = msgspec.json.Encoder(order="sorted")
_ID_LENGTH = 256

_T = TypeVar("_T")


def _end(state: TerminalState) -> EventType:
    return EventType(
        name=f"process.{state}",
        schema={"type": "object", "required": ["await_output"]},
        semantics=EventSemantics(terminal=TerminalRule(state=state, output=PointerSelector("/await_output"))),
    )


CORE_TYPES = (
    EventType(
        name=CANCEL_REQUESTED,
        schema={"type": "object", "required": ["reason"], "properties": {"reason": {"type": "string"}}},
    ),
    _end("completed"),
    _end("failed"),
    _end("cancelled"),
    EventType(name=SIGNAL),
)


# Registration


def checked(registration: Registration) -> Registration:
    """The registration with the core types. Raises InvalidInput for one that no registry should hold."""
    _check_parts(registration)
    if len(registration.event_types) > MAX_EVENT_TYPES:
        raise InvalidInput("event_types", f"must be at most {MAX_EVENT_TYPES}")
    declared: dict[str, EventType] = {}
    for index, event_type in enumerate(registration.event_types):
        field = f"event_types/{index}"
        check_event_type(event_type, field)
        if event_type.name in declared:
            raise InvalidInput(f"{field}/name", f"{event_type.name!r} is declared twice")
        if event_type.name == ABANDONED:
            raise InvalidInput(f"{field}/name", "is the registry's own word")
        declared[event_type.name] = event_type
    for core in CORE_TYPES:
        theirs = declared.setdefault(core.name, core)
        if _end_of_type(theirs) != _end_of_type(core):
            raise InvalidInput("event_types", f"{core.name!r} must say the same of the end as everywhere")
    if any(known.semantics is not UNSET and known.semantics.wake is not UNSET for known in declared.values()):
        woken_by(registration.provenance, registration.wake_target)
    return _stored(structs.replace(registration, event_types=tuple(declared.values())))


def _stored(registration: Registration) -> Registration:
    """The registration as every store gives it back. Raises InvalidInput for one that none could."""
    try:
        whole = _CANONICAL.encode(registration)
        if len(whole) > MAX_REGISTRATION:
            raise InvalidInput("input", f"makes a registration of {len(whole)} bytes; {MAX_REGISTRATION} is the limit")
        return msgspec.json.decode(whole, type=Registration)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("input", f"cannot be stored: {error}") from None


def as_stored(field: str, value: _T, limit: int = MAX_STORED) -> _T:
    """The value as every store gives it back. Raises InvalidInput for one that none could, or that is too large."""
    try:
        encoded = _CANONICAL.encode(value)
        if len(encoded) > limit:
            raise InvalidInput(field, f"has {len(encoded)} bytes; {limit} is the limit")
        stored: _T = msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(field, f"cannot be stored: {error}") from None
    return stored


def checked_ref(ref: ExternalRef) -> ExternalRef:
    """Raises InvalidInput for one that names nothing."""
    for field, value in (("backend", ref.backend), ("id", ref.id)):
        if not value.strip():
            raise InvalidInput(f"external_ref/{field}", "must not be blank")
    if ref.metadata is UNSET:
        return ref
    return structs.replace(ref, metadata=as_stored("external_ref/metadata", ref.metadata))


def _check_parts(registration: Registration) -> None:
    if not registration.process_id.strip():
        raise InvalidInput("process_id", "must not be blank")
    if len(registration.process_id) > _ID_LENGTH:
        raise InvalidInput("process_id", f"must have at most {_ID_LENGTH} characters")
    if not registration.kind.strip():
        raise InvalidInput("kind", "must not be blank")
    if (registration.kind == "external") != (registration.disposition == "externally_owned"):
        raise InvalidInput("disposition", "external processes, and no others, are externally_owned")
    if not registration.provenance.host_profile_id.strip():
        raise InvalidInput("host_profile_id", "must not be blank")
    for name, scope in (("session_id", registration.provenance.owner_scope), ("wake", registration.wake_target)):
        if scope is not UNSET and not scope.session_id.strip():
            raise InvalidInput(name, "must name a session")


def _end_of_type(event_type: EventType) -> str | None:
    semantics = event_type.semantics
    if semantics is UNSET or semantics.terminal is UNSET:
        return None
    return semantics.terminal.state


def _hash(registration: Registration) -> str:
    content = structs.replace(registration, provenance=structs.replace(registration.provenance, caused_by=UNSET))
    return f"{_HASH_VERSION}:{hashlib.sha256(_CANONICAL.encode(content)).hexdigest()}"


def new_record(registration: Registration, now: int) -> ProcessRecord:
    """The record that a checked registration becomes."""
    return ProcessRecord(
        process_id=registration.process_id,
        registration_hash=_hash(registration),
        kind=registration.kind,
        input=registration.input,
        disposition=registration.disposition,
        provenance=registration.provenance,
        event_types=registration.event_types,
        wake_target=registration.wake_target,
        created_at_ms=now,
        updated_at_ms=now,
    )


def check_same(before: ProcessRecord, again: ProcessRecord) -> None:
    """Raises ProcessConflict when the id came with another content before."""
    if before.registration_hash != again.registration_hash:
        raise ProcessConflict(again.process_id, "was registered with other content before")


def woken_by(provenance: Provenance, target: ProcessScope | UnsetType) -> ProcessScope:
    """Whom a process wakes."""
    for scope in (target, provenance.owner_scope):
        if scope is not UNSET:
            return scope
    raise InvalidInput("wake", "must name a session: an event type asks for turns, and the process has no owner")


# Visibility


def scopes_of(session_id: str, agent_frame_id: str) -> tuple[ProcessScope, ...]:
    """The scopes to be read, the session's own first. A session between frames (blank id) has that one alone."""
    session = ProcessScope(session_id)
    return (session, ProcessScope(session_id, agent_frame_id)) if agent_frame_id else (session,)


def visible(grants: Iterable[HandleGrant]) -> tuple[HandleSummary, ...]:
    """Each process once, by its id. Of several grants the first counts."""
    first: dict[str, HandleGrant] = {}
    for grant in grants:
        first.setdefault(grant.process_id, grant)
    return tuple(HandleSummary.of(first[process_id]) for process_id in sorted(first))


def check_visible(session_id: str, process_ids: Iterable[str], grants: Iterable[HandleGrant]) -> None:
    """Raises HandleNotVisible for the first that these grants, which are the session's, do not show. One that has ended
    shows.
    """
    seen = {grant.process_id for grant in grants}
    for process_id in process_ids:
        if process_id not in seen:
            raise HandleNotVisible(session_id, process_id)


def grant_of(record: ProcessRecord, descriptor: dict[str, Any]) -> HandleGrant:
    """A process as one of its holders is shown it."""
    return HandleGrant(
        process_id=record.process_id,
        status=record.status,
        descriptor=descriptor,
        definition=definition_of(record.kind, record.input),
        kind=record.kind,
        created_at_ms=record.created_at_ms,
        cancel_requested=record.cancel_requested,
        progress=record.progress,
    )


def told_as(event: ProcessEvent) -> str | None:
    """The word by which observers are told of an event: how the process ended, that its end is wanted, or that it goes
    on. Of what the machinery logs for itself, under names of its own, they are not told.
    """
    if event.output is not UNSET:
        match event.output:
            case SuccessOutput():
                return "completed"
            case FailureOutput():
                return "failed"
            case CancelledOutput():
                return "cancelled"
            case AbandonedOutput():
                return "abandoned"
    if event.event_type == CANCEL_REQUESTED:
        return "cancel_requested"
    return None if event.event_type.startswith(_OWN) else "progress"


def definition_of(kind: str, given: dict[str, Any]) -> dict[str, Any] | UnsetType:
    """What a handle tells of what the process runs: its kind, and its name if it has one."""
    name = given.get("name")
    return {"kind": kind, "name": name} if isinstance(name, str) else {"kind": kind}
