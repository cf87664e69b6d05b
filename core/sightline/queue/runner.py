"""The queued work runner: sees that ready work is run, by somebody, soon.

The durable row is the work; a poke is a hint. Pokes make it prompt, the poll finds what a lost poke left behind, what
was there at startup, and what has become due. The runner never looks into the queue itself: it asks its host.

Each session is driven by at most one task at a time, and drives of all sessions share a number of permits. A poke for a
session that is being driven is remembered, once, as a rerun; so a burst of any size costs one more look. After each
turn a session goes to the back of the line, so that one busy session does not starve the others. A drive that fails
waits, without a permit, and is tried again: 25 ms, doubling to a second, eight times; then the next poke or poll begins
anew. A failed drive is never a failed enqueue.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from sightline.clock import Clock

__all__ = ["QueuedWorkRunner", "WorkHost"]

_log = logging.getLogger("sightline.queue.runner")

_FIRST_BACKOFF = 0.025
_MAX_BACKOFF = 1.0
_MAX_FAILURES = 8


class WorkHost(Protocol):
    """What the runner needs from who owns the queue."""

    async def run_session(self, session_id: str) -> bool:
        """Run the session's next work, if there is any. True: something was done, look again. Raises for transient
        trouble.
        """
        ...

    async def claimable_sessions(self, limit: int) -> Sequence[str]:
        """Sessions with work that is ready now, the longest waiting first."""
        ...

    async def next_due(self) -> int | None:
        """When the earliest delayed work becomes ready, in wall milliseconds."""
        ...


class QueuedWorkRunner:
    """Lives on one event loop. Created idle: until `start`, pokes are only remembered."""

    def __init__(self, host: WorkHost, clock: Clock, *, concurrency: int = 64, poll_interval: float = 0.4) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        self._host = host
        self._clock = clock
        self._concurrency = concurrency
        self._poll_interval = poll_interval
        self._pending: deque[str] = deque()
        self._scheduled: set[str] = set()
        self._rerun: set[str] = set()
        self._failures: dict[str, int] = {}
        self._active: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._poller: asyncio.Task[None] | None = None
        self._poke = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    @property
    def active(self) -> int:
        """Sessions being driven now."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """Sessions waiting for a permit."""
        return len(self._pending)

    def start(self) -> None:
        """Look at once for work that was there before, then poll."""
        self._poller = asyncio.create_task(self._poll(), name="queued work poll")
        self._dispatch()

    def poke(self, reason: str) -> None:
        """Something, somewhere, may be ready. Never blocks, never fails."""
        _log.debug("poke: %s", reason)
        self._poke.set()

    def poke_session(self, session_id: str, reason: str) -> None:
        """This session may have ready work. Never blocks, never fails."""
        _log.debug("poke %s: %s", session_id, reason)
        if self._stopping:
            return
        if session_id in self._scheduled:
            self._rerun.add(session_id)
        else:
            self._scheduled.add(session_id)
            self._pending.append(session_id)
            self._dispatch()

    def stop_claiming(self) -> None:
        """Begin no more drives; the ones under way go on to the end of their turn."""
        self._stopping = True
        self._pending.clear()
        if self._poller is not None:
            self._poller.cancel()

    async def wait_idle(self) -> None:
        """Return when no session is being driven."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Stop everything; returns when no task is left. Drives are cancelled and settle what they hold."""
        self.stop_claiming()
        tasks = [*self._tasks, *([] if self._poller is None else [self._poller])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._poller = None

    def _dispatch(self) -> None:
        if self._poller is None or self._stopping:
            return
        while self._pending and len(self._active) < self._concurrency:
            session_id = self._pending.popleft()
            self._active.add(session_id)
            self._idle.clear()
            self._spawn(session_id)

    def _spawn(self, session_id: str) -> None:
        task = asyncio.create_task(self._drive(session_id), name=f"drive {session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, session_id: str) -> None:
        again = False
        delay = 0.0
        self._rerun.discard(session_id)
        try:
            again = await self._host.run_session(session_id)
            self._failures.pop(session_id, None)
        except Exception as error:
            delay = self._backoff(session_id, error)
            again = delay > 0
        except BaseException:
            self._scheduled.discard(session_id)
            raise
        finally:
            self._active.discard(session_id)
            if not self._active:
                self._idle.set()
            self._dispatch()
        if delay:
            await self._clock.sleep(delay)
        if (again or session_id in self._rerun) and not self._stopping:
            self._pending.append(session_id)
        else:
            self._scheduled.discard(session_id)
        self._dispatch()

    def _backoff(self, session_id: str, error: Exception) -> float:
        failures = self._failures[session_id] = self._failures.get(session_id, 0) + 1
        if failures > _MAX_FAILURES:
            del self._failures[session_id]
            _log.error("session %s: gave up driving after %d failures: %s", session_id, _MAX_FAILURES, error)
            return 0.0
        _log.warning("session %s: drive failed: %s", session_id, error, exc_info=error)
        return min(_MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** (failures - 1))

    async def _poll(self) -> None:
        while True:
            self._poke.clear()
            pause = self._poll_interval
            try:
                for session_id in await self._host.claimable_sessions(4 * self._concurrency):
                    if session_id not in self._scheduled:
                        self.poke_session(session_id, "poll")
                due = await self._host.next_due()
                if due is not None:
                    pause = min(pause, max(0.0, (due - self._clock.now_ms()) / 1000))
            except Exception as error:
                _log.warning("poll failed: %s", error)
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not through a poke."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        poked = asyncio.ensure_future(self._poke.wait())
        try:
            await asyncio.wait({sleeping, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()
