"""The client side of the load: HTTP/1.1 on kept connections, as cheap as Python can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import httptools
from msgspec import Struct

__all__ = ["Answer", "Connection", "connections"]


class Answer(Struct):
    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time, on a connection that is kept."""

    def __init__(self, port: int) -> None:
        self._head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n".encode()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._on_head: Callable[[], None] | None = None
        self._on_piece: Callable[[bytes], None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []

    @classmethod
    async def to(cls, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(port), "127.0.0.1", port)
        return connection

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: bytes = b"",
        *,
        on_head: Callable[[], None] | None = None,
        on_piece: Callable[[bytes], None] | None = None,
    ) -> Answer:
        """Ask, and wait for the whole answer. `headers` are lines, each with its end. Raises ConnectionError.

        `on_piece` is shown every piece of the body when it arrives; the body is not kept then.
        """
        assert self._transport is not None
        assert self._answer is None, "one request at a time"
        self._answer = asyncio.get_running_loop().create_future()
        self._on_head, self._on_piece = on_head, on_piece
        length = b"" if method == "GET" else b"Content-Length: %d\r\n" % len(body)
        self._transport.write(
            b"%b %b %b%b%b\r\n%b" % (method.encode(), path.encode(), self._head, headers, length, body)
        )
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(exc or ConnectionResetError("closed before the answer was complete"))

    # The parser's side

    def on_headers_complete(self) -> None:
        if self._on_head is not None:
            self._on_head()

    def on_body(self, piece: bytes) -> None:
        if self._on_piece is not None:
            self._on_piece(piece)
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        body, self._pieces = b"".join(self._pieces), []
        answer, self._answer = self._answer, None
        status = self._parser.get_status_code()
        # One parser reads one answer: after `Connection: close` it would refuse the next.
        self._parser = httptools.HttpResponseParser(self)
        if answer is not None and not answer.done():
            answer.set_result(Answer(status, body))


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    made: list[Connection] = []
    try:
        while len(made) < count:
            made.append(await Connection.to(port))
        yield made
    finally:
        for connection in made:
            connection.close()
