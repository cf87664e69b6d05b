"""Cancelling a turn: before it begins, while it runs, when it has ended, and when its agent will not listen."""

from __future__ import annotations

import asyncio

import pytest

from sightline.observation.cursor import parse
from sightline.queue.model import BatchState
from sightline.testing.clock import settled
from sightline.turn.agent import Turn, TurnOver
from tests.core.worlds import Puppet, only_batch, running, said, watch

pytestmark = pytest.mark.anyio


async def test_cancelling_pending_work_by_its_key_runs_no_turn() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("first")
        await world.send("second", key="k")
        cancellation, _ = await world.kernel.cancel_turn("s", source_key="k")
        assert cancellation.state == "cancelled"
        await puppet.ends()
        assert len(puppet.turns) == 1
        assert await said(world) == [("user", "first")]


async def test_cancelling_by_key_before_the_work_arrives_runs_no_turn() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        cancellation, _ = await world.kernel.cancel_turn("s", source_key="k")
        assert cancellation.state == "will_cancel"
        written = await world.send("work", key="k")
        assert written.batch.state is BatchState.CANCELLED
        await world.clock.run_for(5.0)
        assert puppet.turns == []
        assert watched.told == ["cancelled"]
        assert (await world.view()).status == "idle"


@pytest.mark.parametrize("by", ["turn_id", "source_key", "nothing"])
async def test_a_running_turn_is_cancelled_and_keeps_what_was_said(by: str) -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question", key="k")
        await puppet.says("so far")
        turn_id = puppet.turns[0].turn_id
        address = {"turn_id": {"turn_id": turn_id}, "source_key": {"source_key": "k"}, "nothing": {}}[by]
        cancellation, cursor = await world.kernel.cancel_turn("s", **address, reason="enough")
        assert (cancellation.turn_id, cancellation.state) == (turn_id, "cancel_requested")
        assert parse(cursor).session_id == "s"
        await settled()
        assert puppet.cancelled == 1
        view = await world.view()
        assert (view.status, view.live, view.queue) == ("idle", None, ())
        spoken = view.read_view.messages[-1]
        assert (spoken.content, spoken.status) == ("so far", "cancelled")
        assert (await only_batch(world)).state is BatchState.CANCELLED
        assert watched.told[-3:] == ["cancelled", "turn_ended", "committed"]
        for _ in range(2):
            again, _ = await world.kernel.cancel_turn("s", turn_id=turn_id)
            assert again.state == "cancelled"


async def test_cancelling_a_turn_that_ended_changes_nothing() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        await puppet.says("answer")
        await puppet.ends()
        before = await world.view()
        cancellation, _ = await world.kernel.cancel_turn("s", turn_id=puppet.turns[0].turn_id)
        assert cancellation.state == "ended"
        assert await world.view() == before


async def test_a_cancel_that_comes_while_the_turn_is_committed_has_lost_the_race() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        gate = world.faults.hold("commit")
        await puppet.ends()
        assert gate.reached.is_set()
        await world.kernel.cancel_turn("s")
        gate.open()
        await settled()
        assert (await only_batch(world)).state is BatchState.COMPLETED
        assert puppet.cancelled == 0


async def test_a_cancel_that_comes_with_the_claim_ends_the_turn_before_it_begins() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        gate = world.faults.hold_answer("claim")
        await world.send("question", key="k")
        assert gate.reached.is_set()
        await world.kernel.cancel_turn("s", source_key="k", reason="enough")
        gate.open()
        await settled()
        assert puppet.turns == []
        assert (await only_batch(world)).state is BatchState.CANCELLED
        assert await said(world) == [("user", "question"), ("assistant", "")]


async def test_an_agent_may_clean_up_when_it_is_cancelled() -> None:
    async def cleans_up(turn: Turn) -> None:
        try:
            await turn.sleep(1_000)
        except asyncio.CancelledError:
            await turn.sleep(1)
            turn.text("cleaned up")
            raise

    async with running(cleans_up) as world:
        await world.send("question")
        await world.kernel.cancel_turn("s")
        await world.clock.run_for(1.0)
        assert await said(world) == [("user", "question"), ("assistant", "cleaned up")]
        assert (await only_batch(world)).state is BatchState.CANCELLED


async def test_a_turn_whose_agent_ignores_its_cancellation_ends_without_it() -> None:
    over: list[Exception] = []
    let_go = asyncio.Event()

    async def ignores(turn: Turn) -> None:
        turn.text("listen")
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                pass
        try:
            turn.text("to me")
        except TurnOver as error:
            over.append(error)

    async with running(ignores) as world:
        await world.send("question")
        await world.kernel.cancel_turn("s")
        await world.clock.run_for(4.9)
        assert (await world.view()).status == "running"
        await world.clock.run_for(0.1)
        assert (await world.view()).status == "idle"
        assert (await only_batch(world)).state is BatchState.CANCELLED
        let_go.set()
        await settled()
        assert len(over) == 1
        assert await said(world) == [("user", "question"), ("assistant", "listen")]


async def test_history_does_not_say_that_a_tool_still_runs() -> None:
    async def calls_a_slow_tool(turn: Turn) -> None:
        async def run() -> None:
            await turn.sleep(1_000)

        await turn.tool_call("slow", {}, run)

    async with running(calls_a_slow_tool) as world:
        await world.send("question")
        view = await world.view()
        assert view.live is not None
        assert [call.state for call in view.live.tool_calls] == ["running"]
        await world.kernel.cancel_turn("s")
        message = (await world.view()).read_view.messages[-1]
        assert message.status == "cancelled"
        assert [part["state"] for part in message.parts or []] == ["failed"]


async def test_an_agent_that_ends_well_after_it_was_cancelled_was_cancelled() -> None:
    async def ends_anyway(turn: Turn) -> None:
        try:
            await turn.sleep(1_000)
        except asyncio.CancelledError:
            turn.text("fine")

    async with running(ends_anyway) as world:
        await world.send("question")
        await world.kernel.cancel_turn("s")
        await settled()
        assert (await only_batch(world)).state is BatchState.CANCELLED
