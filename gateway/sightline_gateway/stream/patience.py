"""When a client that does not read is given up: after half a minute without a byte of progress."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Send

from sightline.clock import Clock, within
from sightline_gateway.lines.connection import Connection

__all__ = ["FAREWELL", "LOOK_EVERY", "PATIENCE", "Impatient", "Patience", "patiently"]

PATIENCE = 30.0
"""Seconds without progress after which a client that does not read is given up."""
LOOK_EVERY = 1.0
"""Seconds between two looks at what is unread. Progress in between counts from the look before."""
FAREWELL = 10.0
"""Seconds that are left for reading, once it was given up, until the connection is cut."""


class Patience:
    """With one client, from the moment it stopped. `unread`: the bytes that wait for it in this process."""

    __slots__ = ("_looked_at", "_progress_at", "_unread")

    def __init__(self, now: float, unread: int) -> None:
        self._progress_at = self._looked_at = now
        self._unread = unread

    def is_over(self, now: float, unread: int) -> bool:
        """Have a look."""
        if unread < self._unread:
            self._progress_at = self._looked_at
        self._unread, self._looked_at = unread, now
        return now - self._progress_at >= PATIENCE


class Impatient(Exception):
    """The client took nothing for too long."""


async def patiently(clock: Clock, connection: Connection | None, send: Send, message: Message) -> None:
    """Hand a message to the server. Raises Impatient after 30 s without progress, and what the server raises."""
    if connection is not None and not connection.blocked:
        await send(message)
        return
    sending = asyncio.ensure_future(send(message))
    try:
        patience = Patience(clock.monotonic(), _unread(connection))
        while not await within(clock, LOOK_EVERY, sending):
            if patience.is_over(clock.monotonic(), _unread(connection)):
                raise Impatient
        sending.result()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def _unread(connection: Connection | None) -> int:
    return 0 if connection is None else connection.unread
