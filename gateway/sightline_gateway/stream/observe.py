"""`/v1/observe`: many sessions on one connection, and the list of them (wire: section 7).

On a WebSocket a client subscribes and unsubscribes as it likes; what is wrong with one subscription is answered and
does not touch the others. Its twin, a POST answered by server-sent events, names its sessions once.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.errors import SightlineError
from sightline_gateway.gateway import Gateway
from sightline_gateway.http.bodies import object_from, parse_object, parse_query, read_body
from sightline_gateway.http.operations import Answer, Call, Operation, check_session_id
from sightline_gateway.problems import ProblemError, problem_of
from sightline_gateway.stream.asking import Messages, Place, kinds_of, place_of
from sightline_gateway.stream.index import INDEX
from sightline_gateway.stream.observer import Observer, Pace
from sightline_gateway.stream.sse import EventStream, pace_of
from sightline_gateway.stream.websocket import Socket, error_frame, serve_socket

__all__ = ["OPERATION", "observe_socket", "serve_observe"]

_log = logging.getLogger("sightline.gateway.observe")

_Id = Annotated[str, Meta(max_length=200)] | int | None
_SessionId = Annotated[str, Meta(min_length=1, max_length=128)]


class SubscribeFrame(Struct, forbid_unknown_fields=True):
    """Watch one more session, or (`*`) the list of sessions. As the parameters of a stream of one session."""

    session_id: _SessionId
    cursor: str | None = None
    messages: Messages = 200
    kinds: str | list[str] | None = None
    id: _Id = None


class UnsubscribeFrame(Struct, forbid_unknown_fields=True):
    """Watch it no more. Nothing of this session comes after what is on its way."""

    session_id: _SessionId
    id: _Id = None


class ManyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`heartbeat`: a frame whenever so many seconds were quiet."""

    heartbeat: Annotated[float, Meta(ge=0.1, le=3600)] | None = None


class ManySessions(Struct, forbid_unknown_fields=True):
    """`sessions`: from which cursor each is to be shown, `null` for a fresh start; `*` is the list of sessions."""

    sessions: dict[str, str | None]
    messages: Messages = 200
    kinds: str | list[str] | None = None


class _Subscriptions:
    """The sessions of one connection, some of which are still being read."""

    def __init__(self, gateway: Gateway, observer: Observer, path: str) -> None:
        self._gateway = gateway
        self._observer = observer
        self._path = path
        self._opening: set[str] = set()
        self._unwanted: set[str] = set()

    def subscribe(self, frame: SubscribeFrame) -> None:
        """Begin to watch. Raises ProblemError; what is found out later is answered later."""
        place = _place(frame.session_id, frame.cursor)
        kinds = kinds_of(frame.kinds)
        session_id = frame.session_id
        if session_id in self._observer.feeds or session_id in self._opening:
            raise ProblemError("already_subscribed", f"{session_id} is watched already; unsubscribe first")
        limit = self._gateway.settings.max_subscriptions
        if len(self._observer.feeds) + len(self._opening) >= limit:
            raise ProblemError("too_many_subscriptions", f"a stream shows at most {limit} sessions")
        if session_id == INDEX:
            self._observer.watch_index()
        else:
            self._opening.add(session_id)
            self._gateway.hub.spawn(self._open(frame, place, kinds))

    def unsubscribe(self, frame: UnsubscribeFrame) -> None:
        if frame.session_id in self._opening:
            self._unwanted.add(frame.session_id)
        elif not self._observer.unsubscribe(frame.session_id):
            raise ProblemError("not_subscribed", f"{frame.session_id} is not watched")

    async def _open(self, frame: SubscribeFrame, place: Place, kinds: frozenset[str] | None) -> None:
        session_id = frame.session_id
        try:
            await self._observer.subscribe(session_id, place, messages=frame.messages, kinds=kinds)
            if session_id in self._unwanted:
                self._observer.unsubscribe(session_id)
        except Exception as error:
            if not isinstance(error, SightlineError):
                _log.exception("a subscription failed")
            self._observer.answer(error_frame(problem_of(error, self._path), frame))
        finally:
            self._opening.discard(session_id)
            self._unwanted.discard(session_id)


def _place(session_id: str, cursor: str | None) -> Place:
    if session_id == INDEX:
        if cursor is not None:
            raise ProblemError("invalid_field", "the index has no cursors", field="cursor")
        return Place(None, False)
    check_session_id(session_id)
    return place_of(session_id, cursor)


async def observe_socket(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket on `/v1/observe`."""

    async def open_observer() -> tuple[Observer, Socket]:
        query = parse_query(scope["query_string"], ManyQuery)
        observer = gateway.observer(pace=None if query.heartbeat is None else Pace(query.heartbeat), many=True)
        subscriptions = _Subscriptions(gateway, observer, scope["path"])
        socket = Socket(observer, scope)
        socket.takes("subscribe", SubscribeFrame, subscriptions.subscribe)
        socket.takes("unsubscribe", UnsubscribeFrame, subscriptions.unsubscribe)
        return observer, socket

    await serve_socket(gateway, scope, receive, send, open_observer)


async def serve_observe(gateway: Gateway, request: Request) -> ASGIApp:
    """The stream of the sessions that the body names. Raises what becomes a problem."""
    query = parse_query(request.scope["query_string"], ManyQuery)
    body = object_from(parse_object(await read_body(request, gateway.settings.max_body)), ManySessions)
    if not body.sessions:
        raise ProblemError("invalid_field", "name at least one session", field="sessions")
    limit = gateway.settings.max_subscriptions
    if len(body.sessions) > limit:
        raise ProblemError("too_many_subscriptions", f"a stream shows at most {limit} sessions", field="sessions")
    kinds = kinds_of(body.kinds)
    places = {session_id: _place(session_id, cursor) for session_id, cursor in body.sessions.items()}
    observer = gateway.observer(pace=pace_of(gateway, query.heartbeat), many=True)
    refused: list[Any] = []
    try:
        for session_id, place in places.items():
            if session_id == INDEX:
                observer.watch_index()
                continue
            try:
                await observer.subscribe(session_id, place, messages=body.messages, kinds=kinds)
            except SightlineError as error:
                frame = SubscribeFrame(session_id=session_id)
                refused.append(error_frame(problem_of(error, request.scope["path"]), frame))
    except BaseException:
        observer.abandon()
        raise
    return EventStream(gateway, observer, identified=False, first=refused)


async def _streamed(call: Call) -> Answer:
    raise AssertionError("this is served by serve_observe, which answers with a stream")


OPERATION = Operation(
    method="POST",
    path="/v1/observe",
    summary="Watch several sessions: a stream of server-sent events",
    handle=_streamed,
    query=ManyQuery,
    body=ManySessions,
    answers={200: None},
    problems=(
        "malformed_json",
        "invalid_field",
        "body_too_large",
        "unsupported_media_type",
        "malformed_cursor",
        "wrong_session_cursor",
        "too_many_subscriptions",
        "too_many_connections",
        "draining",
    ),
    streams=True,
)
"""How the route is described; WebSocket upgrades of the same path are in the frames' own document."""
