"""The tools an agent has at the moment, and the generation by which its catalogue is kept."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.agents.standard import StandardAgent, Tool, tool
from sightline.agents.standard.surface import Surface
from sightline.clock import Clock
from sightline.queue.model import RefreshToolSurface
from sightline.testing.clock import ManualClock, settled
from sightline.testing.models import ScriptedModel
from sightline.turn.agent import Turn
from tests.core.worlds import running

pytestmark = pytest.mark.anyio


async def nothing(turn: Turn, args: Any) -> None: ...


def made(name: str, description: str = "") -> Tool:
    return Tool(name, description, {"type": "object"}, nothing)


class Source:
    """Says what it is told to say, or raises it."""

    def __init__(self, *tools: Tool) -> None:
        self.says: tuple[Tool, ...] | Exception = tools
        self.asked = 0
        self.closed = 0

    async def tools(self, clock: Clock) -> tuple[Tool, ...]:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def close(self) -> None:
        self.closed += 1


async def test_a_source_is_asked_once_by_turns_and_anew_by_a_refresh() -> None:
    clock, source = ManualClock(), Source(made("a"))
    surface = Surface([made("own")], [source])
    assert list(await surface.tools(clock)) == ["own", "a"]
    assert list(await surface.tools(clock)) == ["own", "a"]
    assert source.asked == 1
    source.says = (made("b"),)
    assert [entry["name"] for entry in await surface.refreshed(clock)] == ["own", "b"]
    assert list(await surface.tools(clock)) == ["own", "b"]
    assert source.asked == 2


async def test_the_generation_grows_with_each_change_and_keeps_the_catalogue() -> None:
    clock, source = ManualClock(), Source(made("a"))
    surface = Surface([], [source])
    first, generation = await surface.refreshed(clock), surface.generation
    source.says = (made("a"),)
    assert await surface.refreshed(clock) is first
    assert surface.generation == generation
    source.says = (made("a", "another"),)
    second = await surface.refreshed(clock)
    assert second is not first
    assert (second[0]["description"], surface.generation) == ("another", generation + 1)


async def test_a_turn_goes_without_a_source_that_fails_and_does_not_ask_it_each_time() -> None:
    clock, source = ManualClock(), Source()
    source.says = RuntimeError("not there")
    surface = Surface([made("own")], [source])
    assert list(await surface.tools(clock)) == ["own"]
    assert list(await surface.tools(clock)) == ["own"]
    assert source.asked == 1
    clock.advance(30)
    source.says = (made("a"),)
    assert list(await surface.tools(clock)) == ["own", "a"]
    source.says = RuntimeError("gone again")
    with pytest.raises(RuntimeError, match="gone again"):
        await surface.refreshed(clock)
    assert list(await surface.tools(clock)) == ["own", "a"], "what was listed stays"


async def test_of_two_tools_of_one_name_the_own_one_counts(caplog: pytest.LogCaptureFixture) -> None:
    own = made("a", "own")
    surface = Surface([own], [Source(made("a", "other"))])
    assert await surface.tools(ManualClock()) == {"a": own}
    assert "more than one tool a" in caplog.text


async def test_closed_it_asks_anew() -> None:
    source = Source(made("a"))
    surface = Surface([], [source])
    await surface.tools(ManualClock())
    await surface.close()
    await surface.tools(ManualClock())
    assert (source.asked, source.closed) == (2, 1)


async def test_the_command_shows_the_tools_to_whoever_watches() -> None:
    @tool
    async def add(a: int, b: int) -> int:
        """The sum."""
        return a + b

    agent = StandardAgent(model="test:one", client=ScriptedModel(), tools=[add])
    async with running(agent, tools=agent.tools) as world:
        await world.kernel.submit_command("s", RefreshToolSurface(reason="look"), "k")
        await settled()
        tools = (await world.view()).tools
        assert (tools.generation, tools.catalog[0]["name"], tools.error) == (1, "add", None)
