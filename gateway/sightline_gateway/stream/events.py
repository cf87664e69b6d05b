"""`/v1/sessions/{session_id}/events`, the HTTP half: SSE, or catch-up as JSON with long poll."""

from __future__ import annotations

import asyncio

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
from sightline_gateway.stream.asking import EventsQuery, Wish, wish_of
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.frames import Frame
from sightline_gateway.stream.opening import close_feed, open_feed
from sightline_gateway.stream.sending import client_gone
from sightline_gateway.stream.sse import EventStream

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
    return EventStream(gateway, wish, await open_feed(gateway, wish))


async def _catch_up(gateway: Gateway, wish: Wish, receive: Receive) -> CatchUp:
    if wish.cursor is None and not wish.at_tail:
        view = await gateway.kernel.observe(wish.session_id, wish.query.messages)
        return CatchUp(events=[], cursor=view.cursor, up_to_date=True, observation=view)
    feed = await open_feed(gateway, wish)
    try:
        page = await _page(feed, wish.query.limit)
        if page.events or feed.ended is not None or not wish.query.wait:
            return page
        return await _long_poll(gateway.kernel.clock, feed, wish, receive)
    finally:
        close_feed(gateway, feed)


async def _long_poll(clock: Clock, feed: Feed, wish: Wish, receive: Receive) -> CatchUp:
    """The next page with something in it, or none after `wait` seconds. Raises ClientDisconnect."""
    polling = asyncio.create_task(_next_page(feed, wish.query.limit))
    gone = asyncio.create_task(client_gone(receive))
    gone.add_done_callback(lambda _: polling.cancel())
    try:
        if not await within(clock, wish.query.wait, polling):
            return CatchUp(events=[], cursor=feed.cursor, up_to_date=True)
        if polling.cancelled():
            raise ClientDisconnect
        return polling.result()
    finally:
        for task in (polling, gone):
            task.cancel()
        await asyncio.gather(polling, gone, return_exceptions=True)


async def _next_page(feed: Feed, limit: int) -> CatchUp:
    while True:
        await feed.ready.wait()
        page = await _page(feed, limit)
        if page.events or feed.ended is not None:
            return page


async def _page(feed: Feed, limit: int) -> CatchUp:
    """What there is now. Raises ProblemError `cursor_gone`, SessionDeleted."""
    shown: list[Frame] = []
    while not shown and feed.ended is None:
        frames = await feed.next_frames()
        if not frames:
            break
        for frame in frames:
            if frame.name == "gap":
                raise _gone(frame)
            if frame.is_event:
                shown.append(frame)
    if feed.ended is not None and feed.ended.reason == "session_deleted":
        raise SessionDeleted(feed.ended.session_id)
    page = shown[:limit]
    return CatchUp(
        events=[msgspec.Raw(frame.payload) for frame in page],
        cursor=feed.cursor if len(page) == len(shown) else str(page[-1].cursor),
        up_to_date=len(page) == len(shown) and not feed.behind,
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
