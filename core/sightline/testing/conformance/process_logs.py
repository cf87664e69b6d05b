"""What a registry promises about a process's log: what may be in it, once, in order, and what it does."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import UNSET

from sightline.errors import (
    HandleNotVisible,
    InvalidInput,
    InvalidPayload,
    ProcessConflict,
    ProcessNotFound,
    ProcessNotYours,
    ProcessTerminal,
)
from sightline.kernel import KernelStore
from sightline.process.appending import MAX_PAYLOAD, signal
from sightline.process.kinds import NOTED, SPAWNED
from sightline.process.model import (
    CancelledOutput,
    ConstSelector,
    EventSemantics,
    EventType,
    FailureOutput,
    NewEvent,
    PayloadSelector,
    PointerSelector,
    ProcessScope,
    SuccessOutput,
    TerminalRule,
    WakeRule,
)
from sightline.process.rules import CANCEL_REQUESTED
from sightline.testing.conformance.process_steps import (
    HERE,
    NOTE,
    append,
    ask_to_cancel,
    end,
    everything_of,
    external,
    grant,
    hold,
    log_of,
    offer_process,
    register,
    wakes,
)
from sightline.testing.conformance.steps import NOW, ignored, new_session, refused

_SAY_ONCE = EventType(
    name="alarm",
    semantics=EventSemantics(wake=WakeRule(input=PayloadSelector(), dedupe_key=ConstSelector("alarm"))),
)
_REPORT_AND_END = EventType(
    name="finished",
    semantics=EventSemantics(
        terminal=TerminalRule(state="completed", output=PointerSelector("/value")),
        wake=WakeRule(input=PointerSelector("/text")),
    ),
)


async def events_are_numbered_from_one_and_read_in_order(store: KernelStore) -> None:
    await register(store)
    for number in range(1, 4):
        result = await append(store, payload={"number": number}, now=NOW + number)
        assert result.event is not None
        assert (result.event.sequence, result.event.occurred_at_ms) == (number, NOW + number)
        assert (result.record.last_sequence, result.record.updated_at_ms) == (number, NOW + number)
        assert not result.replayed
    await append(store, "report", {})
    assert await log_of(store) == ["note", "note", "note", "report"]
    behind = await store.list_process_events("p", after=1, limit=2)
    assert [event.payload for event in behind] == [{"number": 2}, {"number": 3}]
    [report] = await store.list_process_events("p", after=0, limit=10, event_type="report")
    assert report.sequence == 4
    assert await store.list_process_events("p", after=4, limit=10) == ()


async def events_that_come_at_once_get_numbers_without_holes(store: KernelStore) -> None:
    await register(store)
    results = await asyncio.gather(*(append(store, payload=number) for number in range(50)))
    assert sorted(result.event.sequence for result in results if result.event) == list(range(1, 51))
    assert len(await log_of(store)) == 50


async def each_process_counts_its_own_events(store: KernelStore) -> None:
    for name in ("p", "q"):
        await register(store, name)
        await append(store, process_id=name, key="same")
    assert await log_of(store, "q") == ["note"]


async def a_process_that_is_not_there_has_no_log(store: KernelStore) -> None:
    await refused(ProcessNotFound, append(store))
    await refused(ProcessNotFound, store.list_process_events("p", after=0, limit=1))


async def an_undeclared_type_is_refused(store: KernelStore) -> None:
    await register(store)
    error = await refused(InvalidInput, append(store, "surprise"))
    assert error.field == "event_type"
    await refused(InvalidInput, append(store, "process.abandoned", key="k"))
    assert await log_of(store) == []


async def a_payload_that_its_type_does_not_allow_is_refused_with_the_place(store: KernelStore) -> None:
    await register(store)
    error = await refused(InvalidPayload, append(store, "report", {"text": "t", "count": "many"}))
    assert (error.pointer, error.code) == ("/count", "invalid_field")
    error = await refused(InvalidPayload, append(store, "report", []))
    assert error.pointer == ""
    assert await log_of(store) == []


async def a_payload_that_is_too_large_or_no_json_is_refused(store: KernelStore) -> None:
    await register(store)
    await append(store, payload="x" * (MAX_PAYLOAD - 2))
    error = await refused(InvalidInput, append(store, payload="x" * (MAX_PAYLOAD - 1)))
    assert error.field == "payload"
    await refused(InvalidInput, append(store, payload=object(), key="k"))
    assert await log_of(store) == ["note"]


async def a_replay_finds_the_event_and_writes_nothing(store: KernelStore) -> None:
    await register(store)
    first = await append(store, "report", {"text": "t", "count": 1}, key="k")
    await append(store)
    before = await everything_of(store)
    again = await append(store, "report", {"count": 1, "text": "t"}, key="k", now=NOW + 50)
    assert again.event == first.event
    assert again.replayed
    assert await everything_of(store) == before


async def a_replay_asks_for_the_identical_wake(store: KernelStore) -> None:
    await register(store)
    first = await append(store, "report", {"text": "t"}, key="k")
    again = await append(store, "report", {"text": "t"}, key="k", now=NOW + 50)
    assert first.event is not None
    assert again.event is not None
    assert first.event.wake is not UNSET
    assert again.event.wake == first.event.wake
    assert await wakes(store) == [("s", "t")]


async def a_replay_key_with_other_content_is_refused(store: KernelStore) -> None:
    await register(store)
    await append(store, payload=1, key="k")
    for event_type, payload in (("note", 2), ("report", {}), ("note", True), ("process.signal", 1)):
        error = await refused(ProcessConflict, append(store, event_type, payload, key="k"))
        assert error.process_id == "p"
    assert await log_of(store) == ["note"]


async def without_a_key_the_same_content_is_another_event(store: KernelStore) -> None:
    await register(store)
    for _ in range(2):
        await append(store, payload="same")
    assert await log_of(store) == ["note", "note"]


async def ends_and_cancels_need_a_key(store: KernelStore) -> None:
    await offer_process(store, external())
    for event_type, payload in (
        ("process.completed", {"await_output": 1}),
        (CANCEL_REQUESTED, {"reason": "enough"}),
    ):
        for key in (None, ""):
            error = await refused(InvalidInput, append(store, event_type, payload, key=key))
            assert error.field == "replay_key"
    assert await log_of(store) == []


async def an_end_gives_the_process_its_status_and_output(store: KernelStore) -> None:
    outputs: tuple[Any, ...] = (
        SuccessOutput(value={"n": 0}, control={"stop": True}),
        FailureOutput(class_="tool", code="broke", message="it broke", raw=[1]),
        CancelledOutput(message="enough"),
    )
    for output, status in zip(outputs, ("completed", "failed", "cancelled"), strict=True):
        await offer_process(store, external(status))
        ended = await end(store, output, process_id=status, now=NOW + 1)
        assert (ended.record.status, ended.record.output) == (status, output)
        assert ended.event is not None
        assert ended.event.output == output
        assert await store.get_process(status) == ended.record
        assert ended.record.updated_at_ms == NOW + 1


async def a_process_ends_once(store: KernelStore) -> None:
    await offer_process(store, external())
    first = await end(store, SuccessOutput(value=1))
    before = await everything_of(store)
    again = await end(store, SuccessOutput(value=1))
    assert (again.event, again.replayed) == (first.event, True)
    for other in (SuccessOutput(value=2), FailureOutput(code="c", message="m"), CancelledOutput(message="m")):
        error = await refused(ProcessTerminal, end(store, other))
        assert (error.process_id, error.status) == ("p", "completed")
    assert await everything_of(store) == before


async def of_many_ends_at_once_one_counts(store: KernelStore) -> None:
    await offer_process(store, external())
    results = await asyncio.gather(
        *(end(store, SuccessOutput(value=number)) for number in range(10)), return_exceptions=True
    )
    [won] = [result for result in results if not isinstance(result, BaseException)]
    assert sum(isinstance(result, ProcessTerminal) for result in results) == 9
    assert (await store.get_process("p")).output == won.record.output
    assert await log_of(store) == ["process.completed"]


async def an_end_that_contradicts_itself_is_refused(store: KernelStore) -> None:
    await offer_process(store, external())
    payload = {"await_output": {"type": "failure", "code": "c", "message": "m"}}
    error = await refused(InvalidPayload, append(store, "process.completed", payload, key="k"))
    assert error.pointer == "/await_output"
    assert (await store.get_process("p")).status == "running"


async def only_who_does_the_work_tells_the_end(store: KernelStore) -> None:
    await register(store)
    error = await refused(ProcessNotYours, end(store))
    assert error.process_id == "p"
    assert await log_of(store) == []


async def only_the_worker_notes_what_it_did(store: KernelStore) -> None:
    note = {"key": "do:pay", "value": "paid"}
    await register(store, event_types=(NOTED, SPAWNED))
    await refused(ProcessNotYours, append(store, "process.noted", note))
    await refused(ProcessNotYours, append(store, "process.spawned", {"pid": 1}))
    await append(store, "process.noted", note, lease=await hold(store))
    await offer_process(store, external("elsewhere", event_types=(NOTED,)))
    await append(store, "process.noted", note, process_id="elsewhere")
    assert await log_of(store) == ["process.noted"]


async def what_is_no_end_may_be_told_after_it(store: KernelStore) -> None:
    await offer_process(store, external())
    ended = await end(store)
    late = await append(store, payload="late", now=NOW + 1)
    assert (late.record.status, late.record.output) == (ended.record.status, ended.record.output)
    assert await log_of(store) == ["process.completed", "note"]


async def a_request_to_cancel_is_logged_and_the_process_goes_on(store: KernelStore) -> None:
    await register(store)
    asked = await ask_to_cancel(store)
    assert asked.record.status == "running"
    [event] = await store.list_process_events("p", after=0, limit=10, event_type=CANCEL_REQUESTED)
    assert event.payload == {"reason": "enough"}
    assert (await ask_to_cancel(store)).replayed
    assert not (await ask_to_cancel(store, reason="really")).replayed
    assert await log_of(store) == [CANCEL_REQUESTED] * 2


async def a_request_to_cancel_what_has_ended_is_nothing(store: KernelStore) -> None:
    await offer_process(store, external())
    await end(store)
    before = await everything_of(store)
    asked = await ask_to_cancel(store)
    assert (asked.event, asked.record.status) == (None, "completed")
    assert await everything_of(store) == before


async def a_signal_is_heard_once_and_only_from_those_who_see_the_process(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    event = signal("p", "sig-1", {"go": True})

    async def send(event: NewEvent, *scopes: ProcessScope) -> Any:
        return await store.append_event("p", event, now=NOW, then=ignored, seen_from=scopes)

    error = await refused(HandleNotVisible, send(event, HERE))
    assert (error.session_id, error.process_id) == ("s", "p")
    await grant(store)
    await refused(HandleNotVisible, send(event, ProcessScope("s", "f")))
    assert not (await send(event, ProcessScope("s", "f"), HERE)).replayed
    assert (await send(event, HERE)).replayed
    await refused(ProcessConflict, send(signal("p", "sig-1", {"go": False}), HERE))
    assert await log_of(store) == ["process.signal"]


async def what_has_ended_hears_no_new_signal(store: KernelStore) -> None:
    await offer_process(store, external())
    heard = await store.append_event("p", signal("p", "sig-1", 1), now=NOW, then=ignored)
    await end(store)
    assert (await store.append_event("p", signal("p", "sig-1", 1), now=NOW, then=ignored)).event == heard.event
    await refused(ProcessTerminal, store.append_event("p", signal("p", "sig-2", 1), now=NOW, then=ignored))


async def a_wake_is_put_out_with_the_event_that_asked_for_it(store: KernelStore) -> None:
    await register(store, wake_target=ProcessScope("a/frame:b", "f"))
    await append(store, "report", {"count": 1})
    result = await append(store, "report", {"text": "look"}, now=NOW + 7)
    [pending] = await store.pending_wakes(limit=10)
    wake = pending.wake
    assert result.event is not None
    assert result.event.wake == wake
    assert (wake.process_id, wake.sequence, wake.event_type, wake.input) == ("p", 2, "report", "look")
    assert (wake.target_session_id, wake.target_scope_id) == ("a/frame:b", "session:a/frame:b/frame:f")
    assert (wake.dedupe_key, wake.created_at_ms) == ("p:2", NOW + 7)


async def wakes_are_put_out_in_order_and_read_in_pages(store: KernelStore) -> None:
    for name in ("p", "q"):
        await register(store, name)
    for name, text in (("q", "1"), ("p", "2"), ("q", "3")):
        await append(store, "report", {"text": text}, process_id=name)
    assert await wakes(store) == [("s", "1"), ("s", "2"), ("s", "3")]
    [first] = await store.pending_wakes(limit=1)
    rest = await store.pending_wakes(limit=10, after=first.position)
    assert [entry.wake.input for entry in rest] == ["2", "3"]


async def of_wakes_with_one_key_the_first_is_put_out_for_good(store: KernelStore) -> None:
    for name in ("p", "q"):
        await register(store, name, event_types=(_SAY_ONCE,))
        for number in range(3):
            await append(store, "alarm", f"{name}{number}", process_id=name)
    assert await wakes(store) == [("s", "p0"), ("s", "q0")]
    assert await log_of(store) == ["alarm"] * 3


async def an_end_may_wake_and_the_refused_one_does_not(store: KernelStore) -> None:
    await offer_process(store, external(event_types=(NOTE, _REPORT_AND_END)))
    await append(store, "finished", {"value": 1, "text": "first"}, key="k1")
    await refused(ProcessTerminal, append(store, "finished", {"value": 1, "text": "second"}, key="k2"))
    await refused(ProcessTerminal, append(store, "finished", {"value": 2, "text": "second"}, key="k1"))
    assert await wakes(store) == [("s", "first")]
    assert (await store.get_process("p")).output == SuccessOutput(value=1)


async def an_event_whose_meaning_cannot_be_found_is_refused(store: KernelStore) -> None:
    await offer_process(store, external(event_types=(_REPORT_AND_END,)))
    error = await refused(InvalidPayload, append(store, "finished", {"text": "t"}, key="k"))
    assert error.pointer == "/value"
    error = await refused(InvalidPayload, append(store, "finished", {"value": 1}, key="k"))
    assert error.pointer == "/text"
    assert (await store.get_process("p")).status == "running"
    assert await wakes(store) == []


async def a_clock_that_went_back_does_not_make_a_process_younger(store: KernelStore) -> None:
    await register(store)
    result = await append(store, now=NOW - 50)
    assert result.event is not None
    assert (result.event.occurred_at_ms, result.record.updated_at_ms) == (NOW - 50, NOW)


async def of_an_event_is_told_once_and_only_if_it_was_done(store: KernelStore) -> None:
    await register(store)
    told: list[Any] = []
    result = await store.append_event("p", NewEvent(event_type="note"), now=NOW, then=told.append)
    await refused(InvalidInput, store.append_event("p", NewEvent(event_type="surprise"), now=NOW, then=told.append))
    assert told == [result]
