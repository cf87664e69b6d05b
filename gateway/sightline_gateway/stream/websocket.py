"""WebSocket: a feed as JSON text frames, one message each, and the few frames a client may send.

One task writes, one reads; what the reader has to answer goes through the writer, so there is one door for every write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Annotated

from msgspec import UNSET, Meta, Struct
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from sightline_gateway.gateway import Gateway
from sightline_gateway.http.bodies import object_from, parse_object
from sightline_gateway.problems import CODES, Problem, ProblemError, problem_of
from sightline_gateway.stream.asking import Wish, wish_of
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.frames import CLOSE_CODES, ErrorFrame, Frame, Pong, control
from sightline_gateway.stream.opening import close_feed, open_feed
from sightline_gateway.stream.sending import Outlet, Pace, SlowConsumer

__all__ = ["SUBPROTOCOL", "events_socket"]

_log = logging.getLogger("sightline.gateway.websocket")

SUBPROTOCOL = "sightline.v1.json"
_MAX_FRAME = 65_536
_MAX_ANSWERS = 64
_BREATH = 64
_JITTER_MS = 1_000


class PingFrame(Struct):
    """Answered by `pong` with the same id."""

    id: Annotated[str, Meta(max_length=200)] | int | None = None


class AuthFrame(Struct):
    """A renewed credential."""

    token: Annotated[str, Meta(max_length=8_192)]


_CLIENT_FRAMES: dict[str, type[PingFrame] | type[AuthFrame]] = {"ping": PingFrame, "auth": AuthFrame}


async def events_socket(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket on `/v1/sessions/{session_id}/events`."""
    socket = _Socket(receive, Outlet(scope, send, gateway.kernel.clock))
    with contextlib.suppress(_ClientGone, SlowConsumer):
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None)
        try:
            await _serve(gateway, scope, socket)
        except (_ClientGone, SlowConsumer):
            raise
        except Exception as error:
            problem = problem_of(error, scope["path"], str(scope.get("sightline.request_id", "")))
            if problem.code == "internal":
                _log.exception("socket %s failed", scope.get("sightline.request_id", ""))
            await socket.write(_error(problem))
            await socket.close(CODES[problem.code].close, problem.code)


async def _serve(gateway: Gateway, scope: Scope, socket: _Socket) -> None:
    wish = wish_of(scope["path_params"]["session_id"], scope["query_string"], Headers(scope=scope))
    feed = await open_feed(gateway, wish)
    try:
        await _Session(gateway, wish, feed, socket, scope["path"]).run()
    finally:
        close_feed(gateway, feed)


class _ClientGone(Exception):
    """There is nobody left to talk to."""


_GONE = (OSError, RuntimeError)
"""What a server raises when it is told to send on a connection that is closed, or was before it was accepted."""


