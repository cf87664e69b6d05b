"""Clients on real sockets that decide about every byte: how much they read, and where the line breaks.

Nothing is read ahead: what a client has not asked for waits with the server, and an abort loses it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Self

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.gateway.stream.stage import Json, parse_server_sent

__all__ = ["ServerSentWire", "SocketWire", "Wire", "request"]

_RESET = struct.pack("ii", 1, 0)
ALL = 1 << 20


class Wire:
    """A connection to `/v1/sessions/{session}/events`, opened by `open`."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self.port = port
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connected(cls, port: int, receive_buffer: int | None = None) -> Self:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock, port)

    async def read(self, most: int = ALL) -> list[Json]:
        """The frames that at most so many bytes complete. Raises EOFError when the server has closed."""
        data = await self._loop.sock_recv(self._socket, most)
        if not data:
            raise EOFError
        return self._frames(data)

    async def read_until(self, *types: str) -> list[Json]:
        """Frames up to the first of one of these types or kinds."""
        frames: list[Json] = []
        while not any(frame["type"] in types or frame.get("kind") in types for frame in frames):
            frames += await self.read()
        return frames

    async def read_to_end(self) -> list[Json]:
        frames: list[Json] = []
        try:
            while True:
                frames += await self.read()
        except (EOFError, ConnectionResetError):
            return frames

    def _frames(self, data: bytes) -> list[Json]:
        raise NotImplementedError

    async def _write(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    def abort(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


class ServerSentWire(Wire):
    """HTTP/1.1 with server-sent events, chunk by chunk."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        super().__init__(sock, port)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._unparsed = b""
        self._shown = 0

    async def open(self, path: str, *, cursor: str | None = None, body: Any = None) -> None:
        """With a `body` it is posted."""
        last = "" if cursor is None else f"Last-Event-ID: {cursor}\r\n"
        content = b"" if body is None else json.dumps(body).encode()
        posted = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        head = (
            f"{'POST' if content else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Accept: text/event-stream\r\n{last}{posted}\r\n"
        )
        await self._write(head.encode() + content)

    def _frames(self, data: bytes) -> list[Json]:
        self._unparsed += data
        if not self.status and b"\r\n\r\n" in self._unparsed:
            head, _, self._unparsed = self._unparsed.partition(b"\r\n\r\n")
            self.status, self.headers = _head(head)
        while self.status == 200 and self._take_chunk():
            pass
        complete = self.body.rfind(b"\n\n") + 2
        if complete < 2:
            return []
        events = parse_server_sent(self.body[self._shown : complete].decode())
        self._shown = complete
        return [json.loads(event.data) for event in events if event.data is not None]

    def _take_chunk(self) -> bool:
        """Of a chunk that is only partly there, that part is taken: what a browser has seen, it has seen."""
        size, end, rest = self._unparsed.partition(b"\r\n")
        if not end:
            return False
        length = int(size, 16)
        if len(rest) < length:
            self.body += rest
            self._unparsed = b"%x\r\n" % (length - len(rest))
            return False
        if len(rest) < length + 2:
            return False
        self.body += rest[:length]
        self._unparsed = rest[length + 2 :]
        self.complete = not length
        return not self.complete


class SocketWire(Wire):
    """A WebSocket; `close_code` is there once the server has closed it."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        super().__init__(sock, port)
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{self.port}/"))
        self._message = b""
        self._early: list[Json] = []
        self.response: Response | None = None
        self.pings = 0

    async def open(self, path: str, *, cursor: str | None = None, subprotocols: tuple[str, ...] = ()) -> None:
        await self.begin(path, cursor=cursor, subprotocols=subprotocols)
        while self.response is None:
            self._early += await super().read()
        await self._flush()

    async def begin(self, path: str, *, cursor: str | None = None, subprotocols: tuple[str, ...] = ()) -> None:
        """Ask for the handshake, without waiting for the answer."""
        if cursor is not None:
            path += f"{'&' if '?' in path else '?'}cursor={cursor}"
        self._protocol = ClientProtocol(
            parse_uri(f"ws://127.0.0.1:{self.port}{path}"),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            max_size=None,
        )
        self._protocol.send_request(self._protocol.connect())
        await self._flush()

    async def say(self, frame: Any) -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self._protocol.send_text(text.encode())
        await self._flush()

    async def send_raw(self, frame: Frame) -> None:
        """Any frame at all, masked as a client must."""
        await self._write(frame.serialize(mask=True))

    async def leave(self) -> None:
        """Close as a well-behaved client does."""
        self._protocol.send_close(1000)
        await self._flush()

    async def _flush(self) -> None:
        await self._write(b"".join(self._protocol.data_to_send()))

    async def read(self, most: int = ALL) -> list[Json]:
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            frames = await super().read(most)
        except (EOFError, ConnectionResetError):
            self._protocol.receive_eof()
            raise
        await self._flush()  # pongs, and the answer to a close
        return frames

    def _frames(self, data: bytes) -> list[Json]:
        self._protocol.receive_data(data)
        frames = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                if event.opcode in (Opcode.TEXT, Opcode.CONT):
                    self._message += bytes(event.data)
                    if event.fin:
                        frames.append(json.loads(self._message))
                        self._message = b""
                else:
                    assert event.opcode is not Opcode.BINARY
                    self.pings += event.opcode is Opcode.PING
        return frames

    @property
    def close_code(self) -> int | None:
        return self._protocol.close_code

    @property
    def close_reason(self) -> str | None:
        return self._protocol.close_reason


class _Answer(Wire):
    def __init__(self, sock: socket.socket, port: int) -> None:
        super().__init__(sock, port)
        self.received = b""

    def _frames(self, data: bytes) -> list[Json]:
        self.received += data
        return []


async def request(
    port: int, path: str, *, method: str = "GET", body: Any = None, most: int | None = None
) -> tuple[int, Json] | None:
    """One request on a connection of its own; none when the line broke after `most` bytes of the answer."""
    content = b"" if body is None else json.dumps(body).encode()
    wire = await _Answer.connected(port)
    try:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            f"Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        await wire._write(head.encode() + content)
        while most is None or len(wire.received) < most:
            try:
                await wire.read(ALL if most is None else most - len(wire.received))
            except EOFError:
                top, _, answer = wire.received.partition(b"\r\n\r\n")
                return _head(top)[0], json.loads(answer) if answer else {}
        wire.abort()
        return None
    finally:
        wire.close()


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = raw.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, value in headers.items()}
