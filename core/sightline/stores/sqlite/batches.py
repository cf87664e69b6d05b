"""The transactions about batches of work: how they come, how they are found, how they are forgotten."""

from __future__ import annotations

import sqlite3

from msgspec import UNSET, structs

from sightline.errors import BatchNotFound, IdempotencyKeyReused, QueueFull
from sightline.queue.model import Batch, Draft, Enqueued
from sightline.queue.rules import End, end_of, new_batch, replayed_batch
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.rows import batch_of, decode, text
from sightline.stores.sqlite.sessions import require_session
from sightline.stores.sqlite.statements import first, run

__all__ = [
    "batch_row",
    "claimable_sessions",
    "enqueue",
    "get_batch",
    "insert_batch",
    "list_batches",
    "next_due",
    "peek_claimable",
    "purge_ended",
    "purge_keys",
]


_MOST = 2**53


def enqueue(db: Connection, draft: Draft, fingerprint: str, batch_id: str, now: int, max_open: int) -> Enqueued:
    session_id, source_key = draft.session_id, draft.source_key
    key = None if source_key is None else first(db, "get_key", session_id=session_id, source_key=source_key)
    if key is not None and key["content_hash"] is not None:
        return _replay(db, draft, fingerprint, key, now)
    cancelled = key is not None
    opened = 0 if cancelled else 1
    touched = run(
        db,
        "touch_session",
        session_id=session_id,
        now=now,
        touched=db.last_touch + 1,
        opened=opened,
        most=max_open if opened else _MOST,
    )
    if touched.rowcount != 1:
        require_session(db, session_id)
        raise QueueFull(session_id, max_open)
    db.touch()
    batch = new_batch(draft, batch_id=batch_id, enqueue_seq=0, now=now, cancelled=cancelled)
    sequence = insert_batch(db, batch, ended_at_ms=now if cancelled else None)
    if source_key is not None:
        run(
            db,
            "put_key",
            session_id=session_id,
            source_key=source_key,
            now=now,
            content_hash=fingerprint,
            batch_id=batch_id,
        )
    return Enqueued(structs.replace(batch, enqueue_seq=sequence), replayed=False)


def insert_batch(db: Connection, batch: Batch, *, ended_at_ms: int | None) -> int:
    """Write the row of a new batch; its sequence."""
    inserted = run(
        db,
        "insert_batch",
        batch_id=batch.batch_id,
        session_id=batch.session_id,
        source_key=None if batch.source_key is UNSET else batch.source_key,
        turn_id=None if batch.turn_id is UNSET else batch.turn_id,
        state=batch.state,
        delivery_policy=batch.delivery_policy,
        slot_policy=batch.slot_policy,
        merge_key=text(batch.merge_key),
        available_at_ms=batch.available_at_ms,
        now=batch.enqueued_at_ms,
        items=text(batch.items),
        ended_at_ms=ended_at_ms,
    )
    assert inserted.lastrowid is not None, "a row was inserted"
    return inserted.lastrowid


def _replay(db: Connection, draft: Draft, fingerprint: str, key: sqlite3.Row, now: int) -> Enqueued:
    if key["content_hash"] != fingerprint:
        raise IdempotencyKeyReused(str(draft.source_key))
    run(db, "use_key", session_id=draft.session_id, source_key=draft.source_key, now=now)
    if key["ended"] is not None:
        return Enqueued(replayed_batch(draft, decode(key["ended"], End)), replayed=True)
    return Enqueued(batch_of(first(db, "batch_by_id", session_id=draft.session_id, batch_id=key["batch_id"])), True)


def get_batch(db: Connection, session_id: str, batch_id: str) -> Batch:
    return batch_of(batch_row(db, session_id, batch_id))


def list_batches(db: Connection, session_id: str, pending_only: bool, limit: int) -> tuple[Batch, ...]:
    require_session(db, session_id)
    query = "list_pending" if pending_only else "list_all"
    return tuple(batch_of(row) for row in run(db, query, session_id=session_id, limit=limit))


def peek_claimable(db: Connection, session_id: str, now: int) -> bool:
    return bool(first(db, "peek_claimable", session_id=session_id, now=now)[0])


def claimable_sessions(db: Connection, now: int, limit: int, after: str) -> tuple[str, ...]:
    return tuple(row["id"] for row in run(db, "claimable_sessions", now=now, limit=limit, after=after))


def next_due(db: Connection, now: int) -> int | None:
    due: int | None = first(db, "next_due", now=now)[0]
    return due


def purge_ended(db: Connection, before: int, limit: int) -> int:
    rows = run(db, "ended_batches", before=before, limit=limit).fetchall()
    for row in rows:
        if row["source_key"] is not None:
            ended = text(end_of(batch_of(row)))
            run(db, "end_key", session_id=row["session_id"], source_key=row["source_key"], ended=ended)
        run(db, "delete_batch", enqueue_seq=row["enqueue_seq"])
    return len(rows)


def purge_keys(db: Connection, before: int, limit: int) -> int:
    return run(db, "purge_keys", before=before, limit=limit).rowcount


def batch_row(db: Connection, session_id: str, batch_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = first(db, "batch_by_id", session_id=session_id, batch_id=batch_id)
    if row is None:
        require_session(db, session_id)
        raise BatchNotFound(session_id, batch_id)
    return row
