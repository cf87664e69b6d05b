"""The background tasks of a turn that blocks: what it begins in threads, and what becomes of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec import UNSET

from sightline.agents.forms import as_agent
from sightline.errors import TaskConflict, TaskNotFound
from sightline.queue.model import Batch, BatchState
from sightline.tasks.hidden import HiddenFailed
from sightline.tasks.model import TaskFailure, TaskRecord, TaskResult
from sightline.tasks.monitoring import MonitorSpec
from sightline.tasks.working import RunningTask
from sightline.testing.clock import settled
from sightline.turn.agent import TurnOver
from sightline.turn.background import TurnTasks
from sightline.turn.blocking import BlockingTurn
from sightline.turn.blocking_tasks import BlockingTask, BlockingTasks, BlockingWork, WorkOver
from tests.core.worlds import World, running, watch

pytestmark = pytest.mark.anyio


async def until(holds: Callable[[], bool]) -> None:
    """Threads are not seen by `settled`."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for is a thread's
            await asyncio.sleep(0.001)


async def asked(world: World) -> Batch:
    """A turn, once it has ended."""
    written = await world.send("go")
    async with asyncio.timeout(10):
        return await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)


async def ended(world: World, task_id: str = "t") -> TaskRecord:
    async with asyncio.timeout(10):
        while not (record := await world.kernel.tasks.get("s", task_id)).is_terminal:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
    return record


