"""The clock that moves when told, and the system's own behind the same port."""

from __future__ import annotations

import asyncio

import pytest

from sightline.clock import Clock, SystemClock, within
from sightline.testing.clock import ManualClock, settled

pytestmark = pytest.mark.anyio


async def sleeps(clock: Clock, seconds: float, woken: list[float]) -> None:
    await clock.sleep(seconds)
    woken.append(seconds)


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(start_ms=5_000)
    for _ in range(3):
        assert (clock.now_ms(), clock.now_ns(), clock.monotonic()) == (5_000, 5_000_000_000, 0.0)
    clock.advance(1.5)
    assert (clock.now_ms(), clock.now_ns(), clock.monotonic()) == (6_500, 6_500_000_000, 1.5)


async def test_sleepers_wake_when_their_time_has_come_and_not_before() -> None:
    clock, woken = ManualClock(), list[float]()
    tasks = [asyncio.create_task(sleeps(clock, seconds, woken)) for seconds in (3.0, 1.0, 2.0)]
    await settled()
    clock.advance(0.999)
    await settled()
    assert woken == []
    clock.advance(1.001)
    await settled()
    assert woken == [1.0, 2.0]
    clock.advance(1.0)
    await asyncio.gather(*tasks)


async def test_a_jump_goes_to_the_next_sleeper() -> None:
    clock, woken = ManualClock(), list[float]()
    tasks = [asyncio.create_task(sleeps(clock, seconds, woken)) for seconds in (3.0, 1.0)]
    await settled()
    assert (clock.next_in, clock.sleepers) == (1.0, 2)
    assert clock.jump() == 1.0
    await settled()
    assert woken == [1.0]
    assert clock.jump() == 2.0
    await asyncio.gather(*tasks)
    assert (clock.next_in, clock.sleepers) == (None, 0)
    with pytest.raises(LookupError):
        clock.jump()


async def test_time_that_goes_by_stops_at_every_sleeper_on_the_way() -> None:
    clock, seen = ManualClock(), list[float]()

    async def ticks() -> None:
        while True:
            await clock.sleep(1.0)
            seen.append(clock.monotonic())

    task = asyncio.create_task(ticks())
    await clock.run_for(3.5)
    task.cancel()
    await asyncio.wait({task})
    assert seen == [1.0, 2.0, 3.0]
    assert clock.monotonic() == 3.5


async def test_a_sleeper_that_was_cancelled_is_not_waited_for() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await settled()
    task.cancel()
    await asyncio.wait({task})
    assert (clock.sleepers, clock.next_in) == (0, None)


async def test_those_who_wake_at_the_same_time_wake_in_the_order_in_which_they_fell_asleep() -> None:
    clock, woken = ManualClock(), list[str]()

    async def sleeper(name: str) -> None:
        await clock.sleep(1.0)
        woken.append(name)

    tasks = [asyncio.create_task(sleeper(name)) for name in "abc"]
    await settled()
    clock.advance(1.0)
    await asyncio.gather(*tasks)
    assert woken == ["a", "b", "c"]


async def test_settled_lets_everything_run_that_can() -> None:
    rounds = 0

    async def busy() -> None:
        nonlocal rounds
        for _ in range(50):
            await asyncio.sleep(0)
            rounds += 1

    task = asyncio.create_task(busy())
    await settled()
    assert (rounds, task.done()) == (50, True)


async def test_two_may_settle_at_once() -> None:
    await asyncio.gather(settled(), settled())


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()], ids=lambda clock: type(clock).__name__)
async def test_a_sleep_of_no_length_lets_others_run_once(clock: Clock) -> None:
    ran: list[str] = []

    async def other() -> None:
        ran.append("!")

    task = asyncio.create_task(other())
    for seconds in (0, -1.0):
        await clock.sleep(seconds)
        assert ran == ["!"]
    await task


async def test_the_systems_clocks_go_forward_and_agree() -> None:
    clock = SystemClock()
    first, then = clock.monotonic(), clock.now_ns()
    await clock.sleep(0.001)
    assert clock.monotonic() >= first + 0.001
    assert clock.now_ns() > then
    assert abs(clock.now_ms() - clock.now_ns() // 1_000_000) <= 1


async def test_waiting_within_a_time_ends_with_the_future_or_with_the_time() -> None:
    clock = ManualClock()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(within(clock, 5.0, future))
    await clock.run_for(5.0)
    assert await waiting is False
    assert not future.cancelled()
    waiting = asyncio.create_task(within(clock, 5.0, future))
    await settled()
    future.set_exception(ValueError())
    assert await waiting is True
    assert isinstance(future.exception(), ValueError)
    assert clock.sleepers == 0
