"""The laws about processes: how they are registered, what their logs hold, and who sees them.

As in `laws_of_work`, each function is told of one effect that has just taken place, says whether that could be so, and
writes it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from sightline.errors import (
    HandleNotGranted,
    HandleNotVisible,
    ProcessConflict,
    ProcessLeaseLost,
    ProcessNotFound,
    ProcessNotYours,
    ProcessTerminal,
    SessionDeleted,
    SessionNotFound,
)
from sightline.process.appending import cancel_request
from sightline.process.model import (
    Appended,
    GrantsEnded,
    NewEvent,
    NewGrant,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    ProcessScope,
    Registered,
    Registration,
)
from sightline.process.rules import SESSION_DELETED
from tests.sim import laws_of_wakes
from tests.sim.jobs import CANCEL, ENDS, SIGNAL, Entry, Job, shown_of
from tests.sim.ledger import Came, Law, Ledger, Violation, must_be

__all__ = [
    "appended",
    "as_known",
    "events_listed",
    "granted",
    "holders_read",
    "process_read",
    "registered",
    "revoked",
    "runnable_read",
    "session_ended",
    "transferred",
    "written",
]


def as_known(job: Job, record: ProcessRecord) -> None:
    shown = (record.status, record.output, record.last_sequence, record.attempts, shown_of(record))
    known = (job.status, job.output, len(job.log), job.attempts, job.shown)
    if shown == known:
        return
    law = Law.ENDED if shown[:2] != known[:2] else Law.READS
    raise Violation(law, f"{job.process_id} is read as {shown}, and is {known}")


def registered(
    ledger: Ledger, came: Came, registration: Registration, *, grants: Sequence[NewGrant] = (), now: int
) -> None:
    job = ledger.jobs.by_id.get(registration.process_id)
    gone = [grant.scope.session_id for grant in grants if grant.scope.session_id not in ledger.books]
    if job is None and gone:
        must_be(came, (SessionNotFound, SessionDeleted), Law.DURABLE, f"{registration.process_id} is shown to {gone}")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{registration.process_id} cannot be registered: {came.error!r}")
    result: Registered = came.result
    if result.created is not (job is None):
        raise Violation(Law.ONE_KEY, f"{registration.process_id} comes again, and created is {result.created}")
    if job is None:
        job = Job(registration, came.at, grants={grant.scope for grant in grants})
        ledger.jobs.by_id[job.process_id] = job
        ledger.count(f"registered: {registration.disposition}")
    else:
        ledger.count("registered again")
    as_known(job, result.record)


# The log


def appended(
    ledger: Ledger,
    came: Came,
    process_id: str,
    event: NewEvent,
    *,
    now: int,
    lease: ProcessLease | None = None,
    seen_from: Sequence[ProcessScope] | None = None,
) -> None:
    job = ledger.jobs.by_id.get(process_id)
    what = f"{event.event_type} of {process_id}"
    if job is None:
        must_be(came, ProcessNotFound, Law.READS, what)
        return
    if seen_from is not None and job.grants.isdisjoint(seen_from):
        must_be(came, HandleNotVisible, Law.OWNS, f"{what}, by one who does not see it")
        ledger.count("not visible")
        return
    if event.replay_key is not UNSET and event.replay_key in job.keys:
        _repeated(ledger, came, job, event)
        return
    if event.event_type == CANCEL and job.has_ended:
        if came.error is not None or came.result.event is not None:
            raise Violation(Law.ENDED, f"{process_id} is {job.status}, and its cancel comes to {came.result}")
        return
    if lease is not None and not job.rules(lease):
        must_be(came, ProcessLeaseLost, Law.ONE_WRITER, f"{what} under the old fence {lease.fencing_token}")
        ledger.count("stale event")
        return
    ends = event.event_type in ENDS
    if ends and lease is None and not job.is_external:
        must_be(came, (ProcessNotYours, ProcessTerminal), Law.ENDED, f"{what}, which is run here")
        return
    if job.has_ended and (ends or event.event_type == SIGNAL):
        must_be(came, ProcessTerminal, Law.ENDED, f"{what}, which is {job.status}")
        ledger.count("came after the end")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{what}: {came.error!r}")
    if ends:
        _may_end(job, event)
    if job.is_external and lease is not None:
        raise Violation(Law.ENDED, f"{what}, which is done elsewhere, is written under a lease")
    written(ledger, came, job, came.result)


def _repeated(ledger: Ledger, came: Came, job: Job, event: NewEvent) -> None:
    place = job.keys[str(event.replay_key)]
    known = job.log[place - 1]
    if (known.event_type, known.payload) != (event.event_type, event.payload):
        must_be(
            came, (ProcessConflict, ProcessTerminal), Law.ONE_KEY, f"{event} of {job.process_id}, which had {known}"
        )
        ledger.count("event in conflict")
        return
    result: Appended = came.result
    if came.error is not None or not result.replayed or result.event is None or result.event.sequence != place:
        raise Violation(Law.ONE_KEY, f"{event} of {job.process_id} is there as number {place}: {came}")
    as_known(job, result.record)
    ledger.count("event repeated")


def _may_end(job: Job, event: NewEvent) -> None:
    """Its end was wanted by somebody, if it is called cancelled; and if it was before it began, it did not begin."""
    if job.is_external:
        return
    wanted = job.cancelled_at is not None
    if event.event_type == "process.cancelled" and not wanted:
        raise Violation(Law.OWNS, f"{job.process_id} is cancelled, and nobody wanted that")
    if event.event_type != "process.cancelled" and job.tenure is not None and job.tenure.was_cancelled:
        raise Violation(Law.OWNS, f"{job.process_id} was to be cancelled before it was taken, and is {event}")


def written(ledger: Ledger, came: Came, job: Job, result: Appended) -> None:
    """A new line of the log, and what follows from it."""
    event = result.event
    if event is None or result.replayed:
        raise Violation(Law.ONE_KEY, f"a new event of {job.process_id} is called {result}")
    if event.sequence != len(job.log) + 1:
        raise Violation(Law.GROWS, f"event {event.sequence} of {job.process_id} after {len(job.log)}")
    job.write(Entry(event.event_type, event.payload, event.replay_key, came.at))
    status = ENDS.get(event.event_type)
    if (status is None) is not (event.output is UNSET):
        raise Violation(Law.ENDED, f"{event} of {job.process_id} comes to {event.output}")
    if status is not None:
        job.status, job.output, job.tenure = status, event.output, None
        ledger.count(f"process {status}")
    elif event.event_type == CANCEL:
        ledger.count("process cancel asked")
    laws_of_wakes.asked(ledger, came, job, event)
    as_known(job, result.record)


# Who sees them


def granted(ledger: Ledger, came: Came, process_id: str, scope: ProcessScope, descriptor: dict[str, Any]) -> None:
    job = ledger.jobs.by_id[process_id]
    if scope.session_id not in ledger.books:
        must_be(came, (SessionNotFound, SessionDeleted), Law.DURABLE, f"{process_id} is shown to {scope}")
    elif came.error is not None:
        raise Violation(Law.EXPECTED, f"{process_id} cannot be shown to {scope}: {came.error!r}")
    else:
        job.grants.add(scope)


def revoked(ledger: Ledger, came: Came, process_id: str, scope: ProcessScope) -> None:
    job = ledger.jobs.by_id[process_id]
    if came.error is not None or came.result is not (scope in job.grants):
        raise Violation(Law.READS, f"{process_id} is taken from {scope}: {came}")
    job.grants.discard(scope)


def transferred(
    ledger: Ledger, came: Came, source: ProcessScope, target: ProcessScope, process_ids: Sequence[str]
) -> None:
    if target.session_id not in ledger.books:
        must_be(came, (SessionNotFound, SessionDeleted), Law.DURABLE, f"{process_ids} are handed to {target}")
        return
    jobs = [ledger.jobs.by_id.get(name) for name in process_ids]
    if any(job is None or source not in job.grants for job in jobs):
        must_be(came, HandleNotGranted, Law.OWNS, f"{source} hands over {process_ids}")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{process_ids} cannot be handed to {target}: {came.error!r}")
    for job in jobs:
        assert job is not None
        job.grants.discard(source)
        job.grants.add(target)
    ledger.count("handed over")


def session_ended(ledger: Ledger, came: Came, session_id: str) -> None:
    """Nobody sees in a deleted session any more; what nobody else sees is asked to end, in the same step."""
    ended: GrantsEnded = came.result
    taken = sorted(job.process_id for job in ledger.jobs.by_id.values() if job.is_seen_by(session_id))
    if sorted(set(ended.revoked)) != taken:
        raise Violation(Law.READS, f"{session_id} saw {taken}, and its deletion takes {ended.revoked}")
    asked = {result.record.process_id: result for result in ended.cancelled}
    for name in taken:
        job = ledger.jobs.by_id[name]
        job.grants = {scope for scope in job.grants if scope.session_id != session_id}
        if (name in asked) is not (not job.grants and not job.has_ended):
            raise Violation(Law.OWNS, f"{name}, which {job.grants} see, is {job.status}, and its end is asked: {ended}")
        if name not in asked:
            continue
        wish = cancel_request(name, SESSION_DELETED)
        if wish.replay_key not in job.keys:
            written(ledger, came, job, asked[name])
            ledger.count("cancelled with its session")


# Reads


def process_read(ledger: Ledger, came: Came, process_id: str) -> None:
    job = ledger.jobs.by_id.get(process_id)
    if job is None:
        must_be(came, ProcessNotFound, Law.READS, process_id)
        return
    if came.error is not None:
        raise Violation(Law.READS, f"{process_id} cannot be read: {came.error!r}")
    as_known(job, came.result)


def events_listed(
    ledger: Ledger, came: Came, process_id: str, *, after: int, limit: int, event_type: str | None = None
) -> None:
    job = ledger.jobs.by_id.get(process_id)
    if job is None:
        must_be(came, ProcessNotFound, Law.READS, process_id)
        return
    known = [
        (number, entry)
        for number, entry in enumerate(job.log, 1)
        if number > after and event_type in (None, entry.event_type)
    ][:limit]
    events: tuple[ProcessEvent, ...] = came.result or ()
    same = len(events) == len(known) and all(
        event.sequence == number and entry.is_event(event) for event, (number, entry) in zip(events, known, strict=True)
    )
    if came.error is not None or not same:
        raise Violation(Law.READS, f"the log of {process_id} behind {after} is read as {came.error or events}")


def runnable_read(
    ledger: Ledger, came: Came, *, now: int, limit: int, after: str = "", host_profile_id: str | None = None
) -> None:
    free = [
        name
        for name, job in sorted(ledger.jobs.by_id.items())
        if name > after and not job.has_ended and not job.is_external and job.is_free(now)
    ][:limit]
    if came.error is not None or [record.process_id for record in came.result] != free:
        raise Violation(Law.HINT, f"{free} are to be run, and the look finds {came.error or came.result}")
    for record in came.result:
        as_known(ledger.jobs.by_id[record.process_id], record)


def holders_read(ledger: Ledger, came: Came, process_id: str) -> None:
    job = ledger.jobs.by_id.get(process_id)
    known = set() if job is None else job.grants
    if came.error is not None or {holder.scope for holder in came.result} != known:
        raise Violation(Law.READS, f"{process_id} is seen by {known}, and that is read as {came.error or came.result}")
