"""When the process work runner looks, what it keeps, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sightline.process.model import SuccessOutput
from sightline.process.runner import ProcessWorkDriver, ProcessWorkRunner
from sightline.testing.clock import ManualClock, settled
from sightline.testing.conformance.process_steps import register
from tests.core.process.workers import working

pytestmark = pytest.mark.anyio

NEVER = 10_000.0
"""A poll interval no test waits for."""


class Handle:
    """Counts looks, which raise what was planned, or take as long as the gate is closed."""

    def __init__(self) -> None:
        self.looks = 0
        self.at_once = 0
        self.most = 0
        self.errors: list[BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def claim_and_run_pending(self) -> None:
        self.looks += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.gate.wait()
            if self.errors:
                raise self.errors.pop(0)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def runner_of(
    handle: Handle, clock: ManualClock, *, poll_interval: float = 0.4
) -> AsyncIterator[ProcessWorkRunner]:
    runner = ProcessWorkRunner.new(handle, clock, poll_interval=poll_interval)
    before = asyncio.all_tasks()
    try:
        yield runner
    finally:
        await runner.stop()
    assert asyncio.all_tasks() == before


async def test_it_looks_at_the_start_and_at_the_first_tick_which_is_at_once() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock) as runner:
        await settled()
        assert handle.looks == 0
        runner.spawn()
        await settled()
        assert handle.looks == 2


async def test_it_polls_at_every_interval() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock) as runner:
        runner.spawn()
        await settled()
        handle.looks = 0
        await clock.run_for(4.0)
        assert handle.looks == 10


async def test_a_late_poll_delays_those_after_it() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock) as runner:
        runner.spawn()
        await settled()
        handle.gate.clear()
        await clock.run_for(2.0)
        handle.looks = 0
        handle.gate.set()
        await settled()
        assert handle.looks == 1
        await clock.run_for(0.39)
        assert handle.looks == 1
        await clock.run_for(0.02)
        assert handle.looks == 2


async def test_a_poke_is_a_look_at_once() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock, poll_interval=NEVER) as runner:
        poke = runner.spawn()
        await settled()
        handle.looks = 0
        poke.poke()
        await settled()
        assert handle.looks == 1


async def test_many_pokes_before_a_look_are_one() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock, poll_interval=NEVER) as runner:
        poke = runner.spawn()
        await settled()
        handle.looks = 0
        for _ in range(10):
            poke.poke()
        await settled()
        assert handle.looks == 1


async def test_ten_pokes_during_a_look_are_one_look_afterwards() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock, poll_interval=NEVER) as runner:
        poke = runner.spawn()
        await settled()
        handle.looks = 0
        handle.gate.clear()
        poke.poke()
        await settled()
        for _ in range(10):
            poke.poke()
            await settled()
        assert (handle.looks, handle.most) == (1, 1)
        handle.gate.set()
        await settled()
        assert (handle.looks, handle.most) == (2, 1)


async def test_a_poke_before_the_start_is_kept() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock, poll_interval=NEVER) as runner:
        runner.poke_handle().poke()
        runner.spawn()
        await settled()
        assert handle.looks == 3, "at the start, for the poke, and the first tick"


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError()], ids=lambda error: type(error).__name__)
async def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock, poll_interval=0.4) as runner:
        runner.spawn()
        await settled()
        handle.errors.append(error)
        handle.looks = 0
        with caplog.at_level(logging.WARNING, "sightline.process.runner"):
            runner.poke()
            await settled()
        assert len(caplog.records) == 1
        await clock.run_for(0.5)
        assert handle.looks == 2


async def test_spawned_twice_it_is_one_loop() -> None:
    handle, clock = Handle(), ManualClock()
    async with runner_of(handle, clock, poll_interval=NEVER) as runner:
        runner.spawn()
        runner.spawn()
        await settled()
        assert handle.looks == 2


async def test_stopping_cancels_a_look_and_leaves_nothing() -> None:
    handle, clock = Handle(), ManualClock()
    handle.gate.clear()
    async with runner_of(handle, clock) as runner:
        runner.spawn()
        await settled()
        await runner.stop()
        await runner.stop()
        runner.poke()
        runner.spawn()
        await settled()
        assert (handle.looks, handle.at_once, clock.sleepers) == (1, 0, 0)


async def test_a_poke_does_not_keep_a_runner() -> None:
    runner = ProcessWorkRunner.new(Handle(), ManualClock())
    poke, gone = runner.poke_handle(), weakref.ref(runner)
    del runner
    gc.collect()
    assert gone() is None
    poke.poke()


@pytest.mark.parametrize("interval", [0, -1.0, float("inf"), float("nan")])
def test_a_poll_interval_that_makes_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="poll_interval"):
        ProcessWorkRunner.new(Handle(), ManualClock(), poll_interval=interval)


async def test_an_inline_runner_runs_what_was_there_and_what_its_driver_registers() -> None:
    async with working() as place:
        await register(place.store, "before")
        runner = ProcessWorkRunner.inline(place.worker, place.clock, poll_interval=NEVER)
        driver = ProcessWorkDriver(place.store, runner.spawn())
        assert await place.end_of("before") == SuccessOutput(value="done")
        assert driver.registry is place.store
        await register(place.store, "after")
        driver.poke()
        assert await place.end_of("after") == SuccessOutput(value="done")
        await runner.stop()


async def test_a_lost_poke_delays_work_by_at_most_a_poll() -> None:
    async with working() as place:
        runner = ProcessWorkRunner.inline(place.worker, place.clock)
        runner.spawn()
        await settled()
        await register(place.store)
        await place.clock.run_for(0.4)
        assert (await place.store.get_process("p")).status == "completed"
        await runner.stop()


async def test_a_driver_without_a_runner_only_registers() -> None:
    async with working() as place:
        ProcessWorkDriver(place.store).poke()


async def test_an_idle_registry_is_asked_once_for_each_poll() -> None:
    async with working() as place:
        runner = ProcessWorkRunner.inline(place.worker, place.clock)
        runner.spawn()
        await settled()
        place.faults.calls.clear()
        await place.clock.run_for(4.0)
        assert place.faults.calls == ["runnable_processes"] * 10
        await runner.stop()
