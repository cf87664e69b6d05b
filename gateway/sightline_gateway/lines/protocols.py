"""uvicorn's protocol classes, with what streams need of them beneath ASGI.

Every request finds its connection in the scope's extensions, and its line where there can be one. When the server shuts
down, who does not read has had its time: such a connection is cut.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, cast

from httptools import HttpParserError
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from sightline_gateway.lines import line
from sightline_gateway.lines.connection import EXTENSION
from sightline_gateway.lines.handshake import Refused, refused
from sightline_gateway.lines.response_line import ResponseLine
from sightline_gateway.lines.socket_protocol import SocketProtocol
from sightline_gateway.lines.sockets import sockets_of

__all__ = ["HttpProtocol", "WebSocketProtocol"]

_log = logging.getLogger("sightline.gateway.protocols")
_log.setLevel(logging.WARNING)

_UNACKNOWLEDGED_MS = 60_000
"""How long the kernel keeps a connection whose peer takes nothing: it vanished, or it never reads."""


class HttpProtocol(HttpToolsProtocol):
    """Gives every request its connection, and a line where its response can go on without it.

    A request for a WebSocket is handed over as it was parsed when uvicorn's `ws` is `SocketProtocol`.
    """

    _running: RequestResponseCycle | None = None
    _upgrades: bool | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        plain = transport.get_extra_info("socket")
        if plain.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # They name each other, and would wait for the collector.
        self.scope = self.cycle = self._running = None  # type: ignore[assignment]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._upgrades = None
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        # Only chunks can be continued by somebody else: other responses have a length, or no end of their own.
        parser = self.parser
        if parser.get_http_version() == "1.1" and parser.get_method() != b"HEAD" and not parser.should_upgrade():
            response = ResponseLine(self.loop, self.transport, self.connections, self._give_up)
            self.scope["extensions"][line.EXTENSION] = response  # type: ignore[assignment]
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        # Asked three times for every handshake.
        if self._upgrades is None:
            self._upgrades = super()._should_upgrade()
        return self._upgrades

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _give_up(self, response: ResponseLine) -> bool:
        """End the running request, and with it this object: the connection is the response's now."""
        cycle = self._running
        if cycle is None or cycle.disconnected:
            return False
        if not cycle.chunked_encoding or cycle.response_complete:
            raise RuntimeError("a response is given away between its head and its end, if it is in chunks")
        # So that uvicorn neither waits for the rest nor misses it.
        cycle.response_complete = True
        cycle.message_event.set()
        response.paused = self.flow.write_paused
        self.flow.resume_reading()
        self.flow.resume_writing()
        self._leave()
        return True

    def _leave(self) -> None:
        """Another protocol takes the transport over; nothing of this one may be left."""
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.parser = self.scope = self.cycle = self._running = None  # type: ignore[assignment]

    def handle_websocket_upgrade(self) -> None:
        if self.ws_protocol_class is not SocketProtocol:
            super().handle_websocket_upgrade()
            return
        sockets = sockets_of(self.config, self.server_state, self.loop)
        try:
            protocol = sockets.upgrade(self.transport, self.server_state, cast("Scope", self.scope), self.url)
        except Refused as refusal:
            headers = [(b"connection", b"close"), (b"content-length", b"%d" % len(refusal.text)), *refusal.headers]
            self.transport.write(refused(refusal.status, headers, refusal.text.encode()))
            self.transport.close()
        except (HttpParserError, UnicodeDecodeError):
            self.send_400_response("Invalid HTTP request received.")
        else:
            self._leave()
            self.transport.set_protocol(protocol)

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
