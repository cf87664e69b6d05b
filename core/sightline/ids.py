"""Chance as a port: new ids, tokens and jitter.

Ids are UUIDv7 (RFC 9562): 48 bits of milliseconds, then a 12-bit counter that keeps ids of one millisecond in order,
then 62 random bits. They sort by creation time as text, and two processes do not collide.
"""

from __future__ import annotations

import base64
import os
import time
from typing import Protocol

__all__ = ["Ids", "SystemIds"]

_COUNTER_LIMIT = 1 << 12
_CHANCE = 4_096
"""How many random bytes are fetched at once."""


class Ids(Protocol):
    """Where ids and chance come from."""

    def new(self) -> str:
        """A new id: opaque text that sorts by creation time."""
        ...

    def token(self) -> str:
        """An unguessable proof of ownership."""
        ...

    def uniform(self) -> float:
        """A number in [0, 1), for jitter."""
        ...


class SystemIds:
    """Ids from the system's clock and random source. One object per process; used from one thread.

    Chance is fetched for many at once: each fetch lets go of the interpreter, which another thread may then keep for a
    while, and a turn needs eight.
    """

    def __init__(self) -> None:
        self._last_ms = 0
        self._counter = 0
        self._chance = b""
        self._used = 0

    def new(self) -> str:
        now = time.time_ns() // 1_000_000
        if now > self._last_ms:
            self._last_ms = now
            self._counter = int.from_bytes(self._take(2), "big") >> 5
        else:
            # The clock stood still or went back: stay on the last millisecond and count on, so order holds.
            self._counter += 1
            if self._counter >= _COUNTER_LIMIT:
                self._last_ms += 1
                self._counter = 0
        chance = int.from_bytes(self._take(8), "big") >> 2
        value = self._last_ms << 80 | 0x7 << 76 | self._counter << 64 | 0b10 << 62 | chance
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def token(self) -> str:
        return base64.urlsafe_b64encode(self._take(18)).decode()

    def uniform(self) -> float:
        return (int.from_bytes(self._take(7), "big") >> 3) / (1 << 53)

    def _take(self, size: int) -> bytes:
        """Random bytes that nobody has had. At most `_CHANCE` at once."""
        if self._used + size > len(self._chance):
            self._chance = os.urandom(_CHANCE)
            self._used = 0
        taken = self._chance[self._used : self._used + size]
        self._used += size
        return taken
