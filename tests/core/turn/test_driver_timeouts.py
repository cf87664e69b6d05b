"""A turn that takes too long, and text that is said within the flush window."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sightline.kernel import Limits
from sightline.observation.activities import AssistantProseDelta
from sightline.observation.events import TurnActivity
from sightline.queue.model import BatchState, DeliveryPolicy
from sightline.session.model import Failure
from sightline.testing.clock import settled
from sightline.turn.agent import Turn, TurnOver
from tests.core.worlds import Puppet, Watched, in_step, only_batch, running, said, watch

pytestmark = pytest.mark.anyio

TIMEOUT = Failure("turn_timeout", "stopped after 30 seconds")


async def test_a_turn_that_takes_too_long_has_failed_and_keeps_what_was_said() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(turn_timeout=30.0)) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("so far")
        await world.clock.run_for(29.9)
        assert (await world.view()).status == "running"
        await world.clock.run_for(0.1)
        message = (await world.view()).read_view.messages[-1]
        assert (message.content, message.status, message.error) == ("so far", "failed", TIMEOUT)
        batch = await only_batch(world)
        assert (batch.state, batch.error, batch.attempts) == (BatchState.FAILED, TIMEOUT, 1)
        assert (puppet.cancelled, world.kernel.turns_timed_out, world.kernel.agents_left_behind) == (1, 1, 0)
        assert watched.told[-3:] == ["failed", "turn_ended", "committed"]
        await in_step(world, watched)


async def test_the_next_turn_runs_after_one_that_took_too_long_and_has_its_own_time() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(turn_timeout=30.0)) as world:
        await world.send("one")
        await world.send("two")
        await world.clock.run_for(30.0)
        assert [turn.input[0].content for turn in puppet.turns] == ["one", "two"]
        await world.clock.run_for(29.0)
        await puppet.says("in time")
        await puppet.ends()
        assert (await said(world))[-1] == ("assistant", "in time")
        await world.clock.run_for(60.0)
        assert world.kernel.turns_timed_out == 1


async def test_without_the_setting_a_turn_takes_as_long_as_it_likes() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        await world.clock.run_for(3_600.0)
        await puppet.says("at last")
        await puppet.ends()
        assert (await said(world))[-1] == ("assistant", "at last")


async def test_an_agent_that_ignores_the_end_of_its_time_is_left_behind_and_can_do_nothing_more() -> None:
    refused: list[str] = []
    let_go = asyncio.Event()

    async def ignores(turn: Turn) -> None:
        turn.text("said")
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                refused.append(f"cancelled {turn.cancelled}")

        async def tool() -> None: ...

        asked: list[Callable[[], Awaitable[object]]] = [turn.checkpoint, lambda: turn.tool_call("t", {}, tool)]
        for ask in asked:
            try:
                await ask()
            except TurnOver:
                refused.append("over")
        for say in (turn.text, turn.reasoning):
            try:
                say("x")
            except TurnOver:
                refused.append("over")

    async with running(ignores, limits=Limits(turn_timeout=30.0)) as world:
        await world.send("question")
        await world.clock.run_for(34.9)
        assert (await world.view()).status == "running"
        await world.clock.run_for(0.1)
        before = await world.view()
        assert before.status == "idle"
        assert (await only_batch(world)).error == TIMEOUT
        assert world.kernel.agents_left_behind == 1
        let_go.set()
        await settled()
        assert refused == ["cancelled True", *["over"] * 4]
        assert await world.view() == before


async def test_the_time_for_which_a_turn_waits_for_people_does_not_count() -> None:
    async def asks(turn: Turn) -> None:
        await turn.sleep(20)
        turn.text(await turn.ask("may I?"))
        await turn.sleep(20)

    async with running(asks, limits=Limits(turn_timeout=30.0)) as world:
        await world.send("question")
        await world.clock.run_for(1_000.0)
        view = await world.view()
        assert view.status == "waiting"
        await world.kernel.answer("s", view.requests[0]["request_id"], "yes")
        await world.clock.run_for(9.9)
        assert (await world.view()).status == "running"
        await world.clock.run_for(0.1)
        assert (await only_batch(world)).error == TIMEOUT
        assert (await said(world))[-1] == ("assistant", "yes")


@pytest.mark.parametrize("first", ["cancel", "timeout"])
async def test_between_a_cancel_and_the_end_of_its_time_the_first_wins(first: str) -> None:
    async def cleans_up(turn: Turn) -> None:
        try:
            await turn.sleep(1_000)
        finally:
            await turn.sleep(3)

    async with running(cleans_up, limits=Limits(turn_timeout=30.0)) as world:
        await world.send("question")
        if first == "cancel":
            await world.clock.run_for(29.0)
            await world.kernel.cancel_turn("s")
            await world.clock.run_for(10.0)
        else:
            await world.clock.run_for(30.0)
            await world.kernel.cancel_turn("s")
            await world.clock.run_for(10.0)
        state = (await only_batch(world)).state
        assert state is (BatchState.CANCELLED if first == "cancel" else BatchState.FAILED)
        assert world.kernel.turns_timed_out == (first == "timeout")


async def test_an_agent_that_ends_with_its_time_has_ended_or_has_failed_but_not_both() -> None:
    async def just_in_time(turn: Turn) -> None:
        await turn.sleep(30)

    async with running(just_in_time, limits=Limits(turn_timeout=30.0)) as world:
        watched = await watch(world)
        await world.send("question")
        await world.clock.run_for(60.0)
        assert watched.told.count("turn_ended") == 1
        assert watched.told.count("committed") == 1


async def test_a_turn_that_is_handed_back_when_its_time_ends_is_handed_back() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(turn_timeout=30.0)) as world:
        await world.send("question")
        await world.clock.run_for(29.0)
        draining = asyncio.create_task(world.kernel.drain(0.5))
        await world.clock.run_for(2.0)
        await draining
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.PENDING, 0)


# The flush window


def texts(watched: Watched) -> list[str]:
    return [
        event.data.event.text
        for event in watched.events
        if isinstance(event.data, TurnActivity) and isinstance(event.data.event, AssistantProseDelta)
    ]


WINDOW = Limits(flush_window=0.05)


async def test_text_within_the_window_is_one_event_and_the_answer_is_all_of_it() -> None:
    async def speaks(turn: Turn) -> None:
        for number in range(100):
            turn.text(f"{number} ")
            await turn.sleep(0.01)

    async with running(speaks, limits=WINDOW) as world:
        watched = await watch(world)
        await world.send("question")
        await world.clock.run_for(2.0)
        shown = texts(watched)
        assert "".join(shown).split() == [str(number) for number in range(100)]
        assert len(shown) <= 25
        assert (await said(world))[-1][1] == "".join(shown)
        await in_step(world, watched)


async def test_what_is_held_back_is_shown_before_a_tool_a_checkpoint_and_the_end() -> None:
    async def speaks(turn: Turn) -> None:
        async def tool() -> int:
            return 1

        for piece in ("a", "b", "c"):
            turn.text(piece)
        await turn.tool_call("t", {}, tool)
        for piece in ("d", "e"):
            turn.text(piece)
        await turn.sleep(0.01)
        await turn.checkpoint()
        for piece in ("f", "g"):
            turn.text(piece)

    async with running(speaks, limits=WINDOW) as world:
        watched = await watch(world)
        await world.send("question")
        await world.send("more", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
        await world.clock.run_for(1.0)
        told = [word for word in watched.told if word not in ("enqueued", "claimed")]
        delta = "assistant_prose_delta"
        assert told == [
            "turn_started",
            *(delta, delta, "tool_call_started", "tool_call_completed"),
            *(delta, "queued_input_accepted"),
            *(delta, "completed", "turn_ended", "committed"),
        ]
        assert texts(watched) == ["a", "bc", "de", "fg"]
        await in_step(world, watched)


async def test_what_is_held_back_is_shown_before_people_are_asked() -> None:
    async def asks(turn: Turn) -> None:
        for piece in ("I ", "would ", "like to "):
            turn.text(piece)
        await turn.ask("may I?")

    async with running(asks, limits=WINDOW) as world:
        watched = await watch(world)
        await world.send("question")
        assert texts(watched) == ["I ", "would like to "]
        assert watched.told[-1] == "request_changed"


async def test_what_is_held_back_when_a_turn_is_handed_back_is_not_shown() -> None:
    puppet = Puppet()
    async with running(puppet, limits=WINDOW) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("a")
        await puppet.says("b")
        await world.kernel.stop()
        assert texts(watched) == ["a"]
        assert watched.told[-2:] == ["retracted", "abandoned"]


async def test_what_is_held_back_when_a_turn_is_cancelled_is_kept() -> None:
    puppet = Puppet()
    async with running(puppet, limits=WINDOW) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("a")
        await puppet.says("b")
        await world.kernel.cancel_turn("s")
        await settled()
        assert texts(watched) == ["a", "b"]
        assert (await said(world))[-1] == ("assistant", "ab")
        await in_step(world, watched)
