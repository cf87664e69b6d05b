"""The transactions that end work nobody has begun, and ask for the end of work somebody has."""

from __future__ import annotations

import sqlite3

from msgspec import structs

from sightline.errors import BatchNotCancellable
from sightline.queue.model import Batch, BatchState, Cancellation
from sightline.queue.rules import cancel_outcome, may_drop
from sightline.stores.sqlite.batches import batch_row, end_batch
from sightline.stores.sqlite.rows import batch_of
from sightline.stores.sqlite.sessions import require_session
from sightline.stores.sqlite.statements import first, run

__all__ = ["cancel_batch", "cancel_from", "request_cancel"]


def cancel_batch(db: sqlite3.Connection, session_id: str, batch_id: str, now: int) -> Batch:
    row = batch_row(db, session_id, batch_id)
    if not may_drop(batch_of(row)):
        raise BatchNotCancellable(batch_id, row["state"])
    return _cancel(db, row, now)


def cancel_from(
    db: sqlite3.Connection, session_id: str, batch_id: str, now: int
) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
    start = batch_row(db, session_id, batch_id)["enqueue_seq"]
    rows = run(db, "open_batches_from", session_id=session_id, first=start).fetchall()
    batches = [batch_of(row) for row in rows]
    cancelled = tuple(_cancel(db, row, now) for row, batch in zip(rows, batches, strict=True) if may_drop(batch))
    return cancelled, tuple(batch for batch in batches if not may_drop(batch))


def request_cancel(
    db: sqlite3.Connection,
    session_id: str,
    *,
    turn_id: str | None,
    source_key: str | None,
    reason: str,
    now: int,
) -> Cancellation:
    require_session(db, session_id)
    if source_key is not None:
        row = first(db, "batch_by_key", session_id=session_id, source_key=source_key)
        if row is None:
            run(db, "cancel_key", session_id=session_id, source_key=source_key, now=now)
            return Cancellation(turn_id=None, state="will_cancel")
        return _ask(db, session_id, row, reason, now)
    for row in run(db, "open_batches", session_id=session_id).fetchall():
        if row["state"] == BatchState.CLAIMED if turn_id is None else row["turn_id"] == turn_id:
            return _ask(db, session_id, row, reason, now)
    stamp = None if turn_id is None else first(db, "get_stamp", session_id=session_id, turn_id=turn_id)
    if stamp is None:
        return Cancellation(turn_id=turn_id, state="none")
    return Cancellation(turn_id=turn_id, state="cancelled" if stamp["status"] == "cancelled" else "ended")


def _ask(db: sqlite3.Connection, session_id: str, row: sqlite3.Row, reason: str, now: int) -> Cancellation:
    """Ask for the end of the work that `row` belongs to."""
    state = BatchState(row["state"])
    if row["turn_id"] is not None and state.is_open:
        # A turn took it before: its end belongs into the transcript, so a pending one is not just dropped.
        run(db, "mark_cancel_requested", session_id=session_id, turn_id=row["turn_id"], reason=reason)
        return Cancellation(turn_id=row["turn_id"], state="cancel_requested")
    changed = (_cancel(db, row, now),) if state is BatchState.PENDING else ()
    return Cancellation(turn_id=row["turn_id"], state=cancel_outcome(state), batches=changed)


def _cancel(db: sqlite3.Connection, row: sqlite3.Row, now: int) -> Batch:
    end_batch(db, row, BatchState.CANCELLED, now, error=None, uncharge=0)
    return structs.replace(batch_of(row), state=BatchState.CANCELLED)
