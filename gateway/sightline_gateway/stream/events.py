"""`/v1/sessions/{session_id}/events`, the HTTP half: SSE, or catch-up as JSON with long poll."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sightline.errors import SessionDeleted
from sightline.observation.handle import RuntimeHandle
from sightline.observation.model import Observation
from sightline.observation.replay import Entry
from sightline_gateway.gateway import Gateway
from sightline_gateway.http.operations import Answer, Call, Operation, response_of
from sightline_gateway.problems import ProblemError
from sightline_gateway.stream.asking import EventsQuery, Wish, wish_of
from sightline_gateway.stream.opening import open_feed
from sightline_gateway.stream.sse import EventStream

__all__ = ["OPERATION", "CatchUp", "serve_events"]


class CatchUp(Struct, frozen=True, kw_only=True):
    """The events after the cursor, at most `limit`; `cursor` is where to go on from. A fresh start brings the observation."""

    events: list[msgspec.Raw]
    cursor: str
    up_to_date: bool
    observation: Observation | msgspec.UnsetType = msgspec.UNSET


async def serve_events(gateway: Gateway, request: Request) -> Response | ASGIApp:
    """The stream or the catch-up, by what the client accepts. Raises what becomes a problem."""
    wish = wish_of(request.path_params["session_id"], request.scope["query_string"], request.headers)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return response_of(Answer(200, await _catch_up(gateway, wish)))
    return EventStream(gateway, wish, await open_feed(gateway, wish))


async def _catch_up(gateway: Gateway, wish: Wish) -> CatchUp:
    async with gateway.kernel.opened(wish.session_id) as handle:
        if wish.cursor is None and not wish.at_tail:
            view = await gateway.kernel.widen(handle.observe(), wish.query.messages)
            return CatchUp(events=[], cursor=view.cursor, up_to_date=True, observation=view)
        entries, start = await _entries(gateway, wish, handle)
    page = entries[: wish.query.limit]
    shown = [entry for entry in page if wish.kinds is None or entry.kind in wish.kinds]
    return CatchUp(
        events=[msgspec.Raw(entry.payload) for entry in shown],
        cursor=page[-1].cursor if page else start,
        up_to_date=len(page) == len(entries),
    )


async def _entries(gateway: Gateway, wish: Wish, handle: RuntimeHandle) -> tuple[Sequence[Entry], str]:
    """What happened after the cursor, and the cursor; when that is nothing, what happens within `wait` seconds."""
    woken = asyncio.Event()
    opening = handle.open_at_tail(woken.set) if wish.cursor is None else handle.open(wish.cursor, woken.set)
    waiter = _Waiter(woken)
    try:
        if opening.gap is not None and opening.observation is not None:
            raise await _gone(gateway, wish, opening.gap, opening.observation)
        entries = opening.subscription.take(gateway.settings.replay_max_bytes)
        if not entries and wish.query.wait:
            gateway.streams.add(waiter)
            handle.attach(waiter.close)
            try:
                async with asyncio.timeout(wish.query.wait):
                    await woken.wait()
            except TimeoutError:
                pass
            entries = opening.subscription.take(gateway.settings.replay_max_bytes)
        if handle.closed_reason is not None:
            raise SessionDeleted(wish.session_id)
        if isinstance(entries, str):
            raise await _gone(gateway, wish, *handle.gap(str(wish.cursor or opening.cursor), entries))
        return entries, opening.cursor
    finally:
        handle.detach(waiter.close)
        gateway.streams.remove(waiter)
        opening.subscription.close()


async def _gone(gateway: Gateway, wish: Wish, gap: Any, view: Observation) -> ProblemError:
    view = await gateway.kernel.widen(view, wish.query.messages)
    return ProblemError(
        "cursor_gone",
        f"the stream cannot be continued from there ({gap.reason}); start over from the observation",
        gap=gap,
        observation=view,
    )


class _Waiter:
    """A long poll among the open streams: a drain or a deletion answers it at once with what there is."""

    def __init__(self, woken: asyncio.Event) -> None:
        self._woken = woken

    def close(self, reason: str, *, retry_after_ms: int | None = None, jitter_ms: int | None = None) -> None:
        self._woken.set()


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
