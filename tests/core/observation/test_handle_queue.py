"""The queue of a session as its handle's users have it: accepted means stored, told and poked, also during a turn."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sightline.errors import (
    BatchNotCancellable,
    BatchNotFound,
    Draining,
    IdempotencyKeyReused,
    InvalidInput,
    QueueFull,
    StoreCommitFailed,
    StoreUnavailable,
)
from sightline.kernel import Limits
from sightline.observation.handle import RuntimeHandle
from sightline.queue.model import BatchState, DeliveryPolicy, SlotPolicy, TextItem, TurnInput
from sightline.testing.clock import settled
from tests.core.observation.runtimes import OwnRuntime, handle_over
from tests.core.worlds import Puppet, running, watch

pytestmark = pytest.mark.anyio


def saying(text: str, **options: Any) -> TurnInput:
    return TurnInput((TextItem(text),), **options)


async def test_without_a_store_nothing_is_queued_or_cancelled() -> None:
    handle = handle_over(OwnRuntime())
    with pytest.raises(StoreCommitFailed) as refused:
        await handle.enqueue_turn_input(saying("hi"))
    assert (refused.value.code, refused.value.retryable) == ("store_commit_failed", False)
    with pytest.raises(StoreCommitFailed):
        await handle.cancel_queued_work_batch("s", "b")
    assert handle.view.queue == ()


async def test_input_is_queued_told_and_poked_while_a_turn_runs() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("first")
        watched = await watch(world)
        async with world.kernel.opened("s") as handle:
            assert handle.writer().is_taken
            batch = await handle.enqueue_turn_input(saying("second"), source_key="host:k")
            assert handle.writer().is_taken
        assert (batch.state, batch.source_key) == (BatchState.PENDING, "host:k")
        assert batch.delivery_policy is DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
        assert (batch.slot_policy, batch.merge_key) == (SlotPolicy.EXCLUSIVE, "never")
        assert batch.available_at_ms == world.clock.now_ms()
        assert await world.store.get_batch("s", batch.batch_id) == batch
        [told] = watched.events
        assert told.kind == "queue_changed"
        assert msgspec.to_builtins(told.data)["batch_ids"] == (batch.batch_id,)
        await puppet.ends()
        assert [turn.input[0].content for turn in puppet.turns] == ["first", "second"]


async def test_no_poll_is_needed_for_what_was_queued_through_a_handle() -> None:
    puppet = Puppet()
    async with running(puppet) as world, world.kernel.opened("s") as handle:
        await handle.enqueue_turn_input(saying("hi"))
        await settled()  # the clock stands, so that no poll comes
        assert [turn.input[0].content for turn in puppet.turns] == ["hi"]


async def test_the_policies_are_those_that_were_asked_for() -> None:
    async with running(None) as world, world.kernel.opened("s") as handle:
        batch = await handle.enqueue_turn_input(
            saying("now"), DeliveryPolicy.EARLIEST_SAFE_BOUNDARY, SlotPolicy.JOIN, "host:k"
        )
        assert (batch.delivery_policy, batch.slot_policy) == ("earliest_safe_boundary", "join")


async def test_a_key_that_comes_again_brings_the_first_batch_and_nothing_new_is_told() -> None:
    async with running(None) as world, world.kernel.opened("s") as handle:
        first = await handle.enqueue_turn_input(saying("hi"), source_key="host:k")
        told = handle.cursor
        assert await handle.enqueue_turn_input(saying("hi"), source_key="host:k") == first
        with pytest.raises(IdempotencyKeyReused):
            await handle.enqueue_turn_input(saying("other"), source_key="host:k")
        assert handle.cursor == told


async def test_what_cannot_be_stored_is_refused_before_the_store_is_asked() -> None:
    async with running(None) as world, world.kernel.opened("s") as handle:
        world.faults.calls.clear()
        for unstorable in (
            saying("\ud800"),
            saying("hi", protocol_turn_options={"callback": print}),
            saying("hi", protocol_turn_options={"bad": object()}),
        ):
            with pytest.raises(InvalidInput):
                await handle.enqueue_turn_input(unstorable)
        assert world.faults.calls == []
        await handle.enqueue_turn_input(saying("hi", protocol_turn_options={"a": [1, None]}))


async def test_a_full_queue_and_a_draining_kernel_refuse() -> None:
    async with running(None, limits=Limits(max_queue=1)) as world, world.kernel.opened("s") as handle:
        await handle.enqueue_turn_input(saying("one"))
        with pytest.raises(QueueFull):
            await handle.enqueue_turn_input(saying("two"))
        await world.kernel.drain(0)
        with pytest.raises(Draining):
            await handle.enqueue_turn_input(saying("three"))


async def test_a_cancel_returns_the_batch_and_is_told_once() -> None:
    async with running(None) as world, world.kernel.opened("s") as handle:
        batch = await handle.enqueue_turn_input(saying("hi"))
        watched = await watch(world)
        cancelled = await handle.cancel_queued_work_batch("s", batch.batch_id)
        assert cancelled is not None
        assert (cancelled.batch_id, cancelled.state) == (batch.batch_id, BatchState.CANCELLED)
        assert watched.told == ["cancelled"]
        assert await handle.cancel_queued_work_batch("s", batch.batch_id) is None
        assert await handle.cancel_queued_work_batch("s", "nobody") is None
        assert watched.told == ["cancelled"]
        with pytest.raises(BatchNotFound):
            await handle.cancel_batch("nobody")
        with pytest.raises(BatchNotCancellable):
            await handle.cancel_batch(batch.batch_id)


async def test_work_that_a_turn_has_taken_is_not_cancelled() -> None:
    async with running(Puppet()) as world:
        written = await world.send("first")
        async with world.kernel.opened("s") as handle:
            assert await handle.cancel_queued_work_batch("s", written.batch.batch_id) is None


async def test_the_work_of_another_session_is_not_cancelled_from_here() -> None:
    async with running(None, session_ids=("s", "other")) as world, world.kernel.opened("s") as handle:
        written = await world.send("theirs", session_id="other")
        with pytest.raises(InvalidInput) as refused:
            await handle.cancel_queued_work_batch("other", written.batch.batch_id)
        assert refused.value.field == "session_id"
        assert (await world.store.get_batch("other", written.batch.batch_id)).state is BatchState.PENDING


async def test_a_write_whose_caller_has_left_is_told_all_the_same() -> None:
    async with running(None) as world:
        async with world.kernel.opened("s") as handle:
            gate = world.faults.hold("enqueue")
            sending = asyncio.create_task(handle.enqueue_turn_input(saying("hi")))
            await gate.reached.wait()
            sending.cancel()
            await asyncio.wait({sending})
        assert sending.cancelled()
        assert handle.pins == 1
        gate.open()
        await settled()
        assert handle.pins == 0
        assert [summary.preview for summary in handle.view.queue] == ["hi"]


async def test_a_write_that_may_have_been_done_leaves_a_view_that_is_made_anew() -> None:
    async with running(Puppet()) as world:
        async with world.kernel.opened("s") as handle:
            world.faults.fail_after("enqueue", told=False)
            with pytest.raises(StoreUnavailable):
                await handle.enqueue_turn_input(saying("hi"))
        await settled()
        assert not handle.stale
        assert [summary.state for summary in handle.view.queue] == ["claimed"]


async def test_a_turn_has_the_writer_from_its_claim_to_its_end() -> None:
    puppet = Puppet()
    async with running(puppet) as world, world.kernel.opened("s") as handle:
        async with handle.writer():
            await world.send("work")
            assert puppet.turns == []
            assert [summary.state for summary in handle.view.queue] == ["pending"]
        await settled()
        assert len(puppet.turns) == 1
        assert handle.writer().is_taken
        await puppet.ends()
        assert not handle.writer().is_taken


async def test_a_loaded_handle_can_be_taken_apart_and_is_loaded_again() -> None:
    async with running(None) as world:
        await world.send("work")
        async with world.kernel.opened("s") as handle:
            taken = handle.try_into_runtime()
            assert not isinstance(taken, RuntimeHandle)
            assert taken.export_state().session_id == "s"
        async with world.kernel.opened("s") as again:
            assert again is not handle
            assert len(again.view.queue) == 1
