"""What the two lines share: a transport, an owner, and what the one tells the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sightline_gateway.lines.line import Owner

__all__ = ["CLOSE_SECONDS", "GOODBYE_SECONDS", "OwnedProtocol", "drop"]

CLOSE_SECONDS = 10.0
"""How long a connection that is ending may take for it, until it is reset."""
GOODBYE_SECONDS = 1.0
"""The same when the server shuts down."""


def drop(data: bytes) -> None:
    """The `write` of a line on which nothing more can be said."""


class OwnedProtocol(asyncio.Protocol):
    """A connection that belongs to an owner. Slots, because there are many and most of them do nothing."""

    __slots__ = ("_ending", "_held", "_loop", "_owner", "paused", "transport", "write")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._owner: Owner | None = None
        self._held = False
        self._ending: asyncio.TimerHandle | None = None
        self.transport = transport
        self.paused = False
        self.write: Callable[[bytes], None] = transport.write

    batch = 262_144
    """More than this at once, and others would wait for one client."""

    @property
    def unread(self) -> int:
        return self.transport.get_write_buffer_size()

    def hold_reading(self) -> None:
        if not self._held:
            self._held = True
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def go_on_reading(self) -> None:
        if self._held:
            self._held = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def cut_in(self, seconds: float) -> None:
        self._loop.call_later(seconds, self.transport.abort)

    def pause_writing(self) -> None:
        # It may be a write of the owner's that brings this about, and an owner is not called inside its own call.
        self.paused = True
        self._loop.call_soon(self._tell_stalled)

    def _tell_stalled(self) -> None:
        if self.paused and self._owner is not None:
            self._owner.stalled()

    def resume_writing(self) -> None:
        self.paused = False
        if self._owner is not None:
            self._owner.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        self._part()

    def _part(self) -> None:
        """Nothing more can be said or heard: tell the owner, once."""
        self.write = drop
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.gone()

    def _finish(self, seconds: float) -> None:
        """End our half of the connection behind what was written.

        The other half ends when the client has seen that, or after so many seconds: what it still says has to be read,
        or the connection would be reset, and the client might never see the last of ours.
        """
        self.write = drop
        OwnedProtocol.go_on_reading(self)
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()
        self._end_within(seconds)

    def _end_within(self, seconds: float) -> None:
        """Reset the connection after so long, if it has not ended by then."""
        if self._ending is None:
            self._ending = self._loop.call_later(seconds, self.transport.abort)
