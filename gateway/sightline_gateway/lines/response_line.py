"""An HTTP response that an owner writes, chunk by chunk, when the application and its request are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableSet
from typing import Any

from sightline_gateway.lines.line import Owner
from sightline_gateway.lines.owned import CLOSE_SECONDS, GOODBYE_SECONDS, OwnedProtocol, drop

__all__ = ["ResponseLine"]

_LAST_CHUNK = b"0\r\n\r\n"

GiveUp = Callable[["ResponseLine"], bool]


class ResponseLine(OwnedProtocol):
    """The line of one response. Takes the transport over from `HttpProtocol` when it is detached.

    What the client sends after that is ignored: the response is the last one on its connection.
    """

    __slots__ = ("_connections", "_give_up")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        connections: MutableSet[Any],
        give_up: GiveUp,
    ) -> None:
        """`give_up` ends the request and its protocol.

        False when the connection is lost already. Raises RuntimeError when there is no response that could go on.
        """
        super().__init__(loop, transport)
        self._connections = connections
        self._give_up: GiveUp | None = give_up

    def detach(self, owner: Owner) -> None:
        if self._give_up is None:
            raise RuntimeError("a response is given away once")
        alive = self._give_up(self)
        self._give_up = None
        if alive:
            self._owner = owner
            self._connections.add(self)
            self.transport.set_protocol(self)
        else:
            self.write = drop
            self._loop.call_soon(owner.gone)

    def close(self, code: int, reason: str) -> None:
        """Neither is told: HTTP has no word for them."""
        if self.write is not drop:
            self.transport.write(_LAST_CHUNK)
            self._finish(CLOSE_SECONDS)
            self._loop.call_soon(self._part)

    def shutdown(self) -> None:
        """Called by uvicorn when it stops, for every connection."""
        if self.paused:
            self.transport.abort()
        elif self.write is drop:
            self.transport.close()
        else:
            self.transport.write(_LAST_CHUNK)
            self._finish(GOODBYE_SECONDS)
            self._part()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)
