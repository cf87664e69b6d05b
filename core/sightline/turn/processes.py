"""The processes of one kernel: registered, told of, run here if there are engines, and their wakes delivered.

Everything that writes to the registry passes through here or through the worker, and all of it ends in one place,
`_logged`: there whoever waits is told, the engine that is to stop, the sessions that see the process, and the outbox.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import UNSET

from sightline.clock import Clock
from sightline.errors import NotFound, SessionDeleted
from sightline.ids import Ids
from sightline.observation.handles import Handles
from sightline.observation.pauses import Pauses
from sightline.persevering import persistently
from sightline.process.engine import Engine
from sightline.process.kinds import descriptor_of, registration_of
from sightline.process.model import (
    Appended,
    AwaitOutput,
    HandleSummary,
    NewGrant,
    PendingWake,
    ProcessScope,
    Registered,
    Registration,
    WakeDelivery,
)
from sightline.process.outbox import WakeDriver
from sightline.process.port import ProcessStore
from sightline.process.rules import new_record
from sightline.process.runner import ProcessWorkDriver, ProcessWorkRunner
from sightline.process.worker import ProcessWorker, WorkerLimits
from sightline.queue.model import Claim
from sightline.turn.agent import NewProcess
from sightline.turn.process_desk import ProcessDesk
from sightline.turn.rules import process_id_of

__all__ = ["ProcessHost", "TurnProcesses"]

_log = logging.getLogger("sightline.turn.processes")

_T = TypeVar("_T")


class ProcessHost(ProcessDesk):
    """Lives on one event loop, from `start` to `stop`.

    `engines` run processes, by their kind; where there are none, others run them. Without `runs_work` nothing is done
    here but to keep processes, to tell of them and to wait for them. `poke` is called with a session's id and the
    reason when a wake has come into its queue, which takes up to `max_open` batches.
    """

    def __init__(
        self,
        store: ProcessStore,
        handles: Handles,
        *,
        engines: Mapping[str, Engine],
        runs_work: bool,
        clock: Clock,
        ids: Ids,
        limits: WorkerLimits,
        poll_interval: float,
        max_open: int,
        poke: Callable[[str, str], None],
    ) -> None:
        super().__init__(store, handles, clock, self._logged)
        self._ids = ids
        self._max_open = max_open
        self._poke = poke
        self._engines = engines if runs_work else {}
        self._pauses = Pauses(clock, self._news.waits)
        self._wakes = WakeDriver(store, self._deliver, clock) if runs_work else None
        self._worker: ProcessWorker | None = None
        self._runner: ProcessWorkRunner | None = None
        if engines and runs_work:
            self._worker = ProcessWorker(
                store,
                engines,
                waits=self._waits,
                clock=clock,
                ids=ids,
                limits=limits,
                logged=self._logged,
                paused=self._pauses.changed,
                doubtful=self._news.doubtful,
            )
            self._runner = ProcessWorkRunner.inline(self._worker, clock, poll_interval=poll_interval)
        self.driver = ProcessWorkDriver(store, None if self._runner is None else self._runner.poke_handle())

    # Life

    @property
    def running(self) -> int:
        """How many processes run here, those that wait among them."""
        return 0 if self._worker is None else self._worker.active

    def start(self) -> None:
        """Begin to run processes and to deliver wakes, those of earlier lives first."""
        if self._worker is not None and self._runner is not None:
            self._worker.start()
            self._runner.spawn()
        if self._wakes is not None:
            self._wakes.start()

    def stop_claiming(self) -> None:
        """Begin no more processes; give back those that wait, and let those at work go on."""
        if self._worker is not None:
            self._worker.stop_claiming()
            self._worker.hand_back_waiting()

    async def wait_idle(self) -> None:
        """Return when no process runs here. Cancellable at any time."""
        if self._worker is not None:
            await self._worker.wait_idle()

    async def stop(self) -> None:
        """End everything now; what runs is given back. Returns when no task is left; may be called again."""
        if self._worker is not None and self._runner is not None:
            await self._runner.stop()
            await self._worker.stop()
        if self._wakes is not None:
            await self._wakes.stop()
        await self._pauses.stop()
        await self._news.stop()

    # Work

    def runs(self, registration: Registration) -> bool:
        """Whether it can be run. Where nothing here runs processes of that kind, others do, and what they can is not
        known here.
        """
        engine = self._engines.get(registration.kind)
        return engine is None or engine.knows(new_record(registration, self._clock.now_ms()))

    async def start_process(self, registration: Registration, grants: Sequence[NewGrant] = ()) -> Registered:
        """Keep a process and who sees it: durable when this returns, and run soon, wherever it can be.

        Raises InvalidInput, ProcessConflict when the id came with other content before, SessionNotFound,
        SessionDeleted, StoreUnavailable.
        """

        def registered(result: Registered) -> None:
            if result.created:
                self._news.started(result.record)
                self.driver.poke()

        with self._in_doubt((registration.process_id,), *(grant.scope.session_id for grant in grants)):
            return await self._store.register_process(
                registration, grants=grants, now=self._clock.now_ms(), then=registered
            )

    # What was written

    def _logged(self, appended: Appended) -> None:
        event = appended.event
        if event is None:
            return
        self._waits.changed(event.process_id)
        if self._worker is not None:
            self._worker.changed(event)
        self._news.logged(appended)
        if event.wake is not UNSET and self._wakes is not None:
            self._wakes.poke()

    async def _deliver(self, pending: PendingWake) -> None:
        """Put a wake into the queue of its session, through the session's handle, so that its observers see it."""
        session_id = pending.wake.target_session_id
        try:
            async with self._handles.opened(session_id) as handle:

                def delivered(delivery: WakeDelivery) -> None:
                    if delivery.enqueued is not UNSET:
                        batch = delivery.enqueued.batch
                        if not delivery.enqueued.replayed:
                            handle.record_queue_changed("enqueued" if batch.state.is_open else "cancelled", (batch,))
                        self._poke(session_id, "process_wake")

                await handle.write(self._settle(pending, delivered))
        except (NotFound, SessionDeleted):
            # The store decides in its transaction whether there really is nobody to wake.
            await self._settle(pending, lambda _: None)

    async def _settle(self, pending: PendingWake, then: Callable[[WakeDelivery], None]) -> WakeDelivery:
        delivery = await self._store.deliver_wake(
            pending.position,
            batch_id=self._ids.new(),
            now=self._clock.now_ms(),
            max_open=self._max_open,
            then=then,
        )
        if delivery.state == "discarded":
            _log.info("wake %s is discarded: its session is gone", pending.wake.wake_id)
        return delivery


