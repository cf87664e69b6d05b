"""Both ends of a line in a test's hands: the transport below it and the owner above it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sightline_gateway.lines.line import Line

__all__ = ["Diary", "Transport"]


class Transport(asyncio.Transport):
    """Keeps what is written. `stall` and `resume` are what a client's reading does to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.ended = False
        self.closing = False
        self.aborted = False
        self.waiting = 0
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        assert not self.ended, "nothing is written after the end"
        self.written += data

    def taken(self) -> bytes:
        """What was written since this was asked for."""
        taken, self.written = self.written, b""
        return taken

    def stall(self) -> None:
        self.waiting = 100_000
        self.protocol.pause_writing()

    def resume(self) -> None:
        self.waiting = 0
        self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()


class Diary:
    """An owner that writes down what it is told, and does something then if it was asked to."""

    def __init__(self, line: Line | None = None) -> None:
        self.told: list[str | bytes] = []
        self.then: dict[str | bytes, Callable[[], None]] = {}
        self.inside = False
        self._line = line

    def received(self, message: str | bytes) -> None:
        self._note(message)

    def stalled(self) -> None:
        assert self._line is None or self._line.paused
        self._note("(stalled)")

    def writable(self) -> None:
        assert self._line is None or not self._line.paused
        self._note("(writable)")

    def gone(self) -> None:
        self._note("(gone)")

    def _note(self, what: str | bytes) -> None:
        assert not self.inside, "an owner is not called inside its own call"
        assert "(gone)" not in self.told, "nothing comes after the last word"
        self.told.append(what)
        self.then.get(what, lambda: None)()