class _Socket:
    """One WebSocket as ASGI has it. Writing raises _ClientGone and SlowConsumer."""

    def __init__(self, receive: Receive, outlet: Outlet) -> None:
        self._receive = receive
        self._outlet = outlet

    async def accept(self, subprotocol: str | None) -> None:
        if (await self._receive())["type"] != "websocket.connect":
            raise _ClientGone
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def write(self, frame: Frame) -> None:
        await self._send({"type": "websocket.send", "text": frame.text})

    async def close(self, code: int, reason: str = "") -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def part(self, goodbye: Frame | None, code: int, reason: str) -> None:
        """Close under a client that does not read: what it finds if it still does, for a little while."""
        last = [] if goodbye is None else [{"type": "websocket.send", "text": goodbye.text}]
        try:
            await self._outlet.part(*last, {"type": "websocket.close", "code": code, "reason": reason})
        except _GONE:
            raise _ClientGone from None

    async def read(self) -> str | None:
        """The next message, none when it is not text. Raises _ClientGone."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise _ClientGone
        text: str | None = message.get("text")
        return text

    async def _send(self, message: Message) -> None:
        try:
            await self._outlet.write(message)
        except _GONE:
            raise _ClientGone from None


class _Session:
    """The two halves of one connection."""

    def __init__(self, gateway: Gateway, wish: Wish, feed: Feed, socket: _Socket, path: str) -> None:
        self._feed = feed
        self._socket = socket
        self._path = path
        self._heartbeat = wish.query.heartbeat
        # Without a wish for heartbeats nothing is said in quiet times: the protocol's own pings keep the connection.
        self._pace = None if self._heartbeat is None else Pace(gateway.kernel.clock, self._heartbeat)
        self._answers: deque[Frame] = deque()
        self._answered = asyncio.Event()
        self._refused: int | None = None
        self._shown = ""

    async def run(self) -> None:
        """Serve until either side ends it. Raises _ClientGone."""
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]
        if self._pace is not None:
            tasks.append(asyncio.create_task(self._pace.ring(self._feed.ready.set)))
        writing, reading = tasks[:2]
        try:
            await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not writing.done():
                reading.result()
            await writing
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self) -> None:
        feed = self._feed
        try:
            while feed.ended is None:
                frames = await feed.next_frames()
                for count, frame in enumerate(frames, 1):
                    if not count % _BREATH:
                        await asyncio.sleep(0)  # writing does not wait as long as the client reads: others come first
                    if self._answers:
                        await self._write_answers()
                    if self._refused is not None:
                        break
                    await self._say(frame)
                await self._write_answers()
                if self._refused is not None:
                    await self._socket.close(self._refused)
                    return
                if not frames:
                    if self._pace is not None and self._pace.overdue:
                        await self._say(feed.heartbeat())
                    else:
                        await feed.ready.wait()
            await self._socket.close(feed.ended.code, feed.ended.reason)
        except SlowConsumer:
            goodbye = feed.goodbye(self._shown, "slow_consumer", 0, _JITTER_MS) if self._shown else None
            await self._socket.part(goodbye, CLOSE_CODES["slow_consumer"], "slow_consumer")

    async def _say(self, frame: Frame) -> None:
        await self._socket.write(frame)
        if frame.cursor is not None:
            self._shown = frame.cursor
        if self._pace is not None:
            self._pace.said()

    async def _write_answers(self) -> None:
        while self._answers:
            await self._say(self._answers.popleft())
            self._answered.set()

    async def _read(self) -> None:
        """Take what the client says until it says something that cannot be taken."""
        while self._refused is None:
            text = await self._socket.read()
            try:
                await self._answer(_client_answer(text))
            except ProblemError as error:
                problem = problem_of(error, self._path)
                closing = None if error.code == "not_implemented" else CODES[problem.code].close
                await self._answer(_error(problem), closing)

    async def _answer(self, frame: Frame, closing: int | None = None) -> None:
        """Hand an answer to the writer. A client that asks faster than it reads waits here, and so does its socket."""
        while len(self._answers) >= _MAX_ANSWERS:
            self._answered.clear()
            await self._answered.wait()
        self._answers.append(frame)
        self._refused = closing
        self._feed.ready.set()


def _client_answer(text: str | None) -> Frame:
    if text is None:
        raise ProblemError("bad_frame", "frames must be JSON text")
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > _MAX_FRAME:
        raise ProblemError("frame_too_large", f"the limit is {_MAX_FRAME} bytes")
    body = parse_object(raw)
    kind = body.pop("type", None)
    shape = _CLIENT_FRAMES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise ProblemError("bad_frame", f"type must be one of {', '.join(_CLIENT_FRAMES)}", field="type")
    frame = object_from(body, shape)
    if isinstance(frame, PingFrame):
        return control(Pong(id=UNSET if frame.id is None else frame.id))
    raise ProblemError("not_implemented", "there are no credentials to renew yet", field="type")


def _error(problem: Problem) -> Frame:
    return control(ErrorFrame(problem=problem))
