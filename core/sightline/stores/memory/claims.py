"""Taking work and giving it back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, structs

from sightline.errors import ClaimExpired, LeaseLost
from sightline.queue.claiming import select
from sightline.queue.model import Batch, BatchState, Boundary, Claim, NothingClaimed
from sightline.session.leasing import acquired, is_lost
from sightline.session.model import LaneBusy, LeaseRequest, SessionLease
from sightline.stores.memory.sessions import lane_of, release_lease
from sightline.stores.memory.state import Session, State

__all__ = ["abandon", "claim", "renew"]


def claim(
    state: State,
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
    session = state.sessions.get(session_id)
    if session is None:
        return select((), boundary, max_batches, now, only=batch_ids)  # type: ignore[return-value]
    granted = _lease(session, session_id, lease, now)
    candidates = [row.candidate() for row in session.open_rows()]
    if isinstance(granted, LaneBusy):
        # Said only when there would be something to take: a busy lane without work is no reason to come back.
        chosen = select(candidates, boundary, max_batches, now, generation=session.lane.generation, only=batch_ids)
        return chosen if isinstance(chosen, NothingClaimed) else NothingClaimed("lane_busy", granted.expires_at_ms)
    generation = None if granted is None else granted.generation
    chosen = select(candidates, boundary, max_batches, now, generation=generation, only=batch_ids)
    if isinstance(chosen, NothingClaimed):
        return chosen
    if isinstance(lease, LeaseRequest) and granted is not None:
        session.lane = lane_of(granted)
    rows = [session.rows[batch.batch_id] for batch in chosen]
    head = rows[0]
    claim_id = f"qwc:{head.batch.enqueue_seq}:{head.fencing + 1}"
    the_turn = turn_id if head.batch.turn_id is UNSET else str(head.batch.turn_id)
    for row in rows:
        row.fencing += 1
        row.claim_id, row.lease_token, row.claim_size = claim_id, lease_token, len(rows)
        row.held_until_ms, row.generation = now + ttl_ms, generation
        row.batch = structs.replace(
            row.batch, state=BatchState.CLAIMED, turn_id=the_turn, attempts=row.batch.attempts + 1
        )
    return Claim(
        session_id=session_id,
        claim_id=claim_id,
        owner_id=owner_id,
        lease_token=lease_token,
        fencing_token=head.fencing,
        claimed_at_epoch_ms=now,
        expires_at_epoch_ms=now + ttl_ms,
        turn_id=the_turn,
        attempt=max(row.batch.attempts for row in rows),
        batches=tuple(row.batch for row in rows),
        cancel_requested=next((row.cancel_requested for row in rows if row.cancel_requested is not None), None),
        lease=granted,
    )


def _lease(
    session: Session, session_id: str, lease: SessionLease | LeaseRequest | None, now: int
) -> SessionLease | LaneBusy | None:
    """The lease to claim under, not yet written: it is if there is something to claim."""
    match lease:
        case SessionLease():
            if is_lost(session.lane, lease):
                raise LeaseLost(session_id, lease.generation)
            return lease
        case LeaseRequest():
            return acquired(
                session.lane,
                session_id,
                owner_id=lease.owner_id,
                lease_token=lease.lease_token,
                now=now,
                ttl_ms=lease.ttl_ms,
            )
        case None:
            return None


def renew(state: State, claim: Claim, now: int, ttl_ms: int) -> Claim:
    session = state.sessions.get(claim.session_id)
    rows = [] if session is None else session.held(claim.claim_id, claim.lease_token)
    if len(rows) != len(claim.batches):
        raise ClaimExpired(claim.session_id, claim.claim_id)
    # Never earlier than it is, whatever a clock that was set back says.
    expires = max(now + ttl_ms, *(row.held_until_ms or 0 for row in rows))
    for row in rows:
        row.held_until_ms = expires
    return structs.replace(claim, expires_at_epoch_ms=expires)


def abandon(state: State, claim: Claim, charge: bool) -> tuple[Batch, ...]:
    session = state.sessions.get(claim.session_id)
    rows = [] if session is None else session.held(claim.claim_id, claim.lease_token)
    for row in rows:
        row.release()
        attempts = row.batch.attempts if charge else max(0, row.batch.attempts - 1)
        row.batch = structs.replace(row.batch, state=BatchState.PENDING, attempts=attempts)
    if claim.lease is not None:
        release_lease(state, claim.lease)
    return tuple(row.batch for row in rows)
