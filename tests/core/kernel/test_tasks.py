"""Background tasks through the kernel: hidden, managed and external ones, how they end, and what sessions see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec import UNSET

from sightline.errors import (
    Draining,
    SessionNotFound,
    StoreUnavailable,
    TaskConflict,
    TaskNotFound,
    TasksUnavailable,
    TooManyTasks,
)
from sightline.kernel import Limits
from sightline.stores.sqlite import SqliteStore
from sightline.tasks.hidden import HiddenFailed
from sightline.tasks.model import Ending, NewTask, Progress, TaskFailure, TaskRecord, TaskResult, Unfolding
from sightline.tasks.rules import shown_task
from sightline.tasks.working import RunningTask
from sightline.testing.clock import settled
from sightline.testing.conformance.steps import new_session
from sightline.turn.agent import Turn
from tests.core.worlds import Puppet, Watched, World, running, watch

pytestmark = pytest.mark.anyio

DONE = Ending(state="completed")


def new(task_id: str = "t", **facts: object) -> NewTask:
    return NewTask(task_id=task_id, **{"producer": "test", **facts})  # type: ignore[arg-type]


class Work:
    """Managed work that waits until it may end, and what became of it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = 0
        self.aborted = 0
        self.tasks: list[RunningTask] = []

    async def __call__(self, task: RunningTask) -> str:
        self.begun += 1
        self.tasks.append(task)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        return "done"


def told(watched: Watched) -> list[str]:
    return [word.removeprefix("task ") for word in watched.told if word.startswith("task ")]


async def states(world: World, session_id: str = "s") -> dict[str, str]:
    return {record.task_id: record.state for record in await world.kernel.tasks.list(session_id)}


async def in_step(world: World, *watched: Watched) -> None:
    """What observers were told adds up to what is stored."""
    await settled()
    for each in watched:
        stored = (await world.store.load_session(each.handle.session_id, 10)).tasks
        assert each.handle.view.tasks == tuple(shown_task(record) for record in stored)


# Hidden work


async def test_hidden_work_is_drained_with_what_it_began_and_listed_nowhere() -> None:
    done: list[str] = []
    async with running(Puppet()) as world:
        tasks = world.kernel.tasks

        async def inner() -> None:
            await world.clock.sleep(1.0)
            done.append("inner")

        async def outer() -> None:
            await world.clock.sleep(1.0)
            await tasks.spawn_hidden("s", "inner", inner)
            done.append("outer")

        await tasks.spawn_hidden("s", "outer", outer)
        waiting = asyncio.create_task(tasks.await_hidden("s"))
        await world.clock.run_for(1.5)
        assert (done, waiting.done()) == (["outer"], False)
        assert await tasks.list("s") == ()
        await world.clock.run_for(1.0)
        await waiting
        assert done == ["outer", "inner"]
        await tasks.await_hidden("s")


async def test_hidden_work_that_fails_drops_nothing_and_is_told_once_all_has_ended() -> None:
    done: list[str] = []
    async with running(Puppet()) as world:
        tasks = world.kernel.tasks

        async def fails() -> None:
            raise RuntimeError("boom")

        async def exits() -> None:
            raise SystemExit(3)

        async def ends() -> None:
            await world.clock.sleep(1.0)
            done.append("ended")

        await tasks.spawn_hidden("s", "first", fails)
        await tasks.spawn_hidden("s", "second", exits)
        await tasks.spawn_hidden("s", "third", ends)
        waiting = asyncio.create_task(tasks.await_hidden("s"))
        await world.clock.run_for(0.5)
        assert not waiting.done()
        await world.clock.run_for(1.0)
        with pytest.raises(HiddenFailed, match="first: RuntimeError: boom"):
            await waiting
        assert done == ["ended"]
        await tasks.await_hidden("s")


async def test_hidden_work_that_waits_for_the_rest_does_not_wait_for_itself() -> None:
    async with running(Puppet()) as world:
        await world.kernel.tasks.spawn_hidden("s", "all", lambda: world.kernel.tasks.await_hidden("s"))
        await world.kernel.tasks.await_hidden("s")


