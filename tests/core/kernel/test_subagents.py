"""Sub-agents as tasks: begun by turns, seen, given more to do, ended with all below them, and found after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import UNSET

from sightline.errors import InvalidInput, SessionNotFound, TaskConflict, TaskNotFound, TasksUnavailable
from sightline.session.model import UsageFigures
from sightline.stores.sqlite import SqliteStore
from sightline.tasks.model import TaskFailure, TaskRecord, TaskResult
from sightline.testing.clock import settled
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import World, running, watch

pytestmark = pytest.mark.anyio


class Team:
    """An agent whose turns do what their input says; `wait` waits until it may go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.cancelled: list[str] = []
        self.begun: list[str] = []

    async def __call__(self, turn: Turn) -> None:
        word, _, rest = turn.input[0].content.partition(" ")
        self.begun.append(turn.input[0].content)
        match word:
            case "delegate":
                name, _, text = rest.partition(" ")
                task = await turn.tasks.delegate(name, text)
                assert (await turn.tasks.delegate(name, text)).generation == task.generation
            case "keep":
                await turn.tasks.delegate("kept", rest, keep=True)
            case "wait":
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.cancelled.append(turn.session_id)
                    raise
                turn.usage("model", UsageFigures(requests=1))
                turn.text("waited")
            case "fail":
                raise AgentError("boom", code="mine")
            case _:
                turn.text(f"did {turn.input[0].content}")


async def task(world: World, task_id: str, session_id: str = "s") -> TaskRecord:
    await settled()
    return await world.kernel.tasks.get(session_id, task_id)


def child(record: TaskRecord) -> str:
    assert record.child_session_id is not UNSET
    return record.child_session_id


async def test_a_sub_agent_works_in_a_session_of_its_own_and_ends_as_its_turn_does() -> None:
    team = Team()
    async with running(team) as world:
        watched = await watch(world)
        await world.send("delegate reader wait")
        record = await task(world, "subagent:reader")
        assert (record.state, record.kind, record.flavour) == ("running", "subagent", "external")
        view = await world.view(child(record))
        assert view.metadata["subagent"] == {
            "path": "reader",
            "session_id": "s",
            "task_id": "subagent:reader",
            "keep": False,
        }
        team.go_on.set()
        assert (await task(world, "subagent:reader")).result == TaskResult(summary="waited")
        assert [word for word in watched.told if word.startswith("task")] == ["task started", "task completed"]
        usage = (await world.view()).usage
        assert usage.by_source == {f"child:{child(record)}": {"model": UsageFigures(requests=1)}}
        assert (await world.view()).tasks == ()


async def test_a_turn_that_fails_is_a_sub_agent_that_failed() -> None:
    async with running(Team()) as world:
        await world.send("delegate reader fail")
        record = await task(world, "subagent:reader")
        assert (record.state, record.failure) == ("failed", TaskFailure(code="mine", summary="boom"))


async def test_one_that_is_kept_waits_between_its_turns() -> None:
    team = Team()
    async with running(team) as world:
        watched = await watch(world)
        await world.send("keep first")
        record = await task(world, "subagent:kept")
        assert (record.state, record.progress) == ("waiting", "did first")
        await world.kernel.subagents.send("s", "subagent:kept", "wait", key="k")
        await world.kernel.subagents.send("s", "subagent:kept", "wait", key="k")
        assert (await task(world, "subagent:kept")).state == "running"
        team.go_on.set()
        assert (await task(world, "subagent:kept")).progress == "waited"
        assert team.begun == ["keep first", "first", "wait"]
        await world.kernel.subagents.send("s", "subagent:kept", "fail")
        assert (await task(world, "subagent:kept")).state == "failed"
        with pytest.raises(TaskConflict):
            await world.kernel.subagents.send("s", "subagent:kept", "more")
        with pytest.raises(TaskNotFound):
            await world.kernel.subagents.send("s", "subagent:nobody", "more")
        told = [word.removeprefix("task ") for word in watched.told if word.startswith("task")]
        assert told == ["started", "progress", "waiting", "resumed", "progress", "waiting", "resumed", "failed"]


