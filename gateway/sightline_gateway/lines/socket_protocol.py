"""A WebSocket on a transport: the protocol's own duties, and one owner for everything else.

The duties are few: pings and closes are answered, who breaks the protocol is told so, who has vanished is noticed.
Messages go to the owner. The first owner is the ASGI application's side; a stream that detaches puts its own in that
place, and of the request nothing remains but this object.

A connection goes through its phases in one direction: OPENING until the application has accepted; OPEN; CLOSING from
our close until the client's; ENDING when nothing can be said or heard any more but the client may still read; GONE.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableSet
from dataclasses import dataclass
from typing import Any, Protocol

from sightline_gateway.lines.keepalive import KeepAlive
from sightline_gateway.lines.line import Owner
from sightline_gateway.lines.owned import CLOSE_SECONDS, GOODBYE_SECONDS, OwnedProtocol, drop
from sightline_gateway.lines.rfc6455 import (
    ABNORMAL,
    PING,
    PONG,
    Broken,
    Close,
    Ping,
    Pong,
    Reader,
    close_frame,
    frame,
)

__all__ = ["Application", "Shared", "SocketProtocol"]

_OPENING, _OPEN, _CLOSING, _ENDING, _GONE = range(5)

_INTERNAL, _RESTART = 1011, 1012
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_PING_FRAME = frame(PING, b"")
_BARE_PONG = b"\x8a\x80"


class Application(Owner, Protocol):
    """The owner until somebody detaches."""

    def release(self) -> str | bytes | None:
        """End the application's part: the message, if there is one, that it was given and has not taken."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sockets of a server have in common. `patience`: how many pings in a row may stay unanswered."""

    loop: asyncio.AbstractEventLoop
    connections: MutableSet[Any]
    keepalive: KeepAlive | None = None
    patience: int | None = None


class SocketProtocol(OwnedProtocol):
    """The line of a WebSocket. Takes a transport over from `HttpProtocol`."""

    __slots__ = ("_application", "_phase", "_pong", "_reader", "_shared", "_silent", "closing", "place", "window")

    def __init__(self, shared: Shared, transport: asyncio.Transport, reader: Reader) -> None:
        super().__init__(shared.loop, transport)
        self._shared = shared
        self._reader = reader
        self._application: Application | None = None
        self._phase = _OPENING
        self._silent = 0
        self._pong: bytes | None = None
        self.place = -1
        self.closing: tuple[int, str] | None = None
        """Code and reason of the close that came first, whichever side's."""
        self.window = 0
        """The window that was agreed for compressed messages, 0 for none."""
        shared.connections.add(self)

    # The application's side

    def begin(self, application: Application) -> None:
        """Whom messages go to until somebody detaches."""
        self._owner = self._application = application

    def dismiss(self) -> None:
        """The application has returned."""
        if self._owner is self._application:
            self._owner = None
        self._application = None

    @property
    def is_open(self) -> bool:
        return self._phase == _OPEN

    def open(self, response: bytes) -> None:
        """Accept; from now on the client is listened to."""
        if self._phase != _OPENING:
            return
        if self.transport.is_closing():
            self._leave(_ENDING, ABNORMAL, "")
            return
        self.transport.write(response)
        self._phase = _OPEN
        if self._shared.keepalive is not None:
            self._shared.keepalive.add(self)
        self.go_on_reading()

    def refuse(self, response: bytes) -> None:
        if self._phase == _OPENING:
            self.transport.write(response)
            self._leave(_ENDING, ABNORMAL, "")
            self.transport.close()

    def read_on(self) -> None:
        """Like `go_on_reading`, but what is here already is delivered before this returns."""
        self._silent = 0
        super().go_on_reading()
        self._deliver()

    # The line

    def detach(self, owner: Owner) -> None:
        application = self._application
        if application is None or self._phase == _OPENING:
            raise RuntimeError("a socket is given away once, after it was accepted")
        self._application = None
        unheard = application.release()
        if self._phase >= _ENDING:
            self._loop.call_soon(owner.gone)
            return
        self._owner = owner
        if unheard is not None:
            self._reader.put_back(unheard)
        self.go_on_reading()

    def go_on_reading(self) -> None:
        self._silent = 0
        super().go_on_reading()
        if not self._reader.resting:
            self._loop.call_soon(self._deliver)

    def close(self, code: int, reason: str) -> None:
        if self._phase == _OPEN:
            self.transport.write(close_frame(code, reason))
            self._leave(_CLOSING, code, reason)
            self.go_on_reading()
            self._end_within(CLOSE_SECONDS)

    # The server

    def shutdown(self) -> None:
        """Called by uvicorn when it stops, for every connection."""
        if self.paused:
            self.transport.abort()
        elif self._phase == _OPENING:
            self.refuse(_UNAVAILABLE)
        elif self._phase == _OPEN:
            self._fail(_RESTART, "", GOODBYE_SECONDS)
        else:
            self.transport.close()

    def visit(self) -> None:
        """Ask whether the client still lives, unless it could not hear that or we could not hear the answer."""
        if self.paused or self.unread:
            self._silent = 0
            return
        patience = self._shared.patience
        if patience is not None and self._silent >= patience and not self._held:
            self._fail(_INTERNAL, "keepalive ping timeout", CLOSE_SECONDS)
        else:
            self._silent += 1
            self.transport.write(_PING_FRAME)

    # The transport

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        reader = self._reader
        if self._phase >= _ENDING or (len(data) == 6 and data.startswith(_BARE_PONG) and reader.resting):
            return
        reader.feed(data)
        if self._phase == _OPENING:
            self.hold_reading()
        else:
            self._deliver()

    def resume_writing(self) -> None:
        self.paused = False
        if self._pong is not None:
            self._answer(self._pong)
            self._pong = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave(_GONE, ABNORMAL, "")
        self._shared.connections.discard(self)
        super().connection_lost(exc)

    # What the client says

    def _deliver(self) -> None:
        """Do what the client's bytes ask for, as far as they are here and the owner wants them."""
        while not self._held and _OPEN <= self._phase <= _CLOSING and (event := self._reader.next()) is not None:
            match event:
                case str() | bytes():
                    if self._phase == _OPEN and self._owner is not None:
                        self._owner.received(event)
                case Ping(payload):
                    self._answer(payload)
                case Pong():
                    pass
                case Close(code, reason):
                    self._closed(code, reason)
                case Broken(code, reason):
                    self._fail(code, reason, CLOSE_SECONDS)

    def _answer(self, ping: bytes) -> None:
        """Send a pong. A client that does not read gets one for its last ping only, once it reads."""
        if self.paused:
            self._pong = ping
        elif self._phase == _OPEN:
            self.transport.write(frame(PONG, ping))

    def _closed(self, code: int, reason: str) -> None:
        if self._phase == _OPEN:
            self.transport.write(close_frame(code, reason))
        self._leave(_ENDING, code, reason)
        self.transport.close()
        self._end_within(CLOSE_SECONDS)
        self._part()

    def _fail(self, code: int, reason: str, seconds: float) -> None:
        """Say the last word and listen no more."""
        if self._phase == _OPEN:
            self.transport.write(close_frame(code, reason))
        self._leave(_ENDING, code, reason)
        self._finish(seconds)
        self._part()

    def _leave(self, phase: int, code: int, reason: str) -> None:
        """Go on to the next phase, behind which nothing more can be written."""
        self._phase = phase
        self.write = drop
        if self.closing is None:
            self.closing = (code, reason)
        if self._shared.keepalive is not None:
            self._shared.keepalive.discard(self)
