"""The table of loaded sessions: one handle each, made when somebody needs it and kept while anybody does.

A handle is loaded once however many ask. The one race that matters is with a deletion: what was read before it must not
become a handle after it, so a load that met a deletion reads again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from sightline.observation.handle import RuntimeHandle
from sightline.observation.port import SessionLoader
from sightline.observation.replay import LiveReplayStore
from sightline.observation.surroundings import Surroundings

__all__ = ["Handles"]

_log = logging.getLogger("sightline.observation")


class Handles:
    """On one event loop. `keep`: how many of a session's newest messages stay in memory."""

    def __init__(self, loader: SessionLoader, replay: LiveReplayStore, *, keep: int, around: Surroundings) -> None:
        self._loader = loader
        self._replay = replay
        self._keep = keep
        self.around = around
        """What handles loaded from now on find around them."""
        self._loaded: dict[str, RuntimeHandle] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._refreshing: set[asyncio.Task[None]] = set()
        self._deletions = 0
        self.readings = 0
        """How often a session was read so far."""
        self._listeners: set[Callable[[str], None]] = set()

    def on_listed(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Be called with the id of each session whose line in the list has changed, was added, or is gone.

        Returns what ends it. A listener is called on the publishing path: it may not wait nor raise.
        """
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def listed(self, session_id: str) -> None:
        """The session's line in the list has changed."""
        for listener in self._listeners:
            listener(session_id)

    def __len__(self) -> int:
        return len(self._loaded)

    def get(self, session_id: str) -> RuntimeHandle | None:
        """The handle, if it is loaded."""
        return self._loaded.get(session_id)

    @contextlib.asynccontextmanager
    async def opened(self, session_id: str) -> AsyncIterator[RuntimeHandle]:
        """The session's handle, loaded if need be, and kept while in use.

        Every write goes through a loaded handle, so that what it publishes meets a view that has all earlier writes.
        Raises SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        handle = await self._handle(session_id)
        handle.pins += 1
        try:
            yield handle
        finally:
            handle.unpin()

    def deleted(self, session_id: str) -> None:
        """The session is gone: its handle too, and what is being read of it."""
        self._deletions += 1
        handle = self._loaded.pop(session_id, None)
        if handle is not None:
            handle.close("session_deleted")
        self._replay.forget(session_id)
        self.listed(session_id)

    async def refresh(self, handle: RuntimeHandle) -> None:
        """Begin the view again from what is stored: the session moved on without it."""
        cursor = None
        while cursor != handle.cursor:  # what was published while the store was read may not be in what was read
            cursor = handle.cursor
            state = await self._loader.load_session(handle.session_id, self._keep)
        handle.refresh(state)
        self._was_read(handle)

    def _was_read(self, handle: RuntimeHandle) -> None:
        self.readings += 1
        handle.reading = self.readings

    def refresh_soon(self, handle: RuntimeHandle) -> None:
        """Refresh it in the background. When that fails it stays stale."""
        task = asyncio.create_task(self.refresh(handle), name=f"refresh {handle.session_id}")
        self._refreshing.add(task)
        task.add_done_callback(self._refreshed)

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("%s: %s", task.get_name(), task.exception())

    @property
    def stale(self) -> list[RuntimeHandle]:
        """The views that are known to have lost touch with the store."""
        return [handle for handle in self._loaded.values() if handle.stale]

    def release_idle(self) -> None:
        """Let go of handles that nobody looks at and nothing happens in."""
        for session_id, handle in list(self._loaded.items()):
            if handle.is_idle and not self._replay.subscribers(session_id):
                del self._loaded[session_id]

    async def stop(self) -> None:
        """Return when nothing is being loaded."""
        await asyncio.gather(*self._loading.values(), *self._refreshing, return_exceptions=True)

    async def _handle(self, session_id: str) -> RuntimeHandle:
        while True:
            handle = self._loaded.get(session_id)
            if handle is not None and handle.closed_reason is None:
                return handle
            loading = self._loading.get(session_id)
            if loading is None:
                loading = asyncio.create_task(self._load(session_id), name=f"load {session_id}")
                self._loading[session_id] = loading
                # Looked at here too: whoever waits for it may have left when it fails.
                loading.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                # Looked up again afterwards: until this task runs, the handle may have been let go or closed.
                await asyncio.shield(loading)
            except asyncio.CancelledError:
                if not loading.cancelled():
                    raise

    async def _load(self, session_id: str) -> None:
        try:
            while True:
                deletions = self._deletions
                state = await self._loader.load_session(session_id, self._keep)
                if deletions == self._deletions:
                    # Nothing was awaited since the check: no deletion can slip in before the handle is known.
                    handle = RuntimeHandle(state, self._replay, keep=self._keep, around=self.around)
                    handle.listed = self.listed
                    self._was_read(handle)
                    self._loaded[session_id] = handle
                    return
        finally:
            del self._loading[session_id]
