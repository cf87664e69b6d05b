"""What a queue promises to whoever changes their mind: cancelling batches, and asking for the end of turns."""

from __future__ import annotations

from sightline.errors import BatchNotCancellable
from sightline.kernel import KernelStore
from sightline.observation.activities import Outcome
from sightline.queue.model import BatchState, Cancellation, Group, SlotPolicy
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
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


async def pending_work_can_be_cancelled(store: KernelStore) -> None:
    await new_session(store)
    batch = await enqueue(store, available_at_ms=NOW + 10)
    cancelled = await store.cancel_batch("s", batch.batch_id, now=NOW, then=ignored)
    assert (cancelled.batch_id, cancelled.state) == (batch.batch_id, BatchState.CANCELLED)
    assert await store.get_batch("s", batch.batch_id) == cancelled
    assert (await store.load_session("s", 10)).open_batches == ()


async def work_that_is_held_or_has_ended_cannot_be_cancelled(store: KernelStore) -> None:
    await new_session(store)
    batch = await enqueue(store)
    held = await claim(store)
    error = await refused(BatchNotCancellable, store.cancel_batch("s", batch.batch_id, now=NOW, then=ignored))
    assert (error.batch_id, error.state) == (batch.batch_id, "claimed")
    await abandon(store, held)
    await run_turn(store, revision=0)
    before = await everything(store)
    error = await refused(BatchNotCancellable, store.cancel_batch("s", batch.batch_id, now=NOW, then=ignored))
    assert error.state == "completed"
    assert await everything(store) == before


async def work_between_two_attempts_is_ended_by_its_turn_and_not_dropped(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, slot_policy=SlotPolicy.JOIN, merge_key=Group("g"))
    await enqueue(store, "later")
    held = await claim(store)
    await abandon(store, held)
    error = await refused(BatchNotCancellable, store.cancel_batch("s", "s:b", now=NOW, then=ignored))
    assert error.state == "pending"
    cancelled, kept = await store.cancel_from("s", "s:a", now=NOW, then=ignored)
    assert [batch.batch_id for batch in cancelled] == ["s:later"]
    assert [batch.batch_id for batch in kept] == ["s:a", "s:b"]
    assert await request_cancel(store, turn=held.turn_id) == Cancellation(
        turn_id=held.turn_id, state="cancel_requested"
    )
    again = await claim(store, turn="another")
    assert (again.turn_id, len(again.batches), again.cancel_requested) == (held.turn_id, 2, "enough")


async def a_key_cancelled_in_advance_is_forgotten_when_its_time_is_over(store: KernelStore) -> None:
    await new_session(store)
    assert (await request_cancel(store, key="k")).state == "will_cancel"
    assert await store.purge_keys(NOW, 10) == 0
    assert (await offer(store, draft("kept", key="k"))).batch.state is BatchState.CANCELLED
    assert (await request_cancel(store, key="l")).state == "will_cancel"
    assert await store.purge_keys(NOW + 1, 10) == 1
    assert (await offer(store, draft("late", key="l"))).batch.state is BatchState.PENDING


async def cancelling_twice_is_refused_with_the_state(store: KernelStore) -> None:
    await new_session(store)
    batch = await enqueue(store)
    await store.cancel_batch("s", batch.batch_id, now=NOW, then=ignored)
    error = await refused(BatchNotCancellable, store.cancel_batch("s", batch.batch_id, now=NOW, then=ignored))
    assert error.state == "cancelled"


