"""Server-sent events: a stream that any HTTP client can read and a browser resumes by itself.

A client cannot say anything on it, so it is the server that keeps it alive with comments, and ends it now and then:
proxies and phones hold half-dead connections for hours otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from sightline_gateway.gateway import Gateway
from sightline_gateway.lines.line import Outlet, line_of
from sightline_gateway.stream.asgi_line import AsgiLine, as_they_are, body_messages
from sightline_gateway.stream.channel import Render
from sightline_gateway.stream.frames import (
    Frame,
    as_server_sent,
    as_unidentified,
    chunk,
    http_chunk,
    unidentified_chunk,
)
from sightline_gateway.stream.observer import Observer, Pace

__all__ = ["COMMENT", "HEADERS", "RETRY", "EventStream", "client_gone", "pace_of"]

_log = logging.getLogger("sightline.gateway.sse")

_COMMENT_EVERY = 15.0
_ROTATE_AFTER = 600.0
_ROTATE_SPREAD = 0.2
RETRY = b"retry: 2000\n"
COMMENT = b": keep-alive\n\n"

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


def pace_of(gateway: Gateway, heartbeat: float | None) -> Pace:
    """What a stream says in quiet times, and how long it lasts: ten minutes, more or less, so that not all end at
    once.
    """
    lifetime = _ROTATE_AFTER * (1 + _ROTATE_SPREAD * (2 * gateway.kernel.ids.uniform() - 1))
    return Pace(heartbeat or _COMMENT_EVERY, comment=heartbeat is None, lifetime=lifetime)


class EventStream:
    """The response to a client that accepts `text/event-stream`. `observer` is subscribed and not started.

    `identified`: each event has an `id`, which is where a browser says that it was. `first`: told before all else.
    """

    def __init__(
        self, gateway: Gateway, observer: Observer, *, identified: bool = True, first: Sequence[Frame] = ()
    ) -> None:
        self._gateway = gateway
        self._observer = observer
        self._identified = identified
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        observer = self._observer
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            line = line_of(scope)
            if line is None:
                await self._serve_over_asgi(scope, receive, send)
                return
        except BaseException:
            observer.abandon()
            raise
        line.detach(observer)
        line.write(http_chunk(RETRY))
        self._start(line, chunk if self._identified else unidentified_chunk)

    def _start(self, line: Outlet, render: Render) -> None:
        self._observer.start(line, render)
        for frame in self._first:
            self._observer.answer(frame)

    async def _serve_over_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        observer = self._observer
        encode = as_server_sent if self._identified else as_unidentified
        line = AsgiLine(scope, send, self._gateway.kernel.clock, body_messages(encode, first=RETRY), _closing)
        self._start(line, as_they_are)
        sending = asyncio.create_task(line.run(observer))
        gone = asyncio.create_task(client_gone(receive))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            observer.gone()
            for task in (gone, sending):
                task.cancel()
            for outcome in await asyncio.gather(gone, sending, return_exceptions=True):
                if isinstance(outcome, Exception):
                    _log.error("stream %s failed", scope.get("sightline.request_id", ""), exc_info=outcome)


def _closing(code: int, reason: str) -> list[Message]:
    return [{"type": "http.response.body", "body": b"", "more_body": False}]


async def client_gone(receive: Receive) -> None:
    """Return when the client of an HTTP request has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
