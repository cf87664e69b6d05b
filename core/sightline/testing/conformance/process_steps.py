"""The small steps that the suites about processes are told in. All use one process, `p`, unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from sightline.kernel import KernelStore
from sightline.process.appending import cancel_request, ending
from sightline.process.model import (
    Appended,
    CancelledOutput,
    EventSemantics,
    EventType,
    FailureOutput,
    GrantsEnded,
    HandleGrant,
    NewEvent,
    NewGrant,
    PointerSelector,
    PresentSelector,
    ProcessBusy,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    ProcessScope,
    Provenance,
    Registered,
    Registration,
    SuccessOutput,
    WakeRule,
)
from sightline.testing.conformance.steps import NOW, ignored

__all__ = [
    "HERE",
    "NOTE",
    "REPORT",
    "append",
    "ask_to_cancel",
    "busy_process",
    "end",
    "everything_of",
    "external",
    "grant",
    "granted_to",
    "hold",
    "log_of",
    "offer_process",
    "register",
    "registration",
    "take_away",
    "wakes",
]

HERE = ProcessScope("s")
"""The scope that owns and sees what is not said to be another's."""

NOTE = EventType(name="note")
"""A type of event that means nothing."""

REPORT = EventType(
    name="report",
    schema={"type": "object", "properties": {"text": {"type": "string"}, "count": {"type": "integer"}}},
    semantics=EventSemantics(wake=WakeRule(input=PointerSelector("/text"), when=PresentSelector("/text"))),
)
"""A type of event that wakes, if it has a text."""


def registration(process_id: str = "p", **changes: Any) -> Registration:
    fields: dict[str, Any] = {
        "kind": "function",
        "input": {"name": "count", "args": {"to": 3}},
        "disposition": "rerunnable",
        "provenance": Provenance(owner_scope=HERE),
        "event_types": (NOTE, REPORT),
    }
    return Registration(process_id=process_id, **{**fields, **changes})


def external(process_id: str = "p", **changes: Any) -> Registration:
    """One whose work is done elsewhere: anybody who was let in may tell its end."""
    return registration(process_id, kind="external", disposition="externally_owned", **changes)


async def offer_process(
    store: KernelStore, work: Registration, *, grants: Sequence[NewGrant] = (), now: int = NOW
) -> Registered:
    return await store.register_process(work, grants=grants, now=now, then=ignored)


async def register(store: KernelStore, process_id: str = "p", **changes: Any) -> ProcessRecord:
    return (await offer_process(store, registration(process_id, **changes))).record


async def append(
    store: KernelStore,
    event_type: str = "note",
    payload: Any = None,
    *,
    process_id: str = "p",
    key: str | None = None,
    now: int = NOW,
    lease: ProcessLease | None = None,
    seen_from: Sequence[ProcessScope] | None = None,
) -> Appended:
    event = NewEvent(event_type=event_type, payload=payload, replay_key=UNSET if key is None else key)
    return await store.append_event(process_id, event, now=now, then=ignored, lease=lease, seen_from=seen_from)


async def end(
    store: KernelStore,
    output: SuccessOutput | FailureOutput | CancelledOutput | None = None,
    *,
    process_id: str = "p",
    lease: ProcessLease | None = None,
    now: int = NOW,
) -> Appended:
    """Tell the end, which is a good one unless told otherwise."""
    event = ending(process_id, output or SuccessOutput(value="done"))
    return await store.append_event(process_id, event, now=now, then=ignored, lease=lease)


async def ask_to_cancel(store: KernelStore, process_id: str = "p", reason: str = "enough") -> Appended:
    return await store.append_event(process_id, cancel_request(process_id, reason), now=NOW, then=ignored)


async def log_of(store: KernelStore, process_id: str = "p") -> list[str]:
    """The types of its events, which have to be numbered without holes."""
    events = await store.list_process_events(process_id, after=0, limit=1_000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (await store.get_process(process_id)).last_sequence == len(events)
    return [event.event_type for event in events]


async def wakes(store: KernelStore) -> list[tuple[str, str]]:
    """Whom the outbox wakes, and with what."""
    pending = await store.pending_wakes(limit=1_000)
    assert [entry.position for entry in pending] == sorted({entry.position for entry in pending})
    return [(entry.wake.target_session_id, entry.wake.input) for entry in pending]


async def hold(store: KernelStore, owner: str = "me", **options: Any) -> ProcessLease:
    """Become the process's owner; nobody may be in the way."""
    lease = await _acquire(store, owner, **options)
    assert isinstance(lease, ProcessLease), lease
    return lease


async def busy_process(store: KernelStore, owner: str = "you", **options: Any) -> ProcessBusy:
    """Who is in the way of `owner`; somebody must be."""
    answer = await _acquire(store, owner, **options)
    assert isinstance(answer, ProcessBusy), answer
    return answer


async def _acquire(
    store: KernelStore,
    owner: str,
    *,
    process_id: str = "p",
    token: str | None = None,
    now: int = NOW,
    ttl_ms: int = 30_000,
) -> ProcessLease | ProcessBusy:
    return await store.acquire_process_lease(
        process_id, owner_id=owner, lease_token=token or f"token of {owner}", now=now, ttl_ms=ttl_ms
    )


async def grant(
    store: KernelStore, process_id: str = "p", scope: ProcessScope = HERE, label: str = "it"
) -> HandleGrant:
    return await store.grant_process(process_id, scope, {"label": label}, then=ignored)


async def granted_to(store: KernelStore, scope: ProcessScope = HERE, *, live: bool = False) -> list[str]:
    """The processes that a scope sees."""
    found = await (store.list_live_handle_grants(scope) if live else store.list_handle_grants(scope))
    return [entry.process_id for entry in found]


async def take_away(store: KernelStore, *keep: str, scope: ProcessScope = HERE) -> GrantsEnded:
    return await store.cancel_unreferenced(scope, keep, reason="not needed", now=NOW, then=ignored)


async def everything_of(
    store: KernelStore, process_id: str = "p"
) -> tuple[ProcessRecord, tuple[ProcessEvent, ...], object, object]:
    """All that can be read of a process, to compare before and after."""
    return (
        await store.get_process(process_id),
        await store.list_process_events(process_id, after=0, limit=1_000),
        await store.grants_of_process(process_id),
        await store.pending_wakes(limit=1_000),
    )
