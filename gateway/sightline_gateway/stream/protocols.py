"""uvicorn's two protocols, with what ASGI leaves out: whether the client reads, and a way to leave one that does not.

ASGI can only wait until a client has read. So a connection whose client stopped reading could neither be told anything
nor be closed, because closing waits for the unread bytes too. The application finds its connection in the scope's
extensions. When the server shuts down, who does not read has had its time: such a connection is cut.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["EXTENSION", "Connection", "HttpProtocol", "WebSocketProtocol", "connection_of"]

EXTENSION = "sightline.connection"

_log = logging.getLogger("sightline.gateway.protocols")
_log.setLevel(logging.WARNING)

_UNACKNOWLEDGED_MS = 60_000
"""How long the kernel keeps a connection whose peer takes nothing: it vanished, or it never reads."""


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


class HttpProtocol(HttpToolsProtocol):
    """Gives every request its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        plain = transport.get_extra_info("socket")
        if plain.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def shutdown(self) -> None:
        if self.blocked:
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def blocked(self) -> bool:
        return self.flow.write_paused

    @property
    def unread(self) -> int:
        return self.transport.get_write_buffer_size()

    def unblock(self) -> None:
        self.flow.resume_writing()

    def cut_in(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.transport.abort)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Gives every socket its connection. Takes over from `HttpProtocol` when a client upgrades."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn tells of every handshake, with its query; and what is in there is not for a log.
        self.logger = _log
        self._deaf = False

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """A frame that is none, or too big to be read: close, and listen no more.

        Our half of the connection ends here, the other when the client has seen that. To end both now, with the rest of
        the frame unread, would be to reset the connection, and the client would never see the close code.
        """
        self._deaf = True
        closing = self.conn.close_sent
        assert closing is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def shutdown(self) -> None:
        if self.blocked:
            self.transport.abort()
        else:
            super().shutdown()

    async def run_asgi(self) -> None:
        self.scope["extensions"] = {**(self.scope["extensions"] or {}), EXTENSION: self}  # type: ignore[dict-item]
        await super().run_asgi()

    def keepalive_timeout(self) -> None:
        """No pong came. From a client that does not read none can: its ping lies behind what is unread."""
        if self.blocked:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    @property
    def blocked(self) -> bool:
        return not self.writable.is_set()

    @property
    def unread(self) -> int:
        return self.transport.get_write_buffer_size()

    def unblock(self) -> None:
        self.writable.set()

    def cut_in(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.transport.abort)
