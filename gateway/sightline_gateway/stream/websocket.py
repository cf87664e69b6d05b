"""WebSocket: JSON text frames, one message each, and the few frames a client may send.

`/v1/sessions/{session_id}/events` watches one session from the handshake on; `/v1/observe` watches those it is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

from msgspec import UNSET, Meta, Struct
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from sightline.errors import SightlineError
from sightline_gateway.gateway import Gateway
from sightline_gateway.http.bodies import object_from, parse_object
from sightline_gateway.lines.deflate import FULL_WINDOW
from sightline_gateway.lines.line import Line, line_of
from sightline_gateway.problems import CODES, Problem, ProblemError, problem_of
from sightline_gateway.stream.asgi_line import AsgiLine, as_they_are, socket_messages
from sightline_gateway.stream.asking import wish_of
from sightline_gateway.stream.channel import Render
from sightline_gateway.stream.frames import (
    ErrorFrame,
    Frame,
    Pong,
    as_text,
    compressed_messages,
    control,
    messages,
    narrowly_compressed_messages,
)
from sightline_gateway.stream.observer import Observer, Pace

__all__ = ["SUBPROTOCOL", "AuthFrame", "PingFrame", "Socket", "error_frame", "events_socket", "serve_socket"]

_log = logging.getLogger("sightline.gateway.websocket")

SUBPROTOCOL = "sightline.v1.json"
_MAX_FRAME = 65_536


class PingFrame(Struct, forbid_unknown_fields=True):
    """Answered by `pong` with the same id."""

    id: Annotated[str, Meta(max_length=200)] | int | None = None


class AuthFrame(Struct, forbid_unknown_fields=True):
    """A renewed credential."""

    token: Annotated[str, Meta(max_length=8_192)]


Handler: TypeAlias = Callable[[Any], None]
Frames: TypeAlias = Mapping[str, tuple[type[Struct], Handler]]


class Socket:
    """What one WebSocket takes from its client: each frame by its type, until one that cannot be taken.

    A handler that raises ProblemError refuses its frame; `ends` says which refusals are the end of the socket.
    """

    def __init__(self, observer: Observer, scope: Scope) -> None:
        self.observer = observer
        self._path = scope["path"]
        self._trace_id = str(scope.get("sightline.request_id", ""))
        # Not those of every socket: methods of its own in here would lead back to it, and keep it when it is over.
        self._frames: dict[str, tuple[type[Struct], Handler]] = {}

    def takes(self, kind: str, shape: type[Struct], handler: Handler) -> None:
        self._frames[kind] = (shape, handler)

    def received(self, message: str | bytes) -> None:
        """Take a message: answer it, or say what is wrong with it."""
        try:
            frame, handler = self._parsed(message)
        except ProblemError as error:
            problem = problem_of(error, self._path)
            self.observer.refuse(error_frame(problem), CODES[problem.code].close, problem.code)
            return
        try:
            handler(frame)
        except (ProblemError, SightlineError) as error:
            self.observer.answer(error_frame(problem_of(error, self._path), frame))
        except Exception as error:
            self.observer.refuse(*self.failed(error))

    def _parsed(self, message: str | bytes) -> tuple[Any, Handler]:
        if isinstance(message, bytes):
            raise ProblemError("bad_frame", "frames must be JSON text")
        raw = message.encode("utf-8", "surrogatepass")
        if len(raw) > _MAX_FRAME:
            raise ProblemError("frame_too_large", f"the limit is {_MAX_FRAME} bytes")
        body = parse_object(raw)
        kind = body.pop("type", None)
        entry = self._taken_as(kind)
        if entry is None:
            types = ", ".join(("ping", "auth", *self._frames))
            raise ProblemError("bad_frame", f"type must be one of {types}", field="type")
        return object_from(body, entry[0]), entry[1]

    def _taken_as(self, kind: object) -> tuple[type[Struct], Handler] | None:
        match kind:
            case "ping":
                return PingFrame, self._ping
            case "auth":
                return AuthFrame, self._auth
            case str():
                return self._frames.get(kind)
        return None

    def failed(self, error: Exception) -> tuple[Frame, int, str]:
        """What a client hears of a failure of ours."""
        problem = problem_of(error, self._path, self._trace_id)
        _log.error("socket %s failed", self._trace_id, exc_info=error)
        return error_frame(problem), CODES[problem.code].close, problem.code

    def _ping(self, frame: PingFrame) -> None:
        self.observer.answer(control(Pong(id=UNSET if frame.id is None else frame.id)))

    def _auth(self, frame: AuthFrame) -> None:
        raise ProblemError("not_implemented", "there are no credentials to renew yet", field="type")


def error_frame(problem: Problem, frame: Any = None) -> Frame:
    """A refusal; with the id and the session of the frame it is for."""
    given = getattr(frame, "id", None)
    session_id = getattr(frame, "session_id", None)
    return control(
        ErrorFrame(
            problem=problem,
            id=UNSET if given is None else given,
            session_id=UNSET if session_id is None else session_id,
        )
    )


async def events_socket(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket on `/v1/sessions/{session_id}/events`."""

    async def open_observer() -> tuple[Observer, Socket]:
        wish = wish_of(scope["path_params"]["session_id"], scope["query_string"], Headers(scope=scope))
        # Without a wish for heartbeats nothing is said in quiet times: the protocol's own pings keep the connection.
        pace = None if wish.query.heartbeat is None else Pace(wish.query.heartbeat)
        observer = gateway.observer(pace=pace)
        try:
            await observer.subscribe(wish.session_id, wish.place, messages=wish.query.messages, kinds=wish.kinds)
        except BaseException:
            observer.abandon()
            raise
        return observer, Socket(observer, scope)

    await serve_socket(gateway, scope, receive, send, open_observer)


