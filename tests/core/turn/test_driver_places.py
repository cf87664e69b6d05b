"""Places among those that may run at one time: a turn that waits for people leaves its own to others."""

from __future__ import annotations

import asyncio

import pytest

from sightline.kernel import Limits
from sightline.testing.clock import settled
from sightline.turn.agent import Turn
from tests.core.worlds import Puppet, World, running

pytestmark = pytest.mark.anyio


async def asks(turn: Turn) -> None:
    """An agent with one question."""
    turn.text(f"answered: {await turn.ask('which?')}")


async def reply(world: World, prompt: str = "which?", session_id: str = "s") -> None:
    """Answer the request with that prompt."""
    [found] = [request for request in (await world.view(session_id)).requests if request["prompt"] == prompt]
    await world.kernel.answer(session_id, found["request_id"], "yes")
    await settled()


async def test_a_waiting_turn_leaves_its_place_to_others() -> None:
    async def agent(turn: Turn) -> None:
        if turn.input[0].content == "asks":
            await asks(turn)
        else:
            turn.text("done")

    names = ("a", "b", "c")
    async with running(agent, session_ids=names, limits=Limits(concurrency=1)) as world:
        for name in ("a", "b"):
            await world.send("asks", session_id=name)
        assert world.kernel.running_turns == 2
        await world.send("work", session_id="c")
        assert (await world.view("c")).read_view.messages[-1].content == "done"
        for name in ("b", "a"):
            await reply(world, session_id=name)
            assert (await world.view(name)).read_view.messages[-1].content == "answered: yes"


async def test_who_was_answered_waits_for_a_place_and_comes_before_what_has_not_begun() -> None:
    puppet = Puppet()

    async def agent(turn: Turn) -> None:
        if turn.session_id == "asks":
            await asks(turn)
        else:
            await puppet(turn)

    names = ("asks", "a", "b")
    async with running(agent, session_ids=names, limits=Limits(concurrency=1)) as world:
        await world.send("work", session_id="asks")
        for name in ("a", "b"):
            await world.send("work", session_id=name)
        assert [turn.session_id for turn in puppet.turns] == ["a"]
        await reply(world, session_id="asks")
        view = await world.view("asks")
        assert (view.requests, view.status) == ((), "running")
        await puppet.ends()
        assert (await world.view("asks")).status == "idle"
        assert [turn.session_id for turn in puppet.turns] == ["a", "b"]
        await puppet.ends()


async def test_a_turn_that_is_cancelled_while_it_waits_for_its_place_ends_at_once() -> None:
    puppet = Puppet()

    async def agent(turn: Turn) -> None:
        await (asks(turn) if turn.session_id == "asks" else puppet(turn))

    async with running(agent, session_ids=("asks", "a", "b"), limits=Limits(concurrency=1)) as world:
        await world.send("work", session_id="asks")
        await world.send("work", session_id="a")
        await reply(world, session_id="asks")
        await world.kernel.cancel_turn("asks")
        view = await world.view("asks")
        assert (view.status, view.read_view.messages[-1].status) == ("idle", "cancelled")
        # It took no place, and left none behind.
        await world.send("work", session_id="b")
        assert [turn.session_id for turn in puppet.turns] == ["a"]
        await puppet.ends()
        assert [turn.session_id for turn in puppet.turns] == ["a", "b"]
        await puppet.ends()


# Several requests at a time


class Asker:
    """An agent whose turn of the session `s` asks what it is told to, each beside the others, until all are answered.
    Turns of other sessions are a puppet's.
    """

    def __init__(self, *prompts: str) -> None:
        self.answered: list[str] = []
        self.others = Puppet()
        self._prompts = prompts
        self._asking: asyncio.TaskGroup
        self._turn: Turn

    async def __call__(self, turn: Turn) -> None:
        if turn.session_id != "s":
            await self.others(turn)
            return
        self._turn = turn
        async with asyncio.TaskGroup() as self._asking:
            for prompt in self._prompts:
                self.asks(prompt)

    def asks(self, prompt: str) -> asyncio.Task[None]:
        return self._asking.create_task(self._ask(prompt))

    async def _ask(self, prompt: str) -> None:
        await self._turn.ask(prompt, key=prompt)
        self.answered.append(prompt)

    def others_at_work(self) -> list[str]:
        return [turn.session_id for turn in self.others.turns]


