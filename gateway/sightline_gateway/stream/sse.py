"""Server-sent events: a feed as `text/event-stream`, written straight to ASGI so that an event's bytes are shared.

The `id:` of each event is its cursor, so a browser's EventSource resumes by itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from sightline_gateway.gateway import Gateway
from sightline_gateway.stream.asking import Wish
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.opening import close_feed
from sightline_gateway.stream.sending import Outlet, Pace, SlowConsumer, client_gone

__all__ = ["EventStream"]

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # A stream is of no use to a cache, to compression, or to a proxy that waits until it has enough.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_RETRY = b"retry: 2000\n"
_KEEP_ALIVE = b": keep-alive\n\n"
_COMMENT_EVERY = 15.0
_ROTATE_AFTER = 600.0
_ROTATE_SPREAD = 0.2
_JITTER_MS = 1_000


class EventStream:
    """An ASGI response; the feed is open already, so refusals have been answered as problems."""

    def __init__(self, gateway: Gateway, wish: Wish, feed: Feed) -> None:
        self._gateway = gateway
        self._heartbeat = wish.query.heartbeat
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kernel = self._gateway.kernel
        lifetime = _ROTATE_AFTER * (1 + _ROTATE_SPREAD * (2 * kernel.ids.uniform() - 1))
        pace = Pace(kernel.clock, self._heartbeat or _COMMENT_EVERY, lifetime)
        outlet = Outlet(scope, send, kernel.clock)
        gone = asyncio.create_task(client_gone(receive))
        sending = asyncio.create_task(self._stream(outlet, pace))
        ringing = asyncio.create_task(pace.ring(self._feed.ready.set))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            close_feed(self._gateway, self._feed)
            for task in (gone, sending, ringing):
                task.cancel()
            await asyncio.gather(gone, sending, ringing, return_exceptions=True)

    async def _stream(self, outlet: Outlet, pace: Pace) -> None:
        feed = self._feed
        shown = ""
        opening = _RETRY
        try:
            await outlet.write({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            while feed.ended is None:
                if pace.expired:
                    feed.close("rotated", retry_after_ms=0, jitter_ms=_JITTER_MS)
                frames = await feed.next_frames()
                if frames:
                    await outlet.write(_chunk(opening + b"".join([frame.sse for frame in frames])))
                    opening = b""
                    shown = feed.cursor
                elif pace.overdue:
                    await outlet.write(_chunk(feed.heartbeat().sse if self._heartbeat else _KEEP_ALIVE))
                else:
                    await feed.ready.wait()
                    continue
                pace.said()
            await outlet.write(_chunk(b"", more=False))
        except SlowConsumer:
            goodbye = _chunk(feed.goodbye(shown, "slow_consumer", 0, _JITTER_MS).sse)
            await outlet.part(*((goodbye, _chunk(b"", more=False)) if shown else ()))


def _chunk(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}