async def test_who_stops_waiting_for_hidden_work_does_not_stop_it() -> None:
    done = asyncio.Event()
    async with running(Puppet()) as world:

        async def work() -> None:
            await world.clock.sleep(1.0)
            done.set()

        await world.kernel.tasks.spawn_hidden("s", "work", work)
        waiting = asyncio.create_task(world.kernel.tasks.await_hidden("s"))
        await settled()
        waiting.cancel()
        await world.clock.run_for(1.0)
        assert done.is_set()


# Who may begin what


async def test_an_unknown_session_is_found_out_before_that_nobody_works_here() -> None:
    async def nothing(*_: object) -> None: ...

    async with running(None) as world:
        tasks = world.kernel.tasks
        for spawn in (
            lambda name: tasks.spawn_hidden(name, "x", nothing),
            lambda name: tasks.spawn_managed(name, new(), nothing),
            lambda name: tasks.begin_handle(name, "h", nothing),
        ):
            with pytest.raises(SessionNotFound):
                await spawn("nobody")
            with pytest.raises(TasksUnavailable):
                await spawn("s")
        await tasks.await_hidden("s")
        assert (await tasks.register("s", new())).state == "running"


async def test_where_work_ends_none_is_begun() -> None:
    work = Work()
    async with running(Puppet()) as world:
        await world.kernel.drain(0.0)
        with pytest.raises(Draining):
            await world.kernel.tasks.spawn_managed("s", new(), work)
        assert (work.begun, await states(world)) == (0, {})


async def test_a_session_has_so_many_live_tasks_and_no_more() -> None:
    async with running(Puppet(), limits=Limits(max_tasks=1)) as world:
        await world.kernel.tasks.register("s", new("a"))
        with pytest.raises(TooManyTasks):
            await world.kernel.tasks.register("s", new("b"))


# Managed work


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "sqlite"])
async def test_managed_work_is_listed_while_it_goes_on_and_says_what_it_came_to(on_disk: bool, tmp_path: Path) -> None:
    store, work, ended = (SqliteStore.open(tmp_path / "s.db", "NORMAL") if on_disk else None), Work(), asyncio.Event()

    async def agent_work(task: RunningTask) -> str:
        await task.progress("half")
        await task.mark("waiting")
        await task.mark("running")
        return await work(task)

    async with running(Puppet(), store=store) as world:
        watched = await watch(world)
        record = await world.kernel.tasks.spawn_managed("s", new(kind="observer"), agent_work)
        assert (record.state, record.flavour) == ("running", "managed")
        reader = world.kernel.tasks.events()
        async with asyncio.timeout(20):
            while not work.begun:  # noqa: ASYNC110 - the store's thread has a part in it
                await asyncio.sleep(0)
            [shown] = (await world.view()).tasks
            assert (shown["task_id"], shown["progress"], shown["state"]) == ("t", "half", "running")
            await in_step(world, watched)
            work.go_on.set()
            async for event in reader:
                if event.kind == "completed":  # type: ignore[union-attr]
                    ended.set()
                    break
        reader.close()
        assert (await world.kernel.tasks.get("s", "t")).result == TaskResult(summary="done")
        assert told(watched) == ["started", "progress", "waiting", "resumed", "completed"]
        await in_step(world, watched)
        assert (await world.view()).tasks == ()


@pytest.mark.parametrize(
    ("error", "summary"),
    [(RuntimeError("boom"), "RuntimeError: boom"), (SystemExit(3), "SystemExit: 3"), (KeyError(), "KeyError")],
)
async def test_work_that_crashes_has_failed(error: BaseException, summary: str) -> None:
    async def crash(task: RunningTask) -> None:
        raise error

    async with running(Puppet()) as world:
        watched = await watch(world)
        await world.kernel.tasks.spawn_managed("s", new(), crash)
        await settled()
        record = await world.kernel.tasks.get("s", "t")
        assert (record.state, record.failure) == ("failed", TaskFailure(code="task_failed", summary=summary))
        assert told(watched) == ["started", "failed"]


