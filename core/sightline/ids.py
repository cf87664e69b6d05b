"""Chance as a port: new ids, tokens and jitter.

Ids are UUIDv7 (RFC 9562): 48 bits of milliseconds, then a 12-bit counter that keeps ids of one millisecond in order,
then 62 random bits. They sort by creation time as text, and two processes do not collide.
"""

from __future__ import annotations

import secrets
import time
from typing import Protocol

__all__ = ["Ids", "SystemIds"]

_COUNTER_LIMIT = 1 << 12


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
    """Ids from the system's clock and random source. One object per process; used from one thread."""

    def __init__(self) -> None:
        self._last_ms = 0
        self._counter = 0

    def new(self) -> str:
        now = time.time_ns() // 1_000_000
        if now > self._last_ms:
            self._last_ms = now
            self._counter = secrets.randbits(11)
        else:
            # The clock stood still or went back: stay on the last millisecond and count on, so order holds.
            self._counter += 1
            if self._counter >= _COUNTER_LIMIT:
                self._last_ms += 1
                self._counter = 0
        value = self._last_ms << 80 | 0x7 << 76 | self._counter << 64 | 0b10 << 62 | secrets.randbits(62)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def token(self) -> str:
        return secrets.token_urlsafe(18)

    def uniform(self) -> float:
        return secrets.randbits(53) / (1 << 53)
