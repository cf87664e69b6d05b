"""The queued work runner: sees that ready work is run, by somebody, soon.

The durable row is the work; a poke is a hint. Pokes make it prompt, the poll finds what a lost poke left behind, what
was there at the start, and what has become due. The runner never looks into the queue itself: it asks its host, and
what the host answers decides what comes next.

Which drive begins when is a schedule's decision: `FairSchedule` in `demand.py`, or `GatedSchedule` in `gate.py`. This
shell gives it the time, performs what it hands out, one task for each drive, and writes to the log what it finds. A
host that raises loses its drive, never the runner, and a failed drive is never a failed enqueue.
"""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from typing import Any

from sightline.clock import Clock
from sightline.errors import SightlineError
from sightline.queue.demand import FairSchedule
from sightline.queue.drive import Contended, Idle, QueuedWorkRunOutcome, QueuedWorkRunRequest, Submitted
from sightline.queue.gate import GatedSchedule
from sightline.queue.port import QueuedWorkHost
from sightline.queue.schedule import Drive, Schedule, Ticks

__all__ = [
    "Contended",
    "Idle",
    "QueuedWorkHost",
    "QueuedWorkPoke",
    "QueuedWorkRunOutcome",
    "QueuedWorkRunRequest",
    "QueuedWorkRunner",
    "Submitted",
]

_log = logging.getLogger("sightline.queue.runner")

_MAX_CONCURRENCY = 100_000


class QueuedWorkPoke:
    """A runner from outside: what may be handed to anybody who knows of work.

    Its methods do what the runner's do. Once the runner has ended or is gone they do nothing.
    """

    __slots__ = ("_runner",)

    def __init__(self, runner: QueuedWorkRunner) -> None:
        self._runner = weakref.ref(runner)

    def poke(self, reason: str) -> None:
        runner = self._runner()
        if runner is not None:
            runner.poke(reason)

    def poke_session(self, session_id: str, reason: str) -> None:
        runner = self._runner()
        if runner is not None:
            runner.poke_session(session_id, reason)

    def complete_session(self, session_id: str, reason: str) -> None:
        runner = self._runner()
        if runner is not None:
            runner.complete_session(session_id, reason)


