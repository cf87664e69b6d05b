"""WebSocket: a feed as JSON text frames, one message each, and the few frames a client may send.

One task writes, one reads; what the reader has to answer goes through the writer, so there is one door for every write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from sightline.errors import SightlineError
from sightline_gateway.gateway import Gateway
from sightline_gateway.http.bodies import object_from, parse_object
from sightline_gateway.problems import CODES, ProblemError, problem_of
from sightline_gateway.stream.asking import Wish, wish_of
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.frames import ErrorFrame, Frame, Pong, control
from sightline_gateway.stream.opening import open_feed
from sightline_gateway.stream.sending import Pace, SlowConsumer, wait_ready

__all__ = ["SUBPROTOCOL", "events_socket"]

_log = logging.getLogger("sightline.gateway.websocket")

SUBPROTOCOL = "sightline.v1.json"
_MAX_FRAME = 65_536
_MAX_ANSWERS = 64
_QUIET = 3_600.0
"""Without a wish for heartbeats nothing is said in quiet times: the protocol's own pings keep the connection."""


class PingFrame(Struct):
    """Answered by `pong` with the same id."""

    id: Annotated[str, Meta(max_length=200)] | int | None = None


class AuthFrame(Struct):
    """A renewed credential."""

    token: Annotated[str, Meta(max_length=8_192)]


_CLIENT_FRAMES: dict[str, type[PingFrame] | type[AuthFrame]] = {"ping": PingFrame, "auth": AuthFrame}


async def events_socket(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket on `/v1/sessions/{session_id}/events`."""
    socket = WebSocket(scope, receive, send)
    offered = scope.get("subprotocols") or []
    with contextlib.suppress(OSError, RuntimeError):
        # The client may be gone at any moment: then starlette raises, and there is nobody to tell.
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            wish = wish_of(scope["path_params"]["session_id"], scope["query_string"], socket.headers)
            feed = await open_feed(gateway, wish)
        except (ProblemError, SightlineError) as error:
            await _refuse(socket, error)
            return
        try:
            await _Session(gateway, wish, feed, socket).run()
        finally:
            feed.release()
            gateway.streams.remove(feed)


async def _refuse(socket: WebSocket, error: Exception) -> None:
    problem = problem_of(error, socket.url.path)
    await socket.send_text(control(ErrorFrame(problem=problem)).payload.decode())
    await socket.close(CODES[problem.code].close, problem.code)


class _Session:
    """The two halves of one connection."""

    def __init__(self, gateway: Gateway, wish: Wish, feed: Feed, socket: WebSocket) -> None:
        self._feed = feed
        self._socket = socket
        self._heartbeat = wish.query.heartbeat
        self._pace = Pace(gateway.kernel.clock, self._heartbeat or _QUIET, None)
        self._answers: deque[Frame] = deque()
        self._answered = asyncio.Event()
        self._close_code: int | None = None

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done() or self._close_code is not None:
                await writing
        except SlowConsumer:
            # Its buffer is full, so no goodbye can be said; the close code may still get through.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._socket.close(4502, "slow_consumer")
        except SightlineError as error:
            await _refuse(self._socket, error)
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            while self._answers:
                await self._send(self._answers.popleft())
            self._answered.set()
            if self._close_code is not None:
                await self._socket.close(self._close_code)
                return
            frames = await self._feed.next_frames()
            for frame in frames:
                await self._send(frame)
            if self._feed.ended is not None:
                await self._socket.close(self._feed.ended.code, self._feed.ended.reason)
                return
            if not frames and not self._answers and not await wait_ready(self._feed, self._pace.idle_time):
                if self._heartbeat:
                    await self._send(self._feed.heartbeat())

    async def _send(self, frame: Frame) -> None:
        await self._pace.send(self._socket.send, {"type": "websocket.send", "text": frame.payload.decode()})

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._take(message)
            if self._close_code is not None:
                return

    async def _take(self, message: Any) -> None:
        text = message.get("text")
        try:
            if text is None:
                raise ProblemError("bad_frame", "frames must be JSON text")
            raw = text.encode("utf-8", "surrogatepass")
            if len(raw) > _MAX_FRAME:
                raise ProblemError("frame_too_large", f"the limit is {_MAX_FRAME} bytes")
            await self._answer(_client_answer(raw))
        except ProblemError as error:
            problem = problem_of(error, self._socket.url.path)
            if error.code != "not_implemented":
                self._close_code = CODES[problem.code].close
            await self._answer(control(ErrorFrame(problem=problem)))

    async def _answer(self, frame: Frame) -> None:
        """Hand an answer to the writer. A client that asks faster than it reads waits here, and so does its socket."""
        while len(self._answers) >= _MAX_ANSWERS:
            self._answered.clear()
            await self._answered.wait()
        self._answers.append(frame)
        self._feed.ready.set()


def _client_answer(raw: bytes) -> Frame:
    body = parse_object(raw)
    kind = body.pop("type", None)
    shape = _CLIENT_FRAMES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise ProblemError("bad_frame", f"type must be one of {', '.join(_CLIENT_FRAMES)}", field="type")
    frame = object_from(body, shape)
    if isinstance(frame, PingFrame):
        return control(Pong(id=UNSET if frame.id is None else frame.id))
    raise ProblemError("not_implemented", "there are no credentials to renew yet", field="type")
