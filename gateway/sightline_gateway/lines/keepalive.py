"""Pings, so that a connection through sleepy middleboxes stays open and one whose client vanished is noticed.

One timer serves all connections. Each has its place on a wheel, and the places are dealt out in turn: however many
clients connect in one moment, they are visited a few at a time, and each once in a round.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["KeepAlive", "Visited"]

_PLACES = 80


class Visited(Protocol):
    """A connection on the wheel."""

    place: int

    def visit(self) -> None:
        """Once in a round, from the event loop."""
        ...


class KeepAlive:
    """Visits every connection once in so many seconds, and sets no timer while there is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._step = seconds / _PLACES
        self._wheel: list[set[Visited]] = [set() for _ in range(_PLACES)]
        self._count = 0
        self._dealt = 0
        self._now = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Visited) -> None:
        """Begin to visit; the first time within one round, and not at once."""
        self._dealt = (self._dealt + 1) % _PLACES
        connection.place = self._dealt
        self._wheel[self._dealt].add(connection)
        self._count += 1
        if self._timer is None:
            self._timer = self._loop.call_later(self._step, self._turn)

    def discard(self, connection: Visited) -> None:
        """Visit no more; nothing happens when it was not visited anyway."""
        if connection.place >= 0:
            self._wheel[connection.place].remove(connection)
            connection.place = -1
            self._count -= 1

    def _turn(self) -> None:
        self._timer = self._loop.call_later(self._step, self._turn) if self._count else None
        self._now = (self._now + 1) % _PLACES
        for connection in tuple(self._wheel[self._now]):
            connection.visit()
