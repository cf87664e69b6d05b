"""What ASGI leaves out for those who send through it: whether the client reads, and a way to leave one that does not.

ASGI can only wait until a client has read. So a connection whose client stopped reading could neither be told anything
nor be closed, because closing waits for the unread bytes too. The application finds its connection in the scope's
extensions.
"""

from __future__ import annotations

from typing import Protocol, cast

from starlette.types import Scope

__all__ = ["EXTENSION", "Connection", "connection_of"]

EXTENSION = "sightline.connection"


class Connection(Protocol):
    """What a stream may know and do beneath ASGI."""

    @property
    def blocked(self) -> bool:
        """Whether a send would have to wait for the client to read."""
        ...

    @property
    def unread(self) -> int:
        """Bytes that wait in this process for the client to read."""
        ...

    def unblock(self) -> None:
        """Let one last send through, behind what is unread."""
        ...

    def cut_in(self, seconds: float) -> None:
        """Reset the connection after so long, whatever is unread then."""
        ...


def connection_of(scope: Scope) -> Connection | None:
    """The connection under a request; none where another server runs the application."""
    return cast("Connection | None", (scope.get("extensions") or {}).get(EXTENSION))