def test_it_has_all_that_a_turn_on_the_loop_has_and_asks_for_the_same() -> None:
    def calls(kind: type) -> dict[str, list[tuple[str, Any]]]:
        return {
            name: [(each.name, each.default) for each in inspect.signature(call).parameters.values()]
            for name, call in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(BlockingTasks) == calls(TurnTasks)


async def test_work_that_blocks_outlives_its_turn_in_a_thread_of_its_own() -> None:
    threads, go_on = list[threading.Thread](), threading.Event()

    def watcher(task: BlockingTask) -> str:
        threads.append(threading.current_thread())
        task.progress(f"half of {task.record.task_id}")
        task.mark("waiting")
        go_on.wait(10)
        task.mark("running")
        return "done"

    def agent(turn: BlockingTurn) -> None:
        threads.append(threading.current_thread())
        record = turn.tasks.spawn("t", watcher, kind="observer")
        assert turn.tasks.spawn("t", watcher).generation == record.generation, "it is found"
        turn.text(",".join(listed.task_id for listed in turn.tasks.list()))

    async with running(as_agent(agent)) as world:
        watched = await watch(world)
        await asked(world)
        assert (await world.view()).read_view.messages[-1].content == "t"
        await until(lambda: "task waiting" in watched.told)
        [shown] = (await world.view()).tasks
        assert (shown["state"], shown["kind"], shown["progress"]) == ("waiting", "observer", "half of t")
        go_on.set()
        record = await ended(world)
        assert (record.state, record.result) == ("completed", TaskResult(summary="done"))
        assert len(set(threads)) == 2
        assert threading.main_thread() not in threads


async def test_a_coroutine_function_runs_on_the_loop_as_from_any_turn() -> None:
    async def watcher(task: RunningTask) -> str:
        await task.progress("half")
        return threading.current_thread().name

    def agent(turn: BlockingTurn) -> None:
        turn.tasks.spawn("t", watcher)

    async with running(as_agent(agent)) as world:
        await asked(world)
        record = await ended(world)
        assert (record.progress, record.result) == ("half", TaskResult(summary=threading.main_thread().name))


def crash(task: BlockingTask) -> None:
    raise RuntimeError("boom")


def exits(task: BlockingTask) -> None:
    raise SystemExit(3)


def not_async(task: BlockingTask) -> Coroutine[Any, Any, None]:
    return asyncio.sleep(0)


@pytest.mark.parametrize(
    ("work", "summary"),
    [
        (crash, "RuntimeError: boom"),
        (exits, "SystemExit: 3"),
        (not_async, "TypeError: the work of task t is a function that returns a coroutine; make it async"),
    ],
)
async def test_work_that_crashes_in_its_thread_has_failed(work: Callable[[BlockingTask], Any], summary: str) -> None:
    def agent(turn: BlockingTurn) -> None:
        turn.tasks.spawn("t", work)

    async with running(as_agent(agent)) as world:
        await asked(world)
        assert (await ended(world)).failure == TaskFailure(code="task_failed", summary=summary)


async def test_work_that_is_ended_is_not_waited_for_and_learns_of_it_by_its_next_call() -> None:
    learnt, begun = list[object](), threading.Event()

    def watcher(task: BlockingTask) -> None:
        begun.set()
        calls: list[Callable[[], None]] = [lambda: task.sleep(1000.0), lambda: task.progress("on")]
        for call in calls:
            try:
                call()
            except WorkOver as error:
                learnt.append((str(error), task.cancelled))

    def agent(turn: BlockingTurn) -> None:
        turn.tasks.spawn("t", watcher)
        begun.wait(10)
        turn.text(turn.tasks.cancel("t", "enough").state)

    async with running(as_agent(agent)) as world:
        await asked(world)
        assert (await world.view()).read_view.messages[-1].content == "cancelled"
        record = await world.kernel.tasks.get("s", "t")
        assert (record.state, record.progress) == ("cancelled", UNSET)
        await until(lambda: len(learnt) == 2)
        assert learnt == [("the work was ended", True)] * 2


async def test_hidden_work_that_blocks_is_waited_for_with_its_first_failure() -> None:
    done = list[str]()

    def works() -> None:
        done.append("worked")

    def fails() -> None:
        raise KeyError("boom")

    def agent(turn: BlockingTurn) -> None:
        turn.tasks.spawn_hidden("works", works)
        turn.tasks.await_hidden()
        turn.tasks.spawn_hidden("fails", fails)
        with pytest.raises(HiddenFailed, match="fails: KeyError"):
            turn.tasks.await_hidden()
        turn.text(",".join(done))

    async with running(as_agent(agent)) as world:
        assert (await asked(world)).state is BatchState.COMPLETED
        assert (await world.view()).read_view.messages[-1].content == "worked"


async def test_an_async_call_is_begun_here_and_its_result_fetched_by_a_later_turn() -> None:
    begun, wished = threading.Event(), list[bool]()

    def long(work: BlockingWork) -> int:
        wished.append(work.cancelled)
        return work.wait_for(lambda: answer())

    async def answer() -> int:
        return 42

    def endless(work: BlockingWork) -> None:
        begun.set()
        with pytest.raises(WorkOver):
            work.sleep(1000.0)
        wished.append(work.cancelled)

    def agent(turn: BlockingTurn) -> None:
        if begun.is_set():
            turn.text(f"{turn.tasks.result('h')}")
            return
        turn.tasks.begin("h", long)
        turn.tasks.begin("endless", endless)
        begun.wait(10)

    async with running(as_agent(agent)) as world:
        for _ in range(2):
            assert (await asked(world)).state is BatchState.COMPLETED
        assert (await world.view()).read_view.messages[-1].content == "42"
    await until(lambda: wished == [False, True])


async def test_what_is_asked_is_answered_and_refused_as_on_the_loop() -> None:
    refused = list[Exception]()

    def agent(turn: BlockingTurn) -> None:
        def refusal(call: Callable[[], object]) -> None:
            try:
                call()
            except Exception as error:
                refused.append(error)

        turn.tasks.spawn("mine", lambda task: task.sleep(1000.0))
        refusal(lambda: turn.tasks.spawn("other", lambda task: None, session_id="nobody"))
        refusal(lambda: turn.tasks.stop_monitor("none"))
        refusal(lambda: turn.tasks.monitor(MonitorSpec(id="m", command=" ")))
        refusal(lambda: turn.tasks.send("mine", "more"))
        refusal(lambda: turn.tasks.cancel("none"))
        assert turn.tasks.monitor_updates("none") == ()
        child = turn.tasks.delegate("reader", "read", keep=True)
        turn.tasks.send(child.task_id, "read on")
        turn.text(str(len(turn.tasks.list(live=False))))

    async def sub(turn: Any) -> None:
        if turn.session_id == "s":
            await as_agent(agent)(turn)

    async with running(sub) as world:
        assert (await asked(world)).state is BatchState.COMPLETED
        assert (await world.view()).read_view.messages[-1].content == "2"
        assert [type(error).__name__ for error in refused] == [
            "SessionNotFound",
            TaskNotFound.__name__,
            "InvalidInput",
            TaskConflict.__name__,
            TaskNotFound.__name__,
        ]


async def test_the_end_of_the_turn_is_the_end_of_its_tasks_object() -> None:
    kept = list[BlockingTasks]()

    def agent(turn: BlockingTurn) -> None:
        kept.append(turn.tasks)

    async with running(as_agent(agent)) as world:
        await asked(world)
        await settled()
        with pytest.raises(TurnOver):
            await asyncio.to_thread(kept[0].list)