async def test_a_live_id_is_taken_and_free_after_the_end() -> None:
    work, second = Work(), Work()
    async with running(Puppet()) as world:
        tasks = world.kernel.tasks
        await tasks.spawn_managed("s", new(), work)
        with pytest.raises(TaskConflict):
            await tasks.spawn_managed("s", new(), second)
        with pytest.raises(TaskConflict):
            await tasks.register("s", new())
        work.go_on.set()
        await settled()
        await tasks.spawn_managed("s", new(), second)
        await settled()
        assert (work.begun, second.begun, await states(world)) == (1, 1, {"t": "running"})


async def test_an_end_that_cannot_be_written_is_written_later_and_told() -> None:
    work = Work()
    async with running(Puppet()) as world:
        watched = await watch(world)
        await world.kernel.tasks.spawn_managed("s", new(), work)
        world.faults.fail_before("change_task", times=2)
        work.go_on.set()
        await world.clock.run_for(5.0)
        assert await states(world) == {"t": "completed"}
        await in_step(world, watched)


async def test_a_caller_who_left_has_begun_what_was_listed() -> None:
    work = Work()
    async with running(Puppet()) as world:
        gate = world.faults.hold_answer("register_task")
        spawning = asyncio.create_task(world.kernel.tasks.spawn_managed("s", new(), work))
        await gate.reached.wait()
        spawning.cancel()
        gate.open()
        await settled()
        assert (work.begun, await states(world)) == (1, {"t": "running"})


async def test_a_registration_that_failed_begins_nothing() -> None:
    work = Work()
    async with running(Puppet()) as world:
        world.faults.fail_before("register_task")
        with pytest.raises(StoreUnavailable):
            await world.kernel.tasks.spawn_managed("s", new(), work)
        assert (work.begun, await states(world)) == (0, {})


# What others do


async def test_what_others_do_is_as_they_say() -> None:
    async with running(None) as world:
        watched, tasks = await watch(world), world.kernel.tasks
        await tasks.register("s", new(state="pending", child_session_id="c", parent_task_id="p"))
        await tasks.change("s", "t", Unfolding("running"))
        await tasks.change("s", "t", Unfolding("waiting"))
        await tasks.change("s", "t", Progress("half"))
        [shown] = (await world.view()).tasks
        assert (shown["state"], shown["progress"], shown["child_session_id"]) == ("waiting", "half", "c")
        await in_step(world, watched)
        await tasks.change("s", "t", Ending(state="failed", code="mine", summary="boom"))
        await tasks.change("s", "t", DONE)
        assert (await tasks.get("s", "t")).failure == TaskFailure(code="mine", summary="boom")
        assert told(watched) == ["started", "resumed", "waiting", "progress", "failed"]
        await in_step(world, watched)


async def test_what_is_not_listed_changes_silently() -> None:
    async with running(None) as world:
        watched, tasks = await watch(world), world.kernel.tasks
        for change in (DONE, Unfolding("waiting"), Progress("x")):
            assert await tasks.change("s", "nobody", change) is None
        assert await tasks.unregister("s", "nobody") is None
        assert told(watched) == []


async def test_a_task_is_forgotten_and_observers_hear_of_it() -> None:
    async with running(None) as world:
        watched, tasks = await watch(world), world.kernel.tasks
        await tasks.register("s", new())
        forgotten = await tasks.unregister("s", "t")
        assert forgotten is not None
        assert forgotten.state == "running"
        assert (told(watched), await states(world), (await world.view()).tasks) == (["started", "revoked"], {}, ())


async def test_managed_work_that_is_forgotten_ends() -> None:
    work = Work()
    async with running(Puppet()) as world:
        await world.kernel.tasks.spawn_managed("s", new(), work)
        await settled()
        await world.kernel.tasks.unregister("s", "t")
        assert (work.aborted, await states(world)) == (1, {})


# Cancelling


async def test_managed_work_is_aborted_and_says_why() -> None:
    work = Work()
    async with running(Puppet()) as world:
        watched = await watch(world)
        await world.kernel.tasks.spawn_managed("s", new(), work)
        await settled()
        record = await world.kernel.tasks.cancel("s", "t", "enough")
        assert (record.state, record.cancel_reason, work.aborted) == ("cancelled", "enough", 1)
        assert told(watched) == ["started", "cancel_requested", "cancelled"]
        await in_step(world, watched)


