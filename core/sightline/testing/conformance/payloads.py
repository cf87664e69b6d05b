"""What a queue promises about every kind of work: it comes back as it was given, and commands and wakes are alone."""

from __future__ import annotations

from msgspec import UNSET, structs

from sightline.errors import InvalidInput
from sightline.kernel import KernelStore
from sightline.queue.materializing import wake_draft
from sightline.queue.model import (
    BatchState,
    Boundary,
    CommandPayload,
    DeliveryPolicy,
    Draft,
    Group,
    ImageItem,
    NothingClaimed,
    Payload,
    ProcessWake,
    RefreshToolSurface,
    ResetSession,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)
from sightline.testing.conformance.steps import (
    NOW,
    claim,
    claim_nothing,
    commit,
    commit_of,
    draft,
    enqueue,
    everything,
    ignored,
    names_of,
    new_session,
    refused,
)

_BARE_WAKE = ProcessWake(
    wake_id="wake",
    target_session_id="s",
    target_scope_id="scope",
    process_id="p:1",
    sequence=3,
    event_type="process.completed",
    dedupe_key="done",
    input="it “ended” 🌍\n",
    created_at_ms=NOW - 1,
)
_WAKE = structs.replace(
    _BARE_WAKE,
    event_invocation={"id": "i", "arguments": [1, 2.5, None, {"deep": ["x", True]}]},
    process_caused_by={"type": "turn", "turn_id": "t0"},
)
_PICTURES = TurnInput(
    items=(ImageItem("a"), TextItem("“what” is\nthis? 🌍"), ImageItem("b"), TextItem(""), ImageItem("nothing")),
    image_blobs={"a": b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "b": b"", "unused": b"x" * 10_000},
    protocol_turn_options={"temperature": 0.5, "stop": [], "nested": {"none": None}},
    trace_turn_id="host:trace",
)
_CHECKPOINT = Boundary.ACTIVE_TURN_CHECKPOINT


async def every_kind_of_work_comes_back_as_it_was_given(store: KernelStore) -> None:
    await new_session(store)
    kinds: tuple[tuple[Payload, ...], ...] = (
        (TurnInputPayload(_PICTURES),),
        (TurnInputPayload(TurnInput(())),),
        (TurnInputPayload(TurnInput((TextItem("x"),), {}, {}, "")),),
        (WakePayload(_WAKE),),
        (WakePayload(_BARE_WAKE),),
        (TurnInputPayload(_PICTURES), WakePayload(_WAKE), TurnInputPayload(TurnInput((TextItem("x"),)))),
        (CommandPayload(RefreshToolSurface(reason="new “tools”")),),
        (CommandPayload(RefreshToolSurface(reason="", expected_generation=2**53 + 1)),),
        (CommandPayload(ResetSession(reason="afresh")),),
    )
    for number, payloads in enumerate(kinds):
        await _comes_back(store, f"b{number}", number, payloads)


async def _comes_back(store: KernelStore, batch_id: str, revision: int, payloads: tuple[Payload, ...]) -> None:
    work = Draft(session_id="s", payloads=payloads, source_key=batch_id)
    batch = (await store.enqueue(work, batch_id=batch_id, now=NOW, max_open=10, then=ignored)).batch
    assert tuple(item.payload for item in batch.items) == payloads
    assert [item.item_id for item in batch.items] == [f"{batch_id}:item:{index}" for index in range(len(payloads))]
    assert await store.get_batch("s", batch_id) == batch
    assert (await store.load_session("s", 1)).open_batches == (batch,)
    held = await claim(store, turn=f"turn {batch_id}")
    assert held.batches[0].items == batch.items
    await commit(store, commit_of(held, revision=revision))
    await store.purge_ended(NOW + 1, 10)
    again = await store.enqueue(work, batch_id="another", now=NOW, max_open=10, then=ignored)
    assert (again.replayed, again.batch.items) == (True, batch.items)


