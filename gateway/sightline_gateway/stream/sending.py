"""How a stream writes: its one outlet, and the times at which something is due although nothing happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send

from sightline.clock import Clock, within
from sightline_gateway.stream.connection import connection_of

__all__ = ["Outlet", "Pace", "SlowConsumer", "client_gone"]

_PATIENCE = 30.0
"""Seconds without progress after which a client is given up."""
_FAREWELL = 10.0
"""Seconds that are left for reading, once it was given up, until the connection is cut."""


class SlowConsumer(Exception):
    """The client has not read for so long that it is given up."""


class Outlet:
    """The one way out to a client. A client that reads slowly is waited for, one that does not read is not."""

    def __init__(self, scope: Scope, send: Send, clock: Clock) -> None:
        self._connection = connection_of(scope)
        self._send = send
        self._clock = clock

    async def write(self, message: Message) -> None:
        """Hand a message to the server. Raises SlowConsumer after 30 s without progress, and what the server raises."""
        if self._connection is not None and not self._connection.blocked:
            await self._send(message)
        else:
            await self._write_patiently(message)

    async def part(self, *messages: Message) -> None:
        """Put the last messages behind what is unread, for a client that wakes up soon; then cut the connection."""
        if self._connection is None:
            return
        self._connection.cut_in(_FAREWELL)
        self._connection.unblock()
        for message in messages:
            await self._send(message)

    async def _write_patiently(self, message: Message) -> None:
        sending = asyncio.ensure_future(self._send(message))
        try:
            unread = self._unread
            while not await within(self._clock, _PATIENCE, sending):
                if self._unread >= unread:
                    raise SlowConsumer
                unread = self._unread
            sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    @property
    def _unread(self) -> int:
        return 0 if self._connection is None else self._connection.unread


class Pace:
    """When something is to be said because of quiet, and when a stream has lasted long enough. Seconds."""

    def __init__(self, clock: Clock, every: float, lifetime: float | None = None) -> None:
        self._clock = clock
        self._every = every
        self._last = clock.monotonic()
        self._end = None if lifetime is None else self._last + lifetime

    def said(self) -> None:
        """Something was written."""
        self._last = self._clock.monotonic()

    @property
    def overdue(self) -> bool:
        return self._clock.monotonic() >= self._last + self._every

    @property
    def expired(self) -> bool:
        return self._end is not None and self._clock.monotonic() >= self._end

    async def ring(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever one of the two comes true; until cancelled."""
        while True:
            now = self._clock.monotonic()
            until = (self._last + self._every - now, self._every if self._end is None else self._end - now)
            # What is past was rung for already; the answer may wait behind a slow write.
            await self._clock.sleep(min(seconds if seconds > 0 else self._every for seconds in until))
            if self.overdue or self.expired:
                wake()


async def client_gone(receive: Receive) -> None:
    """Return when an HTTP client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