async def test_work_that_does_not_want_to_end_is_asked_to_until_it_has() -> None:
    go_on = asyncio.Event()

    async def stubborn(task: RunningTask) -> str:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return "finished all the same"

    async with running(Puppet()) as world:
        await world.kernel.tasks.spawn_managed("s", new(), stubborn)
        await settled()
        cancelling = asyncio.create_task(world.kernel.tasks.cancel("s", "t"))
        await world.clock.run_for(6.0)
        assert (await cancelling).state == "cancel_requested"
        go_on.set()
        await settled()
        assert await states(world) == {"t": "completed"}


async def test_what_others_do_is_ended_by_their_callback_once() -> None:
    called = 0

    async def callback() -> None:
        nonlocal called
        called += 1

    async with running(Puppet()) as world:
        watched, tasks = await watch(world), world.kernel.tasks
        await tasks.register("s", new(), cancel=callback)
        record = await tasks.cancel("s", "t")
        assert (record.state, record.cancel_reason) == ("cancelled", "requested by host")
        assert await tasks.cancel("s", "t") == record
        assert called == 1
        assert told(watched) == ["started", "cancel_requested", "cancelled"]


async def test_a_callback_that_fails_may_be_tried_again() -> None:
    errors: list[Exception] = [RuntimeError("not now")]

    async def callback() -> None:
        if errors:
            raise errors.pop()

    async with running(Puppet()) as world:
        tasks = world.kernel.tasks
        await tasks.register("s", new(), cancel=callback)
        with pytest.raises(RuntimeError, match="not now"):
            await tasks.cancel("s", "t")
        assert await states(world) == {"t": "cancel_requested"}
        assert (await tasks.cancel("s", "t")).state == "cancelled"


async def test_without_a_callback_a_wish_lasts_until_its_owner_has_ended() -> None:
    async with running(None) as world:
        watched, tasks = await watch(world), world.kernel.tasks
        await tasks.register("s", new())
        assert (await tasks.cancel("s", "t", "enough")).state == "cancel_requested"
        assert [shown["state"] for shown in (await world.view()).tasks] == ["cancel_requested"]
        await tasks.change("s", "t", Unfolding("running"))
        assert await states(world) == {"t": "cancel_requested"}
        await tasks.change("s", "t", Ending(state="cancelled"))
        assert (await tasks.get("s", "t")).cancel_reason == "enough"
        assert told(watched) == ["started", "cancel_requested", "cancelled"]


async def test_what_has_ended_is_not_cancelled() -> None:
    called: list[str] = []

    async def callback() -> None:
        called.append("x")

    async with running(None) as world:
        watched, tasks = await watch(world), world.kernel.tasks
        await tasks.register("s", new(), cancel=callback)
        await tasks.change("s", "t", DONE)
        ended = await tasks.get("s", "t")
        assert await tasks.cancel("s", "t") == ended
        assert ended.state == "completed"
        assert (called, told(watched)) == ([], ["started", "completed"])
        with pytest.raises(TaskNotFound):
            await tasks.cancel("s", "nobody")


async def test_monitors_are_disarmed_by_their_own_name_before_they_are_cancelled() -> None:
    disarmed: list[tuple[str, str]] = []
    errors: list[Exception] = []

    async def disarm(session_id: str, monitor_id: str) -> None:
        disarmed.append((session_id, monitor_id))
        if errors:
            raise errors.pop()

    async with running(Puppet()) as world:
        tasks, work = world.kernel.tasks, Work()
        tasks.disarm = disarm
        for task_id, kind in (("monitor:m", "monitor"), ("monitor:sub", "subagent"), ("other", "other")):
            await tasks.spawn_managed("s", new(task_id, kind=kind), work)
        errors.append(RuntimeError("it will not"))
        with pytest.raises(RuntimeError, match="it will not"):
            await tasks.cancel("s", "monitor:m")
        assert (await states(world))["monitor:m"] == "cancel_requested"
        for task_id in ("monitor:m", "monitor:sub", "other"):
            assert (await tasks.cancel("s", task_id)).state == "cancelled"
        assert disarmed == [("s", "m"), ("s", "m")]


