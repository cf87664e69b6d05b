"""Housekeeping: what nobody uses any more is let go of, a little every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from sightline.clock import Clock
from sightline.errors import SightlineError
from sightline.limits import Limits
from sightline.observation.handles import Handles
from sightline.observation.replay import LiveReplayStore

__all__ = ["Housekeeping", "PurgeStore"]

_log = logging.getLogger("sightline.housekeeping")

_INTERVAL = 15.0
_GROUP = 500


class PurgeStore(Protocol):
    """The part of a store that forgets what ended before a time; at most `limit` at once. Returns how many."""

    async def purge_ended(self, before_ms: int, limit: int) -> int: ...

    async def purge_keys(self, before_ms: int, limit: int) -> int: ...

    async def purge_requests(self, before_ms: int, limit: int) -> int: ...

    async def purge_tasks(self, before_ms: int, limit: int) -> int: ...


class Housekeeping:
    """For one kernel, from `start` to `stop`. `mend` is called with a session whose view may have lost touch."""

    def __init__(
        self,
        store: PurgeStore,
        replay: LiveReplayStore,
        handles: Handles,
        *,
        clock: Clock,
        limits: Limits,
        mend: Callable[[str], None],
    ) -> None:
        self._replay = replay
        self._handles = handles
        self._clock = clock
        self._mend = mend
        self._purges = (
            (store.purge_ended, limits.retention),
            (store.purge_keys, limits.key_retention),
            (store.purge_requests, limits.retention),
            (store.purge_tasks, limits.retention),
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._sweep_on(), name="housekeeping")

    async def stop(self) -> None:
        """Returns when no task is left; may be called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def sweep(self) -> None:
        """One round: old replay entries, idle handles, what ended too long ago to be kept. Raises StoreUnavailable."""
        self._replay.trim()
        self._handles.release_idle()
        for handle in self._handles.stale:
            self._mend(handle.session_id)
        now = self._clock.now_ms()
        for purge, kept in self._purges:
            while await purge(now - round(kept * 1000), _GROUP) == _GROUP:
                await self._clock.sleep(0)

    async def _sweep_on(self) -> None:
        while True:
            await self._clock.sleep(_INTERVAL)
            try:
                await self.sweep()
            except Exception as error:
                _log.warning("housekeeping: %s", error, exc_info=None if isinstance(error, SightlineError) else error)
