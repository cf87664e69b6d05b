"""The laws about wakes: each gets from the log into the outbox, and from there once into the queue of its session.

As in `laws_of_work`, each function is told of one effect that has just taken place, says whether that could be so, and
writes it down.
"""

from __future__ import annotations

from msgspec import UNSET

from sightline.process.model import ProcessEvent, WakeDelivery
from sightline.queue.model import DeliveryPolicy, Draft, ProcessWake, SlotPolicy, WakePayload
from tests.sim import laws_of_work
from tests.sim.jobs import WAKE, Job
from tests.sim.ledger import Calm, Came, Law, Ledger, Violation

__all__ = ["asked", "delivered", "wakes_read"]

_WAKE_POLL = 10.0
"""Seconds after which a wake is found that no poke told of."""


def asked(ledger: Ledger, came: Came, job: Job, event: ProcessEvent) -> None:
    """A turn is asked for, or not."""
    wake = event.wake
    if wake is UNSET:
        if event.event_type == WAKE:
            raise Violation(Law.WAKES, f"{job.process_id} asked for a turn, and there is no wake")
        return
    owner = job.registration.provenance.owner_scope
    if event.event_type != WAKE or owner is UNSET or wake.target_session_id != owner.session_id:
        raise Violation(Law.WAKES, f"{event} of {job.process_id} wakes {wake}")
    ledger.jobs.wakes.append((wake, came.at))
    ledger.jobs.pending.append(wake)
    ledger.count("wake asked")


def wakes_read(ledger: Ledger, came: Came, *, limit: int, after: int = 0) -> None:
    jobs = ledger.jobs
    known = {id(wake): place for place, wake in jobs.places.items()}
    # Whose place nobody has read yet came later than all whose place is known.
    expected = [wake for wake in jobs.pending if known.get(id(wake), after + 1) > after][:limit]
    if came.error is not None or [entry.wake for entry in came.result] != expected:
        raise Violation(Law.WAKES, f"{expected} are pending behind {after}, and are read as {came.result}")
    for entry, wake in zip(came.result, expected, strict=True):
        jobs.places[entry.position] = wake


def delivered(ledger: Ledger, came: Came, position: int, *, batch_id: str, now: int, max_open: int, calm: Calm) -> None:
    jobs = ledger.jobs
    wake = jobs.places[position]
    if came.error is not None:
        raise Violation(Law.WAKES, f"{wake} cannot be delivered: {came.error!r}")
    delivery: WakeDelivery = came.result
    if wake not in jobs.pending:
        if delivery.state != "settled":
            raise Violation(Law.WAKES, f"{wake} was settled, and is {delivery.state} once more")
        ledger.count("wake settled before")
        return
    _in_order(ledger, wake)
    waited = came.at - max(jobs.asked_at(wake), calm.since)
    if position not in jobs.tried and waited > _WAKE_POLL / calm.slowest + calm.slack:
        raise Violation(Law.HINT, f"{wake.wake_id} was pending for {waited:.3f} s")
    jobs.pending.remove(wake)
    book = ledger.books.get(wake.target_session_id)
    expected = "discarded" if book is None else "enqueued"
    if delivery.state != expected:
        raise Violation(Law.WAKES, f"{wake} is {delivery.state}, not {expected}")
    ledger.count(f"wake {expected}")
    if book is None:
        return
    if delivery.enqueued is UNSET or delivery.enqueued.replayed:
        raise Violation(Law.WAKES, f"{wake} came into the queue twice: {delivery}")
    laws_of_work.enqueued(
        ledger,
        Came(came.life, came.at, delivery.enqueued, told=(delivery.enqueued,)),
        _draft_of(wake),
        batch_id=batch_id,
        now=now,
        max_open=max_open,
    )


def _draft_of(wake: ProcessWake) -> Draft:
    """What a wake is in its queue."""
    return Draft(
        session_id=wake.target_session_id,
        payloads=(WakePayload(wake),),
        source_key=f"process:{wake.process_id}:event:{wake.sequence}:wake",
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.EXCLUSIVE,
    )


def _in_order(ledger: Ledger, wake: ProcessWake) -> None:
    for other in ledger.jobs.pending:
        same = (other.process_id, other.target_session_id) == (wake.process_id, wake.target_session_id)
        if same and other.sequence < wake.sequence:
            raise Violation(Law.ORDER, f"{wake} overtakes {other}")
