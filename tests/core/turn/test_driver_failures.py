"""Every exit of a turn settles its claim, also when the store fails: before a write, after it, for however long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sightline.kernel import Limits
from sightline.observation.events import TurnActivity
from sightline.queue.model import BatchState, Group, SlotPolicy
from sightline.session.model import Failure
from sightline.turn.agent import Turn
from tests.core.worlds import Puppet, in_step, only_batch, running, said, watch

pytestmark = pytest.mark.anyio

JOIN: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}
EVERY_TRY = 9
"""How often the driver tries a commit before it gives the work back."""


async def test_a_commit_that_failed_before_it_was_done_is_tried_again() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("answer")
        world.faults.fail_before("commit", times=EVERY_TRY - 1)
        await puppet.ends()
        await world.clock.run_for(10.0)
        assert len(puppet.turns) == 1
        assert await said(world) == [("user", "question"), ("assistant", "answer")]
        assert watched.told.count("committed") == 1
        await in_step(world, watched)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_commit_whose_answer_was_lost_is_committed_once_and_told_once(told: bool, times: int) -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        written = await world.send("question")
        waiting = asyncio.create_task(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0))
        await puppet.says("answer")
        world.faults.fail_after("commit", times=times, told=told)
        await puppet.ends()
        await world.clock.run_for(10.0)
        assert await said(world) == [("user", "question"), ("assistant", "answer")]
        assert watched.told.count("committed") == 1
        assert (await waiting).state is BatchState.COMPLETED
        await in_step(world, watched)


async def test_a_turn_that_cannot_be_committed_is_given_back_and_run_again_as_the_same_turn() -> None:
    puppet = Puppet()
    async with running(puppet, start=False) as world:
        for text in ("one", "two"):
            await world.send(text, **JOIN)
        await world.kernel.start()
        watched = await watch(world)
        await puppet.says("first try")
        world.faults.fail_before("commit", times=EVERY_TRY)
        await puppet.ends()
        await world.clock.run_for(10.0)
        await world.send("three", **JOIN)
        first, second = puppet.turns
        assert (second.turn_id, second.attempt) == (first.turn_id, 2)
        assert [message.content for message in second.input] == ["one", "two"]
        assert {"retracted", "abandoned"} <= set(watched.told)
        live = watched.handle.view.live
        assert live is not None
        assert (live.attempt, live.text) == (2, "")
        await puppet.says("second try")
        await puppet.ends()
        assert (await said(world))[:3] == [("user", "one"), ("user", "two"), ("assistant", "second try")]


async def test_everything_an_attempt_showed_is_retracted_when_it_is_given_up() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)

        async def calls_a_tool(turn: Turn) -> None:
            async def run() -> int:
                return 1

            turn.reasoning("hm")
            await turn.tool_call("tool", {}, run)
            turn.model_request()
            turn.text("x")

        await world.send("question")
        await puppet.does(calls_a_tool)
        shown = {
            event.data.correlation_id
            for event in watched.events[watched.told.index("turn_started") + 1 :]
            if isinstance(event.data, TurnActivity)
        }
        await world.kernel.stop()
        retracted = {
            event.data.correlation_id
            for event, told in zip(watched.events, watched.told, strict=True)
            if told == "retracted" and isinstance(event.data, TurnActivity)
        }
        assert len(shown) == 3
        assert shown <= retracted
        live = watched.handle.view.live
        assert live is None or (live.segments, live.tool_calls) == ((), ())


async def test_a_turn_that_dies_three_times_is_given_up_with_three_attempts() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(max_attempts=3)) as world:
        await world.send("poison")
        await world.send("next")
        for attempt in (1, 2, 3):
            assert [turn.attempt for turn in puppet.turns] == list(range(1, attempt + 1))
            world.faults.fail_before("commit", times=EVERY_TRY)
            await puppet.ends()
            await world.clock.run_for(10.0)
        [poison, following] = await world.store.list_batches("s", pending_only=False, limit=10)
        assert (poison.state, poison.attempts) == (BatchState.FAILED, 3)
        assert isinstance(poison.error, Failure)
        assert poison.error.code == "engine_gave_up"
        assert following.state is BatchState.CLAIMED
        assert [turn.input[0].content for turn in puppet.turns] == ["poison"] * 3 + ["next"]
        user, assistant = (await world.view()).read_view.messages
        assert (user.content, assistant.status) == ("poison", "failed")
        assert assistant.error == poison.error


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("unreadable", [0, 3])
async def test_a_session_recovers_when_a_commit_succeeded_and_nobody_was_ever_told(told: bool, unreadable: int) -> None:
    """The worst: the commit is durable, every answer to it is lost, and so the claim cannot be given back either."""
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("answer")
        world.faults.fail_after("commit", times=EVERY_TRY, told=told)
        world.faults.fail_before("load_session", times=unreadable)
        await puppet.ends()
        await world.clock.run_for(10.0)
        assert await said(world) == [("user", "question"), ("assistant", "answer")]
        view = await world.view()
        assert (view.status, view.live, view.queue, view.revision) == ("idle", None, (), 1)
        assert view == watched.handle.view
        await world.send("next")
        await puppet.ends()
        assert (await said(world))[2:] == [("user", "next")]
        assert len(puppet.turns) == 2


async def test_a_claim_that_failed_before_it_was_done_is_tried_again() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        world.faults.fail_before("claim", times=3)
        await world.send("question")
        assert puppet.turns == []
        await world.clock.run_for(0.3)
        assert len(puppet.turns) == 1
        assert (await only_batch(world)).attempts == 1


async def test_a_claim_whose_answer_was_lost_is_given_back_and_taken_again() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        world.faults.fail_after("claim")
        await world.send("question")
        await world.clock.run_for(1.0)
        assert watched.told[:6] == ["enqueued", "claimed", "turn_started", "retracted", "abandoned", "claimed"]
        assert len(puppet.turns) == 1
        await in_step(world, watched)


async def test_work_that_could_not_be_given_back_is_given_back_when_the_store_is_there_again() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        world.faults.fail_before("commit", times=EVERY_TRY)
        world.faults.fail_before("abandon", times=100)
        await puppet.ends()
        await world.clock.run_for(60.0)
        assert (await only_batch(world)).state is BatchState.CLAIMED
        world.faults.heal()
        await world.clock.run_for(2.0)
        assert [turn.attempt for turn in puppet.turns] == [1, 2]


async def test_a_kernel_that_stops_does_not_wait_for_a_store_that_is_gone() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        world.faults.fail_before("abandon", times=100)
        await world.kernel.stop()
        assert (await only_batch(world)).state is BatchState.CLAIMED


async def test_a_bug_in_the_store_is_not_run_for_ever() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        for _ in range(3):
            world.faults.fail_before("commit", error=ValueError("a bug"))
        await world.send("question")
        for _ in range(3):
            await puppet.ends()
            await world.clock.run_for(2.0)
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.FAILED, 3)