async def serve_socket(
    gateway: Gateway,
    scope: Scope,
    receive: Receive,
    send: Send,
    open_observer: Callable[[], Any],
) -> None:
    """Accept, open, and let the observer have the connection. What cannot be opened gets an error frame and a close."""
    if (await receive())["type"] != "websocket.connect":
        return
    with contextlib.suppress(OSError, RuntimeError):  # what a server raises when the client has gone
        offered = scope.get("subprotocols") or ()
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": SUBPROTOCOL if SUBPROTOCOL in offered else None,
                "headers": [],
            }
        )
        try:
            observer, socket = await open_observer()
        except Exception as error:
            problem = problem_of(error, scope["path"], str(scope.get("sightline.request_id", "")))
            if problem.code == "internal":
                _log.exception("socket %s failed", scope.get("sightline.request_id", ""))
            await send({"type": "websocket.send", "text": as_text(error_frame(problem))})
            await send({"type": "websocket.close", "code": CODES[problem.code].close, "reason": problem.code})
            return
        line = line_of(scope)
        if line is None:
            await _serve_over_asgi(gateway, scope, receive, send, observer, socket)
        else:
            line.detach(observer)
            observer.start(line, _render_for(line), socket.received, socket.failed)


def _render_for(line: Line) -> Render:
    """The form that was agreed with the client, of which there are few: who shares one is told in the same bytes."""
    window = getattr(line, "window", 0)
    if not window:
        return messages
    return compressed_messages if window == FULL_WINDOW else narrowly_compressed_messages


async def _serve_over_asgi(
    gateway: Gateway, scope: Scope, receive: Receive, send: Send, observer: Observer, socket: Socket
) -> None:
    line = AsgiLine(scope, send, gateway.kernel.clock, socket_messages, _closing)
    observer.start(line, as_they_are, socket.received, socket.failed)
    writing = asyncio.create_task(line.run(observer))
    reading = asyncio.create_task(_read(receive, observer, line))
    try:
        await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        observer.gone()
        for task in (writing, reading):
            task.cancel()
        for outcome in await asyncio.gather(writing, reading, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("socket %s failed", scope.get("sightline.request_id", ""), exc_info=outcome)


async def _read(receive: Receive, observer: Observer, line: AsgiLine) -> None:
    while True:
        await line.may_read()
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        observer.received(message.get("bytes") or b"" if text is None else text)


def _closing(code: int, reason: str) -> list[Message]:
    return [{"type": "websocket.close", "code": code, "reason": reason}]
