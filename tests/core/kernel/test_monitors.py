"""Monitors through the kernel: real commands, their lines, the turns they ask for, and their ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec import UNSET

from sightline.errors import InvalidInput, TaskConflict, TaskNotFound
from sightline.stores.sqlite import SqliteStore
from sightline.tasks.monitoring import MonitorSpec
from sightline.testing.clock import settled
from sightline.turn.agent import Agent, Turn
from tests.core.pids import STUBBORN, alive, pids
from tests.core.worlds import Puppet, World, only_batch, running, watch

pytestmark = pytest.mark.anyio

_T = TypeVar("_T")


def spec(command: str, name: str = "m", **facts: object) -> MonitorSpec:
    return MonitorSpec(id=name, command=command, **facts)  # type: ignore[arg-type]


async def begin(world: World, command: str, name: str = "m", **facts: object) -> None:
    await world.kernel.monitors.declare("s", spec(command, name, **facts))
    await world.kernel.monitors.start("s", name)


async def until(world: World, holds: Callable[[], bool]) -> None:
    """Let commands and time go on until this holds."""
    async with asyncio.timeout(20):
        while not holds():
            world.clock.advance(0.01)
            await asyncio.sleep(0.002)


async def through(world: World, work: Awaitable[_T]) -> _T:
    """See the work through, with commands and time going on."""
    task = asyncio.ensure_future(work)
    await until(world, task.done)
    return task.result()


@asynccontextmanager
async def watching(agent: Agent | None, **options: Any) -> AsyncIterator[World]:
    """A world that ends although commands take their time to die."""
    async with running(agent, **options) as world:
        try:
            yield world
        finally:
            await through(world, world.kernel.stop())


async def ended(world: World, name: str = "m") -> tuple[str, str]:
    """How the run of a monitor ended: the monitor's state and its task's."""
    await until(world, lambda: not world.kernel.tasks.running)
    record = await world.kernel.monitors.get("s", name)
    return record.state, (await world.kernel.tasks.get("s", f"monitor:{name}")).state


def lines(world: World, stream: str = "stdout", name: str = "m") -> list[str]:
    return [update.text for update in world.kernel.monitors.updates("s", name) if update.stream == stream]


async def test_the_lines_of_a_monitor_wake_its_session_one_wish_at_a_time() -> None:
    puppet = Puppet()
    async with watching(puppet) as world:
        watched = await watch(world)
        await begin(world, "echo one; sleep 1000", cwd="/")
        await until(world, lambda: "enqueued" in watched.told)
        batch = await only_batch(world)
        assert batch.source_key == "task:1:wake:1"
        [summary] = (await world.view()).queue
        assert (summary.kind, summary.preview) == ("task_wake", "one")
        await until(world, lambda: bool(puppet.turns))
        [cause] = puppet.turns[0].causes
        assert cause.origin == {"type": "task", "task_id": "monitor:m", "generation": 1, "number": 1}
        assert cause.text == "Task monitor:m reported: one"
        await puppet.ends()
        await through(world, world.kernel.monitors.stop("s", "m"))


async def test_what_is_written_until_the_turn_has_ended_is_one_wish(tmp_path: Path) -> None:
    puppet = Puppet()
    async with watching(puppet) as world:
        command = f"echo one; while ! [ -e {tmp_path}/go ]; do sleep 0.01; done; echo two; echo; echo three; sleep 1000"
        await begin(world, command)
        await until(world, lambda: len(puppet.turns) == 1)
        (tmp_path / "go").touch()
        await until(world, lambda: lines(world) == ["one", "two", "three"])
        await settled()
        assert len(await world.store.list_batches("s", pending_only=False, limit=9)) == 1
        await puppet.ends()
        await until(world, lambda: len(puppet.turns) == 2)
        assert puppet.turns[1].input[0].content == "Task monitor:m reported: two\nthree"
        await puppet.ends()
        await through(world, world.kernel.monitors.stop("s", "m"))


async def test_lines_that_wait_when_the_command_ends_are_asked_for_then() -> None:
    puppet = Puppet()
    async with watching(puppet) as world:
        await begin(world, "echo one; echo two; exit 0")
        assert await ended(world) == ("exited", "completed")
        batches = await world.store.list_batches("s", pending_only=False, limit=9)
        said = [line for batch in batches for line in batch.items[0].payload.wake.input.split("\n")]  # type: ignore[union-attr]
        assert said == ["one", "two"]
        for _ in batches:
            await puppet.ends()
            await settled()


async def test_errors_and_what_only_notifies_are_shown_and_wake_nobody() -> None:
    puppet = Puppet()
    async with watching(puppet) as world:
        watched = await watch(world)
        await begin(world, "echo oops >&2", "err")
        await begin(world, "echo look; echo again", "note", wake_policy="notify")
        await ended(world, "err")
        await ended(world, "note")
        assert lines(world, "stderr", "err") == ["oops"]
        assert lines(world, "stdout", "note") == ["look", "again"]
        assert puppet.turns == []
        assert {"task progress", "task completed"} <= set(watched.told)


@pytest.mark.parametrize(("code", "state"), [(0, ("exited", "completed")), (3, ("failed", "failed"))])
async def test_the_exit_code_is_how_it_ended(code: int, state: tuple[str, str]) -> None:
    async with watching(Puppet()) as world:
        await begin(world, f"exit {code}")
        assert await ended(world) == state
        assert (await world.kernel.monitors.get("s", "m")).exit_code == code
        assert lines(world, "state") == [state[0]]


async def test_it_finds_a_login_shell_its_folder_and_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_API_KEY", "secret")
    monkeypatch.setenv("OURS", "inherited")
    async with watching(Puppet()) as world:
        command = 'echo "$PWD|$MINE|$OURS|${SIGHTLINE_API_KEY:-none}"'
        await begin(world, command, cwd=str(tmp_path), env={"MINE": "a b"}, wake_policy="notify")
        await ended(world)
        assert lines(world) == [f"{tmp_path}|a b|inherited|none"]
        await begin(world, "true", "lost", cwd=str(tmp_path / "nowhere"))
        assert await ended(world, "lost") == ("failed", "failed")
        assert "could not be begun" in str((await world.kernel.monitors.get("s", "lost")).detail)


async def test_one_that_takes_too_long_is_ended_with_all_it_began(tmp_path: Path) -> None:
    async with watching(Puppet()) as world:
        (tmp_path / "stubborn.py").write_text(STUBBORN)
        await begin(world, f"exec python3 {tmp_path}/stubborn.py {tmp_path}", timeout_ms=60_000)
        both = await pids(tmp_path, "parent", "child")
        world.clock.advance(60.0)
        assert await ended(world) == ("failed", "failed")
        assert (await world.kernel.monitors.get("s", "m")).detail == "it took longer than 60000 ms"
        assert [alive(pid) for pid in both] == [False, False]


async def test_a_persistent_one_has_no_timeout() -> None:
    async with watching(Puppet()) as world:
        await begin(world, "sleep 1000", persistent=True, timeout_ms=1)
        await until(world, lambda: world.kernel.tasks.running == 1)
        await world.clock.run_for(100.0)
        assert (await world.kernel.monitors.get("s", "m")).state == "running"
        stopped = await through(world, world.kernel.monitors.stop("s", "m"))
        assert (stopped.state, stopped.armed) == ("stopped", False)


@pytest.mark.parametrize("by", ["stop", "cancel", "cancel_all", "delete", "kernel"])
async def test_stopping_ends_all_that_it_began(by: str, tmp_path: Path) -> None:
    async with watching(Puppet()) as world:
        (tmp_path / "stubborn.py").write_text(STUBBORN)
        await begin(world, f"python3 {tmp_path}/stubborn.py {tmp_path}; true")
        both = await pids(tmp_path, "parent", "child")
        ways = {
            "stop": lambda: world.kernel.monitors.stop("s", "m"),
            "cancel": lambda: world.kernel.tasks.cancel("s", "monitor:m"),
            "cancel_all": lambda: world.kernel.tasks.cancel_all("s"),
            "delete": lambda: world.kernel.delete_session("s"),
            "kernel": world.kernel.stop,
        }
        await through(world, ways[by]())
        await until(world, lambda: not world.kernel.tasks.running)
        assert [alive(pid) for pid in both] == [False, False]
        if by != "delete":
            record = await world.kernel.monitors.get("s", "m")
            assert (record.state, record.armed) == ("stopped", by == "kernel")
            assert (await world.kernel.tasks.get("s", "monitor:m")).state == "cancelled"


async def test_a_monitor_runs_once_at_a_time_and_may_run_again() -> None:
    async with watching(Puppet()) as world:
        monitors = world.kernel.monitors
        await begin(world, "sleep 1000")
        with pytest.raises(TaskConflict):
            await monitors.start("s", "m")
        await monitors.declare("s", spec("echo again", wake_policy="notify"))
        await through(world, monitors.stop("s", "m"))
        await monitors.start("s", "m")
        assert await ended(world) == ("exited", "completed")
        assert lines(world) == ["again"]
        with pytest.raises(TaskNotFound):
            await monitors.start("s", "nothing")
        with pytest.raises(TaskNotFound):
            await monitors.stop("s", "nothing")
        with pytest.raises(InvalidInput):
            await monitors.declare("s", spec(""))


async def test_what_is_armed_begins_with_the_first_turn_of_a_life(tmp_path: Path) -> None:
    async def agent(turn: Turn) -> None: ...

    path = tmp_path / "store.db"
    for life in range(2):
        store = SqliteStore.open(path, "NORMAL")
        async with watching(agent, store=store, session_ids=() if life else ("s",)) as world:
            monitors = world.kernel.monitors
            for _ in range(100 * life):
                world.kernel.ids.new()  # ids of another life are others
            if not life:
                for name, facts in (
                    ("begins", {"arm_on": "session_start"}),
                    ("manual", {}),
                    ("again", {"restart_on_restore": True}),
                ):
                    await monitors.declare("s", spec("sleep 1000", name, persistent=True, **facts))
                await monitors.start("s", "manual")
                await monitors.start("s", "again")
            before = {record.monitor_id: (record.state, record.armed) for record in await monitors.list("s")}
            if life:
                assert before == {"begins": ("idle", True), "manual": ("stopped", False), "again": ("idle", True)}
            expected = 2 if life else 3
            for _ in range(2):
                written = await world.send("go")
                await through(world, world.kernel.wait_for_batch("s", written.batch.batch_id, 100.0))
                await until(world, lambda: world.kernel.tasks.running == expected)  # noqa: B023


async def test_an_agent_watches_and_is_woken_by_what_it_sees() -> None:
    seen: list[str] = []

    async def agent(turn: Turn) -> None:
        if not turn.causes:
            task = await turn.tasks.monitor(spec("echo look", timeout_ms=5_000))
            assert (await turn.tasks.monitor(spec("echo look", timeout_ms=5_000))).generation == task.generation
        else:
            seen.append(turn.causes[0].text)
            assert turn.tasks.monitor_updates("m")[0].text == "look"
            assert (await turn.tasks.stop_monitor("m")).exit_code in (0, UNSET)

    async with watching(agent) as world:
        await world.send("watch")
        await until(world, lambda: bool(seen))
        assert seen == ["Task monitor:m reported: look"]
        await until(world, lambda: not world.kernel.tasks.running)
