"""The transactions that end work nobody has begun, and ask for the end of work somebody has."""

from __future__ import annotations

import sqlite3

from sightline.errors import BatchNotCancellable
from sightline.queue.model import Batch, BatchState, Cancellation
from sightline.queue.rules import End, cancel_outcome, may_drop
from sightline.stores.sqlite.batches import batch_row
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.rows import batch_of, decode
from sightline.stores.sqlite.sessions import require_session
from sightline.stores.sqlite.statements import first, run

__all__ = ["cancel_batch", "cancel_from", "request_cancel"]


def cancel_batch(db: Connection, session_id: str, batch_id: str, now: int) -> Batch:
    row = batch_row(db, session_id, batch_id)
    if not may_drop(batch_of(row)):
        raise BatchNotCancellable(batch_id, row["state"])
    return _cancel(db, row, now)


def cancel_from(
    db: Connection, session_id: str, batch_id: str, now: int
) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
    start = batch_row(db, session_id, batch_id)["enqueue_seq"]
    rows = run(db, "open_batches_from", session_id=session_id, first=start).fetchall()
    batches = [batch_of(row) for row in rows]
    cancelled = tuple(_cancel(db, row, now) for row, batch in zip(rows, batches, strict=True) if may_drop(batch))
    return cancelled, tuple(batch for batch in batches if not may_drop(batch))


def request_cancel(
    db: Connection,
    session_id: str,
    *,
    turn_id: str | None,
    source_key: str | None,
    reason: str,
    now: int,
) -> Cancellation:
    require_session(db, session_id)
    if source_key is not None:
        return _by_key(db, session_id, source_key, reason, now)
    if turn_id is None:
        row = first(db, "claimed_batch", session_id=session_id)
    else:
        row = first(db, "batch_of_turn", session_id=session_id, turn_id=turn_id)
    if row is not None:
        return _ask(db, row, reason, now)
    stamp = None if turn_id is None else first(db, "get_stamp", session_id=session_id, turn_id=turn_id)
    if stamp is None:
        return Cancellation(turn_id=turn_id, state="none")
    return Cancellation(turn_id=turn_id, state="cancelled" if stamp["status"] == "cancelled" else "ended")


def _by_key(db: Connection, session_id: str, source_key: str, reason: str, now: int) -> Cancellation:
    key = first(db, "get_key", session_id=session_id, source_key=source_key)
    if key is None:
        run(db, "put_key", session_id=session_id, source_key=source_key, now=now, content_hash=None, batch_id=None)
    if key is None or key["batch_id"] is None:
        return Cancellation(turn_id=None, state="will_cancel")
    if key["ended"] is not None:
        end: End = decode(key["ended"], End)
        named = end.turn_id if isinstance(end.turn_id, str) else None
        return Cancellation(turn_id=named, state=cancel_outcome(end.state))
    return _ask(db, first(db, "batch_by_id", session_id=session_id, batch_id=key["batch_id"]), reason, now)


def _ask(db: Connection, row: sqlite3.Row, reason: str, now: int) -> Cancellation:
    """Ask for the end of the work that `row` belongs to."""
    state = BatchState(row["state"])
    if row["turn_id"] is not None and state.is_open:
        # A turn took it before: its end belongs into the transcript, so a pending one is not just dropped.
        run(db, "mark_cancel_requested", session_id=row["session_id"], turn_id=row["turn_id"], reason=reason)
        return Cancellation(turn_id=row["turn_id"], state="cancel_requested")
    changed = (_cancel(db, row, now),) if state is BatchState.PENDING else ()
    return Cancellation(turn_id=row["turn_id"], state=cancel_outcome(state), batches=changed)


def _cancel(db: Connection, row: sqlite3.Row, now: int) -> Batch:
    run(db, "cancel_batch", enqueue_seq=row["enqueue_seq"], now=now)
    run(db, "close_batches", session_id=row["session_id"], closed=1)
    return batch_of(row, state=BatchState.CANCELLED, turn_id=row["turn_id"], attempts=row["attempts"])
