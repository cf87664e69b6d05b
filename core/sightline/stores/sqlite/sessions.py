"""The transactions about sessions and their transcripts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sightline.errors import InvalidInput, SessionDeleted, SessionExists, SessionNotFound
from sightline.observation.model import SessionState
from sightline.session.leasing import Lane
from sightline.session.model import (
    INITIAL_FRAME,
    AgentFrame,
    MessagePage,
    NewSession,
    SessionEntry,
    SessionPage,
    SessionRecord,
    Status,
    Tools,
    Usage,
)
from sightline.session.rules import frame_records, status_of
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.rows import batch_of, decode, message_of, record_of, request_of, text
from sightline.stores.sqlite.statements import first, run

__all__ = [
    "absent",
    "create_session",
    "delete_session",
    "head_of",
    "list_frames",
    "list_sessions",
    "load_session",
    "page_messages",
    "require_session",
    "session_entries",
]

_NEWEST = 2**63 - 1


def create_session(db: Connection, new: NewSession, now: int) -> SessionRecord:
    if first(db, "is_deleted", session_id=new.session_id):
        raise SessionDeleted(new.session_id)
    if first(db, "session_exists", session_id=new.session_id):
        raise SessionExists(new.session_id)
    run(
        db,
        "insert_session",
        session_id=new.session_id,
        agent_frame_id=INITIAL_FRAME,
        policy=text(new.policy),
        metadata=text(new.metadata),
        usage=text(Usage()),
        tools=text(Tools()),
        now=now,
        touched=db.touch(),
    )
    return record_of(first(db, "get_session", session_id=new.session_id))


def load_session(db: Connection, session_id: str, newest: int) -> SessionState:
    head = head_of(db, session_id)
    in_frame = head["message_count"] - head["frame_start"]
    messages = _messages(db, session_id, _NEWEST, min(newest, in_frame))
    return SessionState(
        record=record_of(head),
        messages=tuple(message_of(message) for message in messages),
        truncated=len(messages) < in_frame,
        open_batches=tuple(batch_of(row) for row in run(db, "open_batches", session_id=session_id)),
        generation=Lane(head["lease_generation"], head["lease_owner_id"]).settled_generation,
        requests=tuple(request_of(row) for row in run(db, "open_requests", session_id=session_id)),
    )


def list_sessions(db: Connection, limit: int, after: int | None, status: Status | None) -> SessionPage:
    rows = run(
        db, "list_sessions", after=_NEWEST if after is None else after, status=status, limit=limit + 1
    ).fetchall()
    page = rows[:limit]
    more = len(rows) > limit
    return SessionPage(tuple(_entry(row) for row in page), str(page[-1]["touched"]) if more and page else None)


def session_entries(db: Connection, session_ids: Sequence[str]) -> tuple[SessionEntry, ...]:
    return tuple(_entry(row) for row in run(db, "session_entries", session_ids=text(session_ids)))


def page_messages(db: Connection, session_id: str, before: str | None, limit: int) -> MessagePage:
    require_session(db, session_id)
    end = _NEWEST
    if before is not None:
        row = first(db, "message_seq", session_id=session_id, message_id=before)
        if row is None:
            raise InvalidInput("before", "is no message of this session")
        end = row["seq"]
    rows = _messages(db, session_id, end, limit + 1)
    more = len(rows) > limit
    page = tuple(message_of(row) for row in rows[1 if more else 0 :])
    return MessagePage(page, page[0].message_id if more and page else None)


def list_frames(db: Connection, session_id: str) -> tuple[AgentFrame, ...]:
    created_at_ms = head_of(db, session_id)["created_at_ms"]
    begun = [
        (row["frame_id"], row["reason"], row["created_at_ms"]) for row in run(db, "list_frames", session_id=session_id)
    ]
    return frame_records(created_at_ms, begun)


def delete_session(db: Connection, session_id: str, now: int) -> None:
    require_session(db, session_id)
    for what in (
        "delete_batches",
        "delete_keys",
        "delete_journals",
        "delete_requests",
        "delete_frames",
        "delete_tasks",
        "delete_monitors",
        "delete_session",
    ):
        run(db, what, session_id=session_id)
    run(db, "fence_session", session_id=session_id, now=now)


def head_of(db: Connection, session_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = first(db, "get_session", session_id=session_id)
    if row is None:
        raise absent(db, session_id)
    return row


def require_session(db: Connection, session_id: str) -> None:
    if first(db, "session_exists", session_id=session_id) is None:
        raise absent(db, session_id)


def absent(db: Connection, session_id: str) -> SessionDeleted | SessionNotFound:
    """Why there is no such session."""
    deleted = first(db, "is_deleted", session_id=session_id) is not None
    return SessionDeleted(session_id) if deleted else SessionNotFound(session_id)


def _messages(db: Connection, session_id: str, before: int, limit: int) -> list[sqlite3.Row]:
    rows = run(db, "newest_messages", session_id=session_id, before=before, limit=limit).fetchall()
    rows.reverse()
    return rows


def _entry(row: sqlite3.Row) -> SessionEntry:
    return SessionEntry(
        session_id=row["session_id"],
        status=status_of(asked=bool(row["asked"]), live=False, claimed=row["claimed"], pending=row["pending"]),
        revision=row["revision"],
        updated_at_ms=row["updated_at_ms"],
        metadata=decode(row["metadata"], dict),
        pending=row["pending"],
        title=row["title"],
    )
