"""Commands as processes: what they say is logged, how they ended is told, and nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sightline.agents.engines.command import CommandEngine
from sightline.clock import SystemClock
from sightline.kernel import Kernel, Limits
from sightline.process.kinds import COMMAND, registration_of
from sightline.process.model import (
    AbandonedOutput,
    AwaitOutput,
    CancelledOutput,
    Disposition,
    FailureOutput,
    ProcessEvent,
    SuccessOutput,
)
from sightline.stores.memory import MemoryStore
from sightline.testing.faults import Faults, faulty
from tests.core.pids import POLITE, STUBBORN, alive, pids
from tests.core.worlds import Puppet

pytestmark = pytest.mark.anyio


@dataclass
class Place:
    kernel: Kernel
    store: MemoryStore
    faults: Faults

    async def begin(self, *argv: str, disposition: Disposition = "owner_bound", **rest: Any) -> None:
        """Start a command as the process `p`."""
        given = {"argv": list(argv), **rest}
        await self.kernel.processes.start_process(registration_of("p", COMMAND, given, disposition=disposition))

    async def end(self) -> AwaitOutput:
        async with asyncio.timeout(10):
            output = await self.kernel.processes.end_of("p", 20.0)
        assert output is not None
        return output

    async def ran(self, *argv: str, **rest: Any) -> AwaitOutput:
        await self.begin(*argv, **rest)
        return await self.end()

    async def events(self, event_type: str) -> tuple[ProcessEvent, ...]:
        return await self.store.list_process_events("p", after=0, limit=10_000, event_type=event_type)

    async def said(self, stream: str = "stdout") -> str:
        payloads = [event.payload for event in await self.events("output")]
        return "".join(payload["text"] for payload in payloads if payload["stream"] == stream)


@asynccontextmanager
async def working(
    *, store: MemoryStore | None = None, most_output: int = 1 << 20, grace: float = 0.2, lease: float = 30.0
) -> AsyncIterator[Place]:
    """A kernel in real time that runs commands. On the way out it is stopped, and no task may be left."""
    before = asyncio.all_tasks()
    store, faults = store or MemoryStore(SystemClock()), Faults()
    kernel = Kernel(
        store=faulty(store, faults),
        agent=Puppet(),
        engines={COMMAND: CommandEngine(most_output=most_output, grace=grace)},
        limits=Limits(process_lease=lease, poll_interval=0.05),
    )
    await kernel.start()
    try:
        yield Place(kernel, store, faults)
    finally:
        faults.heal()
        await kernel.stop()
    left = asyncio.all_tasks() - before
    assert not left, left


# How it goes


async def test_what_it_says_is_logged_by_stream_and_its_exit_code_is_its_end() -> None:
    async with working() as place:
        assert await place.ran("sh", "-c", "echo one; echo two; echo oh >&2") == SuccessOutput(value={"exit_code": 0})
        assert (await place.said(), await place.said("stderr")) == ("one\ntwo\n", "oh\n")
        assert len(await place.events("process.spawned")) == 1


async def test_another_exit_code_than_zero_is_a_failure() -> None:
    async with working() as place:
        output = await place.ran("sh", "-c", "exit 3")
        assert isinstance(output, FailureOutput)
        assert (output.code, output.raw) == ("exit_code", {"exit_code": 3})
        assert output.message == "the command ended with exit code 3"


async def test_a_signal_from_elsewhere_is_a_failure_that_names_it() -> None:
    async with working() as place:
        output = await place.ran("sh", "-c", "kill -KILL $$")
        assert isinstance(output, FailureOutput)
        assert (output.code, output.raw) == ("signal", {"signal": 9, "signal_name": "SIGKILL"})


async def test_it_has_its_folder_and_its_variables_and_not_the_servers_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_SECRET", "s")
    monkeypatch.setenv("OTHER", "o")
    (tmp_path / "here").touch()
    async with working() as place:
        await place.ran("sh", "-c", "ls; echo $MINE,$OTHER,$SIGHTLINE_SECRET", cwd=str(tmp_path), env={"MINE": "m"})
        assert await place.said() == "here\nm,o,\n"


async def test_nothing_is_on_its_input() -> None:
    async with working() as place:
        assert await place.ran("cat") == SuccessOutput(value={"exit_code": 0})


@pytest.mark.parametrize(
    ("argv", "rest", "code"),
    [
        (["/nowhere/at-all"], {}, "command_not_found"),
        (["no-such-program-anywhere"], {}, "command_not_found"),
        (["/etc/passwd"], {}, "permission_denied"),
        (["true"], {"cwd": "/nowhere"}, "invalid_cwd"),
        (["true"], {"cwd": "/etc/passwd"}, "invalid_cwd"),
        (["true", "x" * 200_000], {}, "command_not_started"),
    ],
)
async def test_what_cannot_be_started_says_why(argv: list[str], rest: dict[str, str], code: str) -> None:
    async with working() as place:
        output = await place.ran(*argv, **rest)
        assert isinstance(output, FailureOutput)
        assert output.code == code
        assert await place.events("process.spawned") == ()


def test_it_is_the_same_on_the_loop_that_the_server_uses(tmp_path: Path) -> None:
    async def all_in_one() -> None:
        async with working() as place:
            output = await place.ran("sh", "-c", "sleep 1000 & echo one; exec >&-; exit 3", cwd=str(tmp_path))
            assert isinstance(output, FailureOutput)
            assert (output.raw, await place.said()) == ({"exit_code": 3}, "one\n")
        async with working() as place:
            await place.begin(sys.executable, "-c", STUBBORN, str(tmp_path))
            both = await pids(tmp_path, "parent", "child")
            await place.kernel.processes.cancel("p")
            assert isinstance(await place.end(), CancelledOutput)
            assert not any(map(alive, both))
        async with working() as place:
            output = await place.ran("/nowhere/at-all")
            assert isinstance(output, FailureOutput)
            assert output.code == "command_not_found"

    uvloop.run(all_in_one())


# Bounds


async def test_a_flood_of_lines_is_few_events() -> None:
    async with working() as place:
        await place.ran("seq", "20000")
        assert await place.said() == "".join(f"{number}\n" for number in range(1, 20_001))
        assert len(await place.events("output")) < 60


async def test_beyond_the_limit_output_is_read_and_dropped_and_that_is_said_once() -> None:
    async with working(most_output=10_000) as place:
        assert await place.ran("sh", "-c", "seq 300000; echo done >&2") == SuccessOutput(value={"exit_code": 0})
        assert len(await place.said()) + len(await place.said("stderr")) == 10_000
        assert [event.payload for event in await place.events("output_dropped")] == [{"limit": 10_000}]


async def test_a_line_is_shown_while_the_command_goes_on() -> None:
    async with working() as place:
        await place.begin("sh", "-c", "echo here; exec sleep 1000")
        async with asyncio.timeout(10):
            while await place.said() != "here\n":  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)
        await place.kernel.processes.cancel("p")
        await place.end()


async def test_a_store_that_is_away_delays_what_it_says_and_loses_nothing() -> None:
    async with working() as place:
        place.faults.fail_before("append_event", times=1)
        await place.ran("sh", "-c", "echo one")
        assert await place.said() == "one\n"


# Its end


async def test_a_cancelled_command_is_gone_with_all_it_began_before_the_process_has_ended(tmp_path: Path) -> None:
    async with working() as place:
        await place.begin(sys.executable, "-c", STUBBORN, str(tmp_path))
        both = await pids(tmp_path, "parent", "child")
        await place.kernel.processes.cancel("p", "enough")
        assert await place.end() == CancelledOutput(message="enough")
        assert not any(map(alive, both))


async def test_a_cancelled_command_may_clean_up_and_its_last_words_are_kept(tmp_path: Path) -> None:
    async with working(grace=5.0) as place:
        # Short sleeps: one that is being forked when the signal comes may not hear it.
        idle = "while :; do sleep 0.05; done"
        await place.begin("sh", "-c", f"trap 'echo bye; exit 0' TERM; echo $$ > {tmp_path}/parent; {idle}")
        [pid] = await pids(tmp_path, "parent")
        began = time.monotonic()
        await place.kernel.processes.cancel("p")
        assert isinstance(await place.end(), CancelledOutput)
        assert await place.said() == "bye\n"
        assert not alive(pid)
        assert time.monotonic() - began < 3, "what ends when it is told is not waited for longer"


async def test_what_a_command_leaves_behind_in_its_group_ends_with_it(tmp_path: Path) -> None:
    async with working() as place:
        output = await place.ran("sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/child; echo hi")
        [child] = await pids(tmp_path, "child")
        assert output == SuccessOutput(value={"exit_code": 0})
        assert await place.said() == "hi\n"
        assert not alive(child)


async def test_a_command_that_closes_its_output_goes_on() -> None:
    async with working() as place:
        output = await place.ran("sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 4")
        assert isinstance(output, FailureOutput)
        assert output.raw == {"exit_code": 4}


async def test_a_daemon_that_holds_the_output_open_holds_up_nobody(tmp_path: Path) -> None:
    async with working() as place:
        began = time.monotonic()
        await place.ran("sh", "-c", f"setsid sh -c 'echo $$ > {tmp_path}/daemon; exec sleep 1000' & sleep 0.1; echo hi")
        assert await place.said() == "hi\n"
        assert time.monotonic() - began < 5
        [daemon] = await pids(tmp_path, "daemon")
        os.kill(daemon, signal.SIGKILL)


# The end of the server


async def test_a_drain_lets_a_command_end() -> None:
    store = MemoryStore(SystemClock())
    async with working(store=store) as place:
        await place.begin("sh", "-c", "echo on; sleep 0.3; echo off")
        async with asyncio.timeout(10):
            while not await place.events("process.spawned"):  # noqa: ASYNC110 - another task writes it
                await asyncio.sleep(0.01)
            await place.kernel.drain(10.0)
        assert await place.said() == "on\noff\n"
        assert (await store.get_process("p")).status == "completed"


async def test_a_server_that_stops_ends_its_commands_which_are_abandoned_when_their_lease_has_lapsed(
    tmp_path: Path,
) -> None:
    store = MemoryStore(SystemClock())
    async with working(store=store, lease=0.3) as place:
        await place.begin(sys.executable, "-c", POLITE, str(tmp_path))
        [pid] = await pids(tmp_path, "parent")
    assert not alive(pid)
    assert (tmp_path / "tidied").exists()
    assert (await store.get_process("p")).status == "running", "nobody here knows what it has done"
    async with working(store=store) as place:
        output = await place.end()
        assert isinstance(output, AbandonedOutput)
        assert output.owner_id != output.found_by
        assert len(await place.events("process.spawned")) == 1, "it was not run again"


async def test_a_command_that_may_be_run_again_is_given_back_and_is(tmp_path: Path) -> None:
    store = MemoryStore(SystemClock())
    script = f"echo $$ > {tmp_path}/parent; if [ -e {tmp_path}/again ]; then exit 0; fi; exec sleep 1000"
    async with working(store=store) as place:
        await place.begin("sh", "-c", script, disposition="rerunnable")
        [pid] = await pids(tmp_path, "parent")
    assert not alive(pid)
    (tmp_path / "again").touch()
    async with working(store=store) as place:
        assert await place.end() == SuccessOutput(value={"exit_code": 0})


async def test_a_command_whose_lease_is_lost_is_ended_and_nothing_more_is_written_for_it(tmp_path: Path) -> None:
    async with working(lease=0.3) as place:
        await place.begin(sys.executable, "-c", STUBBORN, str(tmp_path))
        both = await pids(tmp_path, "parent", "child")
        place.faults.fail_before("renew_process_lease", times=1_000)
        assert isinstance(await place.end(), AbandonedOutput)
        async with asyncio.timeout(10):
            while any(map(alive, both)):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.01)
