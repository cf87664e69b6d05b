"""The pace of a stream: how long a write may take, when to say that it is alive, when to rotate it."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Send

from sightline.clock import Clock
from sightline_gateway.stream.feed import Feed

__all__ = ["Pace", "SlowConsumer", "wait_ready"]

_STALL_SECONDS = 30.0


class SlowConsumer(Exception):
    """The client has not read for so long that it is given up."""


class Pace:
    """`every`: seconds of quiet after which something is said; `lifetime`: seconds after which the stream has `expired`."""

    def __init__(self, clock: Clock, every: float, lifetime: float | None) -> None:
        self._clock = clock
        self._every = every
        self._last = clock.monotonic()
        self._end = None if lifetime is None else self._last + lifetime

    @property
    def expired(self) -> bool:
        return self._end is not None and self._clock.monotonic() >= self._end

    @property
    def idle_time(self) -> float:
        """Seconds until something has to be said or done."""
        now = self._clock.monotonic()
        until = self._last + self._every
        return max(0.0, min(until, self._end or until) - now)

    async def send(self, send: Send, message: dict[str, Any]) -> None:
        """Write; waits while the client does not read. Raises SlowConsumer after 30 s without progress."""
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                await send(message)
        except TimeoutError:
            raise SlowConsumer from None
        self._last = self._clock.monotonic()


async def wait_ready(feed: Feed, timeout: float) -> bool:
    """Whether the feed became ready within so many seconds."""
    try:
        async with asyncio.timeout(timeout):
            await feed.ready.wait()
    except TimeoutError:
        return False
    return True