async def cancelling_from_a_batch_spares_what_is_before_it_and_what_is_held(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await enqueue(store, "before", available_at_ms=NOW + 10**6)
    for name in ("held", "a", "b"):
        await enqueue(store, name)
    await enqueue(store, "elsewhere", session_id="other")
    await claim(store)
    told: list[object] = []
    cancelled, kept = await store.cancel_from("s", "s:held", now=NOW, then=told.append)
    assert told == [(cancelled, kept)]
    assert [(b.batch_id, b.state) for b in cancelled] == [
        ("s:a", BatchState.CANCELLED),
        ("s:b", BatchState.CANCELLED),
    ]
    assert [(b.batch_id, b.state) for b in kept] == [("s:held", BatchState.CLAIMED)]
    left = (await store.load_session("s", 10)).open_batches
    assert [batch.batch_id for batch in left] == ["s:before", "s:held"]
    assert len((await store.load_session("other", 10)).open_batches) == 1


async def work_that_a_turn_has_taken_is_never_just_dropped_also_while_it_waits_for_its_next_attempt(
    store: KernelStore,
) -> None:
    await new_session(store)
    await enqueue(store, "begun")
    await enqueue(store, "fresh")
    await abandon(store, await claim(store))
    await refused(BatchNotCancellable, store.cancel_batch("s", "s:begun", now=NOW, then=ignored))
    cancelled, kept = await store.cancel_from("s", "s:begun", now=NOW, then=ignored)
    assert [batch.batch_id for batch in cancelled] == ["s:fresh"]
    assert [(batch.batch_id, batch.state) for batch in kept] == [("s:begun", BatchState.PENDING)]
    assert (await claim(store)).batches[0].batch_id == "s:begun"


async def an_ended_batch_is_a_place_to_cancel_from_and_stays_as_it_is(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "done")
    await run_turn(store, revision=0)
    await enqueue(store, "later")
    cancelled, kept = await store.cancel_from("s", "s:done", now=NOW, then=ignored)
    assert ([batch.batch_id for batch in cancelled], kept) == (["s:later"], ())
    assert (await store.get_batch("s", "s:done")).state is BatchState.COMPLETED


async def with_nothing_running_there_is_nothing_to_cancel(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    assert await request_cancel(store) == Cancellation(turn_id=None, state="none")
    assert await request_cancel(store, turn="unknown") == Cancellation(turn_id="unknown", state="none")
    assert (await store.get_batch("s", "s:work")).state is BatchState.PENDING


async def a_running_turn_is_asked_to_end_by_its_id_by_its_key_or_by_being_the_one(
    store: KernelStore,
) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    held = await claim(store, turn="t1")
    asked = Cancellation(turn_id="t1", state="cancel_requested")
    assert await request_cancel(store, turn="t1") == asked
    assert await request_cancel(store, key="k") == asked
    assert await request_cancel(store) == asked
    assert await store.get_batch("s", held.batches[0].batch_id) == held.batches[0]


async def the_first_reason_stays(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    await request_cancel(store, reason="first")
    await request_cancel(store, reason="second")
    await abandon(store, held)
    assert (await claim(store)).cancel_requested == "first"


async def a_turn_that_waits_for_its_next_attempt_is_asked_and_not_dropped(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, key=name, slot_policy=SlotPolicy.JOIN, merge_key=Group("g"))
    await abandon(store, await claim(store))
    answer = await request_cancel(store, key="b", reason="enough")
    assert answer == Cancellation(turn_id="t1", state="cancel_requested")
    again = await claim(store)
    assert (len(again.batches), again.cancel_requested) == (2, "enough")


async def pending_work_is_cancelled_by_its_key_at_once(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    answer = await request_cancel(store, key="k")
    assert (answer.turn_id, answer.state) == (None, "cancelled")
    assert [(batch.batch_id, batch.state) for batch in answer.batches] == [("s:work", BatchState.CANCELLED)]
    assert await request_cancel(store, key="k") == Cancellation(turn_id=None, state="cancelled")


async def work_that_has_not_come_yet_will_be_cancelled_when_it_does(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    for _ in range(2):
        assert await request_cancel(store, key="k") == Cancellation(turn_id=None, state="will_cancel")
    assert (await offer(store, draft(key="k", session_id="other"))).batch.state is BatchState.PENDING
    assert (await offer(store, draft(key="k"))).batch.state is BatchState.CANCELLED
    assert await request_cancel(store, key="k") == Cancellation(turn_id=None, state="cancelled")


async def a_turn_that_ended_keeps_saying_how(store: KernelStore) -> None:
    await new_session(store)
    outcomes = (Outcome(status="completed"), Outcome(status="failed"), Outcome(status="cancelled"))
    for revision, outcome in enumerate(outcomes):
        turn, key = f"turn {outcome.status}", f"key {outcome.status}"
        await enqueue(store, key, key=key)
        await run_turn(store, revision=revision, turn=turn, outcome=outcome)
        expected = Cancellation(turn_id=turn, state="cancelled" if outcome.status == "cancelled" else "ended")
        for _ in range(2):
            assert await request_cancel(store, turn=turn) == expected
            assert await request_cancel(store, key=key) == expected
    await store.purge_ended(NOW + 1, 10)
    assert (await request_cancel(store, turn="turn cancelled")).state == "cancelled"
    assert (await request_cancel(store, turn="turn failed")).state == "ended"


async def asking_for_one_turn_leaves_the_next_one_alone(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name)
    held = await claim(store, turn="t1")
    await request_cancel(store, turn="t1")
    await abandon(store, held)
    assert (await claim(store, turn="x")).cancel_requested == "enough"
    assert (await claim(store, turn="t2")).cancel_requested is None
