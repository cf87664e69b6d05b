"""A feed: what one subscription is to be told next, whatever carries it.

First a frame with a cursor (`observation`, `resumed` or `gap`), then what was missed, `caught_up`, and what happens. A
feed holds a place in the session's log, not a queue: who does not read costs nothing, and who comes too late for the
log gets a `gap` and the current view.

The transport asks `next_frames` and waits for `ready` when there are none. Nothing is done for a feed per event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec import UNSET

from sightline.errors import NotFound, SessionDeleted, StoreUnavailable
from sightline.kernel import Kernel
from sightline.observation.cursor import Cursor, parse
from sightline.observation.handle import Opening, RuntimeHandle
from sightline.observation.model import Observation
from sightline.observation.replay import Entry
from sightline_gateway.stream.frames import (
    CLOSE_CODES,
    CaughtUp,
    Frame,
    GapFrame,
    Goodbye,
    Heartbeat,
    ObservationFrame,
    Resumed,
    control,
    event,
)

__all__ = ["Feed"]

_log = logging.getLogger("sightline.gateway.stream")


class Feed:
    """One subscription to one session. `open`, then ask for frames until `ended`, then `release`.

    `cursor` is that of the last frame handed out, never one further: who comes back with it has missed nothing.
    """

    def __init__(
        self, kernel: Kernel, session_id: str, *, messages: int, kinds: frozenset[str] | None, max_bytes: int
    ) -> None:
        self._kernel = kernel
        self._session_id = session_id
        self._messages = messages
        self._kinds = kinds
        self._max_bytes = max_bytes
        self._handle: RuntimeHandle | None = None
        self._opening: Opening | None = None
        self._unsaid: Opening | None = None
        self._catch_up_to: int | None = None
        self._farewell: tuple[str, int | None, int | None] | None = None
        self.cursor = ""
        self.ended: Goodbye | None = None
        self.ready = asyncio.Event()

    async def open(self, cursor: Cursor | None, *, at_tail: bool = False) -> None:
        """Begin. Raises SessionNotFound, SessionDeleted, StoreUnavailable."""
        handle, opening = await self._kernel.subscribe(self._session_id, cursor, self.ready.set, at_tail=at_tail)
        handle.attach(self.close)
        self._handle = handle
        self._opening = self._unsaid = opening
        self._catch_up_to = _position(handle.cursor)
        self.ready.set()

    def close(self, reason: str, *, retry_after_ms: int | None = None, jitter_ms: int | None = None) -> None:
        """End after one more frame, a goodbye. The first reason counts."""
        if self._farewell is None:
            self._farewell = (reason, retry_after_ms, jitter_ms)
            self.ready.set()

    def release(self) -> None:
        """Give the place in the log up. Idempotent; call it on every exit."""
        if self._handle is not None:
            self._handle.detach(self.close)
        if self._opening is not None:
            self._opening.subscription.close()

    @property
    def behind(self) -> bool:
        """Whether there is more to be told at once."""
        return self._unsaid is not None or (self._opening is not None and self._opening.subscription.behind)

    def heartbeat(self) -> Frame:
        return control(Heartbeat(session_id=self._session_id, cursor=self.cursor))

    def goodbye(self, cursor: str, reason: str, retry_after_ms: int | None, jitter_ms: int | None) -> Frame:
        """The last frame, for one whose last cursor was this; after it the feed has `ended`."""
        self.ended = Goodbye(
            session_id=self._session_id,
            cursor=cursor,
            reason=reason,
            code=CLOSE_CODES[reason],
            retry_after_ms=UNSET if retry_after_ms is None else retry_after_ms,
            jitter_ms=UNSET if jitter_ms is None else jitter_ms,
        )
        return control(self.ended)

    async def next_frames(self) -> Sequence[Frame]:
        """What is to be written now, at most about `max_bytes` of events. Empty: wait for `ready`, then ask again."""
        assert self._opening is not None, "open it first"
        self.ready.clear()
        frames: list[Frame] = []
        if self._unsaid is not None:
            # Also before a goodbye: its cursor would otherwise stand for a snapshot that nobody has seen.
            frames += await self._first_frame(self._unsaid)
            self.cursor = self._unsaid.cursor
            self._unsaid = None
        if self._farewell is not None:
            frames.append(self.goodbye(self.cursor, *self._farewell))
            return frames
        more = True
        while more:
            entries = self._opening.subscription.take(self._max_bytes)
            if isinstance(entries, str):
                self._begin_again("lagged" if entries == "trimmed" else entries)
                return frames
            self._add_events(frames, entries)
            # The log wakes only who was told that there is nothing, which is not who got events his filter hides.
            more = bool(entries) and not frames
        return frames

    def _begin_again(self, reason: str) -> None:
        assert self._handle is not None, "open it first"
        assert self._opening is not None, "open it first"
        self._opening.subscription.close()
        self._opening = self._unsaid = self._handle.reopen_after_lag(self.cursor, self.ready.set, reason)
        if self._catch_up_to is not None:
            self._catch_up_to = _position(self._opening.cursor)
        self.ready.set()

    def _add_events(self, frames: list[Frame], entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self._catch_up_to is not None and entry.position > self._catch_up_to:
                frames.append(self._caught_up())
            self.cursor = entry.cursor
            if self._kinds is None or entry.kind in self._kinds:
                frames.append(event(entry))
        if self._catch_up_to is not None and _position(self.cursor) >= self._catch_up_to:
            frames.append(self._caught_up())

    def _caught_up(self) -> Frame:
        self._catch_up_to = None
        return control(CaughtUp(session_id=self._session_id, cursor=self.cursor))

    async def _first_frame(self, opening: Opening) -> Sequence[Frame]:
        """The frame that says where the stream begins; none when the session is gone: then a goodbye comes instead."""
        if opening.observation is None:
            return [control(Resumed(session_id=self._session_id, cursor=opening.cursor))]
        try:
            view = await self._widened(opening.observation)
        except (NotFound, SessionDeleted):
            self.close("session_deleted")
            return ()
        if opening.gap is None:
            return [control(ObservationFrame(session_id=self._session_id, cursor=view.cursor, observation=view))]
        return [control(GapFrame(session_id=self._session_id, cursor=view.cursor, gap=opening.gap, observation=view))]

    async def _widened(self, view: Observation) -> Observation:
        try:
            return await self._kernel.widen(view, self._messages)
        except StoreUnavailable as error:
            # Nobody needs the store to go on watching: fewer messages come than asked for, and `truncated` says so.
            _log.warning("session %s: a snapshot goes out without its older messages: %s", self._session_id, error)
            return view


def _position(cursor: str) -> int:
    return parse(cursor).position
