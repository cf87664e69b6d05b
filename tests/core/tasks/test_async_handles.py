"""Async tool handles: begun, fetched, ended gently and then not so gently, handed over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sightline.errors import StoreUnavailable, TaskConflict, TaskNotVisible, TooManyTasks
from sightline.kernel import Limits
from sightline.tasks.async_handles import CancelToken, HandleFailed
from sightline.tasks.model import NewTask
from sightline.testing.clock import settled
from sightline.turn.agent import Turn
from tests.core.worlds import Puppet, running

pytestmark = pytest.mark.anyio


class Call:
    """The work behind a handle. A polite one ends when its token says so."""

    def __init__(self, *, polite: bool = False) -> None:
        self.polite = polite
        self.go_on = asyncio.Event()
        self.ended = ""

    async def __call__(self, token: CancelToken) -> str:
        try:
            if self.polite:
                await token.wait()
                self.ended = "by its token"
                return "partly"
            await self.go_on.wait()
            self.ended = "by itself"
            return "result"
        except asyncio.CancelledError:
            self.ended = "by force"
            raise


async def test_a_result_is_fetched_once_it_is_there() -> None:
    call, fetched = Call(), list[Any]()

    async def agent(turn: Turn) -> None:
        if turn.input[0].content == "begin":
            await turn.tasks.begin("h", call)
        else:
            fetched.append(await turn.tasks.result("h"))

    async with running(agent) as world:
        await world.send("begin")
        assert world.kernel.tasks.live_handles("s") == ("h",)
        await world.send("fetch")
        assert fetched == []
        call.go_on.set()
        await settled()
        assert (fetched, world.kernel.tasks.live_handles("s")) == (["result"], ())
        with pytest.raises(TaskNotVisible):
            await world.kernel.tasks.handle_result("s", "h")


async def test_what_went_wrong_is_raised_to_who_fetches_it() -> None:
    async def fails(token: CancelToken) -> None:
        raise ValueError("no")

    async def exits(token: CancelToken) -> None:
        raise SystemExit(3)

    async with running(Puppet()) as world:
        tasks = world.kernel.tasks
        for work, text in ((fails, "ValueError: no"), (exits, "HandleFailed: SystemExit: 3")):
            await tasks.begin_handle("s", "h", work)
            with pytest.raises(HandleFailed, match=text):
                await tasks.handle_result("s", "h")
        await tasks.begin_handle("s", "h", Call())
        fetching = asyncio.create_task(tasks.handle_result("s", "h"))
        await settled()
        await_cancel = asyncio.create_task(tasks.cancel_handle("s", "h"))
        await world.clock.run_for(0.2)
        await await_cancel
        with pytest.raises(HandleFailed, match="it was cancelled"):
            await fetching


async def test_a_call_is_asked_to_end_and_aborted_100_ms_later() -> None:
    polite, rude = Call(polite=True), Call()
    async with running(Puppet()) as world:
        tasks = world.kernel.tasks
        await tasks.begin_handle("s", "polite", polite)
        await tasks.begin_handle("s", "rude", rude)
        await settled()
        cancelling = asyncio.create_task(tasks.cancel_unreferenced("s", []))
        await world.clock.run_for(0.09)
        assert (polite.ended, rude.ended) == ("by its token", "")
        await world.clock.run_for(0.02)
        await cancelling
        assert rude.ended == "by force"
        assert await tasks.handle_result("s", "polite") == "partly"


async def test_what_is_not_referenced_is_cancelled_and_what_is_kept_untouched() -> None:
    calls = {name: Call() for name in ("kept", "other", "monitor:m")}
    async with running(Puppet()) as world:
        tasks = world.kernel.tasks
        for name, call in calls.items():
            await tasks.begin_handle("s", name, call)
        for task_id in ("kept task", "gone", "ended"):
            await tasks.register("s", NewTask(task_id=task_id, producer="test"))
        await tasks.cancel("s", "ended")
        await settled()
        cancelling = asyncio.create_task(tasks.cancel_unreferenced("s", ["kept", "kept task", "unknown"]))
        await world.clock.run_for(0.2)
        assert [record.task_id for record in await cancelling] == ["gone", "ended"]
        assert {name: call.ended for name, call in calls.items()} == {"kept": "", "other": "by force", "monitor:m": ""}
        assert (await tasks.get("s", "kept task")).state == "running"


async def test_nothing_is_cancelled_where_the_tasks_cannot_be_listed() -> None:
    call = Call()
    async with running(Puppet()) as world:
        await world.kernel.tasks.begin_handle("s", "h", call)
        await settled()
        world.faults.fail_before("list_tasks")
        with pytest.raises(StoreUnavailable):
            await world.kernel.tasks.cancel_unreferenced("s", [])
        await settled()
        assert world.kernel.tasks.live_handles("s") == ("h",)
        cancelling = asyncio.create_task(world.kernel.tasks.cancel_unreferenced("s", []))
        await world.clock.run_for(0.2)
        await cancelling
        assert world.kernel.tasks.live_handles("s") == ()


async def test_a_live_id_is_taken_and_there_are_only_so_many() -> None:
    async with running(Puppet(), limits=Limits(max_tasks=2)) as world:
        tasks, call = world.kernel.tasks, Call()
        await tasks.begin_handle("s", "a", call)
        with pytest.raises(TaskConflict):
            await tasks.begin_handle("s", "a", call)
        await tasks.begin_handle("s", "b", call)
        with pytest.raises(TooManyTasks):
            await tasks.begin_handle("s", "c", call)
        call.go_on.set()
        await settled()
        await tasks.begin_handle("s", "a", call)


async def test_results_that_nobody_fetches_are_kept_up_to_a_bound() -> None:
    call = Call()
    call.go_on.set()
    async with running(Puppet()) as world:
        tasks = world.kernel.tasks
        for number in range(300):
            await tasks.begin_handle("s", f"h{number}", call)
            await settled()
        assert await tasks.handle_result("s", "h299") == "result"
        with pytest.raises(TaskNotVisible):
            await tasks.handle_result("s", "h40")


# Seeing and handing over


async def test_a_session_sees_its_live_handles_and_its_live_tasks() -> None:
    async with running(Puppet(), session_ids=("s", "other")) as world:
        tasks, call = world.kernel.tasks, Call()
        await tasks.begin_handle("s", "handle", call)
        await tasks.register("s", NewTask(task_id="task", producer="test"))
        await tasks.register("other", NewTask(task_id="theirs", producer="test"))
        await tasks.validate("s", [])
        await tasks.validate("s", ["task", "handle"])
        with pytest.raises(TaskNotVisible):
            await tasks.validate("s", ["task", "theirs"])
        call.go_on.set()
        await settled()
        with pytest.raises(TaskNotVisible):
            await tasks.validate("s", ["handle"])


async def test_handles_and_tasks_are_handed_over_together() -> None:
    async with running(Puppet(), session_ids=("s", "other")) as world:
        tasks, call = world.kernel.tasks, Call()
        await tasks.begin_handle("s", "handle", call)
        await tasks.register("s", NewTask(task_id="task", producer="test"))
        fetching = asyncio.create_task(tasks.handle_result("s", "handle"))
        await settled()
        moved = await tasks.transfer("s", "other", ["handle", "task"])
        assert [record.task_id for record in moved] == ["task"]
        assert (tasks.live_handles("s"), tasks.live_handles("other")) == ((), ("handle",))
        call.go_on.set()
        assert await fetching == "result"


async def test_of_both_parts_none_is_handed_over_when_one_cannot_be() -> None:
    async with running(Puppet(), session_ids=("s", "other")) as world:
        tasks, call = world.kernel.tasks, Call()
        await tasks.begin_handle("s", "handle", call)
        await tasks.register("s", NewTask(task_id="task", producer="test"))
        with pytest.raises(TaskNotVisible):
            await tasks.transfer("s", "other", ["handle", "task", "nothing"])
        await tasks.begin_handle("other", "handle", call)
        with pytest.raises(TaskConflict):
            await tasks.transfer("s", "other", ["task", "handle"])
        assert (tasks.live_handles("s"), tasks.live_handles("other")) == (("handle",), ("handle",))
        assert [record.task_id for record in await tasks.list("s")] == ["task"]
