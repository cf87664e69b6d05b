"""The outbox's driver: sees that wakes get into the queues of their targets.

It looks when it is poked, which whoever writes a wake does, when something that failed is to be tried again, and once
in a while, for wakes that were written elsewhere or whose poke was lost. What is tried, and in which order, is decided
by `Outbox`; what delivers a wake is given to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from sightline.clock import Clock, within
from sightline.errors import SightlineError
from sightline.process.model import PendingWake
from sightline.process.waking import Outbox

__all__ = ["WakeDriver", "WakeReader"]

_log = logging.getLogger("sightline.process.outbox")

_PAGE = 32
_POLL_INTERVAL = 10.0
_PAUSE = 1.0
"""Seconds before a look that failed is repeated."""
_SOONEST = 0.001

Deliver = Callable[[PendingWake], Awaitable[object]]
"""Settles a wake: returns when it is in its queue, was discarded, or was settled before. May raise anything."""


class WakeReader(Protocol):
    """The part of a registry that the driver looks at."""

    async def pending_wakes(self, *, limit: int, after: int = 0) -> tuple[PendingWake, ...]: ...


class WakeDriver:
    """Lives on one event loop, from `start` to `stop`. Until `start`, a poke is remembered."""

    def __init__(self, store: WakeReader, deliver: Deliver, clock: Clock) -> None:
        self._store = store
        self._deliver = deliver
        self._clock = clock
        self._outbox = Outbox()
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look at once for wakes that were there before."""
        if self._task is None:
            self._task = asyncio.create_task(self._drive(), name="wake driver")

    def poke(self) -> None:
        """There is a wake to be delivered. Never blocks, never fails."""
        self._poked.set()

    async def stop(self) -> None:
        """Deliver no more; what is under way is seen through by the store or not done. May be called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _drive(self) -> None:
        while True:
            self._poked.clear()
            interval = _POLL_INTERVAL
            try:
                await self._look()
            except Exception as error:
                known = isinstance(error, SightlineError)
                _log.warning("looking for wakes: %s", error, exc_info=None if known else error)
                interval = _PAUSE
            now = self._clock.monotonic()
            pause = max(_SOONEST, min(interval, self._outbox.next_at() - now))
            poked = asyncio.ensure_future(self._poked.wait())
            try:
                await within(self._clock, pause, poked)
            finally:
                poked.cancel()
                await asyncio.gather(poked, return_exceptions=True)

    async def _look(self) -> None:
        after = 0
        self._outbox.begin()
        while True:
            page = await self._store.pending_wakes(limit=_PAGE, after=after)
            groups = self._outbox.to_try(page, self._clock.monotonic())
            await asyncio.gather(*map(self._try_in_order, groups))
            if len(page) < _PAGE:
                self._outbox.end()
                return
            after = page[-1].position

    async def _try_in_order(self, group: tuple[PendingWake, ...]) -> None:
        for entry in group:
            try:
                await self._deliver(entry)
            except Exception as error:
                pause = self._outbox.failed(entry, self._clock.monotonic())
                known = isinstance(error, SightlineError)
                _log.warning(
                    "wake %s of process %s is tried again in %.3f s: %s",
                    entry.wake.wake_id,
                    entry.wake.process_id,
                    pause,
                    error,
                    exc_info=None if known else error,
                )
                return
            self._outbox.settled(entry)
