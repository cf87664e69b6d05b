"""The laws about work: how it comes, who takes it, and how it is given back.

Each function is told of one effect that has just taken place: what was asked, and what came of it (`ledger.Came`). It
says whether that could be so, given everything that is in the ledger, and writes it down. What should have been taken
is worked out here once more, without the kernel's own rules: agreeing with oneself proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sightline.errors import IdempotencyKeyReused, LeaseLost, QueueFull
from sightline.queue.model import (
    Batch,
    BatchState,
    Boundary,
    Claim,
    DeliveryPolicy,
    Draft,
    Enqueued,
    NothingClaimed,
    SlotPolicy,
)
from sightline.session.model import LeaseRequest, SessionLease
from tests.sim.laws_of_reading import as_known, is_held
from tests.sim.ledger import Book, Came, Hold, KeyEntry, Law, Ledger, Violation, Work

__all__ = ["abandoned", "claimed", "enqueued", "renewed"]


def enqueued(ledger: Ledger, came: Came, draft: Draft, *, batch_id: str, now: int, max_open: int) -> None:
    book = ledger.books[draft.session_id]
    entry = None if draft.source_key is None else book.keys.get(draft.source_key)
    known = None if entry is None else entry.work
    if came.error is not None:
        if isinstance(came.error, IdempotencyKeyReused) and known is not None and not _same(known.draft, draft):
            ledger.count("clash refused")
            return
        if isinstance(came.error, QueueFull):
            return
        raise Violation(Law.EXPECTED, f"enqueue of {_said(draft)} was refused: {came.error!r}")
    stored: Enqueued = came.result
    if entry is not None:
        entry.used_ms = max(entry.used_ms, now)
    if known is not None:
        if not stored.replayed or stored.batch.batch_id != known.batch_id:
            raise Violation(
                Law.ONE_KEY, f"key {draft.source_key} brought {known.batch_id} and now {stored.batch.batch_id}"
            )
        if not _same(known.draft, draft):
            raise Violation(Law.ONE_KEY, f"key {draft.source_key} came back with other content and was not refused")
        as_known(known, stored.batch)
        ledger.count("replay after the end" if not known.state.is_open else "replay")
        return
    if stored.replayed:
        raise Violation(Law.ONE_KEY, f"{stored.batch.batch_id} is called a replay of a key that nobody used")
    if stored.batch.batch_id in book.works:
        raise Violation(Law.GROWS, f"batch id {stored.batch.batch_id} is used twice")
    if stored.batch.enqueue_seq <= ledger.sequence:
        raise Violation(Law.GROWS, f"sequence {stored.batch.enqueue_seq} after {ledger.sequence}")
    ledger.sequence = stored.batch.enqueue_seq
    in_advance = entry is not None
    expected = BatchState.CANCELLED if in_advance else BatchState.PENDING
    if stored.batch.state is not expected:
        raise Violation(Law.OWNS, f"{_said(draft)} came as {stored.batch.state}, not {expected}")
    work = Work(stored.batch, draft, expected, came.at)
    if in_advance:
        ledger.count("cancelled before it came")
        work.ended_ms = now
    book.works[work.batch_id] = work
    if draft.source_key is not None:
        book.keys[draft.source_key] = KeyEntry(work, now)


def claimed(
    ledger: Ledger,
    came: Came,
    session_id: str,
    boundary: Boundary,
    *,
    owner_id: str,
    turn_id: str,
    lease_token: str,
    now: int,
    ttl_ms: int,
    max_batches: int,
    lease: SessionLease | LeaseRequest | None = None,
    batch_ids: Sequence[str] | None = None,
) -> None:
    book = ledger.books[session_id]
    lane = book.lane
    if isinstance(lease, SessionLease) and not lane.rules(lease):
        if not isinstance(came.error, LeaseLost):
            raise Violation(Law.ONE_WRITER, f"a claim under the old generation {lease.generation} was not refused")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"claim of {session_id} failed: {came.error!r}")
    busy = lane.owner_id is not None and lane.expires_ms > now
    asks = isinstance(lease, LeaseRequest)
    blocked = asks and busy and lane.owner_id != owner_id
    if blocked:
        ruling: int | None = lane.generation
    elif asks:
        ruling = lane.generation + 1
    else:
        ruling = None if lease is None else lane.generation
    due = _next_group(book, boundary, max_batches if batch_ids is None else len(batch_ids), now, ruling)
    if batch_ids is not None and [work.batch_id for work in due] != list(batch_ids):
        due = []
    if isinstance(came.result, NothingClaimed):
        if due and not blocked:
            raise Violation(Law.HINT, f"{due[0].batch_id} was ready in {session_id} and not given: {came.result}")
        if due and came.result.reason != "lane_busy":
            raise Violation(Law.HINT, f"{session_id} is in other hands, and the answer is {came.result}")
        ledger.count(f"nothing: {came.result.reason}")
        return
    claim: Claim = came.result
    ledger.owners[owner_id] = came.life
    if blocked:
        raise Violation(Law.ONE_WRITER, f"{owner_id} took {session_id} from {lane.owner_id}, which is alive")
    if [batch.batch_id for batch in claim.batches] != [work.batch_id for work in due]:
        _wrong_group(book, claim, due)
    held = ledger.unsettled.get((came.life, session_id))
    if held and boundary is Boundary.IDLE:
        raise Violation(Law.SETTLED, f"{came.life} takes {claim.claim_id} and has settled {held} in no way")
    if boundary is not Boundary.IDLE:
        ledger.count("taken in at a checkpoint")
    _take(ledger, came, book, claim, due)


def _take(ledger: Ledger, came: Came, book: Book, claim: Claim, group: list[Work]) -> None:
    lane, lease = book.lane, claim.lease
    if lease is not None and not lane.rules(lease):
        if lease.generation <= lane.generation:
            raise Violation(Law.GROWS, f"generation {lease.generation} of {book.session_id} after {lane.generation}")
        if lane.owner_id is not None and lane.owner_id != lease.owner_id:
            ledger.count("takeover")
        lane.given(lease, came.at)
    if claim.claim_id in book.claim_ids:
        raise Violation(Law.GROWS, f"claim id {claim.claim_id} is used twice")
    book.claim_ids.add(claim.claim_id)
    if claim.fencing_token <= group[0].fencing:
        raise Violation(Law.GROWS, f"fence {claim.fencing_token} of {group[0].batch_id} after {group[0].fencing}")
    asked = any(work.cancel_asked for work in group)
    if asked and claim.cancel_requested is None:
        raise Violation(Law.OWNS, f"turn {claim.turn_id} was cancelled, and its next attempt does not know")
    for work, batch in zip(group, claim.batches, strict=True):
        if work.turn_id is not None and work.turn_id != claim.turn_id:
            raise Violation(Law.ONE_EFFECT, f"{work.batch_id} of turn {work.turn_id} is taken as {claim.turn_id}")
        if batch.attempts != work.attempts + 1:
            raise Violation(Law.CHARGED, f"{work.batch_id} had {work.attempts} attempts, now {batch.attempts}")
        ledger.count("claim again" if work.turn_id is not None else "claim")
        work.state, work.turn_id, work.attempts = BatchState.CLAIMED, claim.turn_id, batch.attempts
        work.fencing = max(work.fencing + 1, claim.fencing_token) if work is group[0] else work.fencing + 1
        generation = None if lease is None else lease.generation
        work.hold = Hold(claim, came.life, generation, claim.expires_at_epoch_ms, came.at)
    if len(group) > 1:
        ledger.count("joined")


def _wrong_group(book: Book, claim: Claim, due: list[Work]) -> None:
    """Say which law a claim broke that is not what was due."""
    taken = [batch.batch_id for batch in claim.batches]
    for batch_id in taken:
        work = book.works.get(batch_id)
        if work is None:
            raise Violation(Law.ONE_EFFECT, f"{batch_id} is taken, and nobody has posted it")
        if not work.state.is_open:
            raise Violation(Law.ONE_EFFECT, f"{batch_id} has ended as {work.state} and is taken again")
    raise Violation(Law.ORDER, f"taken: {taken}, due: {[work.batch_id for work in due]}")


def _next_group(book: Book, boundary: Boundary, limit: int, now: int, ruling: int | None) -> list[Work]:
    """What a claim should get, under the generation `ruling` (none: only time ends a claim)."""
    ready = [work for work in book.open_works() if work.is_due(now) and not is_held(work, now, ruling)]
    if not ready or limit <= 0:
        return []
    head = ready[0]
    if boundary is Boundary.ACTIVE_TURN_CHECKPOINT and (
        head.turn_id is not None or head.batch.delivery_policy is not DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
    ):
        return []
    if head.turn_id is not None:
        return [work for work in ready if work.turn_id == head.turn_id]
    group = [head]
    for work in ready[1:]:
        if len(group) == limit or not _joins(head, work):
            break
        group.append(work)
    return group


def _joins(head: Work, work: Work) -> bool:
    one, other = head.draft, work.draft
    if SlotPolicy.EXCLUSIVE in (one.slot_policy, other.slot_policy) or work.turn_id is not None:
        return False
    if one.merge_key == "never" or one.merge_key != other.merge_key:
        return False
    # Commands and wakes are exclusive: what joins by its type here is user input.
    return one.delivery_policy is other.delivery_policy


def renewed(ledger: Ledger, came: Came, claim: Claim, *, now: int, ttl_ms: int) -> None:
    held = ledger.books[claim.session_id].held(claim.claim_id, claim.lease_token)
    if (came.error is None) != (len(held) == len(claim.batches)):
        raise Violation(Law.ONE_WRITER, f"renewal of {claim.claim_id}: {came.error or 'granted'}")
    if came.error is None:
        for work in held:
            assert work.hold is not None
            work.hold.until_ms = came.result.expires_at_epoch_ms


def abandoned(ledger: Ledger, came: Came, claim: Claim, *, charge: bool) -> None:
    ledger.settles(came.life, claim.session_id, claim.claim_id)
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{claim.claim_id} could not be given back: {came.error!r}")
    book = ledger.books[claim.session_id]
    held = book.held(claim.claim_id, claim.lease_token)
    given: tuple[Batch, ...] = came.told[0]
    if [batch.batch_id for batch in given] != [work.batch_id for work in held]:
        raise Violation(
            Law.ONE_WRITER, f"{claim.claim_id} holds {[work.batch_id for work in held]} and gave back {given}"
        )
    ruled = all(work.hold is None or work.hold.generation in (None, book.lane.generation) for work in held)
    if claim.lease is not None and book.lane.rules(claim.lease):
        book.lane.release()
    if not held:
        ledger.count("stale abandon")
        return
    if charge and ruled and claim.turn_id not in ledger.failed_commits:
        why = "is asked to end" if came.handing_back else "is alive, and so is the store"
        raise Violation(Law.CHARGED, f"{came.life} {why}, and {claim.turn_id} is charged for an attempt that died")
    for work, batch in zip(held, given, strict=True):
        work.attempts = max(0, work.attempts - (0 if charge else 1))
        work.state, work.hold = BatchState.PENDING, None
        if batch.attempts != work.attempts:
            raise Violation(Law.CHARGED, f"{work.batch_id} given back with {batch.attempts}, not {work.attempts}")
    book.free_at = came.at
    ledger.count("given back" if charge else "handed back")


def _same(one: Draft, other: Draft) -> bool:
    return one == other


def _said(draft: Draft) -> str:
    return f"{draft.source_key or 'work without a key'}"
