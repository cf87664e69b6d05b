"""The worker: takes processes that nobody has, runs them, and tells how they ended.

The rows that run and that nobody holds are the queue. A look pages through them by their ids, one query for each page,
and begins what there are permits for; while there is none it waits, so that a long queue is worked off by one look.
Each process runs in a task of its own under a lease of its own: its owner is this one attempt. One task renews all
leases; a lease that is refused, or that could not be renewed for its whole length, stops its process at once, and
nothing more is written for it.

Which process is run is decided by `Pool`, what becomes of an attempt by `sightline.process.attempts`; who may write by
the store, which compares the lease in the transaction that writes. The end, the status and the release are one
transaction, so a process that was seen through here was not seen through elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from sightline.clock import Clock, within
from sightline.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    ProcessLeaseLost,
    ProcessTerminal,
    SightlineError,
    StoreUnavailable,
)
from sightline.ids import Ids
from sightline.persevering import STORE_RETRIES, finish, retrieve
from sightline.process.appending import ending
from sightline.process.attempts import early_output, failure_of, gives_back, is_trouble, reason_of
from sightline.process.awaiting import ProcessWaits
from sightline.process.engine import Engine, ForgoingEngine, ProcessWork
from sightline.process.model import (
    PROCESS_LEASE_TTL_MS,
    Appended,
    CancelledOutput,
    FailureOutput,
    ProcessBusy,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    SuccessOutput,
)
from sightline.process.pooling import Pool
from sightline.process.port import ProcessStore
from sightline.process.rules import CANCEL_REQUESTED

__all__ = ["ProcessWorker", "WorkerLimits"]

_log = logging.getLogger("sightline.process.worker")

_PAGE = 256
_CANCEL_GRACE = 5.0
"""Seconds an engine gets to end after it was cancelled; then the process goes on without it."""

_FIRST_LOOK = 1.0
"""Seconds before the log of what runs is looked at for a request to cancel that nobody told of."""
_MAX_FOREIGN = 1_000

_Output = SuccessOutput | FailureOutput | CancelledOutput


class WorkerLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one worker. `concurrency`: how many processes are at work at one time, those that wait not counted.

    `host_profile_id`: run only processes of that profile; without one, of every. `lease_ms`: how long a sign of life
    is good for. `max_attempts`: how many attempts may begin before the process has failed.
    """

    concurrency: int = 64
    host_profile_id: str | None = None
    lease_ms: int = PROCESS_LEASE_TTL_MS
    max_attempts: int = 3


class _Attempt:
    """One attempt under way. The first of `cancel`, `lose` and `hand_back` decides why it is stopped."""

    def __init__(self, record: ProcessRecord, lease: ProcessLease, now: float) -> None:
        self.record = record
        self.lease = lease
        self.renewed_at = now
        self.begun = False
        """Whether the engine has been set going."""
        self.lost = False
        """The process is another worker's, or has ended elsewhere: nothing more is written here."""
        self.cancel_reason: str | None = None
        self.stopped = asyncio.Event()

    def cancel(self, reason: str) -> None:
        if not self.stopped.is_set():
            self.cancel_reason = reason
            self.stopped.set()

    def hand_back(self) -> None:
        self.stopped.set()

    def lose(self) -> None:
        self.lost = True
        self.stopped.set()


