"""`/v1/sessions/{session_id}/events`, the HTTP half: SSE, or catch-up as JSON with long poll."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive

from sightline.clock import Clock, within
from sightline.errors import SessionDeleted
from sightline.observation.model import Observation
from sightline_gateway.gateway import Gateway
from sightline_gateway.http.operations import Answer, Call, Operation, response_of
from sightline_gateway.problems import ProblemError
from sightline_gateway.stream.asgi_line import as_they_are
from sightline_gateway.stream.asking import EventsQuery, Wish, wish_of
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.frames import Frame
from sightline_gateway.stream.observer import Observer, Pace
from sightline_gateway.stream.sse import EventStream, client_gone, pace_of

__all__ = ["OPERATION", "CatchUp", "serve_events"]


class CatchUp(Struct, frozen=True, kw_only=True):
    """The events after the cursor, at most `limit`; `cursor` is where to go on from.

    A fresh start brings the observation. `up_to_date`: nothing more is there yet.
    """

    events: list[msgspec.Raw]
    cursor: str
    up_to_date: bool
    observation: Observation | msgspec.UnsetType = msgspec.UNSET


async def serve_events(gateway: Gateway, request: Request) -> Response | ASGIApp:
    """The stream or the catch-up, by what the client accepts. Raises what becomes a problem."""
    wish = wish_of(request.path_params["session_id"], request.scope["query_string"], request.headers)
    if "text/event-stream" not in request.headers.get("accept", "").lower():
        return response_of(Answer(200, await _catch_up(gateway, wish, request.receive)))
    return EventStream(gateway, await _observer(gateway, wish, pace_of(gateway, wish.query.heartbeat)))


async def _observer(gateway: Gateway, wish: Wish, pace: Pace | None = None) -> Observer:
    observer = gateway.observer(pace=pace)
    try:
        await observer.subscribe(wish.session_id, wish.place, messages=wish.query.messages, kinds=wish.kinds)
    except BaseException:
        observer.abandon()
        raise
    return observer


async def _catch_up(gateway: Gateway, wish: Wish, receive: Receive) -> CatchUp:
    if wish.place.cursor is None and not wish.place.at_tail:
        view = await gateway.kernel.observe(wish.session_id, wish.query.messages)
        return CatchUp(events=[], cursor=view.cursor, up_to_date=True, observation=view)
    observer = await _observer(gateway, wish)
    try:
        feed = observer.only_feed
        poll = Poll(observer)
        observer.start(poll, as_they_are)
        await poll.told.wait()
        if not poll.has_news and wish.query.wait:
            poll.go_on()
            await _within(gateway.kernel.clock, wish.query.wait, poll, receive)
        return _page(poll, feed, wish.query.limit)
    finally:
        observer.abandon()


async def _within(clock: Clock, seconds: float, poll: Poll, receive: Receive) -> None:
    """Wait for something to tell, at most so long. Raises ClientDisconnect."""
    told = asyncio.create_task(poll.told.wait())
    gone = asyncio.create_task(client_gone(receive))
    gone.add_done_callback(lambda _: told.cancel())
    try:
        await within(clock, seconds, told)
        if told.cancelled():
            raise ClientDisconnect
    finally:
        for task in (told, gone):
            task.cancel()
        await asyncio.gather(told, gone, return_exceptions=True)


class Poll:
    """A line that holds one answer: what is there at once, or else the first thing that comes."""

    def __init__(self, observer: Observer) -> None:
        self.paused = False
        self.frames: list[Frame] = []
        self.ended: str | None = None
        self.told = asyncio.Event()
        self._observer = observer

    @property
    def has_news(self) -> bool:
        return self.ended is not None or any(frame.is_event or frame.name == "gap" for frame in self.frames)

    def write(self, frames: Sequence[Frame]) -> None:
        self.frames += frames
        if self.has_news or any(frame.name == "caught_up" for frame in frames):
            self.paused = True
            self.told.set()

    def go_on(self) -> None:
        """Take what comes next."""
        self.told.clear()
        self.paused = False
        self._observer.writable()

    def close(self, code: int, reason: str) -> None:
        self.ended = reason
        self.told.set()

    @property
    def batch(self) -> int:
        return sys.maxsize

    @property
    def unread(self) -> int:
        return 0

    def hold_reading(self) -> None:
        """Nothing is read from it."""

    def go_on_reading(self) -> None:
        """Nothing is read from it."""

    def cut_in(self, seconds: float) -> None:
        """It has no connection."""


def _page(poll: Poll, feed: Feed, limit: int) -> CatchUp:
    """What there is. Raises ProblemError `cursor_gone`, SessionDeleted."""
    for frame in poll.frames:
        if frame.name == "gap":
            raise _gone(frame)
    if poll.ended == "session_deleted":
        raise SessionDeleted(feed.session_id)
    shown = [frame for frame in poll.frames if frame.is_event]
    page = shown[:limit]
    whole = len(page) == len(shown)
    return CatchUp(
        events=[msgspec.Raw(frame.payload) for frame in page],
        cursor=feed.cursor if whole else str(page[-1].cursor),
        up_to_date=whole and not (poll.ended is None and feed.behind),
    )


def _gone(frame: Frame) -> ProblemError:
    facts = msgspec.json.decode(frame.payload)
    return ProblemError(
        "cursor_gone",
        f"the stream cannot be continued from there ({facts['gap']['reason']}); start over from the observation",
        gap=facts["gap"],
        observation=facts["observation"],
    )


async def _streamed(call: Call) -> Answer:
    raise AssertionError("events are served by serve_events, which may answer with a stream")


OPERATION = Operation(
    method="GET",
    path="/v1/sessions/{session_id}/events",
    summary="Watch a session: a stream that resumes, or catch-up",
    handle=_streamed,
    query=EventsQuery,
    answers={200: CatchUp},
    problems=(
        "invalid_field",
        "malformed_cursor",
        "wrong_session_cursor",
        "session_not_found",
        "session_deleted",
        "cursor_gone",
        "too_many_connections",
        "draining",
        "store_unavailable",
    ),
    headers=("Accept", "Last-Event-ID"),
    streams=True,
)
"""How the route is described; WebSocket upgrades of the same path are in the frames' own document."""
