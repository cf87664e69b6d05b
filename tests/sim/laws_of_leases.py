"""The laws about who runs a process: one at a time can write, and what was begun is given up only with evidence.

As in `laws_of_work`, each function is told of one effect that has just taken place, says whether that could be so, and
writes it down. What the code of a process does is told by itself: `begun`, `returned` and what stands between them.
"""

from __future__ import annotations

from typing import Any

from sightline.errors import ProcessLeaseLost, ProcessNotYours, ProcessTerminal
from sightline.process.model import (
    AbandonedOutput,
    AwaitOutput,
    ProcessBusy,
    ProcessLease,
)
from tests.sim.jobs import SIGNAL, Job, Tenure
from tests.sim.laws_of_processes import written
from tests.sim.ledger import Calm, Came, Law, Ledger, Violation, must_be

__all__ = [
    "abandoned",
    "acquired",
    "awaited",
    "begun",
    "did",
    "left",
    "released",
    "renewed",
    "returned",
    "signalled",
    "slept",
    "woke",
]

_MOST = 3
"""Attempts."""
_CANCEL_LOOK = 2.0
"""Seconds after which a request to cancel is found of which nobody told: one before the first look, one between two."""


def acquired(
    ledger: Ledger, came: Came, process_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int, calm: Calm
) -> None:
    job = ledger.jobs.by_id[process_id]
    if job.has_ended or job.is_external:
        must_be(came, (ProcessTerminal, ProcessNotYours), Law.ENDED, f"{process_id} is taken, and is {job.status}")
        ledger.count("taken after the end")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{process_id} cannot be taken: {came.error!r}")
    before = job.tenure
    bound = job.registration.disposition == "owner_bound"
    busy = before is not None and (before.expires_ms > now or bound)
    if isinstance(came.result, ProcessBusy) is not busy:
        raise Violation(Law.ONE_WRITER, f"{came.life} asks for {process_id}, which {before} has: {came.result}")
    if busy:
        job.tries += 1
        ledger.count("process is busy")
        return
    if before is not None:
        _outlived(job, before, came, calm)
        ledger.count("process taken over")
    else:
        _waited(job, came, calm)
    lease: ProcessLease = came.result
    if lease.fencing_token <= job.fence:
        raise Violation(Law.GROWS, f"fence {lease.fencing_token} of {process_id} after {job.fence}")
    job.fence = lease.fencing_token
    job.attempts += 1
    job.tenure = Tenure(lease, came.life, lease.expires_at_ms, came.at, job.cancelled_at is not None)


def _outlived(job: Job, tenure: Tenure, came: Came, calm: Calm) -> None:
    """A process may be taken from an owner that is gone, or cut off; not from one that is alive and well."""
    if tenure.run is not None and calm.undisturbed(tenure.life):
        raise Violation(
            Law.LEASE, f"{job.process_id} is taken from {tenure.life}, where it runs, and which was not disturbed"
        )


def _waited(job: Job, came: Came, calm: Calm) -> None:
    """A process that nobody has tried to run yet is run within a poll, where there are permits for all."""
    waited = came.at - max(job.registered_at, calm.since)
    if not job.fence and not job.tries and calm.has_room and waited > calm.poll:
        raise Violation(Law.HINT, f"{job.process_id} was ready for {waited:.3f} s, and a poll takes {calm.poll:.3f} s")


def renewed(ledger: Ledger, came: Came, lease: ProcessLease, *, now: int, ttl_ms: int, waits: bool = False) -> None:
    job = ledger.jobs.by_id[lease.process_id]
    tenure = job.tenure if job.rules(lease) else None
    if tenure is None or tenure.expires_ms <= now:
        must_be(came, ProcessLeaseLost, Law.ONE_WRITER, f"{came.life} renews the lease of {job.process_id}")
        ledger.count("process lease lost")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"the lease of {job.process_id} cannot be renewed: {came.error!r}")
    if came.result.expires_at_ms < tenure.expires_ms:
        raise Violation(Law.LEASE, f"the lease of {job.process_id} was good until {tenure.expires_ms}: {came.result}")
    tenure.expires_ms = came.result.expires_at_ms
    if waits:
        job.attempts = min(job.attempts, 1)
    ledger.count("process lease renewed")


def released(ledger: Ledger, came: Came, lease: ProcessLease, *, charge: bool = True) -> None:
    job = ledger.jobs.by_id[lease.process_id]
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{job.process_id} cannot be given back: {came.error!r}")
    if not job.rules(lease):
        return
    assert job.tenure is not None
    if job.registration.disposition == "owner_bound" and job.tenure.began_at is not None:
        raise Violation(Law.ONE_EFFECT, f"{job.process_id} is bound to its owner, has begun, and is given to others")
    if charge:
        raise Violation(Law.CHARGED, f"{came.life} is charged for giving {job.process_id} back")
    job.attempts -= 1
    job.tenure = None
    job.tries += 1  # whoever gives it back rests before the next try
    ledger.count("process given back")


