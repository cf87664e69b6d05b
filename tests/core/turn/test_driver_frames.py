"""Agent frames: a turn that ends well may begin another transcript, and everybody sees the same one."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.kernel import Limits
from sightline.queue.model import ResetSession
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import in_step, running, said, watch

pytestmark = pytest.mark.anyio


async def agent(turn: Turn) -> None:
    """Says what it was told of; `switch` begins a frame."""
    told = [message.content for message in await turn.messages()]
    turn.text("|".join(told))
    if turn.input[0].content.startswith("switch"):
        turn.continue_as([("system", "so far: not much"), ("user", "go on")])
    if turn.input[0].content == "switch and fail":
        raise AgentError("no")


async def test_a_frame_replaces_the_transcript_for_all_who_watch_and_for_the_agent() -> None:
    async with running(agent) as world:
        watched = await watch(world)
        await world.send("hello")
        await world.send("switch")
        assert await said(world) == [("system", "so far: not much"), ("user", "go on")]
        assert watched.told[-4:] == ["completed", "turn_ended", "agent_frame_switched", "committed"]
        view = await world.view()
        assert view.read_view.agent_frame_id == view.read_view.messages[0].agent_frame_id != "initial"
        await world.send("and now?")
        assert (await said(world))[-1] == ("assistant", "so far: not much|go on")
        assert {message.agent_frame_id for message in (await world.view()).read_view.messages} == {
            view.read_view.agent_frame_id
        }
        await in_step(world, watched)
        pages = (await world.kernel.page_messages("s", limit=100)).messages
        assert [message.content for message in pages][:4] == ["hello", "switch", "hello", "so far: not much"]


async def test_a_turn_that_does_not_end_well_begins_none() -> None:
    async with running(agent) as world:
        await world.send("switch and fail")
        view = await world.view()
        assert view.read_view.agent_frame_id == "initial"
        assert [message.role for message in view.read_view.messages] == ["user", "assistant"]


async def test_a_reset_begins_with_the_initial_frame_again() -> None:
    async with running(agent) as world:
        watched = await watch(world)
        await world.send("switch")
        await world.kernel.submit_command("s", ResetSession(reason="enough"), "k")
        await settled()
        assert (await world.view()).read_view.agent_frame_id == "initial"
        await world.send("hello")
        assert await said(world) == [("user", "hello")]
        await in_step(world, watched)


async def test_a_view_is_not_widened_past_its_frame() -> None:
    async with running(agent, limits=Limits(keep_messages=1)) as world:
        for _ in range(3):
            await world.send("hello")
        await world.send("switch")
        for count in (1, 2, 50):
            seen = (await world.kernel.observe("s", count)).read_view
            assert [message.content for message in seen.messages] == ["so far: not much", "go on"][-count:]
            assert seen.truncated == (count == 1)


async def test_another_process_sees_the_same_frame() -> None:
    store = MemoryStore(ManualClock())
    async with running(agent, store=store) as world:
        await world.send("switch")
    async with running(agent, store=store, session_ids=()) as world:
        assert await said(world) == [("system", "so far: not much"), ("user", "go on")]


@pytest.mark.parametrize("messages", [["text"], [("nobody", "x")], [("user", 7)]])
async def test_a_frame_begins_with_messages(messages: Any) -> None:
    refused: list[BaseException] = []

    async def wrong(turn: Turn) -> None:
        try:
            turn.continue_as(messages)
        except TypeError as error:
            refused.append(error)

    async with running(wrong) as world:
        await world.send("go")
        assert (await world.view()).read_view.agent_frame_id == "initial"
    assert len(refused) == 1
