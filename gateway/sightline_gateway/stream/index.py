"""The index: the list of sessions as something to watch, for a page that shows many.

It has no log and no cursor. Who begins gets the newest lines of the list, and then each line that changes, as it is in
the store by then; several changes within a moment are one. Who could not be told for a while gets the list anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from sightline.errors import SightlineError
from sightline.kernel import Kernel
from sightline_gateway.lines.line import Outlet
from sightline_gateway.stream.channel import Render
from sightline_gateway.stream.frames import Frame, IndexChanged, IndexFrame, control

__all__ = ["INDEX", "Index", "IndexFeed"]

_log = logging.getLogger("sightline.gateway.stream")

INDEX = "*"
"""The name under which the index is subscribed to. No session can have it."""
_LINES = 200
_EVERY = 0.25
"""Seconds between two looks at what has changed."""
_MAX_PENDING = 200


class _Watcher(Protocol):
    def busy(self, feed: IndexFeed) -> None: ...


class IndexFeed:
    """One observer's share of the index. See `feed.Feed`, for which it stands."""

    __slots__ = ("_index", "fresh", "line", "pending", "watcher")

    line: Outlet

    session_id = INDEX
    cursor = ""
    waiting = False
    unsaid = False
    told_at = 0.0

    def __init__(self, index: Index, watcher: _Watcher) -> None:
        self._index = index
        self.watcher = watcher
        self.fresh = True
        """Whether it is to get the whole list."""
        self.pending: list[Frame] = []

    @property
    def settled(self) -> bool:
        return not self.pending

    def next_frames(self, max_bytes: int, render: Render) -> list[Frame]:
        frames, self.pending = self.pending, []
        return frames

    def tell(self, frames: Sequence[Frame]) -> None:
        """Have this told. What becomes too much is replaced by the list."""
        if not self.pending:
            self.watcher.busy(self)
        self.pending += frames
        if len(self.pending) > _MAX_PENDING:
            self.pending = []
            self.fresh = True

    def first_frame(self) -> Frame:
        raise AssertionError("no frame of the index has a cursor that a goodbye would have to wait for")

    def close(self) -> None:
        """Idempotent."""
        self._index.leave(self)


class Index:
    """One per hub. While somebody watches, it listens to the kernel."""

    def __init__(self, kernel: Kernel, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._kernel = kernel
        self._spawn = spawn
        self._feeds: set[IndexFeed] = set()
        self._changed: dict[str, None] = {}
        self._stop_listening: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def join(self, watcher: _Watcher) -> IndexFeed:
        """A new member; it is told the list as soon as that was read."""
        feed = IndexFeed(self, watcher)
        self._feeds.add(feed)
        if self._stop_listening is None:
            self._stop_listening = self._kernel.on_listed(self._listed)
        self._look()
        return feed

    def leave(self, feed: IndexFeed) -> None:
        self._feeds.discard(feed)
        if not self._feeds and self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
            self._changed.clear()
            if self._task is not None:
                self._task.cancel()
                self._task = None

    def _listed(self, session_id: str) -> None:
        self._changed[session_id] = None
        self._look()

    def _look(self) -> None:
        if self._task is None:
            self._task = self._spawn(self._look_while_needed())

    async def _look_while_needed(self) -> None:
        """One reader: what was read later is told later. Cancelled when nobody watches any more."""
        while self._changed or any(feed.fresh for feed in self._feeds):
            try:
                await self._tell_changes()
                await self._tell_lists()
            except SightlineError as error:
                _log.warning("the index could not be read, it will be tried again: %s", error)
            await self._kernel.clock.sleep(_EVERY)
        self._task = None

    async def _tell_changes(self) -> None:
        changed = list(self._changed)
        if changed:
            entries = {entry.session_id: entry for entry in await self._kernel.session_entries(changed)}
            for session_id in changed:
                self._changed.pop(session_id, None)
            frames = [
                control(
                    IndexChanged(session_id=INDEX, session=entries[session_id])
                    if session_id in entries
                    else IndexChanged(session_id=INDEX, removed=session_id)
                )
                for session_id in changed
            ]
            for feed in self._feeds:
                if not feed.fresh:
                    feed.tell(frames)

    async def _tell_lists(self) -> None:
        fresh = [feed for feed in self._feeds if feed.fresh]
        if fresh:
            page = await self._kernel.list_sessions(limit=_LINES)
            frame = control(IndexFrame(session_id=INDEX, sessions=page.sessions))
            for feed in fresh:
                if feed in self._feeds:
                    feed.fresh = False
                    feed.tell([frame])