class TurnProcesses:
    """What one turn does with processes. See `sightline.turn.agent.Processes`."""

    def __init__(
        self,
        host: ProcessHost,
        claim: Claim,
        clock: Clock,
        *,
        aside: Callable[[Awaitable[AwaitOutput]], Awaitable[AwaitOutput]],
    ) -> None:
        self._host = host
        self._claim = claim
        self._clock = clock
        self._aside = aside

    async def start(self, new: NewProcess) -> str:
        session_id, turn_id = self._claim.session_id, self._claim.turn_id
        owner = ProcessScope(session_id)
        registration = registration_of(
            process_id_of(turn_id, new.key),
            new.kind,
            new.input,
            owner=owner,
            disposition=new.disposition,
            event_types=new.event_types,
            caused_by={"type": "turn", "session_id": session_id, "turn_id": turn_id},
        )
        descriptor = descriptor_of(registration.process_id, new.kind, new.input, new.label)
        grant = NewGrant(scope=owner, descriptor=descriptor)
        started = await self._persistently(lambda: self._host.start_process(registration, (grant,)))
        return started.record.process_id

    async def cancel(self, process_id: str, reason: str) -> None:
        session_id = self._claim.session_id
        await self._persistently(lambda: self._host.cancel(process_id, reason, session_id=session_id))

    async def end_of(self, process_id: str) -> AwaitOutput:
        return await self._aside(self._persistently(lambda: self._host.whenever(process_id)))

    async def seen(self, *, live: bool) -> tuple[HandleSummary, ...]:
        return await self._persistently(lambda: self._host.handles_of(self._claim.session_id, live=live))

    async def _persistently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        where = f"session {self._claim.session_id}: a process of turn {self._claim.turn_id}"
        return await persistently(self._clock, where, work)
