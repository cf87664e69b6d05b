"""A feed: what one subscription is to be told next, whatever carries it.

First a frame with a cursor (`observation`, `resumed` or `gap`), then what was missed, `caught_up`, and what happens. A feed holds a place in the
session's log, not a queue: who does not read costs nothing, and who comes too late for the log gets a `gap` and the current view.

The transport asks `next_frames` and waits for `ready` when there are none. Nothing is done for a feed per event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sightline.kernel import Kernel
from sightline.observation.cursor import Cursor
from sightline.observation.handle import Opening, RuntimeHandle
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


class Feed:
    """One subscription to one session. `open`, then ask for frames until `ended`, then `release`.

    `cursor` is the last one handed out.
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
        self._first: Opening | None = None
        self._catch_up_to: int | None = None
        self._goodbye: Goodbye | None = None
        self.cursor = ""
        self.ended: Goodbye | None = None
        self.ready = asyncio.Event()

    async def open(self, cursor: Cursor | None, *, at_tail: bool = False) -> None:
        """Begin. Raises SessionNotFound, SessionDeleted, StoreUnavailable."""
        handle, opening = await self._kernel.subscribe(self._session_id, cursor, self.ready.set, at_tail=at_tail)
        self._handle = handle
        handle.attach(self.close)
        self._begin(opening, handle)

    def _begin(self, opening: Opening, handle: RuntimeHandle) -> None:
        self._opening = self._first = opening
        self.cursor = opening.cursor
        target = _position(handle.cursor)
        self._catch_up_to = target if opening.observation is None else _position(opening.cursor)
        self.ready.set()

    def close(self, reason: str, *, retry_after_ms: int | None = None, jitter_ms: int | None = None) -> None:
        """End after one more frame, a goodbye. The first reason counts."""
        if self._goodbye is None:
            self._goodbye = Goodbye(
                session_id=self._session_id,
                cursor=self.cursor,
                reason=reason,
                code=CLOSE_CODES[reason],
                **{
                    name: value
                    for name, value in (("retry_after_ms", retry_after_ms), ("jitter_ms", jitter_ms))
                    if value is not None
                },
            )
            self.ready.set()

    def release(self) -> None:
        """Give the place in the log up. Idempotent; call it on every exit."""
        if self._handle is not None:
            self._handle.detach(self.close)
        if self._opening is not None:
            self._opening.subscription.close()

    def heartbeat(self) -> Frame:
        return control(Heartbeat(session_id=self._session_id, cursor=self.cursor))

    async def next_frames(self) -> Sequence[Frame]:
        """What is to be written now, at most about `max_bytes` of events. None: wait for `ready`. After a goodbye `ended` is set.

        Raises StoreUnavailable when a snapshot needs older messages and the store does not answer.
        """
        self.ready.clear()
        assert self._handle is not None and self._opening is not None, "open it first"
        frames: list[Frame] = []
        if self._goodbye is not None:
            goodbye = self.ended = _at(self._goodbye, self.cursor)
            return [control(goodbye)]
        if self._first is not None:
            first, self._first = self._first, None
            frames.append(await self._first_frame(first))
        entries = self._opening.subscription.take(self._max_bytes)
        if isinstance(entries, str):
            self._opening.subscription.close()
            reason = "lagged" if entries == "trimmed" else entries
            self._begin(self._handle.reopen_after_lag(self.cursor, self.ready.set, reason), self._handle)
            return frames
        self._add_events(frames, entries)
        return frames

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

    async def _first_frame(self, opening: Opening) -> Frame:
        if opening.observation is None:
            return control(Resumed(session_id=self._session_id, cursor=opening.cursor))
        view = await self._kernel.widen(opening.observation, self._messages)
        if opening.gap is None:
            return control(ObservationFrame(session_id=self._session_id, cursor=view.cursor, observation=view))
        return control(GapFrame(session_id=self._session_id, cursor=view.cursor, gap=opening.gap, observation=view))


def _at(goodbye: Goodbye, cursor: str) -> Goodbye:
    return Goodbye(
        session_id=goodbye.session_id,
        cursor=cursor,
        reason=goodbye.reason,
        code=goodbye.code,
        retry_after_ms=goodbye.retry_after_ms,
        jitter_ms=goodbye.jitter_ms,
    )


def _position(cursor: str) -> int:
    return int(cursor.split(":", 4)[3])
