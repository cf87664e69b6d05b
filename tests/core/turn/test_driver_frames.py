"""Agent frames: a turn that ends well may begin another transcript, and everybody sees the same one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sightline.kernel import Limits
from sightline.queue.model import ResetSession
from sightline.session.model import Message
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import World, in_step, running, said, watch

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


async def relay(turn: Turn) -> None:
    """Goes on twice, each time in another frame and with a task."""
    turn.text(turn.turn_id.removeprefix(turn.turn_id.split(":")[0]) or "root")
    step = turn.input[0].content
    if step in ("one", "two"):
        turn.continue_as([("system", f"after {step}")], task={"one": "two", "two": "three"}[step])


async def test_a_turn_follows_on_the_task_and_another_on_its_task() -> None:
    async with running(relay) as world:
        watched = await watch(world)
        await world.send("one")
        await settled()
        assert await said(world) == [("system", "after two"), ("user", "three"), ("assistant", ":agent-frame:2")]
        view = await world.view()
        assert (view.status, view.read_view.turn_index, view.queue) == ("idle", 3, ())
        assert watched.told.count("enqueued") == 3
        roots = {str(message.turn_id).split(":")[0] for message in await pages(world) if message.role == "user"}
        assert len(roots) == 1
        frames = await world.kernel.list_frames("s")
        assert [(frame.reason, frame.status) for frame in frames] == [
            ("initial", "superseded"),
            ("continue_as", "superseded"),
            ("continue_as", "active"),
        ]
        await in_step(world, watched)


@pytest.mark.parametrize("told", [True, False])
async def test_a_commit_whose_answer_is_lost_leaves_its_task_once_and_tells_it_once(told: bool) -> None:
    async with running(relay) as world:
        watched = await watch(world)
        world.faults.fail_after("commit", told=told)
        await world.send("two")
        world.clock.advance(10)
        await settled()
        assert await said(world) == [("system", "after two"), ("user", "three"), ("assistant", ":agent-frame:1")]
        assert watched.told.count("enqueued") == 2
        await in_step(world, watched)


async def test_a_task_that_waits_is_a_turn_that_can_be_cancelled() -> None:
    async with running(relay) as world:
        gate = world.faults.hold_answer("commit")
        await world.send("two")
        [left] = await world.store.list_batches("s", pending_only=True, limit=10)
        cancelled = await world.store.request_cancel(
            "s", turn_id=str(left.turn_id), source_key=None, reason="no need", now=0, then=lambda _: None
        )
        gate.open()
        assert cancelled.state == "cancel_requested"
        await settled()
        newest = (await world.view()).read_view.messages[-1]
        assert (newest.turn_id, newest.status, newest.content) == (left.turn_id, "cancelled", "")


async def test_a_task_is_run_by_whoever_comes_next() -> None:
    store = MemoryStore(ManualClock())
    async with running(relay, store=store) as world:
        gate = world.faults.hold_answer("commit")
        await world.send("two")
        stopping = asyncio.create_task(world.kernel.stop())
        await settled()
        gate.open()
        await stopping
        [left] = await store.list_batches("s", pending_only=True, limit=10)
    async with running(relay, store=store, session_ids=()) as world:
        assert (await said(world))[-1] == ("assistant", ":agent-frame:1")
        assert (await world.view()).read_view.messages[-1].turn_id == left.turn_id


async def pages(world: World) -> tuple[Message, ...]:
    return (await world.kernel.page_messages("s", limit=100)).messages


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
