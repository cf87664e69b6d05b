"""The process work runner: sees that processes that nobody runs are run, by somebody, soon.

The rows that run are the queue; a poke is a hint. The runner asks its handle to look once at the start, after each
poke, and at every poll, one look at a time. Pokes that come before the loop has looked are one poke; a poke that comes
during a look is kept for afterwards. A poll that comes late delays those after it, so that slow looks never pile up.

A look that fails is written to the log and nothing more: the next one comes. Any number of runners may look at one
registry: that a process is run once at a time is due to its lease, not to them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from typing import Literal, Protocol, cast

from msgspec import Struct

from sightline.clock import Clock, within
from sightline.errors import SightlineError
from sightline.process.port import ProcessStore
from sightline.process.worker import ProcessWorker

__all__ = [
    "InlineProcessRunHandle",
    "ProcessRunHandle",
    "ProcessWorkDriver",
    "ProcessWorkPoke",
    "ProcessWorkRunner",
]

_log = logging.getLogger("sightline.process.runner")

Reason = Literal["startup", "poke", "poll"]


class ProcessRunHandle(Protocol):
    """Whoever can run the processes of a registry, here or elsewhere."""

    async def claim_and_run_pending(self) -> None:
        """Look for processes that nobody runs, and see that they are run. May be called again at any time, raise
        anything, and be cancelled: the next look finds what this one left.
        """
        ...


class InlineProcessRunHandle:
    """Runs them in this program, by a worker."""

    def __init__(self, worker: ProcessWorker) -> None:
        self._worker = worker

    async def claim_and_run_pending(self) -> None:
        await self._worker.claim_and_run_pending()


class ProcessWorkPoke:
    """A runner from outside: what may be handed to anybody who registers processes. Once the runner has ended or is
    gone it does nothing.
    """

    __slots__ = ("_runner",)

    def __init__(self, runner: ProcessWorkRunner) -> None:
        self._runner = weakref.ref(runner)

    def poke(self) -> None:
        runner = self._runner()
        if runner is not None:
            runner.poke()


class ProcessWorkDriver(Struct, frozen=True):
    """A registry and the poke of the runner that looks at it, in one piece: whoever registers a process there and pokes
    somewhere else would wait for a poll each time, or for ever.
    """

    registry: ProcessStore
    work_poke: ProcessWorkPoke | None = None

    def poke(self) -> None:
        """A process was registered, or is free. Without a runner here another program's poll finds it."""
        if self.work_poke is not None:
            self.work_poke.poke()


class ProcessWorkRunner:
    """Lives on one event loop. Created idle: until `spawn`, a poke is remembered.

    `poll_interval`: seconds between looks for what no poke told of. Raises ValueError for one that makes no sense.
    """

    def __init__(self, handle: ProcessRunHandle, clock: Clock, *, poll_interval: float = 0.4) -> None:
        if not 0 < poll_interval < math.inf:
            raise ValueError(f"poll_interval must be a number of seconds above zero, not {poll_interval!r}")
        self._handle = handle
        self._clock = clock
        self._poll_interval = poll_interval
        self._permit = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._stopped = False

    @classmethod
    def new(cls, handle: ProcessRunHandle, clock: Clock, *, poll_interval: float = 0.4) -> ProcessWorkRunner:
        """A runner that asks this handle."""
        return cls(handle, clock, poll_interval=poll_interval)

    @classmethod
    def inline(cls, worker: ProcessWorker, clock: Clock, *, poll_interval: float = 0.4) -> ProcessWorkRunner:
        """A runner whose processes are run in this program. The worker's own wish for a look is a poke."""
        runner = cls(InlineProcessRunHandle(worker), clock, poll_interval=poll_interval)
        worker.look_again = ProcessWorkPoke(runner).poke
        return runner

    def poke_handle(self) -> ProcessWorkPoke:
        """The means to poke this runner from outside."""
        return ProcessWorkPoke(self)

    def poke(self) -> None:
        """There may be a process to run. Never blocks, never fails, is ignored once the runner has stopped."""
        self._permit.set()

    def spawn(self) -> ProcessWorkPoke:
        """Look at once, then after each poke and at every poll. Changes nothing when called again, or too late."""
        if self._loop is None and not self._stopped:
            self._loop = asyncio.create_task(self._drive(), name="process work runner")
        return self.poke_handle()

    async def stop(self) -> None:
        """Look no more: a look under way is cancelled. Returns when no task is left; may be called again."""
        self._stopped = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def _drive(self) -> None:
        await self._look("startup")
        poll_at = self._clock.monotonic()  # the first tick is at once
        while True:
            reason = await self._next(poll_at)
            if reason == "poll":
                # From now on, not from when it was due: what is late delays those after it.
                poll_at = self._clock.monotonic() + self._poll_interval
            await self._look(reason)

    async def _next(self, poll_at: float) -> Reason:
        """Wait for a poke or the time to poll; a poke that waits already comes first."""
        left = poll_at - self._clock.monotonic()
        if not self._permit.is_set() and left > 0:
            poked = asyncio.ensure_future(self._permit.wait())
            try:
                await within(self._clock, left, poked)
            finally:
                poked.cancel()
                await asyncio.gather(poked, return_exceptions=True)
        if not self._permit.is_set():
            return "poll"
        self._permit.clear()
        return "poke"

    async def _look(self, reason: Reason) -> None:
        _log.debug("look: %s", reason)
        try:
            await self._handle.claim_and_run_pending()
        except asyncio.CancelledError:
            if self._stopped or cast("asyncio.Task[None]", asyncio.current_task()).cancelling():
                raise
            _log.warning("look (%s): the handle cancelled itself", reason)
        except Exception as error:
            # What the kernel raises says what it is; where anything else comes from is worth a traceback.
            _log.warning("look (%s): %r", reason, error, exc_info=None if isinstance(error, SightlineError) else error)
