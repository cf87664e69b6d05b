"""What a queue promises about source keys: they bring their work once, also when that work has been forgotten."""

from __future__ import annotations

from typing import Any

from sightline.errors import BatchNotFound, IdempotencyKeyReused, QueueFull
from sightline.kernel import KernelStore
from sightline.observation.activities import Outcome
from sightline.queue.model import (
    Batch,
    BatchState,
    Cancellation,
    Claim,
    DeliveryPolicy,
    Group,
    NothingClaimed,
    SlotPolicy,
)
from sightline.session.model import Failure
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
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
    offer,
    refused,
    request_cancel,
    run_turn,
)

_ENDS = (
    Outcome(status="completed"),
    Outcome(status="cancelled", reason="enough"),
    Outcome(status="failed", error=Failure("agent_error", "it “broke”")),
)


async def a_replay_finds_the_work_as_it_stands(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    held = await claim(store)
    assert await _replayed(store) == held.batches[0]
    [given_back] = await abandon(store, held)
    assert await _replayed(store) == given_back
    await run_turn(store, revision=0)
    assert await _replayed(store) == await store.get_batch("s", "s:work")


async def a_replay_finds_the_work_as_it_ended_also_when_it_has_been_forgotten(store: KernelStore) -> None:
    await new_session(store)
    options: dict[str, Any] = {
        "delivery_policy": DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        "slot_policy": SlotPolicy.JOIN,
        "merge_key": Group("g"),
        "available_at_ms": NOW + 5,
    }
    ended: list[Batch] = []
    for revision, outcome in enumerate(_ENDS):
        name = str(outcome.status)
        await enqueue(store, name, key=name, **options)
        for _ in range(revision):
            await abandon(store, await claim(store, turn=f"turn {name}", now=NOW + 5))
        held = await claim(store, turn=f"turn {name}", now=NOW + 5)
        await _end(store, held, revision, outcome)
        ended.append(await store.get_batch("s", f"s:{name}"))
    await enqueue(store, "dropped", key="dropped", **options)
    ended.append(await store.cancel_batch("s", "s:dropped", now=NOW, then=ignored))
    assert await store.purge_ended(NOW + 1, 10) == 4
    for batch in ended:
        name = batch.batch_id.removeprefix("s:")
        await refused(BatchNotFound, store.get_batch("s", batch.batch_id))
        again = await store.enqueue(
            draft(name, key=name, **options), batch_id="another", now=NOW + 9, max_open=10, then=ignored
        )
        assert again.replayed
        assert again.batch == batch
    assert [batch.state for batch in ended] == [
        BatchState.COMPLETED,
        BatchState.CANCELLED,
        BatchState.FAILED,
        BatchState.CANCELLED,
    ]
    assert [batch.attempts for batch in ended] == [1, 2, 3, 0]


async def a_replay_of_forgotten_work_keeps_the_times_of_the_first(store: KernelStore) -> None:
    await new_session(store)
    first = await enqueue(store, key="k")
    await run_turn(store, revision=0)
    await store.purge_ended(NOW + 1, 10)
    again = await offer(store, draft(key="k"), now=NOW + 99)
    assert (again.batch.enqueued_at_ms, again.batch.available_at_ms) == (NOW, NOW)
    assert (again.batch.batch_id, again.batch.enqueue_seq) == (first.batch_id, first.enqueue_seq)
    assert again.batch.items == first.items


async def a_replay_of_forgotten_work_brings_nothing_back(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    await run_turn(store, revision=0)
    await store.purge_ended(NOW + 1, 10)
    before = await everything(store)
    assert (await offer(store, draft(key="k"))).replayed
    assert await everything(store) == before
    assert await store.list_batches("s", pending_only=False, limit=10) == ()
    assert await claim_nothing(store) == NothingClaimed("empty")


async def a_replay_needs_no_room_in_the_queue(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    await run_turn(store, revision=0)
    assert (await offer(store, draft(key="k"), max_open=0)).replayed
    await store.purge_ended(NOW + 1, 10)
    assert (await offer(store, draft(key="k"), max_open=0)).replayed
    await refused(QueueFull, offer(store, draft(key="l"), max_open=0))


async def a_key_with_other_content_is_refused_also_when_its_work_has_been_forgotten(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    await run_turn(store, revision=0)
    await store.purge_ended(NOW + 1, 10)
    before = await everything(store)
    for other in (draft("other", key="k"), draft(key="k", slot_policy=SlotPolicy.JOIN)):
        error = await refused(IdempotencyKeyReused, offer(store, other))
        assert error.source_key == "k"
    assert await everything(store) == before
    assert (await offer(store, draft(key="k"))).replayed


async def a_cancel_by_key_is_answered_also_when_the_work_has_been_forgotten(store: KernelStore) -> None:
    await new_session(store)
    for revision, outcome in enumerate(_ENDS):
        name = outcome.status
        await enqueue(store, name, key=name)
        await _end(store, await claim(store, turn=f"turn {name}"), revision, outcome)
    await enqueue(store, "dropped", key="dropped")
    await request_cancel(store, key="dropped")
    await store.purge_ended(NOW + 1, 10)
    for _ in range(2):
        assert await request_cancel(store, key="completed") == Cancellation(turn_id="turn completed", state="ended")
        assert await request_cancel(store, key="failed") == Cancellation(turn_id="turn failed", state="ended")
        assert await request_cancel(store, key="cancelled") == Cancellation(turn_id="turn cancelled", state="cancelled")
        assert await request_cancel(store, key="dropped") == Cancellation(turn_id=None, state="cancelled")


async def work_cancelled_before_it_came_stays_cancelled_when_it_has_been_forgotten(store: KernelStore) -> None:
    await new_session(store)
    await request_cancel(store, key="k")
    first = await offer(store, draft(key="k"))
    assert await store.purge_ended(NOW + 1, 10) == 1
    again = await offer(store, draft(key="k"))
    assert again.replayed
    assert again.batch == first.batch
    assert again.batch.state is BatchState.CANCELLED


async def the_same_key_in_two_sessions_is_two_keys_also_afterwards(store: KernelStore) -> None:
    for revision, session_id in enumerate(("s", "other")):
        await new_session(store, session_id)
        await enqueue(store, session_id=session_id, key="k")
        held = await claim(store, session_id=session_id)
        await _end(store, held, 0, _ENDS[revision])
    await store.purge_ended(NOW + 1, 10)
    for session_id, state in (("s", BatchState.COMPLETED), ("other", BatchState.CANCELLED)):
        again = await offer(store, draft(session_id=session_id, key="k"))
        assert (again.batch.batch_id, again.batch.state) == (f"{session_id}:work", state)


async def a_key_is_forgotten_only_when_it_is_old_and_its_work_is_gone(store: KernelStore) -> None:
    await new_session(store)
    for name in ("held", "open", "ended", "gone"):
        await enqueue(store, name, key=name)
    for name in ("ended", "gone"):
        await store.cancel_batch("s", f"s:{name}", now=NOW if name == "gone" else NOW + 5, then=ignored)
    assert await store.purge_ended(NOW + 1, 10) == 1
    assert names_of(await claim(store)) == ["s:held"]
    assert await store.purge_keys(NOW, 10) == 0
    assert await store.purge_keys(NOW + 1, 10) == 1
    assert await store.purge_keys(NOW + 10**9, 10) == 0
    for name in ("open", "held", "ended"):
        assert (await offer(store, draft(name, key=name))).replayed
    new = await store.enqueue(draft("other", key="gone"), batch_id="new", now=NOW, max_open=10, then=ignored)
    assert (new.replayed, new.batch.state) == (False, BatchState.PENDING)


async def a_replay_keeps_a_key_young(store: KernelStore) -> None:
    await new_session(store)
    for name in ("used", "unused"):
        await enqueue(store, name, key=name)
        await store.cancel_batch("s", f"s:{name}", now=NOW, then=ignored)
    await store.purge_ended(NOW + 1, 10)
    assert (await offer(store, draft("used", key="used"), now=NOW + 50)).replayed
    # A clock that went back makes no key older.
    assert (await offer(store, draft("used", key="used"), now=NOW - 50)).replayed
    assert await store.purge_keys(NOW + 50, 10) == 1
    assert (await offer(store, draft("used", key="used"), now=NOW + 50)).replayed
    assert not (await offer(store, draft("unused", key="unused"))).replayed


async def a_replay_keeps_a_key_young_also_while_its_work_is_there(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    await offer(store, draft(key="k"), now=NOW + 50)
    await store.cancel_batch("s", "s:work", now=NOW, then=ignored)
    await store.purge_ended(NOW + 1, 10)
    assert await store.purge_keys(NOW + 50, 10) == 0
    assert await store.purge_keys(NOW + 51, 10) == 1


async def the_oldest_keys_are_forgotten_first_and_no_more_than_were_asked_for(store: KernelStore) -> None:
    await new_session(store)
    for offset, name in ((2, "third"), (0, "first"), (1, "second")):
        await enqueue(store, name, key=name, now=NOW + offset)
        await store.cancel_batch("s", f"s:{name}", now=NOW, then=ignored)
    await store.purge_ended(NOW + 1, 10)
    assert await store.purge_keys(NOW + 10, 2) == 2
    assert (await offer(store, draft("third", key="third"))).replayed
    assert await store.purge_keys(NOW + 10, 2) == 1
    assert await store.purge_keys(NOW + 10, 2) == 0


async def the_keys_of_a_session_end_with_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, key="k")
    await request_cancel(store, key="l")
    await run_turn(store, revision=0)
    await store.purge_ended(NOW + 1, 10)
    await store.delete_session("s", NOW, ignored)
    assert await store.purge_keys(NOW + 10**9, 10) == 0


async def _replayed(store: KernelStore) -> Batch:
    again = await offer(store, draft(key="k"))
    assert again.replayed
    return again.batch


async def _end(store: KernelStore, held: Claim, revision: int, outcome: Outcome) -> None:
    await commit(store, commit_of(held, revision=revision, outcome=outcome))
