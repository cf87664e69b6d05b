"""The transactions that take work and give it back. Which work, the rules say."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import structs

from sightline.errors import ClaimExpired, LeaseLost
from sightline.queue.claiming import Candidate, select
from sightline.queue.model import Batch, BatchState, Boundary, Claim, NothingClaimed, SlotPolicy
from sightline.session.leasing import Lane, acquired, is_lost
from sightline.session.model import LaneBusy, LeaseRequest, SessionLease
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.leases import lane_of, release_lease, write_lease
from sightline.stores.sqlite.rows import batch_of
from sightline.stores.sqlite.statements import first, run

__all__ = ["abandon", "claim", "renew"]


def claim(
    db: Connection,
    session_id: str,
    boundary: Boundary,
    *,
    owner_id: str,
    turn_id: str,
    lease_token: str,
    now: int,
    ttl_ms: int,
    max_batches: int,
    lease: SessionLease | LeaseRequest | None,
    batch_ids: Sequence[str] | None,
) -> Claim | NothingClaimed:
    limit = max_batches if batch_ids is None else len(batch_ids)
    generation = None
    granted = None
    lane = None if lease is None else lane_of(db, session_id)
    if lease is not None and lane is not None:  # without a lane the session is gone, and there is no row to take
        granted, generation = _lease(lane, session_id, lease, now)
    chosen = _select(db, session_id, boundary, limit, now, generation, batch_ids)
    if isinstance(chosen, NothingClaimed):
        return chosen
    if isinstance(granted, LaneBusy):
        return NothingClaimed("lane_busy", granted.expires_at_ms)
    if isinstance(lease, LeaseRequest) and granted is not None:
        write_lease(db, granted)
    rows, before = chosen
    head = rows[0]
    claim_id = f"qwc:{head['enqueue_seq']}:{head['fencing'] + 1}"
    the_turn = head["turn_id"] or turn_id
    for row in rows:
        run(
            db,
            "take_batch",
            turn_id=the_turn,
            claim_id=claim_id,
            owner_id=owner_id,
            lease_token=lease_token,
            size=len(rows),
            generation=generation,
            expires=now + ttl_ms,
            enqueue_seq=row["enqueue_seq"],
        )
    batches = tuple(
        structs.replace(batch, state=BatchState.CLAIMED, turn_id=the_turn, attempts=batch.attempts + 1)
        for batch in before
    )
    requests = (row["cancel_requested"] for row in rows)
    return Claim(
        session_id=session_id,
        claim_id=claim_id,
        owner_id=owner_id,
        lease_token=lease_token,
        fencing_token=head["fencing"] + 1,
        claimed_at_epoch_ms=now,
        expires_at_epoch_ms=now + ttl_ms,
        turn_id=the_turn,
        attempt=max(batch.attempts for batch in batches),
        batches=batches,
        cancel_requested=next((reason for reason in requests if reason is not None), None),
        lease=granted,
    )


def _lease(
    lane: Lane, session_id: str, lease: SessionLease | LeaseRequest, now: int
) -> tuple[SessionLease | LaneBusy, int]:
    """The lease to claim under, not yet written, and the generation to look at claims with."""
    if isinstance(lease, SessionLease):
        if is_lost(lane, lease):
            raise LeaseLost(session_id, lease.generation)
        return lease, lease.generation
    granted = acquired(
        lane, session_id, owner_id=lease.owner_id, lease_token=lease.lease_token, now=now, ttl_ms=lease.ttl_ms
    )
    return granted, lane.generation if isinstance(granted, LaneBusy) else granted.generation


def _select(
    db: Connection,
    session_id: str,
    boundary: Boundary,
    limit: int,
    now: int,
    generation: int | None,
    batch_ids: Sequence[str] | None,
) -> tuple[list[sqlite3.Row], tuple[Batch, ...]] | NothingClaimed:
    """The rows to take and the batches they are, by sequence."""
    rows = _candidates(db, session_id, limit, now, generation)
    candidates = [Candidate(batch_of(row), row["claim_expires_at_ms"], row["claim_generation"]) for row in rows]
    chosen = select(candidates, boundary, limit, now, generation=generation, only=batch_ids)
    if isinstance(chosen, NothingClaimed):
        return chosen
    if len(chosen) < len(rows):
        taken = {batch.batch_id for batch in chosen}
        rows = [row for row in rows if row["batch_id"] in taken]
    return rows, chosen


def _candidates(db: Connection, session_id: str, limit: int, now: int, generation: int | None) -> list[sqlite3.Row]:
    """The rows that could matter, by sequence: the head alone, unless others could come with it."""
    asked = {"session_id": session_id, "now": now, "generation": generation}
    rows = run(db, "claim_candidates", limit=1, **asked).fetchall()
    if not rows:
        reasons = first(db, "a_held_batch", **asked), first(db, "soonest_batch", session_id=session_id)
        return [row for row in reasons if row is not None]
    head = rows[0]
    if head["turn_id"] is not None:
        # A turn is taken again whole, however far apart its members stand and whatever the limit.
        return run(db, "turn_candidates", turn_id=head["turn_id"], **asked).fetchall()
    if head["slot_policy"] == SlotPolicy.JOIN and limit > 1:
        return run(db, "claim_candidates", limit=limit, **asked).fetchall()
    return rows


def renew(db: Connection, claim: Claim, now: int, ttl_ms: int) -> Claim:
    held = [row for batch in claim.batches if (row := _held(db, claim, batch)) is not None]
    if len(held) != len(claim.batches):
        raise ClaimExpired(claim.session_id, claim.claim_id)
    # Never earlier than it is, whatever a clock that was set back says.
    expires = max(now + ttl_ms, *(row["claim_expires_at_ms"] for row in held))
    for batch in claim.batches:
        run(db, "renew_batch", expires=expires, **_proof(claim, batch))
    return structs.replace(claim, expires_at_epoch_ms=expires)


def abandon(db: Connection, claim: Claim, charge: bool) -> tuple[Batch, ...]:
    held = [row for batch in claim.batches if (row := _held(db, claim, batch)) is not None]
    uncharge = 0 if charge else 1
    for row in held:
        run(db, "release_batch", enqueue_seq=row["enqueue_seq"], uncharge=uncharge)
    if claim.lease is not None:
        release_lease(db, claim.lease)
    return tuple(
        batch_of(row, state=BatchState.PENDING, turn_id=row["turn_id"], attempts=max(0, row["attempts"] - uncharge))
        for row in held
    )


def _held(db: Connection, claim: Claim, batch: Batch) -> sqlite3.Row | None:
    row: sqlite3.Row | None = first(db, "held_batch", **_proof(claim, batch))
    return row


def _proof(claim: Claim, batch: Batch) -> dict[str, str]:
    return {
        "batch_id": batch.batch_id,
        "session_id": claim.session_id,
        "claim_id": claim.claim_id,
        "lease_token": claim.lease_token,
    }
