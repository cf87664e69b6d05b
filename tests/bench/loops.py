"""The two ways to put load on something.

A closed loop has so many workers, each of which begins anew when it has finished: it finds what the other side can do.
An open loop begins work at fixed times whatever has become of the work before: it finds how long one has to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

__all__ = ["Closed", "closed_loop", "open_loop"]


class Closed(Struct, frozen=True):
    """What was finished within the window of a closed loop, and the processor time both sides used for it."""

    count: int
    seconds: float
    cpu_seconds: float
    client_seconds: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time for one, in microseconds."""
        return self.cpu_seconds / max(self.count, 1) * 1e6

    @property
    def client_busy(self) -> float:
        """Per cent of a core: near a hundred, it is the client that was measured."""
        return self.client_seconds / self.seconds * 100


async def closed_loop(
    workers: Sequence[Callable[[], Awaitable[None]]],
    *,
    warm_up: float,
    seconds: float,
    cpu: Callable[[], float] = lambda: 0.0,
) -> Closed:
    """Let every worker do its work again and again, and count what is finished after the warm-up.

    The first failure of a worker ends it all and is raised.
    """
    count = 0
    stopping = False

    async def work(once: Callable[[], Awaitable[None]]) -> None:
        nonlocal count
        while not stopping:
            await once()
            count += 1

    tasks = [asyncio.create_task(work(once)) for once in workers]

    async def watched(pause: float) -> None:
        done, _ = await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    try:
        await watched(warm_up)
        began, before, cpu_before, mine = time.perf_counter(), count, cpu(), time.process_time()
        await watched(seconds)
        ended, after, cpu_after, mine = time.perf_counter(), count, cpu(), time.process_time() - mine
        stopping = True
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Closed(after - before, ended - began, cpu_after - cpu_before, mine)


async def open_loop(once: Callable[[int], Coroutine[Any, Any, None]], *, rate: float, seconds: float) -> float:
    """Begin `once(0)`, `once(1)`, … so many times a second, and return when all have ended.

    Returns how many seconds the latest beginning was late: when that is much, the load was not what it was to be.
    Raises the first failure.
    """
    began = time.perf_counter()
    latest = 0.0
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            latest = max(latest, time.perf_counter() - due)
            group.create_task(once(number))
    return latest
