"""A line: one connection's way out beneath ASGI, for streams that write bytes shared by many.

ASGI can only await one message at a time, and a task that waits for each connection is what makes streams dear. A
server of ours therefore puts the connection itself into the scope's extensions. Whoever takes it over with `detach`
owns it: the application returns, the request's task ends, and what happens to the connection is told to the owner.
Where another server runs the application there is no line, and streams send through ASGI.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from starlette.types import Scope

__all__ = ["EXTENSION", "Line", "Outlet", "Owner", "line_of"]

EXTENSION = "sightline.line"


class Owner(Protocol):
    """Who a line belongs to. Every call comes from the event loop, none may wait, none may raise.

    No call comes before `detach` has returned, nor while the owner is inside a call of the line. `gone` is the last one
    and comes exactly once.
    """

    def received(self, message: str | bytes) -> None:
        """A whole message of a WebSocket's client; bytes when it was a binary one."""
        ...

    def stalled(self) -> None:
        """The client does not read: `paused` has become true."""
        ...

    def writable(self) -> None:
        """The client reads again: `paused` has become false."""
        ...

    def gone(self) -> None:
        """Nothing more can be said or heard, by whichever side's wish; what was written may still be under way."""
        ...


class Outlet(Protocol):
    """What an observer needs of whatever carries it, a line or something that stands for one."""

    @property
    def paused(self) -> bool:
        """Whether so much is unread that writing more would only fill memory. Writing is still possible."""
        ...

    @property
    def batch(self) -> int:
        """How many bytes of events are worth writing at once."""
        ...

    @property
    def unread(self) -> int:
        """Bytes that wait in this process for the client to read."""
        ...

    def write(self, written: Any, /) -> None:
        """Put this on its way, in the form that goes with the outlet. Does not wait and does not raise."""
        ...

    def hold_reading(self) -> None:
        """Read nothing more from the client until `go_on_reading`."""
        ...

    def go_on_reading(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """End in order, behind what was written: a WebSocket's close handshake, an HTTP response's last chunk.

        Nothing is received after it. The connection is reset if the client has not ended it within ten seconds.
        """
        ...

    def cut_in(self, seconds: float) -> None:
        """Reset the connection after so long, whatever is unread then."""
        ...


class Line(Outlet, Protocol):
    """What an owner may do with the connection. `paused` is an attribute.

    `write` takes bytes as they go on the wire: whole frames of a WebSocket, whole chunks of an HTTP response. On a
    closed connection it does nothing. It is to be looked up for every use: it may be the transport's own method, and
    another when the connection ends.
    """

    def detach(self, owner: Owner) -> None:
        """Give the connection to `owner`. Once, after the WebSocket was accepted or the response's head was sent.

        Raises RuntimeError at any other time, and for a response that is not in chunks; then it is still the request's.
        Messages that came before are delivered after this returns, in order. The server does no more for the connection
        than its protocol demands: it answers pings and closes, and looks after keep-alive.
        """
        ...


def line_of(scope: Scope) -> Line | None:
    """The line under a request; none where another server runs the application."""
    return cast("Line | None", (scope.get("extensions") or {}).get(EXTENSION))
