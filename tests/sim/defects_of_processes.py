"""Defects of processes to plant: see `defects`. They are looked for in worlds that have processes, and only there."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from msgspec import UNSET, structs

from sightline.clock import Clock
from sightline.observation.processes import ProcessNews
from sightline.process import appending, attempts, awaiting, outbox, worker
from sightline.process.functions import RunningProcess
from sightline.process.leasing import Hold, abandonment, acquired
from sightline.process.model import (
    AbandonedOutput,
    Appended,
    CancelledOutput,
    GrantsEnded,
    PendingWake,
    ProcessBusy,
    ProcessRecord,
    Registered,
    WakeDelivery,
)
from sightline.process.pooling import Pool
from sightline.process.runner import ProcessWorkRunner
from sightline.process.waking import Outbox
from sightline.process.worker import ProcessWorker
from sightline.stores.memory import granting, processes, sessions, waking
from sightline.stores.memory.processes import Process, Processes
from sightline.stores.memory.state import State
from tests.sim.defects import all_of, defect
from tests.sim.ledger import Law

# Who may write


@defect(Law.ONE_WRITER, within=4_000, of_processes=True, begin=1_080)
def a_process_lease_is_not_checked_at_append() -> AbstractContextManager[Any]:
    return patch.object(appending, "check_rules", lambda hold, lease: None)


@defect(Law.ONE_WRITER, within=500, of_processes=True)
def a_process_is_given_to_whoever_asks() -> AbstractContextManager[Any]:
    def give(record: ProcessRecord, hold: Hold, **asked: Any) -> Any:
        return acquired(record, hold.freed(), **asked)

    return patch.object(processes, "acquired", give)


@defect(Law.GROWS, within=1_000, of_processes=True)
def fences_of_processes_are_used_again() -> AbstractContextManager[Any]:
    def give(record: ProcessRecord, hold: Hold, **asked: Any) -> Any:
        return acquired(record, structs.replace(hold, fencing_token=0), **asked)

    return patch.object(processes, "acquired", give)


@defect(Law.LEASE, Law.EVIDENCE, within=6_000, of_processes=True, begin=2_000)
def leases_of_processes_are_never_renewed() -> AbstractContextManager[Any]:
    async def renew(self: ProcessWorker, *_: object) -> None:
        pass

    return patch.object(ProcessWorker, "_renew", renew)


@defect(Law.ONE_WRITER, within=1_000, of_processes=True)
def what_is_bound_to_its_owner_is_run_again() -> AbstractContextManager[Any]:
    def give(record: ProcessRecord, hold: Hold, **asked: Any) -> Any:
        got = acquired(structs.replace(record, disposition="rerunnable"), hold, **asked)
        if isinstance(got, ProcessBusy):
            return got
        return structs.replace(got[0], disposition=record.disposition), got[1]

    return patch.object(processes, "acquired", give)


@defect(Law.ONE_EFFECT, within=4_000, of_processes=True, begin=900)
def what_is_bound_to_its_owner_is_given_back() -> AbstractContextManager[Any]:
    return patch.object(worker, "gives_back", lambda disposition, begun: True)


# The end


@defect(Law.EVIDENCE, within=2_000, of_processes=True)
def a_process_is_abandoned_without_evidence() -> AbstractContextManager[Any]:
    async def find_gone(self: ProcessWorker, found: ProcessRecord, busy: ProcessBusy, found_by: str) -> bool:
        if found.disposition == "owner_bound":
            await self._store.abandon_process(
                found.process_id, found_by=found_by, now=self._clock.now_ms(), then=self._logged
            )
        return True

    def evidence(record: ProcessRecord, hold: Hold, **found: Any) -> AbandonedOutput:
        return abandonment(record, structs.replace(hold, expires_at_ms=0), **found)

    return all_of(
        patch.object(ProcessWorker, "_find_gone", find_gone), patch.object(processes, "abandonment", evidence)
    )


@defect(Law.ENDED, within=1_000, of_processes=True)
def an_end_is_written_over_another() -> AbstractContextManager[Any]:
    real = appending.appended

    def append(record: ProcessRecord, *rest: Any, **asked: Any) -> Appended:
        return real(structs.replace(record, status="running", output=UNSET), *rest, **asked)

    return patch.object(processes, "appended", append)


@defect(Law.ENDED, within=1_000, of_processes=True)
def a_cancel_ends_what_is_done_elsewhere() -> AbstractContextManager[Any]:
    real = appending.appended

    def append(record: ProcessRecord, *rest: Any, **asked: Any) -> Appended:
        result = real(record, *rest, **asked)
        event = result.event
        if record.disposition != "externally_owned" or event is None or event.event_type != "process.cancel_requested":
            return result
        output = CancelledOutput(message="as was wanted")
        return Appended(
            record=structs.replace(result.record, status="cancelled", output=output),
            event=structs.replace(event, output=output),
        )

    return patch.object(processes, "appended", append)


@defect(Law.ENDED, within=1_000, of_processes=True)
def a_deleted_session_ends_its_processes_at_once() -> AbstractContextManager[Any]:
    real = processes.append_event

    def append(state: Processes, process_id: str, event: Any, *, now: int) -> Appended:
        """The cancel that comes with a deleted session is the end."""
        result = real(state, process_id, event, now=now)
        process = state.by_id[process_id]
        output = CancelledOutput(message="its session is gone")
        process.record = structs.replace(process.record, status="cancelled", output=output)
        return result

    return patch.object(granting, "append_event", append)


@defect(Law.OWNS, within=2_000, of_processes=True)
def a_cancel_that_comes_before_a_process_begins_is_ignored() -> AbstractContextManager[Any]:
    real = attempts.early_output
    return patch.object(worker, "early_output", lambda record, cancel, most: real(record, None, most))


@defect(Law.OWNS, within=2_000, of_processes=True)
def a_process_does_not_hear_of_its_cancel() -> AbstractContextManager[Any]:
    return patch.object(ProcessWorker, "changed", lambda self, event: None)


@defect(Law.OWNS, within=4_000, of_processes=True, begin=1_050)
def a_process_hears_of_its_cancel_in_its_own_program_alone() -> AbstractContextManager[Any]:
    async def watch(self: ProcessWorker, *_: object) -> None:
        pass

    return patch.object(ProcessWorker, "_watch", watch)


# Wakes


@defect(Law.WAKES, within=500, of_processes=True)
def a_wake_stays_in_the_outbox() -> AbstractContextManager[Any]:
    real = waking.deliver_wake

    def deliver(state: State, position: int, *rest: Any) -> WakeDelivery:
        before = dict(state.processes.wakes)
        delivery = real(state, position, *rest)
        state.processes.wakes.update(before)
        return delivery

    return patch.object(waking, "deliver_wake", deliver)


@defect(Law.WAKES, within=5_000, of_processes=True, begin=1_800)
def a_wake_is_delivered_whenever_somebody_tries() -> AbstractContextManager[Any]:
    known: dict[tuple[int, int], PendingWake] = {}
    real = waking.deliver_wake

    def deliver(state: State, position: int, *rest: Any) -> WakeDelivery:
        pending = state.processes.wakes.get(position) or known[id(state), position]
        known[id(state), position] = state.processes.wakes[position] = pending
        return real(state, position, *rest)

    return patch.object(waking, "deliver_wake", deliver)


@defect(Law.WAKES, within=300, of_processes=True)
def a_wake_is_logged_and_does_not_get_into_the_outbox() -> AbstractContextManager[Any]:
    real = processes._keep

    def keep(state: Processes, process: Process, result: Appended) -> None:
        event = result.event
        if event is not None and event.wake is not UNSET and event.sequence % 2:
            state.wake_ids.add((event.process_id, event.wake.wake_id))
        real(state, process, result)

    return patch.object(processes, "_keep", keep)


@defect(Law.HINT, Law.ENDS, within=3_000, of_processes=True, begin=540)
def wakes_are_delivered_by_pokes_alone() -> AbstractContextManager[Any]:
    return patch.object(outbox, "_POLL_INTERVAL", 1e6)


@defect(Law.ORDER, within=2_000, of_processes=True, begin=440)
def wakes_of_one_process_are_delivered_side_by_side() -> AbstractContextManager[Any]:
    def to_try(self: Outbox, page: Iterable[PendingWake], now: float) -> tuple[tuple[PendingWake, ...], ...]:
        return tuple((entry,) for entry in page)

    return patch.object(Outbox, "to_try", to_try)


# Work


@defect(Law.ENDS, within=5_000, of_processes=True, begin=1_050)
def who_waits_keeps_its_permit() -> AbstractContextManager[Any]:
    return patch.object(Pool, "park", lambda self, process_id: None)


@defect(Law.HINT, Law.ENDS, within=1_000, of_processes=True)
def processes_are_found_by_pokes_alone() -> AbstractContextManager[Any]:
    real = ProcessWorkRunner.__init__

    def begin(self: ProcessWorkRunner, handle: Any, clock: Clock, *, poll_interval: float) -> None:
        real(self, handle, clock, poll_interval=1e6)

    return patch.object(ProcessWorkRunner, "__init__", begin)


@defect(Law.ENDS, Law.OWNS, within=2_000, of_processes=True)
def ends_are_heard_by_word_alone() -> AbstractContextManager[Any]:
    return all_of(patch.object(awaiting, "_FIRST_DELAY", 1e6), patch.object(awaiting, "_LONGEST_DELAY", 1e6))


@defect(Law.RECORDED, within=2_000, of_processes=True)
def a_process_that_is_run_again_does_not_read_its_notes() -> AbstractContextManager[Any]:
    async def noted(self: RunningProcess) -> dict[str, Any]:
        if self._notes is None:
            self._notes = {}
        return self._notes

    return patch.object(RunningProcess, "_noted", noted)


@defect(Law.GROWS, within=100, of_processes=True)
def sequences_of_events_have_holes() -> AbstractContextManager[Any]:
    real = appending.appended

    def append(record: ProcessRecord, *rest: Any, **asked: Any) -> Appended:
        return real(structs.replace(record, last_sequence=record.last_sequence + 1), *rest, **asked)

    return patch.object(processes, "appended", append)


@defect(Law.ONE_KEY, within=1_000, of_processes=True)
def a_process_is_registered_as_often_as_it_is_asked_for() -> AbstractContextManager[Any]:
    real = granting.register_process

    def register(state: State, registration: Any, *rest: Any) -> Registered:
        state.processes.by_id.pop(registration.process_id, None)
        return real(state, registration, *rest)

    return patch.object(granting, "register_process", register)


@defect(Law.READS, within=1_000, of_processes=True)
def a_deleted_session_goes_on_seeing_its_processes() -> AbstractContextManager[Any]:
    return patch.object(sessions, "end_grants", lambda *_: GrantsEnded())


@defect(Law.FOLD, within=300, of_processes=True)
def the_end_of_a_process_is_not_told() -> AbstractContextManager[Any]:
    real = ProcessNews.logged

    def logged(self: ProcessNews, appended: Appended) -> None:
        if appended.event is None or appended.event.output is UNSET:
            real(self, appended)

    return patch.object(ProcessNews, "logged", logged)