async def test_all_live_tasks_are_cancelled_although_one_of_them_will_not() -> None:
    async def fails() -> None:
        raise RuntimeError("not now")

    async with running(Puppet(), session_ids=("s", "other")) as world:
        tasks, work = world.kernel.tasks, Work()
        await tasks.register("s", new("ended"))
        await tasks.change("s", "ended", DONE)
        await tasks.register("s", new("fails"), cancel=fails)
        await tasks.spawn_managed("s", new("work"), work)
        await tasks.register("other", new("theirs"))
        with pytest.raises(RuntimeError, match="not now"):
            await tasks.cancel_all("s")
        assert await states(world) == {"ended": "completed", "fails": "cancel_requested", "work": "cancelled"}
        await tasks.unregister("s", "fails")
        await tasks.register("s", new("again"))
        assert [record.task_id for record in await tasks.cancel_all("s")] == ["again"]
        assert await states(world, "other") == {"theirs": "running"}


# Handing over


async def test_what_is_handed_over_ends_where_it_is_by_then() -> None:
    work = Work()
    async with running(Puppet(), session_ids=("s", "other")) as world:
        here, there, tasks = await watch(world), await watch(world, "other"), world.kernel.tasks
        await tasks.spawn_managed("s", new("a"), work)
        await tasks.register("s", new("b"))
        await settled()
        [moved] = await tasks.transfer("s", "other", ["a"])
        assert (moved.session_id, moved.state) == ("other", "running")
        await in_step(world, here, there)
        await work.tasks[0].progress("half")
        work.go_on.set()
        await settled()
        assert (await states(world), await states(world, "other")) == ({"b": "running"}, {"a": "completed"})
        assert told(here) == ["started", "started", "revoked"]
        assert told(there) == ["granted", "progress", "completed"]
        await in_step(world, here, there)


async def test_nothing_is_handed_over_to_where_one_of_the_ids_is_live() -> None:
    async with running(Puppet(), session_ids=("s", "other")) as world:
        tasks = world.kernel.tasks
        for session_id, task_id in (("s", "a"), ("s", "b"), ("other", "b")):
            await tasks.register(session_id, new(task_id))
        with pytest.raises(TaskConflict):
            await tasks.transfer("s", "other", ["a", "b"])
        assert (await states(world), await states(world, "other")) == (
            {"a": "running", "b": "running"},
            {"b": "running"},
        )
        assert await tasks.transfer("s", "other", []) == ()


async def test_a_hand_over_without_an_answer_is_shown_by_both_sessions() -> None:
    async with running(Puppet(), session_ids=("s", "other")) as world:
        here, there, tasks = await watch(world), await watch(world, "other"), world.kernel.tasks
        await tasks.register("s", new("a"))
        world.faults.fail_after("transfer_tasks", told=False)
        with pytest.raises(StoreUnavailable):
            await tasks.transfer("s", "other", ["a"])
        await world.clock.run_for(5.0)
        assert (await states(world), await states(world, "other")) == ({}, {"a": "running"})
        await in_step(world, here, there)


async def test_a_task_whose_session_is_not_loaded_ends_there() -> None:
    work = Work()
    async with running(Puppet(), session_ids=("s", "other")) as world:
        await world.kernel.tasks.spawn_managed("s", new(), work)
        await settled()
        await world.kernel.tasks.transfer("s", "other", ["t"])
        await world.kernel.sweep()
        work.go_on.set()
        await settled()
        assert await states(world, "other") == {"t": "completed"}


# The end of sessions and kernels


