"""How long a turn has been at work: the time it waits for people is not its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sightline.clock import Clock

__all__ = ["Stopwatch"]


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent = 0.0
        self._since = clock.monotonic()
        self._pauses = 0
        self._goes_on = asyncio.Event()

    @property
    def elapsed(self) -> float:
        """Seconds, without those in which it was paused."""
        return self._spent if self._pauses else self._spent + self._clock.monotonic() - self._since

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time stands still meanwhile. Pauses may overlap."""
        self._spent = self.elapsed
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._since = self._clock.monotonic()
                self._goes_on.set()

    async def reaches(self, seconds: float) -> None:
        """Return when so much has elapsed. Cancellable at any time."""
        while (left := seconds - self.elapsed) > 0:
            if self._pauses:
                self._goes_on.clear()
                await self._goes_on.wait()
            else:
                await self._clock.sleep(left)
