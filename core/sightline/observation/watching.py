"""Watching a session from inside the process: events one by one, and a loop that recovers from whatever can be
recovered from.

A subscription ends where it has a hole, because to go on over one would be to lie. `watch` is the loop that everybody
would write around it, once: begin, and where events were lost begin again behind the last one seen; where that is not
possible, say so with a gap and the view of now, and go on from there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from sightline.errors import SessionDeleted, SubscriberLagged, SubscriptionClosed
from sightline.observation.cursor import Cursor, parse_for_session
from sightline.observation.events import Event, from_wire
from sightline.observation.model import Observation
from sightline.observation.opening import GapAnswer, Opening

__all__ = ["SessionSubscription", "Snapshot", "Watchable", "watch"]

_DECODER = msgspec.json.Decoder()
_TAKE = 65_536


class Watchable(Protocol):
    """What of a runtime handle is needed to watch it."""

    session_id: str
    closed_reason: str | None

    def open(self, cursor: Cursor | None, wake: Callable[[], None]) -> Opening: ...

    def attach(self, closer: Callable[[str], None]) -> None: ...

    def detach(self, closer: Callable[[str], None]) -> None: ...


class Snapshot(Struct, frozen=True):
    """The session as watching begins."""

    view: Observation


class SessionSubscription:
    """The events behind a cursor: first those that were missed, then those that come.

    Made on the event loop. `close` it, or leave the `async with`; nothing that runs is affected by that.
    """

    def __init__(self, handle: Watchable, cursor: Cursor | None) -> None:
        self._handle = handle
        self._ready = asyncio.Event()
        self._events: deque[Event] = deque()
        self._opening: Opening | None = None
        self._closed: str | None = handle.closed_reason
        if self._closed is None:
            self._opening = handle.open(cursor, self._ready.set)
            handle.attach(self._close)
        self.cursor = "" if self._opening is None else self._opening.cursor

    @property
    def opening(self) -> Opening | None:
        """How it began; none in a session that had ended before."""
        return self._opening

    async def next_event(self) -> Event:
        """The next event in order, waiting for it if need be. `cursor` is that of the last one returned.

        Raises SubscriberLagged when events were lost to this subscription, and SubscriptionClosed when it was closed or
        the session ended; what had come before is returned first. May be cancelled at any time and called again:
        nothing is lost by that. One caller at a time.
        """
        while not self._events:
            self._ready.clear()
            self._take()
            if not self._events:
                if self._closed is not None:
                    raise SubscriptionClosed(self._handle.session_id, self._closed)
                await self._ready.wait()
        event = self._events.popleft()
        self.cursor = event.cursor
        return event

    def close(self) -> None:
        """Give the place in the log up. Idempotent."""
        self._close("closed")

    def __aiter__(self) -> SessionSubscription:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.next_event()
        except SubscriptionClosed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> SessionSubscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> None:
        if self._opening is None or self._closed is not None:
            return
        subscription = self._opening.subscription
        taken = subscription.take(_TAKE)
        if isinstance(taken, str):
            raise SubscriberLagged(self._handle.session_id, taken, subscription.lost)
        self._events.extend(from_wire(_DECODER.decode(entry.payload)) for entry in taken)

    def _close(self, reason: str) -> None:
        if self._closed is None:
            if self._opening is not None and reason != "closed":
                self._keep_what_came()
            self._closed = reason
            self._handle.detach(self._close)
            if self._opening is not None:
                self._opening.subscription.close()
            self._ready.set()

    def _keep_what_came(self) -> None:
        """The session ends under its watchers: what was published before is still theirs to see."""
        try:
            self._take()
        except SubscriberLagged:
            pass  # they are about to learn that it is over


async def watch(handle: Watchable, place: Cursor | None) -> AsyncGenerator[Snapshot | GapAnswer | Event]:
    """See `RuntimeHandle.watch`. The cursor is one of this session."""
    while True:
        async with SessionSubscription(handle, place) as subscription:
            opening = subscription.opening
            if opening is not None and opening.observation is not None:
                view = opening.observation
                yield Snapshot(view) if opening.gap is None else GapAnswer(opening.gap, view)
            try:
                while True:
                    yield await subscription.next_event()
            except SubscriberLagged:
                place = parse_for_session(subscription.cursor, handle.session_id)
            except SubscriptionClosed as closed:
                if closed.reason == "session_deleted":
                    raise SessionDeleted(handle.session_id) from None
                raise
