"""The ASGI side of a WebSocket: what an application receives and may send, until it ends or gives the socket away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from sightline_gateway.lines.handshake import accepted, refused
from sightline_gateway.lines.rfc6455 import ABNORMAL, BINARY, TEXT, deflated, frame
from sightline_gateway.lines.socket_protocol import SocketProtocol

__all__ = ["SocketApplication"]

_log = logging.getLogger("sightline.gateway.protocols")

_CONNECTING, _ACCEPTED, _DENYING, _OVER = range(4)
_NORMAL, _INTERNAL, _RESTART = 1000, 1011, 1012
_WORTH_COMPRESSING = 64


class SocketApplication:
    """The socket's first owner. Reads one message ahead, and no further until the application asks for it.

    It is a `Connection` too: a stream finds it in the scope's extensions.
    """

    def __init__(self, line: SocketProtocol, state: ServerState, accept: bytes, extensions: str | None) -> None:
        """`accept` and `extensions` are the response's headers of these names."""
        self._line = line
        self._state = state
        self._accept = accept
        self._extensions = extensions
        self._stage = _CONNECTING
        self._connect_told = False
        self._gone = False
        self._unheard: str | bytes | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._unblocked = False
        self._denial: tuple[int, Sequence[tuple[bytes, bytes]]] = (403, ())
        self._denial_body = b""

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Call the application, and end what it has left open."""
        try:
            result: object = await app(scope, self.receive, self.send)  # type: ignore[func-returns-value]
        except ClientDisconnected:
            self._line.close(_NORMAL, "")
        except Exception:
            _log.exception("Exception in ASGI application")
            self._break_off(_INTERNAL)
        except BaseException:
            self._break_off(_RESTART)
            raise
        else:
            if self._stage == _CONNECTING and not self._gone:
                _log.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                _log.error("ASGI callable should return None, but returned '%s'.", result)
            self._break_off(_NORMAL)
        finally:
            self._line.dismiss()

    def _break_off(self, code: int) -> None:
        if self._stage in (_CONNECTING, _DENYING):
            self._deny(500, (), b"Internal Server Error")
        elif self._stage == _ACCEPTED:
            self._line.close(code, "")

    # ASGI

    async def receive(self) -> Message:
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        while self._unheard is None and not self._gone and self._line.closing is None and self._stage != _OVER:
            self._news.clear()
            await self._news.wait()
        message, self._unheard = self._unheard, None
        if message is None:
            code, reason = self._line.closing or (ABNORMAL, "")
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._line.read_on()
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def send(self, message: Message) -> None:
        while self.blocked:
            self._writable.clear()
            await self._writable.wait()
        if self._gone:
            raise ClientDisconnected
        kind = message["type"]
        if self._stage == _CONNECTING:
            self._answer(kind, message)
        elif self._stage == _DENYING:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'.")
            self._denial_body += message.get("body", b"")
            if not message.get("more_body", False):
                self._deny(*self._denial, self._denial_body)
        elif self._stage == _OVER:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        elif kind == "websocket.send":
            if not self._line.is_open:
                raise ClientDisconnected
            self._say(message)
        elif kind == "websocket.close":
            self._line.close(message.get("code", _NORMAL), message.get("reason") or "")
            self._stage = _OVER
            self._news.set()
        else:
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")

    def _answer(self, kind: str, message: Message) -> None:
        """What comes first: an accept, a close, or the beginning of another response."""
        if kind == "websocket.accept":
            headers = [*self._state.default_headers, *message.get("headers", ())]
            if message.get("subprotocol"):
                headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
            if self._extensions is not None:
                headers.append((b"sec-websocket-extensions", self._extensions.encode()))
            self._line.open(accepted(self._accept, headers))
            self._stage = _ACCEPTED
        elif kind == "websocket.close":
            self._deny(403, (), b"")
        elif kind == "websocket.http.response.start":
            if not 100 <= message["status"] < 600:
                raise RuntimeError(f"Invalid HTTP status code '{message['status']}' in response.")
            self._denial = (message["status"], list(message.get("headers", ())))
            self._stage = _DENYING
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    def _say(self, message: Message) -> None:
        text, data = message.get("text"), message.get("bytes")
        opcode, payload = (TEXT, (text or "").encode()) if data is None else (BINARY, data)
        if self._line.window and len(payload) >= _WORTH_COMPRESSING:
            self._line.write(deflated(payload, opcode, self._line.window))
        else:
            self._line.write(frame(opcode, payload))

    def _deny(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._stage = _OVER
        given = {name.lower() for name, _ in headers}
        defaults = [
            *self._state.default_headers,
            (b"connection", b"close"),
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"text/plain; charset=utf-8"),
        ]
        more = [(name, value) for name, value in defaults if name not in given]
        self._line.refuse(refused(status, [*headers, *more], body))

    # The owner

    def received(self, message: str | bytes) -> None:
        self._unheard = message
        self._line.hold_reading()
        self._news.set()

    def stalled(self) -> None:
        pass  # `send` looks for itself, each time

    def writable(self) -> None:
        self._unblocked = False
        self._writable.set()

    def gone(self) -> None:
        self._gone = True
        self._writable.set()
        self._news.set()

    def release(self) -> str | bytes | None:
        """Whoever still waits here is told that it is over."""
        unheard, self._unheard = self._unheard, None
        self._stage = _OVER
        self._writable.set()
        self._news.set()
        return unheard

    # The connection

    @property
    def blocked(self) -> bool:
        return self._line.paused and not self._unblocked and not self._gone and self._stage != _OVER

    @property
    def unread(self) -> int:
        return self._line.unread

    def unblock(self) -> None:
        self._unblocked = True
        self._writable.set()

    def cut_in(self, seconds: float) -> None:
        self._line.cut_in(seconds)
