"""The transactions that take work and give it back. Which work, the rules say."""

from __future__ import annotations

import sqlite3

from msgspec import structs

from sightline.errors import ClaimExpired
from sightline.queue.claiming import Candidate, select
from sightline.queue.model import Batch, BatchState, Boundary, Claim, NothingClaimed
from sightline.stores.sqlite.rows import batch_of
from sightline.stores.sqlite.statements import run

__all__ = ["abandon", "claim", "held_rows"]


def claim(
    db: sqlite3.Connection,
    session_id: str,
    boundary: Boundary,
    *,
    owner_id: str,
    turn_id: str,
    lease_token: str,
    now: int,
    ttl_ms: int,
    max_batches: int,
) -> Claim | NothingClaimed:
    rows = _select(db, session_id, boundary, max_batches, now)
    if isinstance(rows, NothingClaimed):
        return rows
    head = rows[0]
    claim_id = f"qwc:{head['enqueue_seq']}:{head['fencing'] + 1}"
    the_turn = head["turn_id"] or turn_id
    for row in rows:
        taken = run(
            db,
            "take_batch",
            turn_id=the_turn,
            claim_id=claim_id,
            owner_id=owner_id,
            lease_token=lease_token,
            expires=now + ttl_ms,
            enqueue_seq=row["enqueue_seq"],
            now=now,
        )
        if taken.rowcount != 1:
            raise ClaimExpired(session_id, claim_id)
    batches = tuple(
        structs.replace(batch_of(row), state=BatchState.CLAIMED, turn_id=the_turn, attempts=row["attempts"] + 1)
        for row in rows
    )
    requests = (row["cancel_requested"] for row in rows)
    return Claim(
        session_id=session_id,
        claim_id=claim_id,
        owner_id=owner_id,
        lease_token=lease_token,
        fencing_token=head["fencing"] + 1,
        claimed_at_ms=now,
        expires_at_ms=now + ttl_ms,
        turn_id=the_turn,
        attempt=max(batch.attempts for batch in batches),
        batches=batches,
        cancel_requested=next((reason for reason in requests if reason is not None), None),
    )


def abandon(db: sqlite3.Connection, claim: Claim, charge: bool) -> tuple[Batch, ...]:
    rows = held_rows(db, claim.session_id, claim.claim_id, claim.lease_token)
    uncharge = 0 if charge else 1
    for row in rows:
        run(db, "release_batch", enqueue_seq=row["enqueue_seq"], uncharge=uncharge)
    return tuple(
        structs.replace(batch_of(row), state=BatchState.PENDING, attempts=row["attempts"] - uncharge) for row in rows
    )


def held_rows(db: sqlite3.Connection, session_id: str, claim_id: str, lease_token: str) -> list[sqlite3.Row]:
    """The open rows that this claim holds with this token, by sequence."""
    return run(db, "held_batches", session_id=session_id, claim_id=claim_id, lease_token=lease_token).fetchall()


def _select(
    db: sqlite3.Connection, session_id: str, boundary: Boundary, max_batches: int, now: int
) -> list[sqlite3.Row] | NothingClaimed:
    rows = run(db, "claim_candidates", session_id=session_id, now=now, limit=max(max_batches, 1)).fetchall()
    if not rows:
        rows = run(db, "all_candidates", session_id=session_id).fetchall()
    elif rows[0]["turn_id"] is not None:
        # A turn is taken again whole, however far apart its members stand and whatever the limit.
        rows = run(db, "turn_candidates", session_id=session_id, turn_id=rows[0]["turn_id"], now=now).fetchall()
    candidates = [Candidate(batch_of(row), row["claim_expires_at_ms"]) for row in rows]
    chosen = select(candidates, boundary, max_batches, now)
    if isinstance(chosen, NothingClaimed):
        return chosen
    by_id = {row["batch_id"]: row for row in rows}
    return [by_id[batch.batch_id] for batch in chosen]
