"""Which waits of processes are worth telling: those that last.

A process that sleeps for a millisecond a thousand times a second waits, and nobody wants to hear of it. A wait is told
when it has lasted for a moment, and its end when it was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sightline.clock import Clock

__all__ = ["Pauses"]

_MOMENT = 0.25
"""Seconds after which a wait is told."""


class Pauses:
    """On one event loop. `tell` gets a process and whether it waits; it may neither wait nor raise. While something
    waits that was not told of, there is a task.
    """

    def __init__(self, clock: Clock, tell: Callable[[str, bool], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._since: dict[str, float] = {}
        """Those whose wait is not told of, the longest first."""
        self._told: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def changed(self, process_id: str, waits: bool) -> None:
        """The process waits now, or it goes on. May be said again. Neither waits nor raises."""
        if not waits:
            self._since.pop(process_id, None)
            if process_id in self._told:
                self._told.discard(process_id)
                self._tell(process_id, False)
        elif process_id not in self._told and not self._stopped:
            self._since.setdefault(process_id, self._clock.monotonic())
            if self._task is None:
                self._task = asyncio.create_task(self._watch(), name="process pauses")

    async def stop(self) -> None:
        """Tell no more; returns when no task is left."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while self._since:
            process_id, since = next(iter(self._since.items()))
            left = since + _MOMENT - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)
            elif self._since.pop(process_id, None) is not None:
                self._told.add(process_id)
                self._tell(process_id, True)
        self._task = None