async def test_the_work_of_a_deleted_session_ends() -> None:
    work, called = Work(), list[str]()

    async def callback() -> None:
        called.append("x")

    async with running(Puppet(), session_ids=("s", "other")) as world:
        tasks = world.kernel.tasks
        await tasks.spawn_managed("s", new("work"), work)
        await tasks.spawn_managed("other", new("came"), work)
        await tasks.register("s", new("elsewhere"), cancel=callback)
        await tasks.spawn_hidden("s", "hidden", work.go_on.wait)
        await tasks.begin_handle("s", "h", lambda token: work.go_on.wait())
        await settled()
        await tasks.transfer("other", "s", ["came"])
        await world.kernel.delete_session("s")
        await settled()
        assert (work.aborted, called, tasks.running, tasks.live_handles("s")) == (2, ["x"], 0, ())


async def test_a_kernel_that_stops_cancels_its_work_and_says_so(tmp_path: Path) -> None:
    store, work = SqliteStore.open(tmp_path / "s.db", "NORMAL"), Work()
    async with running(Puppet(), store=store) as world:
        await world.kernel.tasks.spawn_managed("s", new("work"), work)
        await world.kernel.tasks.register("s", new("elsewhere"))
        await settled()
        await world.kernel.stop()
        [stopped, elsewhere] = await store.list_tasks("s", live=False, limit=9)
        assert (stopped.state, stopped.cancel_reason) == ("cancelled", "the server stopped")
        assert elsewhere.state == "running"


async def test_what_died_with_its_program_is_shown_as_that_after_a_restart(tmp_path: Path) -> None:
    work = Work()
    store = SqliteStore.open(tmp_path / "s.db", "NORMAL")
    async with running(Puppet(), store=store) as world:
        await world.kernel.tasks.spawn_managed("s", new("work"), work)
        await world.kernel.tasks.register("s", new("elsewhere"))
        await settled()
        world.faults.fail_before("change_task", times=100)
        stopping = asyncio.create_task(world.kernel.stop())
        async with asyncio.timeout(20):
            while not stopping.done():
                await world.clock.run_for(1.0)
                await asyncio.sleep(0.001)
    store = SqliteStore.open(tmp_path / "s.db", "NORMAL")
    async with running(Puppet(), store=store, session_ids=(), start=False) as world:
        watched = await watch(world)
        assert [shown["state"] for shown in watched.handle.view.tasks] == ["running", "running"]
        await world.kernel.start()
        [lost, elsewhere] = await world.kernel.tasks.list("s")
        assert lost.failure is not UNSET
        assert (lost.state, lost.failure.code, elsewhere.state) == ("failed", "owner_lost", "running")
        assert told(watched) == ["failed"]
        await in_step(world, watched)
        assert [shown["task_id"] for shown in (await world.view()).tasks] == ["elsewhere"]


async def test_where_the_store_is_away_at_the_start_what_was_left_is_found_later(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "s.db", "NORMAL")
    await new_session(store)
    await store.register_task("s", new(), flavour="managed", max_live=9, now=1, then=lambda _: None)
    await store.close()
    store = SqliteStore.open(tmp_path / "s.db", "NORMAL")
    async with running(Puppet(), store=store, session_ids=(), start=False) as world:
        world.faults.fail_before("lose_tasks", times=2)
        await world.kernel.start()
        assert await states(world) == {"t": "running"}
        async with asyncio.timeout(20):
            while await states(world) == {"t": "running"}:
                await world.clock.run_for(1.0)
        assert await states(world) == {"t": "failed"}
        world.faults.fail_before("lose_tasks")
        await world.kernel.tasks.see_to(world.kernel.tasks.start, "again")


async def test_a_drain_waits_for_hidden_work_and_not_for_longer_than_it_may() -> None:
    done: list[str] = []
    async with running(Puppet()) as world:

        def work(seconds: float) -> Callable[[], Awaitable[None]]:
            async def sleep() -> None:
                await world.clock.sleep(seconds)
                done.append(f"{seconds}")

            return sleep

        await world.kernel.tasks.spawn_hidden("s", "short", work(1.0))
        await world.kernel.tasks.spawn_hidden("s", "long", work(100.0))
        draining = asyncio.create_task(world.kernel.drain(10.0))
        await world.clock.run_for(9.0)
        assert (done, draining.done()) == (["1.0"], False)
        await world.clock.run_for(2.0)
        await draining
        assert world.kernel.tasks.running == 0