class QueuedWorkRunner:
    """Lives on one event loop, and is to be called on its thread. Created idle: until `start`, pokes are remembered.

    `global_gate`: ask the host for one thing at a time, and for nobody in particular only while no session is in
    flight. Without it each session is driven on its own, as soon as one of `concurrency` permits is free; a session
    that was submitted holds its permit until it is completed.

    `poll_interval`: seconds between looks for what no poke told of. `completion_timeout`: after so many seconds, give
    or take a poll, a submitted session is taken to be lost and driven again.

    Raises ValueError for a number that makes no sense.
    """

    def __init__(
        self,
        host: QueuedWorkHost,
        clock: Clock,
        *,
        global_gate: bool = True,
        concurrency: int = 64,
        poll_interval: float = 0.4,
        completion_timeout: float = 1200.0,
    ) -> None:
        _check_count("concurrency", concurrency)
        _check_seconds("poll_interval", poll_interval)
        _check_seconds("completion_timeout", completion_timeout)
        self._host = host
        self._clock = clock
        self._completion_timeout = completion_timeout
        ticks = Ticks(poll_interval)
        self._schedule: Schedule
        if global_gate:
            self._schedule = GatedSchedule(ticks, completion_timeout=completion_timeout)
        else:
            self._schedule = FairSchedule(ticks, permits=concurrency, completion_timeout=completion_timeout)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drives: dict[asyncio.Task[QueuedWorkRunOutcome], Drive] = {}
        self._returning: dict[str, asyncio.Future[None]] = {}
        self._timers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = math.inf
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._stopped = False

    # Life

    @property
    def active(self) -> int:
        """Drives under way, and sessions that were submitted and are not completed."""
        return self._schedule.active

    @property
    def waiting(self) -> int:
        """What waits for its drive to begin."""
        return self._schedule.waiting

    def spawn(self) -> QueuedWorkPoke:
        """`start`, and the means to poke the runner from outside."""
        self.start()
        return QueuedWorkPoke(self)

    def start(self) -> None:
        """Look at once for work that was there before, then poll. Changes nothing when called again, or too late."""
        if self._loop is None and not self._closed:
            self._loop = asyncio.get_running_loop()
            self._schedule.start(self._clock.monotonic())
            self._go_on()

    def stop_claiming(self) -> None:
        """Begin no more drives; the ones under way go on to their end."""
        self._closed = True
        self._schedule.close()
        self._go_on()

    async def wait_idle(self) -> None:
        """Return when no drive is under way and every submitted session was completed. Cancellable at any time."""
        await self._idle.wait()

    async def stop(self) -> None:
        """End everything: returns when no task is left. Drives are cancelled, and the host settles what they hold.

        If this is cancelled, the drives end all the same. Called from within a drive, it leaves that one alone.
        """
        self.stop_claiming()
        if not self._stopped:  # a second cancellation would interrupt what the host does about the first
            self._stopped = True
            for task in self._tasks():
                task.cancel()
        while tasks := self._tasks():
            await asyncio.wait(tasks)
        self._schedule.forget()
        self._go_on()

    def _tasks(self) -> list[asyncio.Task[Any]]:
        this = asyncio.current_task()
        return [task for task in (*self._drives, *self._timers) if task is not this]

    # Notifications

    def poke(self, reason: str) -> None:
        """Something, somewhere, may be ready. Never blocks, never fails, is ignored once the runner is stopping."""
        _log.debug("poke: %s", reason)
        self._schedule.poke(None, reason)
        self._go_on()

    def poke_session(self, session_id: str, reason: str) -> None:
        """This session may have ready work. Otherwise like `poke`."""
        _log.debug("poke %s: %s", session_id, reason)
        self._schedule.poke(session_id, reason)
        self._go_on()

    def complete_session(self, session_id: str, reason: str) -> None:
        """What was submitted for this session has ended: look whether there is more. Otherwise like `poke`.

        Also counts when it comes before the host has answered that it submitted the session. While the runner is
        stopping, the session is released and not looked at.
        """
        _log.debug("complete %s: %s", session_id, reason)
        self._schedule.complete(session_id, reason)
        self._go_on()

    # Places

    def give_way(self, session_id: str) -> None:
        """The session's drive waits for something outside: until it takes its place again, another may run."""
        self._schedule.leave(session_id)
        self._let_go_on(session_id)
        self._go_on()

    async def take_place(self, session_id: str) -> None:
        """Return when the session's drive may go on, within the bound; at once when it never gave way, or gives way
        again. Cancellable.
        """
        if self._schedule.come_back(session_id):
            return
        if session_id not in self._returning:
            self._returning[session_id] = asyncio.get_running_loop().create_future()
        returning = self._returning[session_id]
        self._go_on()
        await asyncio.shield(returning)  # the drive may wait for it in several places

    def insist(self, session_id: str) -> None:
        """The session's drive goes on and counts again, beyond the bound if it has to be."""
        self._schedule.insist(session_id)
        self._let_go_on(session_id)

    def _let_go_on(self, session_id: str) -> None:
        returning = self._returning.pop(session_id, None)
        if returning is not None:
            returning.set_result(None)

    # Drives

    def _go_on(self) -> None:
        """Begin what may begin. To be called after anything was told to the schedule."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        now = self._clock.monotonic()
        while (session_id := self._schedule.admit()) is not None:
            self._let_go_on(session_id)
        while (drive := self._schedule.take(now)) is not None:
            task = loop.create_task(self._call_host(drive), name=f"drive {drive.session_id or 'anything'}")
            self._drives[task] = drive
            # Not in the task's own code: one that is cancelled before its first step never gets there.
            task.add_done_callback(self._ended)
        if self._schedule.active:
            self._idle.clear()
        else:
            self._idle.set()
        wake_at = self._schedule.wake_at
        if wake_at < self._timer_at and not self._stopped:
            self._set_timer(loop, wake_at, wake_at - now)

    async def _call_host(self, drive: Drive) -> QueuedWorkRunOutcome:
        try:
            return await self._host.run_queued_work(drive.demand.request(drive.session_id))
        except SystemExit as error:
            # asyncio would let it end the whole process, and every other drive with it.
            raise RuntimeError(f"the host called exit({error.code})") from error

    def _ended(self, task: asyncio.Task[QueuedWorkRunOutcome]) -> None:
        drive = self._drives.pop(task)
        if drive.session_id is not None:
            self._returning.pop(drive.session_id, None)
        now = self._clock.monotonic()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._settle(drive, task.result(), now)
        elif isinstance(error, KeyboardInterrupt) or (task.cancelled() and task.cancelling()):
            # Somebody wanted its end. A host that raises CancelledError by itself has failed.
            self._schedule.dropped(drive, now)
        else:
            self._failed(drive, error, now)
        self._go_on()

    def _settle(self, drive: Drive, outcome: object, now: float) -> None:
        match outcome:
            case Idle(due_at_ms=due_at_ms):
                if due_at_ms is not None:
                    self._schedule.ticks.learn(due_at_ms, self._clock.now_ms(), now)
                self._schedule.idle(drive, now)
            case Submitted(session_id=session_id):
                self._schedule.submitted(drive, session_id, now)
            case Contended():
                seconds = self._schedule.contended(drive, now)
                if seconds is not None:
                    _log.warning("%s: another owner has been holding the work for %.0f s", _whose(drive), seconds)
            case _:
                self._failed(drive, TypeError(f"the host answered {outcome!r}"), now)

    def _failed(self, drive: Drive, error: BaseException, now: float) -> None:
        verdict = self._schedule.failed(drive, now, terminal=getattr(error, "retryable", None) is False)
        match verdict.kind:
            case "again":
                level, what = logging.WARNING, f"drive {verdict.attempt} failed, next in {verdict.pause * 1000:.0f} ms"
            case "exhausted":
                level, what = logging.ERROR, f"exhausted, {verdict.attempt} drives failed in a row"
            case "terminal":
                level, what = logging.ERROR, "drive failed for good"
            case "left":
                level, what = logging.WARNING, "drive failed"
        # What the kernel raises says what it is; where anything else comes from is worth a traceback.
        traceback = None if isinstance(error, SightlineError) else error
        _log.log(level, "%s: %s: %r", _whose(drive), what, error, exc_info=traceback)

    # Time

    def _set_timer(self, loop: asyncio.AbstractEventLoop, wake_at: float, pause: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wake_at
        self._timer = loop.create_task(self._keep_time(wake_at, pause), name="queued work timer")
        self._timers.add(self._timer)
        self._timer.add_done_callback(self._timers.discard)

    async def _keep_time(self, wake_at: float, pause: float) -> None:
        await self._clock.sleep(pause)
        self._timer, self._timer_at = None, math.inf
        # Having slept until then it is then, whatever the last digit of the clock says.
        now = max(wake_at, self._clock.monotonic())
        overdue = self._schedule.tick(now)
        for drive in overdue.slow:
            _log.info("%s: a drive has been under way for %.0f s", _whose(drive), now - drive.began_at)
        for session_id in overdue.lost:
            _log.warning(
                "session %s: submitted, and not completed within %.0f s: taken to be lost",
                session_id,
                self._completion_timeout,
            )
        self._go_on()


def _whose(drive: Drive) -> str:
    return "the look for work" if drive.session_id is None else f"session {drive.session_id}"


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_CONCURRENCY:
        raise ValueError(f"{name} must be a whole number from 1 to {_MAX_CONCURRENCY:,}, not {value!r}")


def _check_seconds(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number of seconds above zero, not {value!r}")
