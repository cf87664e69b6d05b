"""When a wake is tried, and what waits with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sightline.errors import QueueFull, StoreUnavailable
from sightline.process.model import PendingWake
from sightline.process.outbox import WakeDriver
from sightline.process.waking import Outbox
from sightline.queue.model import ProcessWake
from sightline.testing.clock import ManualClock, settled


def pending(position: int, process_id: str = "p", session_id: str = "s") -> PendingWake:
    return PendingWake(
        position=position,
        wake=ProcessWake(
            wake_id=f"wake {position}",
            target_session_id=session_id,
            target_scope_id=f"session:{session_id}",
            process_id=process_id,
            sequence=position,
            event_type="report",
            dedupe_key=f"{process_id}:{position}",
            input="look",
            created_at_ms=0,
        ),
    )


def positions(groups: tuple[tuple[PendingWake, ...], ...]) -> list[list[int]]:
    return [[entry.position for entry in group] for group in groups]


def test_what_comes_of_different_processes_or_goes_to_different_sessions_does_not_wait_for_each_other() -> None:
    entries = [pending(1), pending(2, "q"), pending(3), pending(4, session_id="t")]
    assert positions(Outbox().to_try(entries, 0.0)) == [[1, 3], [2], [4]]


def test_what_failed_waits_longer_each_time_up_to_five_minutes() -> None:
    outbox, now, pauses = Outbox(), 0.0, []
    for _ in range(16):
        outbox.begin()
        pause = outbox.failed(pending(1), now)
        assert outbox.next_at() == now + pause
        outbox.begin()
        assert outbox.to_try([pending(1)], now + pause - 0.001) == ()
        now += pause
        outbox.begin()
        assert positions(outbox.to_try([pending(1)], now)) == [[1]]
        pauses.append(pause)
    assert pauses[:4] == [0.025, 0.05, 0.1, 0.2]
    assert pauses[-2:] == [300.0, 300.0]


def test_what_is_behind_a_wake_that_failed_waits_with_it_also_on_the_next_page() -> None:
    outbox = Outbox()
    outbox.begin()
    assert positions(outbox.to_try([pending(1), pending(2, "q")], 0.0)) == [[1], [2]]
    outbox.failed(pending(1), 0.0)
    assert positions(outbox.to_try([pending(3), pending(4, "q")], 5.0)) == [[4]]


def test_a_success_makes_failures_forgotten() -> None:
    outbox = Outbox()
    outbox.failed(pending(1), 0.0)
    outbox.settled(pending(1))
    assert outbox.next_at() == math.inf
    assert outbox.failed(pending(1), 0.0) == 0.025


def test_what_was_settled_elsewhere_is_not_waited_for() -> None:
    outbox = Outbox()
    outbox.failed(pending(1), 0.0)
    outbox.begin()
    outbox.to_try([pending(2, "q")], 0.0)
    outbox.end()
    assert outbox.next_at() == math.inf


class Wakes:
    """An outbox and a queue in one: what is delivered leaves the one and joins the other."""

    def __init__(self, *entries: PendingWake) -> None:
        self.pending = list(entries)
        self.delivered: list[int] = []
        self.tries = 0
        self.looks = 0
        self.errors: dict[int, list[Exception]] = {}

    async def pending_wakes(self, *, limit: int, after: int = 0) -> tuple[PendingWake, ...]:
        self.looks += 1
        return tuple(entry for entry in self.pending if entry.position > after)[:limit]

    async def deliver(self, entry: PendingWake) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        if self.errors.get(entry.position):
            raise self.errors[entry.position].pop(0)
        self.pending.remove(entry)
        self.delivered.append(entry.position)


@asynccontextmanager
async def driving(wakes: Wakes, clock: ManualClock) -> AsyncIterator[WakeDriver]:
    before = asyncio.all_tasks()
    driver = WakeDriver(wakes, wakes.deliver, clock)
    driver.start()
    try:
        await settled()
        yield driver
    finally:
        await driver.stop()
    assert asyncio.all_tasks() == before
    assert clock.sleepers == 0


@pytest.mark.anyio
async def test_what_was_there_at_the_start_is_delivered_in_order_over_all_pages() -> None:
    wakes = Wakes(*(pending(position) for position in range(1, 101)))
    async with driving(wakes, ManualClock()):
        assert wakes.delivered == list(range(1, 101))


@pytest.mark.anyio
async def test_a_poke_is_a_look_at_once_and_a_lost_one_costs_ten_seconds() -> None:
    wakes, clock = Wakes(), ManualClock()
    async with driving(wakes, clock) as driver:
        wakes.pending.append(pending(1))
        driver.poke()
        await settled()
        assert wakes.delivered == [1]
        wakes.pending.append(pending(2))
        await clock.run_for(10.0)
        assert wakes.delivered == [1, 2]


@pytest.mark.anyio
async def test_a_wake_that_fails_is_tried_again_and_keeps_its_place() -> None:
    wakes, clock = Wakes(pending(1), pending(2), pending(3, "q")), ManualClock()
    wakes.errors[1] = [QueueFull("s", 1), StoreUnavailable("away"), ValueError("odd")]
    async with driving(wakes, clock):
        assert wakes.delivered == [3]
        await clock.run_for(0.17)
        assert wakes.delivered == [3]
        await clock.run_for(0.01)
        assert wakes.delivered == [3, 1, 2]


@pytest.mark.anyio
async def test_a_store_that_is_away_is_asked_again() -> None:
    class Away(Wakes):
        async def pending_wakes(self, *, limit: int, after: int = 0) -> tuple[PendingWake, ...]:
            if not self.looks:
                self.looks += 1
                raise StoreUnavailable("away")
            return await super().pending_wakes(limit=limit, after=after)

    wakes, clock = Away(pending(1)), ManualClock()
    async with driving(wakes, clock):
        assert wakes.delivered == []
        await clock.run_for(1.0)
        assert wakes.delivered == [1]


@pytest.mark.anyio
async def test_an_empty_outbox_is_looked_at_every_ten_seconds() -> None:
    wakes, clock = Wakes(), ManualClock()
    async with driving(wakes, clock):
        wakes.looks = 0
        await clock.run_for(100.0)
        assert wakes.looks == 10
