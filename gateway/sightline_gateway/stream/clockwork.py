"""What is due when, for all observers of a process: one heap and one task, however many wait.

A task or a loop timer for each observer would be what an idle observer costs most.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from math import ceil

from sightline.clock import Clock

__all__ = ["Clockwork", "Timer"]

_log = logging.getLogger("sightline.gateway.clockwork")

_GRAIN = 0.01
"""Seconds it sleeps at least: many that are due a little apart are done together, and none of them is that exact."""


class Timer:
    """One call to come. `cancel` it through the clockwork; after its time it is of no use."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call


class Clockwork:
    """On one event loop. Its task lives while something is due.

    What was cancelled stays until its time has come: do not cancel what is begun again and again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # What is due when; the number keeps the order of what is due at once. Tuples compare without Python.
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._live = 0
        self._task: asyncio.Task[None] | None = None
        self._calling = False

    def after(self, seconds: float, call: Callable[[], None], *, slack: float = 0.0) -> Timer:
        """Call it after so long, or up to `slack` seconds later. What it raises is logged.

        What has the same slack is due in groups that far apart, however many there are: each group wakes the process
        once.
        """
        self._count += 1
        timer = Timer(call)
        due = self._clock.monotonic() + seconds
        heapq.heappush(self._heap, (ceil(due / slack) * slack if slack else due, self._count, timer))
        self._live += 1
        if self._heap[0][2] is timer:
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
            due, _, timer = self._heap[0]
            wait = due - self._clock.monotonic()
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
