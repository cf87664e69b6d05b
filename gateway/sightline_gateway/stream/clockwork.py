"""What is due when, for all observers of a process: one heap and one task, however many wait.

A task or a loop timer for each observer would be what an idle observer costs most.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable

from sightline.clock import Clock

__all__ = ["Clockwork", "Timer"]

_log = logging.getLogger("sightline.gateway.clockwork")

_GRAIN = 0.01
"""Seconds it sleeps at least: many that are due a little apart are done together, and none of them is that exact."""


class Timer:
    """One call to come. `cancel` it through the clockwork; after its time it is of no use."""

    __slots__ = ("call", "due", "number")

    def __init__(self, due: float, number: int, call: Callable[[], None]) -> None:
        self.due = due
        self.number = number
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class Clockwork:
    """On one event loop. Its task lives while something is due.

    What was cancelled stays until its time has come: do not cancel what is begun again and again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._count = 0
        self._live = 0
        self._task: asyncio.Task[None] | None = None
        self._calling = False

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call it after so long. What it raises is logged."""
        self._count += 1
        timer = Timer(self._clock.monotonic() + seconds, self._count, call)
        heapq.heappush(self._heap, timer)
        self._live += 1
        if self._heap[0] is timer:
            self._wind()
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Idempotent."""
        if timer is not None and timer.call is not None:
            timer.call = None
            self._live -= 1
            if not self._live:
                self._heap.clear()
                self._wind()

    def _wind(self) -> None:
        """See to it that the task waits for what is first now. While it calls, it will look itself."""
        if self._calling:
            return
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._run(), name="clockwork") if self._heap else None

    async def _run(self) -> None:
        while self._heap:
            timer = self._heap[0]
            wait = timer.due - self._clock.monotonic()
            if timer.call is not None and wait > 0:
                await self._clock.sleep(max(wait, _GRAIN))
                continue
            heapq.heappop(self._heap)
            call, timer.call = timer.call, None
            if call is not None:
                self._live -= 1
                self._calling = True
                try:
                    call()
                except Exception:
                    _log.exception("something that was due failed")
                finally:
                    self._calling = False
        self._task = None
