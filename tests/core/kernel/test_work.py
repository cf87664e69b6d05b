"""Work through the kernel: accepted, shown, waited for, cancelled, delayed, drained."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from sightline.errors import BatchNotCancellable, Draining, IdempotencyKeyReused, QueueFull, StoreUnavailable
from sightline.kernel import Limits
from sightline.observation.cursor import parse
from sightline.queue.model import Batch, BatchState
from sightline.testing.clock import settled
from sightline.turn.agent import Agent, Turn
from tests.core.worlds import Puppet, draft, running, watch

pytestmark = pytest.mark.anyio


async def nothing(turn: Turn) -> None:
    pass


async def test_accepted_work_is_stored_shown_and_begun() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        written = await world.send("question", key="host:k")
        assert not written.replayed
        assert (await world.store.get_batch("s", written.batch.batch_id)).source_key == "host:k"
        assert watched.told[0] == "enqueued"
        assert len(puppet.turns) == 1


async def test_a_stream_that_has_passed_the_cursor_of_a_write_has_shown_it() -> None:
    async with running(None) as world:
        watched = await watch(world)
        written = await world.send("work")
        assert parse(written.applied_through).position >= parse(watched.events[0].cursor).position
        _, cursor = await world.kernel.cancel_batch("s", written.batch.batch_id)
        assert parse(cursor).position >= parse(watched.events[-1].cursor).position
        assert watched.told == ["enqueued", "cancelled"]


async def test_a_repeated_key_is_answered_with_the_same_work_and_shown_once() -> None:
    async with running(None) as world:
        watched = await watch(world)
        first, second = await world.send("work", key="k"), await world.send("work", key="k")
        assert (second.replayed, second.batch) == (True, first.batch)
        assert watched.told == ["enqueued"]
        with pytest.raises(IdempotencyKeyReused):
            await world.send("other", key="k")
        assert watched.told == ["enqueued"]


async def test_a_full_queue_refuses_work_and_shows_nothing() -> None:
    async with running(None, limits=Limits(max_queue=1)) as world:
        await world.send("one")
        watched = await watch(world)
        with pytest.raises(QueueFull):
            await world.send("two")
        assert watched.told == []


async def test_work_that_could_not_be_stored_is_refused_and_shown_to_nobody() -> None:
    async with running(nothing) as world:
        watched = await watch(world)
        world.faults.fail_before("enqueue")
        with pytest.raises(StoreUnavailable):
            await world.send("work")
        assert watched.told == []
        assert (await world.view()).queue == ()


async def test_work_that_was_stored_though_its_caller_was_told_otherwise_is_run_once() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        world.faults.fail_after("enqueue", told=False)
        with pytest.raises(StoreUnavailable):
            await world.send("work", key="k")
        again = await world.send("work", key="k")
        assert again.replayed
        await puppet.ends()
        await world.clock.run_for(10.0)
        assert len(puppet.turns) == 1
        assert (await world.view()).queue == ()


@pytest.mark.parametrize("agent", [nothing, None], ids=["runs work", "runs none"])
async def test_a_cancel_of_which_nothing_was_heard_does_not_leave_its_work_in_view(agent: Agent | None) -> None:
    async with running(agent) as world:
        watched = await watch(world)
        written = await world.send("later", available_at_ms=world.clock.now_ms() + 3_600_000)
        world.faults.fail_after("cancel_batch", told=False)
        world.faults.fail_before("load_session")
        with pytest.raises(StoreUnavailable):
            await world.kernel.cancel_batch("s", written.batch.batch_id)
        await world.clock.run_for(60.0)
        assert watched.handle.view.queue == ()
        assert isinstance(watched.opening.subscription.take(1), str), "observers are told that they missed something"


async def test_delayed_work_begins_at_its_time() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(poll_interval=1_000.0)) as world:
        await world.send("later", available_at_ms=world.clock.now_ms() + 5_000)
        await world.clock.run_for(4.999)
        assert puppet.turns == []
        assert (await world.view()).status == "queued"
        await world.clock.run_for(0.001)
        assert len(puppet.turns) == 1


async def test_work_from_before_is_begun_at_the_start() -> None:
    puppet = Puppet()
    async with running(puppet, start=False) as world:
        await world.send("work")
        assert puppet.turns == []
        await world.kernel.start()
        await settled()
        assert len(puppet.turns) == 1


async def test_a_kernel_without_an_agent_accepts_and_shows_work_and_runs_none() -> None:
    async with running(None) as world:
        await world.send("work")
        await world.clock.run_for(60.0)
        view = await world.view()
        assert (view.status, len(view.queue), world.kernel.running_turns) == ("queued", 1, 0)
        assert (await world.kernel.cancel_turn("s"))[0].state == "none"
        await world.kernel.drain(1.0)


async def test_a_turn_that_leaves_nothing_open_is_not_followed_by_another_claim() -> None:
    async with running(nothing) as world:
        await world.send("work")
        await world.clock.run_for(10.0)
        assert world.faults.calls.count("claim") == 1


async def test_a_turn_that_leaves_work_behind_is_followed_by_the_next_at_once() -> None:
    puppet = Puppet()
    limits = Limits(poll_interval=1_000.0, concurrency=1)
    async with running(puppet, limits=limits, start=False) as world:
        for text in ("one", "two"):
            await world.send(text)
        await world.kernel.start()
        for _ in range(2):
            await puppet.ends()
        assert [turn.input[0].content for turn in puppet.turns] == ["one", "two"]
        assert world.faults.calls.count("claim") == 2


async def test_work_that_arrives_while_the_last_turn_ends_is_run_at_once() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(poll_interval=1_000.0)) as world:
        await world.send("one")
        gate = world.faults.hold_answer("commit")
        await puppet.ends()
        await gate.reached.wait()
        async with world.kernel.opened("s") as handle:
            assert not handle.has_open_work
        await world.send("two")
        gate.open()
        await settled()
        assert [turn.input[0].content for turn in puppet.turns] == ["one", "two"]


async def test_a_look_for_work_finds_more_sessions_than_can_run_and_no_more_than_that() -> None:
    names = tuple(f"s{number}" for number in range(9))
    async with running(Puppet(), session_ids=names, limits=Limits(concurrency=2), start=False) as world:
        for name in names:
            await world.store.enqueue(
                draft("work", session_id=name), batch_id=name, now=world.clock.now_ms(), max_open=9, then=lambda _: None
            )
        await world.kernel.start()
        await settled()
        assert world.kernel.running_turns == 2
        runner = world.kernel._runner
        assert runner is not None
        assert runner.waiting == 6


async def test_work_that_comes_due_between_the_two_questions_of_a_look_is_not_left_to_the_poll() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(poll_interval=1_000.0)) as world:
        gate = world.faults.hold_answer("claimable_sessions")
        await world.send("soon", available_at_ms=world.clock.now_ms() + 10)
        world.clock.advance(0.02)
        gate.open()
        await world.clock.run_for(0.01)
        assert len(puppet.turns) == 1
        await puppet.ends()


async def test_who_is_woken_for_delayed_work_a_moment_early_looks_again() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(poll_interval=1_000.0)) as world:
        await world.send("soon", available_at_ms=world.clock.now_ms() + 10)
        world.clock.advance(0.009)
        gate = world.faults.hold_answer("next_due")
        world.kernel._runner.poke("a moment early")  # type: ignore[union-attr]
        await settled()
        world.clock.advance(0.002)
        gate.open()
        await settled()
        assert len(puppet.turns) == 1
        await puppet.ends()


async def test_many_sessions_take_their_turns_within_the_permits() -> None:
    running_now = most = 0

    async def counts(turn: Turn) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await turn.sleep(1.0)
        running_now -= 1

    names = tuple(f"s{number}" for number in range(20))
    async with running(counts, session_ids=names, limits=Limits(concurrency=8)) as world:
        for name in names:
            await world.kernel.enqueue(draft("one", session_id=name))
            await world.kernel.enqueue(draft("two", session_id=name))
        await world.clock.run_for(10.0)
        assert most == 8
        for name in names:
            batches = await world.kernel.list_batches(name, pending_only=False)
            assert [batch.state for batch in batches] == [BatchState.COMPLETED] * 2


# Waiting


async def test_whoever_waits_for_work_gets_it_when_it_has_ended() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        written = await world.send("work")
        waiting = asyncio.create_task(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0))
        await world.clock.run_for(30.0)
        assert not waiting.done()
        await puppet.ends()
        assert (await waiting).state is BatchState.COMPLETED


async def test_whoever_waits_too_long_gets_the_work_as_it_is() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        written = await world.send("work")
        waiting = asyncio.create_task(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0))
        await world.clock.run_for(60.0)
        assert (await waiting).state is BatchState.CLAIMED


async def test_work_that_has_ended_is_not_waited_for() -> None:
    async with running(nothing) as world:
        written = await world.send("work")
        assert (await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)).state is BatchState.COMPLETED


async def test_cancelled_work_has_ended_for_whoever_waits() -> None:
    async with running(None) as world:
        written = await world.send("work", key="k")
        waiting = asyncio.create_task(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0))
        await settled()
        await world.kernel.cancel_turn("s", source_key="k")
        assert (await waiting).state is BatchState.CANCELLED


async def test_whoever_stops_waiting_leaves_nothing_behind() -> None:
    async with running(None) as world:
        written = await world.send("work")
        waiting = asyncio.create_task(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0))
        await settled()
        waiting.cancel()
        await asyncio.wait({waiting})
        await settled()
        await world.kernel.cancel_batch("s", written.batch.batch_id)
        world.clock.advance(10_000.0)
        await settled()
        world.faults.calls.clear()
        await world.kernel.observe("s")
        assert world.faults.calls == ["load_session"], "the session was let go"


# Cancelling


async def test_pending_work_can_be_cancelled_and_held_work_cannot() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        held, pending = await world.send("held"), await world.send("pending")
        batch, _ = await world.kernel.cancel_batch("s", pending.batch.batch_id)
        assert batch.state is BatchState.CANCELLED
        with pytest.raises(BatchNotCancellable) as error:
            await world.kernel.cancel_batch("s", held.batch.batch_id)
        assert error.value.state == "claimed"
        assert [summary.batch_id for summary in (await world.view()).queue] == [held.batch.batch_id]


async def test_everything_from_a_batch_on_can_be_cancelled() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        written = [await world.send(text) for text in ("held", "a", "b")]
        watched = await watch(world)
        cancelled, kept, _ = await world.kernel.cancel_from("s", written[0].batch.batch_id)
        assert [batch.batch_id for batch in cancelled] == [one.batch.batch_id for one in written[1:]]
        assert [batch.batch_id for batch in kept] == [written[0].batch.batch_id]
        assert watched.told == ["cancelled"]


async def test_a_request_that_changed_nothing_shows_nothing() -> None:
    async with running(None) as world:
        watched = await watch(world)
        for _ in range(2):
            await world.kernel.cancel_turn("s")
            await world.kernel.cancel_turn("s", source_key="k")
        assert watched.told == []


# The end


async def test_a_kernel_that_drains_refuses_new_work_and_still_cancels() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        draining = asyncio.create_task(world.kernel.drain(60.0))
        await settled()
        with pytest.raises(Draining):
            await world.kernel.enqueue(draft("work"))
        with pytest.raises(Draining):
            await world.kernel.create_session("new")
        await world.kernel.cancel_turn("s")
        await draining
        assert (await world.view()).read_view.messages[-1].status == "cancelled"


async def test_a_kernel_can_be_stopped_while_it_drains_and_twice() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        written = await world.send("question")
        draining = asyncio.create_task(world.kernel.drain(60.0))
        await settled()
        await world.kernel.stop()
        await draining
        await world.kernel.stop()
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert (batch.state, batch.attempts) == (BatchState.PENDING, 0)


async def test_a_kernel_that_was_never_started_can_be_stopped() -> None:
    async with running(nothing, start=False) as world:
        await world.kernel.drain(1.0)


async def test_work_that_ends_while_the_store_is_asked_for_it_is_not_waited_for_in_vain() -> None:
    """The end may come between the question and the answer, in one step of the loop.

    Asked it is only for what the view does not show: here for work that came past this kernel.
    """
    async with running(None) as world:
        written = await world.store.enqueue(
            draft("work"), batch_id="b", now=world.clock.now_ms(), max_open=9, then=lambda _: None
        )
        asked = world.store.get_batch

        async def ends_behind_the_answer(session_id: str, batch_id: str) -> Batch:
            answer = await asked(session_id, batch_id)
            async with world.kernel.opened(session_id) as handle:
                handle.settle_batches([structs.replace(answer, state=BatchState.COMPLETED)])
            return answer

        world.store.get_batch = ends_behind_the_answer  # type: ignore[method-assign]
        ended = await asyncio.wait_for(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0), 5)
        assert ended.state is BatchState.COMPLETED
