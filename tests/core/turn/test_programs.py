"""Programs of the operating system: what they say, and that nothing of them outlives whoever waited for them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from sightline.turn import programs
from sightline.turn.programs import run_program
from tests.core.pids import POLITE, STUBBORN, alive, pids, until

pytestmark = pytest.mark.anyio


async def sleeper(folder: Path, name: str = "sleeper") -> None:
    """Sleeps for long, and says under which pid."""
    await run_program("sh", "-c", f"echo $$ > {name}; exec sleep 1000", folder=folder)


def begun(folder: Path) -> list[int]:
    return [int(said) for file in folder.iterdir() if (said := file.read_text())]


async def all_ended() -> None:
    """Nobody has to end any more: the loop of the test can be closed."""
    await until(lambda: not programs._ending)


async def test_it_returns_what_was_said_and_how_it_ended() -> None:
    ran = await run_program("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.code, ran.text, ran.cut) == (3, "out\nerr\n", False)
    assert (await run_program("sh", "-c", "kill -KILL $$")).code == -signal.SIGKILL


async def test_it_takes_input_a_folder_and_an_environment(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    ran = await run_program("sh", "-c", "cat; ls; echo $X", input=b"in\n", folder=tmp_path, environment={"X": "y"})
    assert ran.text == "in\nhere\ny\n"


async def test_a_program_that_does_not_read_its_input_ends_as_any_other() -> None:
    assert (await run_program("true", input=b"x" * 1_000_000)).code == 0


async def test_output_is_read_to_its_end_and_kept_up_to_a_bound() -> None:
    ran = await run_program("sh", "-c", "head -c 3000000 /dev/zero", most_output=10)
    assert (ran.output, ran.cut, ran.code) == (b"\0" * 10, True, 0)


async def test_a_program_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        await run_program("/nowhere/at-all")


async def test_a_cancelled_program_is_told_to_end_at_once_and_nobody_waits_for_it(tmp_path: Path) -> None:
    running = asyncio.create_task(sleeper(tmp_path))
    [pid] = await pids(tmp_path, "sleeper")
    began = time.monotonic()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    await until(lambda: not alive(pid))
    assert time.monotonic() - began < 1
    await all_ended()


async def test_a_program_may_clean_up_within_the_grace_and_the_cancellation_does_not_wait_for_that(
    tmp_path: Path,
) -> None:
    running = asyncio.create_task(run_program(sys.executable, "-c", POLITE, str(tmp_path)))
    [pid] = await pids(tmp_path, "parent")
    running.cancel()
    await asyncio.wait({running})
    await until(lambda: not alive(pid))
    assert (tmp_path / "tidied").exists()
    await all_ended()


async def test_what_does_not_listen_is_killed_after_the_grace_with_all_that_it_began(tmp_path: Path) -> None:
    running = asyncio.create_task(run_program(sys.executable, "-c", STUBBORN, str(tmp_path), grace=0.2))
    both = await pids(tmp_path, "parent", "child")
    running.cancel()
    await asyncio.wait({running}, timeout=0.1)
    assert running.cancelled(), "the grace is not the waiter's"
    assert all(map(alive, both))
    await until(lambda: not any(map(alive, both)))
    await all_ended()


def test_what_does_not_listen_is_killed_when_the_loop_ends(tmp_path: Path) -> None:
    async def begin_and_leave() -> list[int]:
        running = asyncio.create_task(run_program(sys.executable, "-c", STUBBORN, str(tmp_path), grace=60))
        both = await pids(tmp_path, "parent", "child")
        running.cancel()
        await asyncio.wait({running})
        return both

    began = time.monotonic()
    both = asyncio.run(begin_and_leave())
    while any(map(alive, both)):
        assert time.monotonic() - began < 10
    assert not any(map(alive, both))


async def test_a_program_that_was_just_being_started_does_not_stay(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    for rounds in range(5):
        running = asyncio.create_task(sleeper(tmp_path, f"sleeper{rounds}"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
    await until(lambda: not asyncio.all_tasks() - before)
    await until(lambda: not any(alive(pid) for pid in begun(tmp_path)))


async def test_a_timeout_ends_a_program(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await sleeper(tmp_path)
    if (tmp_path / "sleeper").exists():
        [pid] = await pids(tmp_path, "sleeper")
        await until(lambda: not alive(pid))
    await all_ended()
