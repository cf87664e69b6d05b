"""Observers that look at the clock: which turn's first frame came when, over a WebSocket or server-sent events."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import parse_uri

from tests.bench.http_load import Connection

__all__ = ["FirstFrames", "Transport", "observing"]

Transport = Literal["WebSocket", "SSE"]

_STARTED = re.compile(rb'"type":"turn_started".*?"content":"echo (-?\d+)"')


class FirstFrames:
    """The time at which the first frame of each turn was received. A turn's number is in what it was told to echo."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def take(self, payload: bytes) -> None:
        """A `turn_activity` of type `turn_started` is the first that is shown of a turn."""
        now = time.perf_counter()
        for match in _STARTED.finditer(payload):
            number = int(match[1])
            self.at.setdefault(number, now)
            waiting = self._waiting.pop(number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def of(self, number: int) -> float:
        """When the first frame of that turn came, or will have come."""
        if number not in self.at:
            self._waiting[number] = asyncio.get_running_loop().create_future()
            await self._waiting[number]
        return self.at[number]


class _Socket(asyncio.Protocol):
    """A WebSocket client: the protocol does the handshake, the pongs and the frames."""

    def __init__(self, port: int, path: str, take: Callable[[bytes], None]) -> None:
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{path}"), max_size=None)
        self._take = take
        self._transport: asyncio.Transport | None = None
        self.begun = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors
        self._protocol.send_request(self._protocol.connect())
        self._transport.writelines(self._protocol.data_to_send())

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(bytes(event.data))
                if b'"type":"caught_up"' in event.data:
                    self.begun.set()
        self._transport.writelines([piece for piece in self._protocol.data_to_send() if piece])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def observing(port: int, session_id: str, transport: Transport, seen: FirstFrames) -> AsyncIterator[None]:
    """Watch a session; on the way in everything from before has been shown."""
    path = f"/v1/sessions/{session_id}/events"
    if transport == "WebSocket":
        _, socket = await asyncio.get_running_loop().create_connection(
            lambda: _Socket(port, path, seen.take), "127.0.0.1", port
        )
        try:
            await socket.begun.wait()
            yield
        finally:
            socket.close()
        return
    line = await Connection.to(port)
    begun = asyncio.Event()

    def piece(data: bytes) -> None:
        seen.take(data)
        if b"event: caught_up" in data:
            begun.set()

    stream = asyncio.ensure_future(line.send("GET", path, headers=b"Accept: text/event-stream\r\n", on_piece=piece))
    try:
        await begun.wait()
        yield
    finally:
        line.close()
        await asyncio.gather(stream, return_exceptions=True)
