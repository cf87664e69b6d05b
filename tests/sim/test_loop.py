"""The loop that jumps, clocks that disagree, and tasks that belong to processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from tests.sim.loop import EPOCH_MS, OWNER, Killed, SimClock, Standstill, VirtualLoop


class Process:
    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.dead = False


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_time_moves_to_the_next_timer_and_no_further(loop: VirtualLoop) -> None:
    told: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        told.append((name, round(loop.time(), 6)))

    async def both() -> None:
        await asyncio.gather(sleeper("late", 3_600.0), sleeper("early", 0.5))

    loop.run_until_complete(both())
    assert told == [("early", 0.5), ("late", 3_600.0)]


def test_what_is_ready_runs_before_time_moves(loop: VirtualLoop) -> None:
    async def spin() -> float:
        asyncio.get_running_loop().call_later(1e-9, lambda: None)
        for _ in range(1_000):
            await asyncio.sleep(0)
        return loop.time()

    assert loop.run_until_complete(spin()) == 0.0


def test_waiting_for_nothing_is_a_standstill(loop: VirtualLoop) -> None:
    async def wait() -> None:
        await loop.create_future()

    waiting = loop.create_task(wait())
    with pytest.raises(Standstill):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)


def test_time_stands_still_while_a_thread_works(loop: VirtualLoop) -> None:
    async def work() -> float:
        loop.call_later(1.0, lambda: None)
        loop.enter_thread()
        try:
            await loop.run_in_executor(None, sum, range(1_000_000))
        finally:
            loop.leave_thread()
        at = loop.time()
        await loop.shutdown_default_executor()
        return at

    loop.enter_thread()
    assert loop.run_until_complete(work()) == 0.0
    loop.leave_thread()


def test_a_fast_clock_sleeps_less_and_shows_more(loop: VirtualLoop) -> None:
    fast, slow = SimClock(loop, offset_ms=250, rate=2.0), SimClock(loop, offset_ms=-250, rate=0.5)

    async def sleep() -> None:
        await fast.sleep(10.0)
        assert loop.time() == 5.0
        assert (fast.now_ms(), fast.monotonic()) == (EPOCH_MS + 10_250, 10.0)
        assert (slow.now_ms(), slow.monotonic()) == (EPOCH_MS + 2_250, 2.5)
        assert fast.now_ns() == fast.now_ms() * 1_000_000

    loop.run_until_complete(sleep())


def test_whoever_sleeps_until_so_much_has_passed_gets_there(loop: VirtualLoop) -> None:
    clock = SimClock(loop, rate=1.08)

    async def sleep(seconds: float) -> None:
        began = clock.monotonic()
        for _ in range(10):
            if clock.monotonic() - began >= seconds:
                return
            await clock.sleep(seconds - (clock.monotonic() - began))
        raise AssertionError(f"{seconds!r} seconds after {began!r} never come")

    async def sleep_often() -> None:
        for number in range(1, 1_000):
            await sleep(number * 0.001)

    loop.run_until_complete(sleep_often())


def test_a_halted_clock_lets_nobody_go_on(loop: VirtualLoop) -> None:
    clock = SimClock(loop)

    async def halt() -> None:
        sleeping = loop.create_task(clock.sleep(1.0))
        await asyncio.sleep(0.5)
        clock.halted = True
        with pytest.raises(Killed):
            await sleeping
        with pytest.raises(Killed):
            await clock.sleep(0.0)

    loop.run_until_complete(halt())


def test_tasks_belong_to_the_process_that_began_them_and_the_dead_begin_none(loop: VirtualLoop) -> None:
    process = Process()

    async def child() -> None:
        await asyncio.sleep(0.0)

    async def parent() -> None:
        await asyncio.gather(child(), child())
        process.dead = True
        with pytest.raises(Killed):
            loop.create_task(child())

    async def story() -> None:
        context = copy_context()
        context.run(OWNER.set, process)
        await loop.create_task(child())
        await loop.create_task(parent(), context=context)

    loop.run_until_complete(story())
    assert len(process.tasks) == 3