def abandoned(ledger: Ledger, came: Came, process_id: str, *, found_by: str, now: int, calm: Calm) -> None:
    job = ledger.jobs.by_id[process_id]
    tenure = job.tenure
    if job.has_ended:
        must_be(came, ProcessTerminal, Law.ENDED, f"{process_id} is {job.status}, and abandoned")
        return
    bound = job.registration.disposition == "owner_bound"
    if not bound or tenure is None or tenure.expires_ms > now:
        must_be(came, ProcessNotYours, Law.EVIDENCE, f"{process_id} is abandoned, and {tenure} has it")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{process_id} cannot be abandoned: {came.error!r}")
    output = came.result.record.output
    if not isinstance(output, AbandonedOutput) or (
        (output.owner_id, output.fencing_token, output.expired_at_ms, output.found_by)
        != (tenure.lease.owner_id, tenure.lease.fencing_token, tenure.expires_ms, found_by)
    ):
        raise Violation(Law.EVIDENCE, f"{process_id}, which {tenure} had, is abandoned by {output}")
    if tenure.run is not None and calm.undisturbed(tenure.life):
        raise Violation(Law.EVIDENCE, f"{process_id} is abandoned, and {tenure.life} runs it and was not disturbed")
    written(ledger, came, job, came.result)


# What the code of a process tells


def begun(ledger: Ledger, life: str, at: float, process_id: str, run: object) -> None:
    """It is set going. Whoever was superseded may not know yet; who rules the process has to."""
    job = ledger.jobs.by_id[process_id]
    job.runs += 1
    if job.is_external:
        raise Violation(Law.ENDED, f"{process_id} is done elsewhere, and {life} runs it")
    if job.registration.disposition == "owner_bound" and job.runs > 1:
        raise Violation(Law.ONE_EFFECT, f"{process_id} is bound to its owner, and is run {job.runs} times")
    tenure = _ruling(job, life)
    if tenure is None:
        return
    if tenure.was_cancelled:
        raise Violation(Law.OWNS, f"{process_id} was cancelled before {life} took it, and is run")
    if tenure.run is not None:
        raise Violation(Law.ONE_WRITER, f"{process_id} is run twice at a time by {life}")
    if job.attempts > _MOST:
        raise Violation(Law.CHARGED, f"{process_id} is run a {job.attempts}th time")
    tenure.run, tenure.began_at = run, at
    ledger.count("process run" if job.runs == 1 else "process run again")


def left(ledger: Ledger, process_id: str, run: object) -> None:
    """It is not going any more, for whatever reason; it may still be cleaning up."""
    tenure = ledger.jobs.by_id[process_id].tenure
    if tenure is not None and tenure.run is run:
        tenure.run = None


def returned(ledger: Ledger, life: str, at: float, process_id: str, run: object, calm: Calm) -> None:
    """It has come to its end undisturbed. Then nobody had wanted its end so that it had to know."""
    job = ledger.jobs.by_id[process_id]
    tenure = _ruling(job, life)
    if tenure is None or tenure.run is not run or tenure.began_at is None:
        return
    heard, wanted = job.heard.get(life), job.cancelled_at
    if heard is not None and heard < at:
        raise Violation(Law.OWNS, f"{life} heard at {heard:.3f} that {process_id} is to end, and it comes to its end")
    if wanted is not None and at - max(wanted, tenure.began_at, calm.since) > _CANCEL_LOOK / calm.slowest + calm.slack:
        raise Violation(Law.OWNS, f"{process_id} was cancelled at {wanted:.3f}, and comes to its end")


def did(ledger: Ledger, life: str, process_id: str, key: str) -> None:
    """It is about to do something to the world."""
    job = ledger.jobs.by_id[process_id]
    if _ruling(job, life) is not None and f"do:{key}" in job.notes:
        raise Violation(Law.RECORDED, f"{life} does {key} of {process_id}, which was done and written down")
    ledger.count("process did")


def slept(ledger: Ledger, process_id: str, number: int, now: int) -> None:
    until = ledger.jobs.by_id[process_id].notes.get(f"sleep:{number}")
    if until is None or now < until:
        raise Violation(Law.RECORDED, f"{process_id} was to sleep until {until}, and wakes at {now}")
    ledger.count("process slept")


def signalled(ledger: Ledger, process_id: str, number: int, payload: Any) -> None:
    """It has heard a signal, its how-manieth."""
    said = [entry.payload for entry in ledger.jobs.by_id[process_id].log if entry.event_type == SIGNAL]
    if len(said) < number or said[number - 1] != payload:
        raise Violation(Law.READS, f"{process_id} hears {payload} as signal {number} of {said}")
    ledger.count("process heard")


def awaited(ledger: Ledger, process_id: str, output: AwaitOutput) -> None:
    """Somebody was told what a process came to."""
    job = ledger.jobs.by_id[process_id]
    if job.output != output:
        raise Violation(Law.READS, f"{process_id} came to {job.output}, and {output} is told")
    ledger.count("process awaited")


def woke(ledger: Ledger, process_id: str, number: int) -> None:
    """It was told that its wake is asked for."""
    if f"wake:{number}" not in ledger.jobs.by_id[process_id].keys:
        raise Violation(Law.WAKES, f"{process_id} has asked for turn {number}, and its log does not know")


def _ruling(job: Job, life: str) -> Tenure | None:
    return job.tenure if job.tenure is not None and job.tenure.life == life else None
