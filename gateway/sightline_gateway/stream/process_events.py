"""`GET /v1/processes/{process_id}/events`: the log of a process, page by page with long poll, or as it grows, over SSE.

The log is durable and numbered, so a stream needs no buffer of its own: it reads on from the last event that the client
was handed, and waits when there is none. It ends with the process. Who comes back then is told so by a 204, which is
how an `EventSource` learns that there is nothing more to come.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline.errors import StoreUnavailable
from sightline_gateway.gateway import Gateway
from sightline_gateway.http.operations import Answer, Call, Operation
from sightline_gateway.http.processes import ShownEvent, shown_event
from sightline_gateway.http.writing import while_wanted
from sightline_gateway.lines.connection import Connection, connection_of
from sightline_gateway.problems import ProblemError
from sightline_gateway.stream.frames import CLOSE_CODES, Goodbye
from sightline_gateway.stream.observer import Pace
from sightline_gateway.stream.patience import Impatient, patiently
from sightline_gateway.stream.sse import COMMENT, HEADERS, RETRY, client_gone, pace_of

__all__ = ["OPERATION"]

_log = logging.getLogger("sightline.gateway.sse")

_PAGE = 256
_SEQUENCE = re.compile(r"[0-9]{1,18}", re.ASCII)


class ProcessEventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: the sequence of the last event that is known. `limit`, `wait`: for a page as JSON, how many events at
    most, and how many seconds to wait for the first.
    """

    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 500
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0


class ProcessEvents(Struct, frozen=True):
    """A page of a process's log. `next` is the `after` to go on with."""

    events: tuple[ShownEvent, ...]
    next: int


async def read_events(call: Call) -> Answer | ASGIApp:
    query: ProcessEventsQuery = call.query
    gateway: Gateway = call.gateway
    processes, process_id = gateway.kernel.processes, call.path["process_id"]
    after = _after(call)
    if "text/event-stream" in call.headers.get("accept", "").lower():
        record = await processes.get(process_id)
        if record.is_terminal and record.last_sequence <= after:
            return Answer(204)
        stream = ProcessStream(gateway, process_id, after, pace_of(gateway, None))
        gateway.streams.add(stream)
        return stream
    if query.wait:
        await while_wanted(call, processes.events_after(process_id, after, limit=1, wait=query.wait))
    events = tuple(map(shown_event, await processes.events_after(process_id, after, limit=query.limit)))
    return Answer(200, ProcessEvents(events, events[-1].sequence if events else after))


def _after(call: Call) -> int:
    """Where to go on: a browser that comes back says it in its own header."""
    given = call.headers.get("last-event-id") or None
    if given is None:
        return int(call.query.after)
    if not _SEQUENCE.fullmatch(given):
        raise ProblemError("invalid_field", "Last-Event-ID must be the sequence of an event", field="Last-Event-ID")
    return int(given)


class ProcessStream:
    """The response to a client that accepts `text/event-stream`, and one of the open streams until it has ended."""

    def __init__(self, gateway: Gateway, process_id: str, after: int, pace: Pace) -> None:
        self._gateway = gateway
        self._process_id = process_id
        self._after = after
        self._pace = pace
        self._goodbye: Goodbye | None = None
        self._closing = asyncio.Event()

    def close(self, reason: str, *, retry_after_ms: int | None = None, jitter_ms: int | None = None) -> None:
        if self._goodbye is None:
            self._goodbye = Goodbye(
                reason=reason,
                code=CLOSE_CODES[reason],
                retry_after_ms=_or_unset(retry_after_ms),
                jitter_ms=_or_unset(jitter_ms),
            )
            self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            connection = connection_of(scope)
            showing = asyncio.create_task(self._show(connection, send))
            gone = asyncio.create_task(client_gone(receive))
            try:
                await asyncio.wait({gone, showing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (gone, showing):
                    task.cancel()
                for outcome in await asyncio.gather(gone, showing, return_exceptions=True):
                    if isinstance(outcome, Impatient) and connection is not None:
                        connection.cut_in(0.0)
                    elif isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                        _log.error("stream %s failed", scope.get("sightline.request_id", ""), exc_info=outcome)
        finally:
            self._gateway.streams.remove(self)

    async def _show(self, connection: Connection | None, send: Send) -> None:
        """Send what there is and what comes, until the process has ended, or the stream has to. Raises Impatient."""
        clock = self._gateway.kernel.clock

        async def hand_over(body: bytes, *, more: bool) -> None:
            message = {"type": "http.response.body", "body": body, "more_body": more}
            await patiently(clock, connection, send, message)

        ends_at = math.inf if self._pace.lifetime is None else clock.monotonic() + self._pace.lifetime
        body = RETRY
        try:
            while self._goodbye is None:
                await hand_over(body, more=True)
                left = ends_at - clock.monotonic()
                if left <= 0:
                    self.close("rotated")
                    break
                body = await self._next(min(left, self._pace.every))
                if not body and await self._has_ended():
                    break
                body = body or COMMENT
        except StoreUnavailable as error:
            # The client comes back, from the last event it got, and is told how things are.
            _log.warning("the stream of process %s ends: %s", self._process_id, error)
        last = b"" if self._goodbye is None else b"event: goodbye\ndata: %b\n\n" % msgspec.json.encode(self._goodbye)
        await hand_over(last, more=False)

    async def _next(self, wait: float) -> bytes:
        """The next events; nothing when none came in so many seconds, the process has ended, or the stream has to."""
        reading = asyncio.ensure_future(
            self._gateway.kernel.processes.events_after(self._process_id, self._after, limit=_PAGE, wait=wait)
        )
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            events = reading.result() if reading.done() else ()
        finally:
            for task in (reading, closing):
                task.cancel()
            await asyncio.gather(reading, closing, return_exceptions=True)
        if events:
            self._after = events[-1].sequence
        return b"".join(
            b"event: process_event\nid: %d\ndata: %b\n\n" % (event.sequence, msgspec.json.encode(shown_event(event)))
            for event in events
        )

    async def _has_ended(self) -> bool:
        record = await self._gateway.kernel.processes.get(self._process_id)
        return record.is_terminal and record.last_sequence <= self._after


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value


OPERATION = Operation(
    method="GET",
    path="/v1/processes/{process_id}/events",
    summary="The log of a process: a page, or a stream that resumes",
    handle=read_events,
    query=ProcessEventsQuery,
    answers={200: ProcessEvents, 204: None},
    problems=("invalid_field", "process_not_found", "too_many_connections", "draining", "store_unavailable"),
    headers=("Accept", "Last-Event-ID"),
    streams=True,
)
