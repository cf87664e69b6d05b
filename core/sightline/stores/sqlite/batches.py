"""The transactions about batches of work: how they come, how they are found, how they are forgotten."""

from __future__ import annotations

import sqlite3

from msgspec import structs

from sightline.errors import BatchNotFound, IdempotencyKeyReused, QueueFull
from sightline.queue.model import Batch, BatchState, Draft, Enqueued
from sightline.queue.rules import new_batch
from sightline.stores.sqlite.rows import batch_of, text
from sightline.stores.sqlite.sessions import require_session, touch
from sightline.stores.sqlite.statements import first, run

__all__ = [
    "batch_row",
    "claimable_sessions",
    "end_batch",
    "enqueue",
    "get_batch",
    "list_batches",
    "next_due",
    "purge_ended",
]


def enqueue(db: sqlite3.Connection, draft: Draft, fingerprint: str, batch_id: str, now: int, max_open: int) -> Enqueued:
    session_id, key = draft.session_id, draft.source_key
    require_session(db, session_id)
    cancelled = False
    if key is not None:
        row = first(db, "batch_by_key", session_id=session_id, source_key=key)
        if row is not None:
            if row["content_hash"] != fingerprint:
                raise IdempotencyKeyReused(key)
            return Enqueued(batch_of(row), replayed=True)
        cancelled = first(db, "is_key_cancelled", session_id=session_id, source_key=key) is not None
    if not cancelled and first(db, "count_open", session_id=session_id)[0] >= max_open:
        raise QueueFull(session_id, max_open)
    batch = new_batch(draft, batch_id=batch_id, enqueue_seq=0, now=now, cancelled=cancelled)
    row = first(
        db,
        "insert_batch",
        batch_id=batch_id,
        session_id=session_id,
        source_key=key,
        content_hash=fingerprint,
        state=batch.state,
        delivery_policy=batch.delivery_policy,
        slot_policy=batch.slot_policy,
        merge_key=text(batch.merge_key),
        available_at_ms=batch.available_at_ms,
        now=now,
        items=text(batch.items),
        ended_at_ms=now if cancelled else None,
    )
    run(db, "touch_session", session_id=session_id, now=now, touched=touch(db))
    return Enqueued(structs.replace(batch, enqueue_seq=row["enqueue_seq"]), replayed=False)


def get_batch(db: sqlite3.Connection, session_id: str, batch_id: str) -> Batch:
    return batch_of(batch_row(db, session_id, batch_id))


def list_batches(db: sqlite3.Connection, session_id: str, pending_only: bool, limit: int) -> tuple[Batch, ...]:
    require_session(db, session_id)
    query = "list_pending" if pending_only else "list_all"
    return tuple(batch_of(row) for row in run(db, query, session_id=session_id, limit=limit))


def claimable_sessions(db: sqlite3.Connection, now: int, limit: int) -> tuple[str, ...]:
    return tuple(row["session_id"] for row in run(db, "claimable_sessions", now=now, limit=limit))


def next_due(db: sqlite3.Connection, now: int) -> int | None:
    due: int | None = first(db, "next_due", now=now)[0]
    return due


def purge_ended(db: sqlite3.Connection, before: int, limit: int) -> int:
    run(db, "purge_cancelled_keys", before=before)
    return run(db, "purge_ended", before=before, limit=limit).rowcount


def batch_row(db: sqlite3.Connection, session_id: str, batch_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = first(db, "batch_by_id", session_id=session_id, batch_id=batch_id)
    if row is None:
        require_session(db, session_id)
        raise BatchNotFound(session_id, batch_id)
    return row


def end_batch(
    db: sqlite3.Connection, row: sqlite3.Row, state: BatchState, now: int, *, error: str | None, uncharge: int
) -> None:
    run(
        db,
        "end_batch",
        enqueue_seq=row["enqueue_seq"],
        state=state,
        error=error,
        uncharge=uncharge,
        now=now,
    )
