"""Clients that cost little: thousands of them read streams on one core, and some of them stop reading.

They know just as much of WebSockets and of HTTP as our servers use: whole text messages, whole chunks.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar, cast

__all__ = ["EventStream", "Line", "Refused", "Socket"]

_RESET = struct.pack("ii", 1, 0)
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A

Take = Callable[[bytes], None]
"""What is done with a frame's JSON. May raise AssertionError: the line then ends with it."""

AnyLine = TypeVar("AnyLine", bound="Line")


class Refused(Exception):
    """The server answered with something else than a stream: its status and the beginning of what it said."""

    def __init__(self, status: int, said: bytes) -> None:
        super().__init__(f"{status}: {said.decode(errors='replace')}")
        self.status = status


class Line(asyncio.Protocol):
    """A connection on which frames come. `ended` is done when it is over; its exception says what was wrong."""

    def __init__(self, take: Take) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._take = take
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._opened = False

    @classmethod
    async def to(cls, port: int, take: Take, *, receive_buffer: int | None = None) -> Self:
        """Connected, and nothing said yet. Raises OSError."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
            _, line = await loop.create_connection(lambda: cls(take), sock=sock)
        except BaseException:
            sock.close()
            raise
        return line

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def stop_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def abort(self) -> None:
        """Reset the connection, as a client does that is cut off."""
        sock = self.transport.get_extra_info("socket")
        if not self.ended.done() and sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def close(self) -> None:
        """Leave as one does who closes the page."""
        self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            self._buffer += data
            if not self._opened and not self._open():
                return
            self._read()
        except Exception as error:
            if not self.ended.done():
                self.ended.set_exception(error)
            self.transport.abort()

    def _open(self) -> bool:
        """Read the head of the response. Raises Refused."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status = int(self._buffer[9:12])
        if status not in (101, 200):
            raise Refused(status, bytes(self._buffer[end + 4 : end + 400]))
        del self._buffer[: end + 4]
        self._opened = True
        return True

    def _read(self) -> None:
        raise NotImplementedError


class Socket(Line):
    """A WebSocket. `close_code` is there once the server has closed it."""

    close_code: int | None = None

    def __init__(self, take: Take) -> None:
        super().__init__(take)
        self._unsaid: list[Any] = []

    def ask(self, path: str) -> None:
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )

    def say(self, message: Any) -> None:
        """Once the server has accepted: before that a client may not say anything."""
        if self._opened:
            self._send(_TEXT, json.dumps(message).encode())
        else:
            self._unsaid.append(message)

    def _open(self) -> bool:
        opened = super()._open()
        if opened:
            for message in self._unsaid:
                self.say(message)
        return opened

    def _send(self, head: int, payload: bytes) -> None:
        """A frame, masked with zeroes, which leave it as it is."""
        length = bytes([128 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
        self.transport.write(bytes([head]) + length + bytes(4) + payload)

    def _read(self) -> None:
        buffer, place = self._buffer, 0
        while len(buffer) - place >= 2:
            length, begin = buffer[place + 1], place + 2
            if length > 125:
                begin += 2 if length == 126 else 8
                length = int.from_bytes(buffer[place + 2 : begin])
            # As long as its own length is not all there, it is taken for shorter, and is not there either.
            if len(buffer) < begin + length:
                break
            self._message(buffer[place], bytes(buffer[begin : begin + length]))
            place = begin + length
        if place:
            del buffer[:place]

    def _message(self, head: int, payload: bytes) -> None:
        match head:
            case 0x81:
                self._take(payload)
            case 0x89:
                self._send(_PONG, payload)
            case 0x88:
                self.close_code = int.from_bytes(payload[:2])
                self._send(_CLOSE, payload[:2])
            case _:
                raise AssertionError(f"not a frame of ours: {head:#x}")


class EventStream(Line):
    """Server-sent events. `complete`: the server has ended the response in order."""

    complete = False

    def ask(self, path: str, *, cursor: str | None = None, body: Mapping[str, Any] | None = None) -> None:
        """With a `body` it is posted."""
        content = b"" if body is None else json.dumps(body).encode()
        last = "" if cursor is None else f"Last-Event-ID: {cursor}\r\n"
        posted = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        self.transport.write(
            f"{'POST' if content else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Accept: text/event-stream\r\n{last}{posted}\r\n".encode()
            + content
        )

    def _read(self) -> None:
        buffer, place = self._buffer, 0
        while (line_end := buffer.find(b"\r\n", place)) >= 0:
            length = int(buffer[place:line_end], 16)
            begin = line_end + 2
            if len(buffer) < begin + length + 2:
                break
            place = begin + length + 2
            if length:
                self._events(bytes(buffer[begin : begin + length]))
            else:
                self.complete = True
                self.transport.close()
        if place:
            del buffer[:place]

    def _events(self, chunk: bytes) -> None:
        for event in chunk.split(b"\n\n"):
            begin = event.find(b"data: ")
            if begin >= 0 and not event.startswith(b":"):
                self._take(event[begin + 6 :])