class ProcessWorker:
    """Lives on one event loop, from `start` to `stop`. `engines`: by kind, what runs the processes of that kind.

    `logged` is called with everything the worker wrote, once it is in the store; it may neither wait nor raise.
    `paused` is called with a process that waits, or goes on after that, and may be called again with the same;
    `doubtful` with one that went on or ended in a way that may not have been told: its answer was lost, or somebody
    else was first.
    `look_again` is called when there may be more to do than the looks so far have found.
    """

    def __init__(
        self,
        store: ProcessStore,
        engines: Mapping[str, Engine],
        *,
        waits: ProcessWaits,
        clock: Clock,
        ids: Ids,
        limits: WorkerLimits | None = None,
        logged: Callable[[Appended], None] = lambda _: None,
        paused: Callable[[str, bool], None] = lambda process_id, waits: None,
        doubtful: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._engines = engines
        self._waits = waits
        self._clock = clock
        self._ids = ids
        self._limits = limits or WorkerLimits()
        self._tell = logged
        self._tell_pause = paused
        self._tell_doubt = doubtful
        self.look_again: Callable[[], None] = lambda: None
        self._pool = Pool(self._limits.concurrency)
        self._attempts: dict[str, _Attempt] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._renewals: set[asyncio.Task[None]] = set()
        self._left: set[asyncio.Task[_Output]] = set()
        self._returning: dict[str, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._keeper: asyncio.Task[None] | None = None
        self._foreign: set[str] = set()
        self._sends_waiting_back = False

    # Life

    @property
    def active(self) -> int:
        """How many processes run here, those that wait among them."""
        return self._pool.active

    def start(self) -> None:
        """Begin to keep the leases of what runs. Called once, before the first look."""
        self._keeper = asyncio.create_task(self._keep(), name="process lease keeper")

    def stop_claiming(self) -> None:
        """Begin no more processes; a look under way ends."""
        self._pool.close()
        self._changed.set()

    def hand_back_waiting(self) -> None:
        """Give back what waits, now or later, as far as another worker may run it; what is at work goes on."""
        self._sends_waiting_back = True
        for process_id, attempt in self._attempts.items():
            if self._pool.is_parked(process_id):
                self._send_back(attempt)

    def _send_back(self, attempt: _Attempt) -> None:
        if gives_back(attempt.record.disposition, attempt.begun):
            attempt.hand_back()

    async def wait_idle(self) -> None:
        """Return when nothing runs. Cancellable at any time."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Stop every engine and give the processes back, as far as that may be; returns when no task is left."""
        self.stop_claiming()
        for attempt in self._attempts.values():
            attempt.hand_back()
        while self._runs:
            await asyncio.wait(self._runs)
        tasks = [*self._renewals, *([self._keeper] if self._keeper is not None else ())]
        self._keeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self, event: ProcessEvent) -> None:
        """An event was committed, by whomever. A process that runs here and is to end is told."""
        if event.event_type == CANCEL_REQUESTED and (attempt := self._attempts.get(event.process_id)) is not None:
            attempt.cancel(reason_of(event))

    # Looks

    async def claim_and_run_pending(self) -> None:
        """Begin what nobody runs, until all of it has been looked at once; not wait for its ends.

        Raises StoreUnavailable. What was begun goes on when this is cancelled.
        """
        after = ""
        while await self._has_room():
            page = await self._store.runnable_processes(
                now=self._clock.now_ms(),
                limit=_PAGE,
                after=after,
                host_profile_id=self._limits.host_profile_id,
            )
            for record in page:
                if self._can_settle(record) and await self._has_room():
                    self._begin(record)
            if len(page) < _PAGE:
                return
            after = page[-1].process_id

    async def _has_room(self) -> bool:
        """Wait until a process may begin; false when none may any more."""
        while not self._pool.has_room and not self._pool.is_closed:
            self._changed.clear()
            await self._changed.wait()
        return not self._pool.is_closed

    def _can_settle(self, record: ProcessRecord) -> bool:
        """Whether it can be run here, or come to an end without being run: because somebody wants that, or because it
        had an owner for good.
        """
        if self._knows(record) or record.cancel_requested:
            return True
        if record.disposition == "owner_bound" and record.attempts:
            return True
        what = f"{record.kind} {record.input.get('name', '')}".strip()
        if what not in self._foreign:
            if len(self._foreign) == _MAX_FOREIGN:
                self._foreign.clear()
            self._foreign.add(what)
            _log.warning("process %s is left to others: nothing here runs %r", record.process_id, what)
        return False

    def _knows(self, record: ProcessRecord) -> bool:
        engine = self._engines.get(record.kind)
        return engine is not None and engine.knows(record)

    def _begin(self, record: ProcessRecord) -> None:
        if self._pool.begin(record.process_id, self._clock.monotonic()):
            task = asyncio.create_task(self._run(record), name=f"process {record.process_id}")
            self._runs.add(task)
            self._idle.clear()
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._runs.discard(task)
        if not self._runs:
            self._idle.set()

    # Places

    def _park(self, process_id: str) -> None:
        self._pool.park(process_id)
        self._tell_pause(process_id, True)
        if self._sends_waiting_back and (attempt := self._attempts.get(process_id)) is not None:
            self._send_back(attempt)
        self._go_on()

    async def _take_place(self, process_id: str) -> None:
        self._tell_pause(process_id, False)
        if self._pool.come_back(process_id):
            return
        returning = self._returning.get(process_id)
        if returning is None:
            returning = self._returning[process_id] = asyncio.get_running_loop().create_future()
        self._go_on()
        await asyncio.shield(returning)  # the process may wait for it in several places

    def _resume(self, process_id: str) -> None:
        self._pool.resume(process_id)
        self._tell_pause(process_id, False)
        returning = self._returning.pop(process_id, None)
        if returning is not None:
            returning.set_result(None)

    def _go_on(self) -> None:
        """Let go on and begin who may. To be called after anything was told to the pool."""
        while (process_id := self._pool.admit()) is not None:
            self._returning.pop(process_id).set_result(None)
        self._changed.set()

    # One process

    async def _run(self, record: ProcessRecord) -> None:
        process_id = record.process_id
        settled = sure = False
        try:
            settled = sure = await self._attempt(record)
        except (NotFound, ProcessTerminal):
            settled = True  # it ended meanwhile
        except Conflict as error:
            settled = True
            _log.info("process %s is left alone: %s", process_id, error)
        except Exception as error:
            known = isinstance(error, SightlineError)
            _log.warning("process %s: %r", process_id, error, exc_info=None if known else error)
        finally:
            self._attempts.pop(process_id, None)
            returning = self._returning.pop(process_id, None)
            if returning is not None:
                returning.cancel()
            if not sure and not self._pool.is_closed:
                self._tell_doubt(process_id)
            if not settled:
                pause = self._pool.failed(process_id, self._clock.monotonic())
                if not self._pool.is_closed:
                    _log.info("process %s could not be run, and is left alone for %.1f s", process_id, pause)
            elif self._pool.ended(process_id):
                self.look_again()
            self._go_on()

    async def _attempt(self, found: ProcessRecord) -> bool:
        """Acquire, run and settle; false when it is to be tried again later, and not at once."""
        process_id, owner_id = found.process_id, self._ids.new()
        got = await finish(
            self._store.acquire_process_lease(
                process_id,
                owner_id=owner_id,
                lease_token=self._ids.token(),
                now=self._clock.now_ms(),
                ttl_ms=self._limits.lease_ms,
            )
        )
        if isinstance(got, ProcessBusy):
            return await self._find_gone(found, got, owner_id)
        attempt = _Attempt(found, got, self._clock.monotonic())
        self._attempts[process_id] = attempt
        if self._pool.is_closed:
            attempt.hand_back()
        output: _Output | None = None
        try:
            output = await self._come_to(attempt)
            if output is not None and not attempt.lost:
                await self._write_end(attempt, output)
                return True
        except Exception as error:
            if not is_trouble(error):
                raise
            _log.warning("process %s: attempt %d: %s", process_id, attempt.record.attempts, error)
        if attempt.lost:
            raise ProcessLeaseLost(process_id, attempt.lease.fencing_token)
        await self._give_back(attempt)
        return False

    async def _find_gone(self, found: ProcessRecord, busy: ProcessBusy, found_by: str) -> bool:
        """Somebody is in the way: for good, if it is the owner that an owner-bound process had."""
        if found.disposition == "owner_bound" and busy.expires_at_ms <= self._clock.now_ms():
            _log.warning("process %s is abandoned: its owner %s is gone", found.process_id, busy.owner_id)
            await self._store.abandon_process(
                found.process_id, found_by=found_by, now=self._clock.now_ms(), then=self._logged
            )
        return True

    async def _come_to(self, attempt: _Attempt) -> _Output | None:
        """What the process comes to; none when it is to be handed back or was lost."""
        process_id = attempt.record.process_id
        attempt.record = record = await self._store.get_process(process_id)
        cancels: tuple[ProcessEvent, ...] = ()
        if record.last_sequence:
            cancels = await self._store.list_process_events(process_id, after=0, limit=1, event_type=CANCEL_REQUESTED)
        early = early_output(record, cancels[0] if cancels else None, self._limits.max_attempts)
        if early is not None:
            engine = self._engines.get(record.kind)
            if isinstance(engine, ForgoingEngine):
                await engine.forgo(record)
            return early
        if not attempt.stopped.is_set() and self._knows(record):
            work = ProcessWork(
                record,
                attempt.lease,
                store=self._store,
                waits=self._waits,
                clock=self._clock,
                park=lambda: self._park(process_id),
                take_place=lambda: self._take_place(process_id),
                resume=lambda: self._resume(process_id),
                logged=self._logged,
                lose=attempt.lose,
            )
            attempt.begun = True
            came_to = await self._perform(attempt, work)
            if came_to is not None:
                return came_to
        if attempt.cancel_reason is None or attempt.lost:
            return None
        return CancelledOutput(message=attempt.cancel_reason)

    async def _perform(self, attempt: _Attempt, work: ProcessWork) -> _Output | None:
        """Let the engine run to its end; none when it was stopped before. Raises when something was away."""
        process_id = work.process_id
        engine = asyncio.create_task(_call(self._engines[work.record.kind], work), name=f"engine of {process_id}")
        stopped = asyncio.create_task(attempt.stopped.wait())
        asked = asyncio.create_task(self._watch(attempt, work.record.last_sequence))
        try:
            await asyncio.wait({engine, stopped}, return_when=asyncio.FIRST_COMPLETED)
            was_stopped = attempt.stopped.is_set()
            attempt.stopped.set()  # the engine was first, or is stopped: what comes now has lost the race
        finally:
            stopped.cancel()
            asked.cancel()
            await asyncio.gather(stopped, asked, return_exceptions=True)
            if not engine.done():
                work.cancelled = attempt.cancel_reason is not None
                engine.cancel()
                if not await within(self._clock, _CANCEL_GRACE, engine):
                    _log.warning("%s ignores its cancellation", engine.get_name())
                    self._left.add(engine)
                    engine.add_done_callback(self._left.discard)
            engine.add_done_callback(retrieve)
        if was_stopped:
            return None
        if engine.cancelled():
            return FailureOutput(code="process_failed", message="the process cancelled itself")
        error = engine.exception()
        if error is None:
            return engine.result()
        if is_trouble(error) or isinstance(error, ProcessLeaseLost):
            raise error
        known = isinstance(error, SightlineError)
        _log.warning("process %s failed: %s", process_id, error, exc_info=None if known else error)
        return failure_of(error)

    async def _watch(self, attempt: _Attempt, after: int) -> None:
        """Wait for a request to cancel that nobody tells of, because it is written by another program."""
        await self._clock.sleep(_FIRST_LOOK)  # what has ended by then costs nothing
        while True:
            try:
                event = await self._waits.next_event(attempt.record.process_id, after, CANCEL_REQUESTED)
            except StoreUnavailable:
                await self._clock.sleep(STORE_RETRIES[-1])
            else:
                attempt.cancel(reason_of(event))
                return

    # What is written

    async def _write_end(self, attempt: _Attempt, output: _Output) -> None:
        """Tell the end, however long the store is away, as long as the process is this worker's.

        Raises ProcessLeaseLost, ProcessTerminal when somebody else was first, StoreUnavailable when this worker ends.
        """
        process_id, end = attempt.record.process_id, output

        def written(appended: Appended) -> None:
            self._attempts.pop(process_id, None)  # its lease is free: a renewal under way would call it lost
            self._logged(appended)

        async def write() -> None:
            await self._store.append_event(
                process_id,
                ending(process_id, end),
                now=self._clock.now_ms(),
                then=written,
                lease=attempt.lease,
            )

        try:
            await finish(self._persist(attempt, write))
        except InvalidInput as error:
            end = FailureOutput(code="invalid_output", message=f"what the process came to cannot be stored: {error}")
            await finish(self._persist(attempt, write))

    async def _give_back(self, attempt: _Attempt) -> None:
        """Free the process for the next worker, as far as that may be."""
        if not gives_back(attempt.record.disposition, attempt.begun):
            _log.warning("process %s is bound to this worker, which goes on no more", attempt.record.process_id)
            return

        async def release() -> None:
            await self._store.release_process_lease(attempt.lease, charge=False)

        try:
            await finish(self._persist(attempt, release))
        except StoreUnavailable as error:
            _log.warning("process %s is not given back, its lease will lapse: %s", attempt.record.process_id, error)

    async def _persist(self, attempt: _Attempt, write: Callable[[], Awaitable[None]]) -> None:
        for delay in itertools.chain(STORE_RETRIES, itertools.repeat(STORE_RETRIES[-1])):
            try:
                await write()
                return
            except StoreUnavailable as error:
                if self._pool.is_closed or attempt.lost:
                    raise
                _log.warning("process %s: %s", attempt.record.process_id, error)
            await self._clock.sleep(delay)

    def _logged(self, appended: Appended) -> None:
        if appended.event is not None:
            self._waits.changed(appended.event.process_id)
        self._tell(appended)

    # Leases

    async def _keep(self) -> None:
        renewing: dict[str, asyncio.Task[None]] = {}
        while True:
            await self._clock.sleep(self._limits.lease_ms / 3000)
            # All at once: what waits at one moment shares a transaction. One that hangs keeps no other waiting.
            for process_id, attempt in self._attempts.items():
                if process_id in renewing and not renewing[process_id].done():
                    continue
                task = asyncio.create_task(self._renew(attempt), name=f"renew process {process_id}")
                renewing[process_id] = task
                self._renewals.add(task)
                task.add_done_callback(self._renewals.discard)
            renewing = {name: task for name, task in renewing.items() if not task.done()}

    async def _renew(self, attempt: _Attempt) -> None:
        now = self._clock.monotonic()
        try:
            await self._store.renew_process_lease(
                attempt.lease,
                now=self._clock.now_ms(),
                ttl_ms=self._limits.lease_ms,
                waits=self._pool.is_parked(attempt.record.process_id),
            )
            attempt.renewed_at = now
            return
        except ProcessLeaseLost as error:
            lost: Exception | None = error
        except Exception as error:
            lost = error if now - attempt.renewed_at >= self._limits.lease_ms / 1000 else None
            _log.warning("process %s: its lease was not renewed: %s", attempt.record.process_id, error)
        if lost is not None and self._attempts.get(attempt.record.process_id) is attempt:
            _log.warning("process %s is stopped: %s", attempt.record.process_id, lost)
            attempt.lose()


async def _call(engine: Engine, work: ProcessWork) -> _Output:
    """The engine's end, as something that is safe to be a task's: some exceptions would end the program with it."""
    try:
        return await engine.run(work)
    except SystemExit as error:
        raise RuntimeError(f"the process called exit({error.code})") from error
    except KeyboardInterrupt as error:
        raise RuntimeError("the process raised KeyboardInterrupt") from error
