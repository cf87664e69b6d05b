"""All open streams of this process: their limit, and the orderly end of them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from sightline.clock import Clock, SystemClock, within
from sightline_gateway.problems import ProblemError

__all__ = ["Closable", "Streams"]

_GOODBYES_PER_SECOND = 200
_RETRY_AFTER_MS = 1_000
_MAX_JITTER_MS = 10_000
_LAST_SECONDS = 1.0


class Closable(Protocol):
    """A stream that can be told to end."""

    def close(self, reason: str, *, retry_after_ms: int | None = None, jitter_ms: int | None = None) -> None:
        """Say goodbye and end. Does not wait. Idempotent."""
        ...


class Streams:
    """At most `limit` at once, long polls among them."""

    def __init__(self, limit: int, clock: Clock | None = None) -> None:
        self._limit = limit
        self._clock = clock or SystemClock()
        self._open: set[Closable] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    @property
    def count(self) -> int:
        return len(self._open)

    def add(self, stream: Closable) -> None:
        """Count the stream in. Raises ProblemError `too_many_connections`, `draining`."""
        if self._draining:
            raise ProblemError("draining", "the server is draining; come back in a moment")
        if len(self._open) >= self._limit:
            raise ProblemError("too_many_connections", f"{self._limit} streams are open already")
        self._open.add(stream)
        self._empty.clear()

    def remove(self, stream: Closable) -> None:
        self._open.discard(stream)
        if not self._open:
            self._empty.set()

    async def drain(self, window: float) -> None:
        """Say goodbye to all, spread over at most `window` seconds, so that they do not all come back at once.

        Returns when every stream has ended, or a second after the window.
        """
        self._draining = True
        streams = list(self._open)
        spread = min(window, len(streams) / _GOODBYES_PER_SECOND)
        # Who is told when to come back: spread as wide as the herd is large.
        jitter = min(_MAX_JITTER_MS, max(250, len(streams) * 5))
        for stream in streams:
            stream.close("draining", retry_after_ms=_RETRY_AFTER_MS, jitter_ms=jitter)
            await self._clock.sleep(spread / len(streams))
        empty = asyncio.ensure_future(self._empty.wait())
        try:
            await within(self._clock, _LAST_SECONDS, empty)
        finally:
            empty.cancel()