async def what_was_left_out_is_told_from_what_was_given_as_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "plain")
    [item] = (await store.get_batch("s", "s:plain")).items
    assert isinstance(item.payload, TurnInputPayload)
    given = item.payload.input
    assert (given.image_blobs, given.protocol_turn_options, given.trace_turn_id) == (UNSET, UNSET, UNSET)


async def a_wake_is_enqueued_once_for_each_event_of_its_process(store: KernelStore) -> None:
    await new_session(store)
    first = await _enqueue_wake(store, _WAKE, "first")
    assert not first
    assert await _enqueue_wake(store, _WAKE, "again")
    held = await claim(store)
    assert names_of(held) == ["first"]
    assert await _enqueue_wake(store, _WAKE, "while held")
    await commit(store, commit_of(held, revision=0))
    assert await _enqueue_wake(store, _WAKE, "after its turn")
    await store.purge_ended(NOW + 1, 10)
    assert await _enqueue_wake(store, _WAKE, "after it was forgotten")
    assert await claim_nothing(store) == NothingClaimed("empty")
    assert not await _enqueue_wake(store, structs.replace(_WAKE, sequence=4), "of the next event")


async def each_wake_is_taken_alone_and_by_one(store: KernelStore) -> None:
    await new_session(store)
    for sequence in (1, 2):
        await _enqueue_wake(store, structs.replace(_WAKE, sequence=sequence), f"wake {sequence}")
    assert names_of(await claim(store, boundary=_CHECKPOINT)) == ["wake 1"]
    assert names_of(await claim(store, boundary=_CHECKPOINT, turn="t2")) == ["wake 2"]
    assert (await claim_nothing(store, boundary=_CHECKPOINT)).reason == "held"


async def a_command_waits_for_an_idle_session_and_is_taken_alone(store: KernelStore) -> None:
    await new_session(store)
    await _enqueue_command(store, "command")
    await enqueue(store, "urgent", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
    assert await claim_nothing(store, boundary=_CHECKPOINT) == NothingClaimed("command_at_head")
    assert names_of(await claim(store)) == ["command"]
    assert names_of(await claim(store, boundary=_CHECKPOINT, turn="t2")) == ["s:urgent"]


async def a_command_runs_after_the_work_before_it_and_before_the_work_behind_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "before")
    await _enqueue_command(store, "command")
    await enqueue(store, "behind")
    taken = [names_of(await claim(store, turn=turn)) for turn in ("t1", "t2", "t3")]
    assert taken == [["s:before"], ["command"], ["s:behind"]]


async def work_that_no_queue_should_hold_is_refused_and_not_stored(store: KernelStore) -> None:
    await new_session(store)
    before = await everything(store)
    command = CommandPayload(ResetSession(reason="afresh"))
    text = TurnInputPayload(TurnInput((TextItem("x"),)))
    for work, field in (
        (Draft(session_id="s", payloads=()), "payloads"),
        (draft(key=""), "source_key"),
        (Draft(session_id="s", payloads=(command, command)), "payloads"),
        (Draft(session_id="s", payloads=(text, command)), "payloads"),
        (Draft(session_id="s", payloads=(command,), slot_policy=SlotPolicy.JOIN, merge_key=Group("g")), "payloads"),
    ):
        error = await refused(InvalidInput, store.enqueue(work, batch_id="b", now=NOW, max_open=10, then=ignored))
        assert error.field == field
    assert await everything(store) == before


async def _enqueue_wake(store: KernelStore, wake: ProcessWake, batch_id: str) -> bool:
    """Whether the wake was there before."""
    enqueued = await store.enqueue(wake_draft(wake), batch_id=batch_id, now=NOW, max_open=10, then=ignored)
    assert enqueued.replayed or enqueued.batch.state is BatchState.PENDING
    return enqueued.replayed


async def _enqueue_command(store: KernelStore, batch_id: str) -> None:
    work = Draft(session_id="s", payloads=(CommandPayload(ResetSession(reason="afresh")),))
    await store.enqueue(work, batch_id=batch_id, now=NOW, max_open=10, then=ignored)
