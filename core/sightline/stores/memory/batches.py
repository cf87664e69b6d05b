"""How batches come, how they are found, how they are forgotten."""

from __future__ import annotations

from msgspec import UNSET, structs

from sightline.errors import IdempotencyKeyReused, QueueFull
from sightline.queue.model import Batch, BatchState, Draft, Enqueued
from sightline.queue.rules import check_draft, content_hash, end_of, new_batch, replayed_batch
from sightline.stores.memory.state import Key, Row, Session, State

__all__ = [
    "claimable_sessions",
    "enqueue",
    "list_batches",
    "next_due",
    "peek_claimable",
    "purge_ended",
    "purge_keys",
]


def enqueue(state: State, draft: Draft, batch_id: str, now: int, max_open: int) -> Enqueued:
    check_draft(draft)
    session = state.session(draft.session_id)
    fingerprint = content_hash(draft)
    key = None if draft.source_key is None else session.keys.get(draft.source_key)
    if key is not None and key.content_hash is not None:
        if key.content_hash != fingerprint:
            raise IdempotencyKeyReused(str(draft.source_key))
        key.used_at_ms = max(key.used_at_ms, now)
        row = session.rows.get(str(key.batch_id))
        assert row is not None or key.end is not None, "a key has its batch, or what is left of it"
        found = row.batch if row is not None else replayed_batch(draft, key.end)  # type: ignore[arg-type]
        return Enqueued(found, replayed=True)
    cancelled = key is not None
    if not cancelled and sum(1 for _ in session.open_rows()) >= max_open:
        raise QueueFull(draft.session_id, max_open)
    state.sequence += 1
    batch = new_batch(draft, batch_id=batch_id, enqueue_seq=state.sequence, now=now, cancelled=cancelled)
    session.record = structs.replace(session.record, updated_at_ms=now)
    session.touched = state.touch()
    session.rows[batch_id] = Row(batch, ended_at_ms=now if cancelled else None)
    if draft.source_key is not None:
        session.keys[draft.source_key] = Key(now, fingerprint, batch_id)
    return Enqueued(batch, replayed=False)


def list_batches(state: State, session_id: str, pending_only: bool, limit: int) -> tuple[Batch, ...]:
    batches = [
        row.batch
        for row in state.session(session_id).rows.values()
        if not pending_only or row.batch.state is BatchState.PENDING
    ]
    return tuple(batches[max(0, len(batches) - limit) :])


def peek_claimable(state: State, session_id: str, now: int) -> bool:
    session = state.sessions.get(session_id)
    return session is not None and _is_claimable(session, now)


def claimable_sessions(state: State, now: int, limit: int, after: str) -> tuple[str, ...]:
    ready = sorted(
        session_id
        for session_id, session in state.sessions.items()
        if session_id > after and _is_claimable(session, now)
    )
    return tuple(ready[:limit])


def _is_claimable(session: Session, now: int) -> bool:
    # A generation that nobody has: what was claimed under a lease that ended by time is free as well.
    lane = session.lane
    ruling = lane.generation if lane.owner_id is not None and lane.expires_at_ms > now else lane.generation + 1
    return any(row.candidate().is_eligible(now, ruling) for row in session.open_rows())


def next_due(state: State, now: int) -> int | None:
    return min(
        (
            row.batch.available_at_ms
            for session in state.sessions.values()
            for row in session.open_rows()
            if row.batch.state is BatchState.PENDING
            and row.batch.turn_id is UNSET
            and row.batch.available_at_ms > max(row.batch.enqueued_at_ms, now)
        ),
        default=None,
    )


def purge_ended(state: State, before: int, limit: int) -> int:
    ended = [
        (row.ended_at_ms, row.batch.enqueue_seq, session, row.batch)
        for session in state.sessions.values()
        for row in session.rows.values()
        if row.ended_at_ms is not None and row.ended_at_ms < before
    ]
    ended.sort(key=lambda entry: entry[:2])
    for _, _, session, batch in ended[:limit]:
        del session.rows[batch.batch_id]
        if batch.source_key is not UNSET:
            session.keys[str(batch.source_key)].end = end_of(batch)
    return len(ended[:limit])


def purge_keys(state: State, before: int, limit: int) -> int:
    old = [
        (key.used_at_ms, session_id, name)
        for session_id, session in state.sessions.items()
        for name, key in session.keys.items()
        if key.used_at_ms < before and (key.batch_id is None or key.end is not None)
    ]
    old.sort()
    for _, session_id, name in old[:limit]:
        del state.sessions[session_id].keys[name]
    return len(old[:limit])
