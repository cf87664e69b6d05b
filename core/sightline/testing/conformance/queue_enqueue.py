"""What a queue promises to whoever brings work: `sightline.queue.port`, enqueue and what can be read."""

from __future__ import annotations

from msgspec import UNSET

from sightline.errors import BatchNotFound, IdempotencyKeyReused, QueueFull
from sightline.kernel import KernelStore
from sightline.queue.model import (
    BatchState,
    DeliveryPolicy,
    Draft,
    Group,
    ImageItem,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.testing.conformance.steps import (
    NOW,
    claim,
    draft,
    enqueue,
    everything,
    ignored,
    new_session,
    offer,
    refused,
    request_cancel,
    run_turn,
)


async def enqueued_work_is_pending_and_comes_back_whole(store: KernelStore) -> None:
    await new_session(store)
    payload = TurnInputPayload(
        TurnInput((TextItem("a\nb “ß” 🌍"), ImageItem("i"), TextItem("")), {"i": bytes(range(256))})
    )
    work = Draft(
        session_id="s",
        payloads=(payload, TurnInputPayload(TurnInput((TextItem("second"),)))),
        source_key="host:k",
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.JOIN,
        merge_key=Group("g"),
        available_at_ms=NOW + 5,
    )
    batch = (await store.enqueue(work, batch_id="b", now=NOW, max_open=10, then=ignored)).batch
    assert (batch.batch_id, batch.session_id, batch.state) == ("b", "s", BatchState.PENDING)
    assert (batch.delivery_policy, batch.slot_policy, batch.merge_key) == (
        work.delivery_policy,
        work.slot_policy,
        work.merge_key,
    )
    assert (batch.available_at_ms, batch.enqueued_at_ms) == (NOW + 5, NOW)
    assert [(item.item_id, item.payload) for item in batch.items] == [
        ("b:item:0", work.payloads[0]),
        ("b:item:1", work.payloads[1]),
    ]
    assert (batch.source_key, batch.turn_id, batch.error, batch.attempts) == ("host:k", UNSET, UNSET, 0)
    assert await store.get_batch("s", "b") == batch
    assert await store.list_batches("s", pending_only=True, limit=10) == (batch,)
    assert (await store.load_session("s", 10)).open_batches == (batch,)


async def work_that_names_no_time_is_available_at_once(store: KernelStore) -> None:
    await new_session(store)
    assert (await enqueue(store)).available_at_ms == NOW


async def sequences_grow_and_are_never_used_again(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    seen = [(await enqueue(store, f"{number}")).enqueue_seq for number in range(3)]
    last = await enqueue(store, "last")
    await store.cancel_batch("s", last.batch_id, now=NOW, then=ignored)
    assert await store.purge_ended(NOW + 1, 10) == 1
    seen += [last.enqueue_seq, (await enqueue(store, "elsewhere", session_id="other")).enqueue_seq]
    await store.delete_session("other", NOW, ignored)
    seen.append((await enqueue(store, "after")).enqueue_seq)
    assert seen == sorted(set(seen))


async def the_same_key_brings_the_same_work_once(store: KernelStore) -> None:
    await new_session(store)
    first = await offer(store, draft(key="k"))
    assert not first.replayed
    again = await store.enqueue(draft(key="k"), batch_id="x", now=NOW + 9, max_open=10, then=ignored)
    assert again.replayed
    assert again.batch == first.batch
    assert await store.list_batches("s", pending_only=False, limit=10) == (first.batch,)


async def a_key_is_remembered_while_its_work_is_held_and_after_it_ended(store: KernelStore) -> None:
    await new_session(store)
    first = (await offer(store, draft(key="k"))).batch
    held = await claim(store)
    assert (await offer(store, draft(key="k"))).batch == held.batches[0]
    await store.abandon(held, charge=True, then=ignored)
    await run_turn(store, revision=0)
    after = await offer(store, draft(key="k"))
    assert after.replayed
    assert (after.batch.batch_id, after.batch.state) == (first.batch_id, BatchState.COMPLETED)


async def a_key_with_other_content_is_refused(store: KernelStore) -> None:
    await new_session(store)
    await offer(store, draft("work", key="k"))
    before = await everything(store)
    for other in (
        draft("other", key="k"),
        draft("work", key="k", slot_policy=SlotPolicy.JOIN),
        draft("work", key="k", available_at_ms=NOW + 1),
        draft("work", key="k", merge_key=Group("g")),
        draft("work", key="k", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY),
    ):
        error = await refused(IdempotencyKeyReused, offer(store, other))
        assert error.source_key == "k"
    assert await everything(store) == before


async def a_key_belongs_to_its_session(store: KernelStore) -> None:
    for session_id in ("s", "other"):
        await new_session(store, session_id)
        assert not (await offer(store, draft(key="k", session_id=session_id))).replayed


async def work_without_a_key_is_new_every_time(store: KernelStore) -> None:
    await new_session(store)
    for batch_id in ("a", "b"):
        result = await store.enqueue(draft(), batch_id=batch_id, now=NOW, max_open=10, then=ignored)
        assert (result.batch.batch_id, result.replayed) == (batch_id, False)


async def a_full_queue_takes_no_more_work(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await offer(store, draft("one", key="k"), max_open=2)
    await offer(store, draft("two"), max_open=2)
    await claim(store)
    error = await refused(QueueFull, offer(store, draft("three"), max_open=2))
    assert (error.session_id, error.limit) == ("s", 2)
    assert (await offer(store, draft("one", key="k"), max_open=2)).replayed
    assert not (await offer(store, draft("one", session_id="other"), max_open=2)).replayed


async def ended_work_leaves_room_in_the_queue(store: KernelStore) -> None:
    await new_session(store)
    await offer(store, draft("one"), max_open=1)
    await run_turn(store, revision=0)
    assert not (await offer(store, draft("two"), max_open=1)).replayed


async def work_whose_key_was_cancelled_before_it_came_is_stored_as_cancelled(store: KernelStore) -> None:
    await new_session(store)
    assert (await request_cancel(store, key="k")).state == "will_cancel"
    # There is always room for work that is not going to run.
    first = await offer(store, draft(key="k"), max_open=0)
    assert not first.replayed
    assert first.batch.state is BatchState.CANCELLED
    assert (await offer(store, draft(key="k"))).batch == first.batch
    assert (await store.load_session("s", 10)).open_batches == ()
    assert await store.claimable_sessions(NOW, 10) == ()


async def work_is_listed_by_sequence_the_newest_of_it(store: KernelStore) -> None:
    await new_session(store)
    for number in range(5):
        await enqueue(store, str(number))
    await run_turn(store, revision=0)
    listed = await store.list_batches("s", pending_only=False, limit=10)
    assert [batch.batch_id for batch in listed] == [f"s:{number}" for number in range(5)]
    assert [batch.batch_id for batch in await store.list_batches("s", pending_only=False, limit=2)] == [
        "s:3",
        "s:4",
    ]


async def the_pending_list_leaves_out_what_is_held_or_ended_but_not_what_is_delayed(
    store: KernelStore,
) -> None:
    await new_session(store)
    await enqueue(store, "done")
    await run_turn(store, revision=0)
    await enqueue(store, "held")
    await claim(store, turn="t2")
    await enqueue(store, "delayed", available_at_ms=NOW + 10**6)
    await enqueue(store, "ready")
    pending = await store.list_batches("s", pending_only=True, limit=10)
    assert [batch.batch_id for batch in pending] == ["s:delayed", "s:ready"]
    assert [batch.batch_id for batch in (await store.load_session("s", 1)).open_batches] == [
        "s:held",
        "s:delayed",
        "s:ready",
    ]


async def an_unknown_batch_is_not_found_also_when_another_session_has_it(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    elsewhere = await enqueue(store, "work", session_id="other")
    for batch_id in ("nobody", elsewhere.batch_id):
        for work in (
            store.get_batch("s", batch_id),
            store.cancel_batch("s", batch_id, now=NOW, then=ignored),
            store.cancel_from("s", batch_id, now=NOW, then=ignored),
        ):
            error = await refused(BatchNotFound, work)
            assert (error.session_id, error.batch_id) == ("s", batch_id)
    assert await store.get_batch("other", elsewhere.batch_id) == elsewhere


async def claimable_sessions_are_those_with_work_whose_time_has_come_and_nobody_holds(
    store: KernelStore,
) -> None:
    for name in ("empty", "late", "held", "ready", "ended", "both"):
        await new_session(store, name)
    await enqueue(store, "work", session_id="late", available_at_ms=NOW + 1)
    await enqueue(store, "work", session_id="held")
    await enqueue(store, "work", session_id="both", available_at_ms=NOW + 1)
    await enqueue(store, "work", session_id="ready")
    await enqueue(store, "more", session_id="both")
    await enqueue(store, "work", session_id="ended")
    await store.cancel_batch("ended", "ended:work", now=NOW, then=ignored)
    await claim(store, session_id="held", ttl_ms=100)
    assert await store.claimable_sessions(NOW, 10) == ("both", "ready")
    assert await store.claimable_sessions(NOW + 1, 10) == ("both", "late", "ready")
    assert await store.claimable_sessions(NOW + 99, 10) == ("both", "late", "ready")
    assert await store.claimable_sessions(NOW + 100, 10) == ("both", "held", "late", "ready")
    assert await store.claimable_sessions(NOW + 100, 2) == ("both", "held")
    assert await store.claimable_sessions(NOW + 100, 2, "held") == ("late", "ready")
    assert await store.claimable_sessions(NOW + 100, 2, "ready") == ()
    for name, ready in (("empty", False), ("late", False), ("held", False), ("ready", True), ("nobody", False)):
        assert await store.peek_claimable(name, NOW) is ready
    assert await store.peek_claimable("late", NOW + 1)
    assert await store.peek_claimable("held", NOW + 100)


async def the_next_due_time_is_that_of_the_earliest_delayed_work(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    assert await store.next_due(NOW) is None
    await enqueue(store, "ready")
    # Nor is it delayed for somebody whose clock is behind, or because it names a time that was over when it came.
    assert await store.next_due(NOW - 5) is None
    await enqueue(store, "overdue", available_at_ms=NOW - 3)
    assert await store.next_due(NOW - 5) is None
    await enqueue(store, "later", available_at_ms=NOW + 20)
    await enqueue(store, "soon", session_id="other", available_at_ms=NOW + 10)
    assert await store.next_due(NOW) == NOW + 10
    assert await store.next_due(NOW + 10) == NOW + 20
    assert await store.next_due(NOW + 20) is None
    await store.cancel_batch("other", "other:soon", now=NOW, then=ignored)
    assert await store.next_due(NOW) == NOW + 20


async def ended_work_is_forgotten_after_its_time_the_oldest_first(store: KernelStore) -> None:
    await new_session(store)
    for name in ("third", "first", "second", "open"):
        await enqueue(store, name, key=f"key of {name}")
    for offset, name in enumerate(("first", "second", "third")):
        await store.cancel_batch("s", f"s:{name}", now=NOW + offset, then=ignored)
    assert await store.purge_ended(NOW, 10) == 0
    assert await store.purge_ended(NOW + 10, 1) == 1
    await refused(BatchNotFound, store.get_batch("s", "s:first"))
    assert await store.purge_ended(NOW + 2, 10) == 1
    left = await store.list_batches("s", pending_only=False, limit=10)
    assert [batch.batch_id for batch in left] == ["s:third", "s:open"]
    assert await store.purge_ended(NOW + 10**9, 10) == 1
    open_left = await store.list_batches("s", pending_only=False, limit=10)
    assert [batch.batch_id for batch in open_left] == ["s:open"]
