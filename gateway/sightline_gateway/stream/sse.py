"""Server-sent events: a feed as `text/event-stream`, written straight to ASGI so that an event's bytes are made once for everybody.

The `id:` of each event is its cursor, so a browser's EventSource resumes by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.types import Receive, Scope, Send

from sightline_gateway.gateway import Gateway
from sightline_gateway.stream.asking import Wish
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.frames import sse
from sightline_gateway.stream.sending import Pace, SlowConsumer, wait_ready

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


class EventStream:
    """An ASGI response; the feed is open already, so refusals have been answered as problems."""

    def __init__(self, gateway: Gateway, wish: Wish, feed: Feed) -> None:
        self._gateway = gateway
        self._wish = wish
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_client_gone(receive))
        sending = asyncio.create_task(self._stream(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._feed.release()
            self._gateway.streams.remove(self._feed)
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        kernel = self._gateway.kernel
        heartbeat = self._wish.query.heartbeat
        lifetime = _ROTATE_AFTER * (1 + _ROTATE_SPREAD * (2 * kernel.ids.uniform() - 1))
        pace = Pace(kernel.clock, heartbeat or _COMMENT_EVERY, lifetime)
        opening = _RETRY
        with contextlib.suppress(SlowConsumer):
            while self._feed.ended is None:
                if pace.expired:
                    self._feed.close("rotated", retry_after_ms=0, jitter_ms=1_000)
                frames = await self._feed.next_frames()
                if frames:
                    body = opening + b"".join(sse(frame) for frame in frames)
                    opening = b""
                    await pace.send(send, _chunk(body))
                elif not await wait_ready(self._feed, pace.idle_time) and not pace.expired:
                    await pace.send(send, _chunk(sse(self._feed.heartbeat()) if heartbeat else _KEEP_ALIVE))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _chunk(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
