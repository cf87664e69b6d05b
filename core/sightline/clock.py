"""Time as a port: nothing else in the kernel reads a clock or waits on one.

Wall time (`now_ms`) is for what is stored and shown: leases, availability, event times. Monotonic time is for intervals
and ages inside one process. Tests use `sightline.testing.clock`, where time moves when told.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

__all__ = ["Clock", "SystemClock", "within"]


class Clock(Protocol):
    """Where decisions get their `now` from."""

    def now_ms(self) -> int:
        """Wall time, integer milliseconds since the epoch."""
        ...

    def now_ns(self) -> int:
        """Wall time, integer nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less yields to the loop once. Cancellable at any time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds if seconds > 0 else 0)


async def within(clock: Clock, seconds: float, future: asyncio.Future[Any]) -> bool:
    """Wait for a future at most so long: whether it is done. It is neither cancelled nor asked for its result."""
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({sleeping, future}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
    return future.done()
