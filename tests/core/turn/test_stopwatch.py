"""Time at work, without the time for which it was paused."""

from __future__ import annotations

import asyncio

import pytest

from sightline.testing.clock import ManualClock, settled
from sightline.turn.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio


def test_it_runs_from_when_it_is_made_and_stands_still_while_it_is_paused() -> None:
    clock = ManualClock()
    clock.advance(7)
    watch = Stopwatch(clock)
    clock.advance(2)
    with watch.paused():
        clock.advance(100)
        assert watch.elapsed == 2
    clock.advance(1)
    assert watch.elapsed == 3


def test_pauses_may_overlap_and_none_counts_twice() -> None:
    clock = ManualClock()
    watch = Stopwatch(clock)
    first, second = watch.paused(), watch.paused()
    clock.advance(1)
    with first:
        clock.advance(1)
        second.__enter__()
        clock.advance(1)
    clock.advance(1)
    second.__exit__(None, None, None)
    clock.advance(1)
    assert watch.elapsed == 2


async def test_it_tells_when_so_much_has_elapsed_not_before() -> None:
    clock = ManualClock()
    watch = Stopwatch(clock)
    reached = asyncio.create_task(watch.reaches(10))
    await clock.run_for(4)
    with watch.paused():
        await clock.run_for(1_000)
        assert not reached.done()
    await clock.run_for(5.9)
    assert not reached.done()
    await clock.run_for(0.1)
    assert reached.done()


async def test_what_was_reached_already_is_told_at_once() -> None:
    clock = ManualClock()
    watch = Stopwatch(clock)
    clock.advance(5)
    reached = asyncio.create_task(watch.reaches(5))
    await settled()
    assert reached.done()


async def test_whoever_stops_waiting_leaves_nothing_behind() -> None:
    clock = ManualClock()
    watch = Stopwatch(clock)
    with watch.paused():
        reached = asyncio.create_task(watch.reaches(1))
        await settled()
        reached.cancel()
        await settled()
        assert reached.cancelled()
