"""Ending work that nobody has begun, and asking for the end of work somebody has."""

from __future__ import annotations

from msgspec import UNSET

from sightline.errors import BatchNotCancellable
from sightline.queue.model import Batch, BatchState, Cancellation
from sightline.queue.rules import cancel_outcome, may_drop
from sightline.stores.memory.state import Key, Session, State

__all__ = ["cancel_batch", "cancel_from", "request_cancel"]


def cancel_batch(state: State, session_id: str, batch_id: str, now: int) -> Batch:
    row = state.row(session_id, batch_id)
    if not may_drop(row.batch):
        raise BatchNotCancellable(batch_id, row.batch.state)
    return row.end(BatchState.CANCELLED, now)


def cancel_from(state: State, session_id: str, batch_id: str, now: int) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
    first = state.row(session_id, batch_id).batch.enqueue_seq
    later = [row for row in state.session(session_id).open_rows() if row.batch.enqueue_seq >= first]
    kept = tuple(row.batch for row in later if not may_drop(row.batch))
    cancelled = tuple(row.end(BatchState.CANCELLED, now) for row in later if may_drop(row.batch))
    return cancelled, kept


def request_cancel(
    state: State, session_id: str, *, turn_id: str | None, source_key: str | None, reason: str, now: int
) -> Cancellation:
    session = state.session(session_id)
    if source_key is not None:
        return _by_key(session, source_key, reason, now)
    for row in session.open_rows():
        if row.batch.state is BatchState.CLAIMED if turn_id is None else row.batch.turn_id == turn_id:
            return _ask(session, row.batch.batch_id, reason, now)
    stamp = None if turn_id is None else session.stamps.get(turn_id)
    if stamp is None:
        return Cancellation(turn_id=turn_id, state="none")
    return Cancellation(turn_id=turn_id, state="cancelled" if stamp.status == "cancelled" else "ended")


def _by_key(session: Session, source_key: str, reason: str, now: int) -> Cancellation:
    key = session.keys.get(source_key)
    if key is None:
        session.keys[source_key] = Key(now)
    if key is None or key.batch_id is None:
        return Cancellation(turn_id=None, state="will_cancel")
    if key.end is not None:
        named = None if key.end.turn_id is UNSET else str(key.end.turn_id)
        return Cancellation(turn_id=named, state=cancel_outcome(key.end.state))
    return _ask(session, key.batch_id, reason, now)


def _ask(session: Session, batch_id: str, reason: str, now: int) -> Cancellation:
    """Ask for the end of the work that this batch belongs to."""
    row = session.rows[batch_id]
    named = None if row.batch.turn_id is UNSET else str(row.batch.turn_id)
    if named is not None and row.batch.state.is_open:
        # A turn took it before: its end belongs into the transcript, so a pending one is not just dropped.
        for member in session.open_rows():
            if member.batch.turn_id == named and member.cancel_requested is None:
                member.cancel_requested = reason
        return Cancellation(turn_id=named, state="cancel_requested")
    state = row.batch.state
    changed = (row.end(BatchState.CANCELLED, now),) if state is BatchState.PENDING else ()
    return Cancellation(turn_id=named, state=cancel_outcome(state), batches=changed)