async def test_ending_one_ends_all_below_it() -> None:
    team = Team()
    async with running(team) as world:
        await world.send("delegate a delegate b wait")
        outer = await task(world, "subagent:a")
        assert outer.state == "completed"
        await world.send("keep delegate b wait")
        outer = await task(world, "subagent:kept")
        inner = await task(world, "subagent:kept.b", child(outer))
        assert (inner.state, inner.parent_task_id) == ("running", "subagent:kept")
        await world.kernel.subagents.send("s", "subagent:kept", "wait")
        await world.kernel.subagents.send("s", "subagent:kept", "later")
        await settled()
        record = await world.kernel.tasks.cancel("s", "subagent:kept", "enough")
        assert (record.state, record.cancel_reason) == ("cancelled", "enough")
        assert (await task(world, "subagent:kept.b", child(outer))).state == "cancelled"
        await settled()
        assert set(team.cancelled) == {child(outer), child(inner)}
        for session_id in (child(outer), child(inner)):
            assert (await world.view(session_id)).status == "idle"
        assert "later" not in team.begun


async def test_deleting_the_session_ends_its_sub_agents() -> None:
    team = Team()
    async with running(team) as world:
        await world.send("delegate reader wait")
        record = await task(world, "subagent:reader")
        await world.kernel.delete_session("s")
        await settled()
        assert team.cancelled == [child(record)]
        assert (await world.view(child(record))).status == "idle"


async def test_a_sub_agent_whose_session_is_deleted_has_failed() -> None:
    async with running(Team()) as world:
        await world.send("delegate reader wait")
        await world.kernel.delete_session(child(await task(world, "subagent:reader")))
        await world.clock.run_for(40.0)
        record = await task(world, "subagent:reader")
        assert record.failure == TaskFailure(code="session_deleted", summary="its session is gone")


async def test_one_that_is_handed_over_ends_where_it_is_by_then() -> None:
    team = Team()
    async with running(team, session_ids=("s", "other")) as world:
        await world.send("delegate reader wait")
        await world.kernel.tasks.transfer("s", "other", ["subagent:reader"])
        team.go_on.set()
        assert (await task(world, "subagent:reader", "other")).state == "completed"
        assert (await world.view("other")).usage.totals.requests == 1


async def test_what_makes_no_sense_is_refused() -> None:
    async with running(Team()) as world:
        for name in ("", "a.b", "a b", "x" * 65):
            with pytest.raises(InvalidInput):
                await world.kernel.subagents.delegate("s", name, "x")
        with pytest.raises(SessionNotFound):
            await world.kernel.subagents.delegate("nobody", "a", "x")
        await world.kernel.subagents.delegate("s", "a", "wait")
        with pytest.raises(TaskConflict):
            await world.kernel.subagents.delegate("s", "a", "x")
    async with running(None) as world:
        with pytest.raises(TasksUnavailable):
            await world.kernel.subagents.delegate("s", "a", "x")


async def test_after_a_restart_sub_agents_go_on_and_can_be_ended(tmp_path: Path) -> None:
    store, team = SqliteStore.open(tmp_path / "store.db", "NORMAL"), Team()

    async def until_begun(texts: int) -> None:
        async with asyncio.timeout(20):
            while team.begun.count("wait") < texts:  # noqa: ASYNC110 - the store's thread has a part in it
                await asyncio.sleep(0.001)

    async with running(team, store=store) as world:
        await world.kernel.subagents.delegate("s", "ends", "wait")
        await world.kernel.subagents.delegate("s", "is_ended", "wait")
        await until_begun(2)
    store = SqliteStore.open(tmp_path / "store.db", "NORMAL")
    async with running(team, store=store, session_ids=()) as world:
        await until_begun(4)
        reader = world.kernel.tasks.events()
        assert (await world.kernel.tasks.cancel("s", "subagent:is_ended")).state == "cancelled"
        team.go_on.set()
        async with asyncio.timeout(20):
            async for event in reader:
                if event.kind == "completed":  # type: ignore[union-attr]
                    break
        assert (await task(world, "subagent:ends")).result == TaskResult(summary="waited")