async def test_a_turn_keeps_no_place_while_anything_it_asked_is_open() -> None:
    agent = Asker("one?", "two?")
    async with running(agent, session_ids=("s", "a"), limits=Limits(concurrency=1)) as world:
        await world.send("work")
        await reply(world, "one?")
        assert (agent.answered, (await world.view()).status) == (["one?"], "waiting")
        await world.send("work", session_id="a")
        assert agent.others_at_work() == ["a"]
        await agent.others.ends()
        await reply(world, "two?")
        assert (agent.answered, (await world.view()).status) == (["one?", "two?"], "idle")


async def test_the_last_answer_waits_for_a_place_and_the_others_do_not() -> None:
    agent = Asker("one?", "two?", "three?")
    async with running(agent, session_ids=("s", "a", "b"), limits=Limits(concurrency=1)) as world:
        for name in ("s", "a", "b"):
            await world.send("work", session_id=name)
        await reply(world, "two?")
        await reply(world, "one?")
        assert agent.answered == ["two?", "one?"]
        await reply(world, "three?")
        assert (agent.answered, (await world.view()).status) == (["two?", "one?"], "running")
        await agent.others.ends()
        assert (agent.answered[-1], (await world.view()).status) == ("three?", "idle")
        assert agent.others_at_work() == ["a", "b"]
        await agent.others.ends()


async def test_answers_that_come_in_one_moment_take_one_place() -> None:
    agent = Asker("one?", "two?")
    async with running(agent, session_ids=("s", "a", "b"), limits=Limits(concurrency=1)) as world:
        await world.send("work")
        requests = (await world.view()).requests
        answers = [world.kernel.answer("s", request["request_id"], "yes") for request in requests]
        await asyncio.gather(*answers)
        assert (await world.view()).status == "idle"
        for name in ("a", "b"):
            await world.send("work", session_id=name)
        assert (agent.answered, agent.others_at_work()) == (["one?", "two?"], ["a"])
        await agent.others.ends()
        await agent.others.ends()


async def test_who_waits_for_a_place_goes_on_when_something_else_is_asked() -> None:
    agent = Asker("one?")
    async with running(agent, session_ids=("s", "a"), limits=Limits(concurrency=1)) as world:
        for name in ("s", "a"):
            await world.send("work", session_id=name)
        await reply(world, "one?")
        assert agent.answered == []
        agent.asks("two?")
        await settled()
        assert (agent.answered, (await world.view()).status) == (["one?"], "waiting")
        await reply(world, "two?")
        assert agent.answered == ["one?"]
        await agent.others.ends()
        assert (agent.answered, (await world.view()).status) == (["one?", "two?"], "idle")


async def test_a_turn_that_stops_waiting_by_itself_counts_again() -> None:
    asking: list[asyncio.Task[None]] = []
    goes_on = asyncio.Event()

    async def agent(turn: Turn) -> None:
        if turn.session_id == "s":
            asking.append(asyncio.create_task(turn.ask("which?")))
            await goes_on.wait()
        turn.text("done")

    async with running(agent, session_ids=("s", "a", "b"), limits=Limits(concurrency=1)) as world:
        for name in ("s", "a"):
            await world.send("work", session_id=name)
        assert [(await world.view(name)).status for name in ("s", "a")] == ["waiting", "idle"]
        asking[0].cancel()
        await settled()
        await world.send("work", session_id="b")
        assert (await world.view("b")).status == "queued"
        goes_on.set()
        assert [(await world.view(name)).status for name in ("s", "b")] == ["idle", "idle"]
