"""Observers of a load test: one session each, over a WebSocket or server-sent events, on one connection at a time.

They speak the wire by themselves, with the libraries' parsers but without their clients, because a client that costs a
millisecond for each frame would be what is measured.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Literal, cast
from urllib.parse import quote

import httptools
import httpx
import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from sightline.clock import Clock
from sightline_gateway.bench.tally import Account, Tally
from sightline_gateway.remote import RemoteError

__all__ = ["Observer", "Transport"]

Transport = Literal["WebSocket", "SSE"]
_OPEN_SECONDS = 30.0


class Observer:
    """One that watches. `on_turn` is told when it sees a turn begin."""

    def __init__(
        self,
        address: httpx.URL,
        session: str,
        transport: Transport,
        *,
        tally: Tally,
        clock: Clock,
        on_turn: Callable[[str], None],
    ) -> None:
        self.session = session
        self.transport = transport
        self.account = Account(tally)
        self._address = address
        self._tally = tally
        self._clock = clock
        self._on_turn = on_turn
        self._cursor = "now"
        self._connection: _Connection | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the other side has ended the connection."""
        return self._connection is not None and self._connection.is_over

    async def open(self) -> None:
        """Connect, at the newest event or where the last connection left. Returns when it has caught up.

        Raises RemoteError.
        """
        resumes = self._connection is not None
        began = self._clock.monotonic()
        path = f"/v1/sessions/{self.session}/events?cursor={quote(self._cursor, safe='')}"
        kind = _Socket if self.transport == "WebSocket" else _EventStream
        connection = kind(self._address, path, self._take)
        self._connection = connection
        context = ssl.create_default_context() if self._address.scheme == "https" else None
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, self._address.host, connection.port, ssl=context
                )
                await connection.caught_up
        except TimeoutError:
            raise RemoteError(f"{self._address} did not open a stream within {_OPEN_SECONDS:g} s") from None
        except OSError as error:
            raise RemoteError(f"cannot reach {self._address}: {error}") from None
        if resumes:
            self._tally.reconnects.append(self._clock.monotonic() - began)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _take(self, payload: bytes) -> bool:
        """One frame; whether it is the last one of catching up."""
        frame: dict[str, Any] = msgspec.json.decode(payload)
        self._cursor = frame.get("cursor", self._cursor)
        if frame["type"] == "event":
            began = self.account.take(frame, self._clock.now_ns())
            if began is not None:
                self._on_turn(began)
        elif frame["type"] == "gap":
            self._tally.gaps += 1
        return bool(frame["type"] == "caught_up")


class _Connection(asyncio.Protocol):
    """What both transports share: whose frames it takes, and how it ends."""

    def __init__(self, address: httpx.URL, take: Callable[[bytes], bool]) -> None:
        self.port = address.port or (443 if address.scheme == "https" else 80)
        self.caught_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_over = False
        self._address = address
        self._accept = take
        self._left = False
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        self._left = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = not self._left
        self._fail(f"{self._address} closed a stream that had not begun")

    def _take(self, payload: bytes) -> None:
        if not self._left and self._accept(payload) and not self.caught_up.done():
            self.caught_up.set_result(None)

    def _fail(self, text: str) -> None:
        if not self.caught_up.done():
            self.caught_up.set_exception(RemoteError(text))
            self.caught_up.exception()  # whoever waits gets it; when nobody does, that is no news


class _Socket(_Connection):
    def __init__(self, address: httpx.URL, path: str, take: Callable[[bytes], bool]) -> None:
        super().__init__(address, take)
        scheme = "wss" if address.scheme == "https" else "ws"
        uri = parse_uri(f"{scheme}://{address.netloc.decode()}{path}")
        self._protocol = ClientProtocol(uri, max_size=None)
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._pieces.append(bytes(event.data))
                if event.fin:
                    message, self._pieces = b"".join(self._pieces), []
                    self._take(message)
        if self._protocol.handshake_exc is not None:
            self._fail(f"{self._address} refused a WebSocket: {_why(self._protocol.handshake_exc)}")
        self._flush()

    def _flush(self) -> None:
        assert self._transport is not None
        for piece in self._protocol.data_to_send():
            if piece:
                self._transport.write(piece)
            else:
                self._transport.close()


def _why(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"status {error.response.status_code}"
    return str(error) if isinstance(error, InvalidHandshake) else type(error).__name__


class _EventStream(_Connection):
    def __init__(self, address: httpx.URL, path: str, take: Callable[[bytes], bool]) -> None:
        super().__init__(address, take)
        host = address.netloc.decode()
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode()
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(f"what answers at {self._address} is not a gateway")
            self.close()

    # The parser's side

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._fail(f"{self._address} refused an event stream: status {status}")

    def on_body(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                self._take(line[6:])