async def test_all_are_ended_however_many_there_are() -> None:
    async with running(None, limits=Limits(max_tasks=2_000)) as world:
        tasks = world.kernel.tasks
        await asyncio.gather(*(tasks.register("s", new(f"{number}")) for number in range(1_100)))
        await tasks.validate("s", [f"{number}" for number in range(1_100)])
        assert len(await tasks.cancel_all("s")) == 1_100
        assert set((await states(world)).values()) == {"cancel_requested"}


async def test_what_has_ended_is_readable_for_the_time_of_retention() -> None:
    async with running(Puppet(), limits=Limits(retention=100.0)) as world:
        await world.kernel.tasks.register("s", new())
        await world.kernel.tasks.change("s", "t", DONE)
        await world.clock.run_for(90.0)
        assert await states(world) == {"t": "completed"}
        await world.clock.run_for(30.0)
        assert await states(world) == {}


# Turns


async def test_a_turn_begins_work_that_outlives_it_and_a_later_attempt_finds_it() -> None:
    work, found = Work(), list[TaskRecord]()

    async def agent(turn: Turn) -> None:
        found.append(await turn.tasks.spawn("t", work))
        found.append(await turn.tasks.spawn("t", work))
        assert await turn.tasks.list() == (found[0],)

    async with running(agent) as world:
        await world.send("go")
        view = await world.view()
        assert (view.status, [shown["task_id"] for shown in view.tasks]) == ("idle", ["t"])
        assert (found[0], work.begun) == (found[1], 1)
        await world.send("go")
        assert len(found) == 2, "another turn's task of that id is another's"
        work.go_on.set()
        await settled()
        assert await states(world) == {"t": "completed"}


async def test_a_turn_cancels_its_sessions_tasks() -> None:
    work = Work()

    async def agent(turn: Turn) -> None:
        await turn.tasks.spawn("t", work)
        turn.text((await turn.tasks.cancel("t")).state)

    async with running(agent) as world:
        await world.send("go")
        assert (await world.view()).read_view.messages[-1].content == "cancelled"


async def test_what_background_work_may_have_changed_is_read_anew_once_it_is_waited_for() -> None:
    offered: list[dict[str, object]] = [{"name": "one", "description": "", "input_schema": {}}]

    async def more() -> None:
        offered.append({"name": "two", "description": "", "input_schema": {}})

    async def tools(session_id: str, policy: object) -> list[dict[str, object]]:
        return list(offered)

    async def agent(turn: Turn) -> None:
        if turn.input[0].content == "elsewhere":
            await turn.tasks.spawn_hidden("more", more, session_id="child")
        elif turn.input[0].content == "here":
            await turn.tasks.spawn_hidden("more", more)
        await turn.tasks.await_hidden()

    async with running(agent, tools=tools, session_ids=("s", "child")) as world:
        for text in ("elsewhere", "nothing"):
            await world.send(text)
            assert (await world.view()).tools.generation == 0
            assert len(await world.store.list_batches("s", pending_only=False, limit=9)) <= 2
        await world.send("here")
        view = await world.view()
        assert [tool["name"] for tool in view.tools.catalog] == ["one", "two", "two"]
        assert len(await world.store.list_batches("s", pending_only=False, limit=9)) == 4
        await world.send("nothing")
        assert (await world.view()).tools.generation == view.tools.generation


async def test_a_flag_is_set_also_when_the_work_could_not_be_begun() -> None:
    async def agent(turn: Turn) -> None:
        if turn.input[0].content == "elsewhere":
            with pytest.raises(SessionNotFound):
                await turn.tasks.spawn_hidden("x", asyncio.Event().wait, session_id="nobody")
        else:
            with pytest.raises(StoreUnavailable):
                await turn.tasks.spawn("x", lambda _: asyncio.Event().wait())

    async with running(agent) as world:
        await world.send("elsewhere")
        assert not world.kernel.tasks.take_sync("s")
        world.faults.fail_before("register_task")
        await world.send("here")
        assert [world.kernel.tasks.take_sync("s") for _ in range(2)] == [True, False]
