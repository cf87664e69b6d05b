"""The transactions about what turns ask of people."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import UNSET

from sightline.errors import AlreadyAnswered, LeaseLost, RequestNotFound
from sightline.session.leasing import is_lost
from sightline.session.model import Request, SessionLease
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.leases import lane_of
from sightline.stores.sqlite.rows import request_of, text
from sightline.stores.sqlite.sessions import require_session
from sightline.stores.sqlite.statements import first, run
from sightline.turn.requests import Asked
from sightline.turn.rules import check_answer

__all__ = ["answer_request", "answers_to", "end_requests", "open_request", "purge_requests"]


def open_request(db: Connection, session_id: str, request: Request, key: str, lease: SessionLease) -> Asked:
    lane = lane_of(db, session_id)
    if lane is None or is_lost(lane, lease):
        raise LeaseLost(session_id, lease.generation)
    row = first(db, "request_by_key", session_id=session_id, turn_id=request.turn_id, key=key)
    asked = Asked(request) if row is None else _asked(row)
    if row is None:
        run(
            db,
            "insert_request",
            request_id=request.request_id,
            session_id=session_id,
            turn_id=request.turn_id,
            key=key,
            kind=request.kind,
            prompt=request.prompt,
            options=None if request.options is UNSET else text(request.options),
            at_ms=request.at_ms,
        )
    if asked.answer is None:
        run(db, "forgive_attempts", session_id=session_id, turn_id=request.turn_id)
    return asked


def answer_request(db: Connection, session_id: str, request_id: str, answer: str) -> Asked:
    require_session(db, session_id)
    row = first(db, "request_by_id", session_id=session_id, request_id=request_id)
    if row is None:
        raise RequestNotFound(session_id, request_id)
    if row["answer"] is not None:
        raise AlreadyAnswered(session_id, request_id, row["answer"])
    request = request_of(row)
    check_answer(request, answer)
    run(db, "answer_request", request_id=request_id, answer=answer)
    return Asked(request, answer)


def answers_to(db: Connection, request_ids: Sequence[str]) -> dict[str, str]:
    return {row["request_id"]: row["answer"] for row in run(db, "answers_to", request_ids=text(request_ids))}


def end_requests(db: Connection, session_id: str, turn_id: str, now: int) -> None:
    """The turn is committed: what it still asks is withdrawn, what was answered is kept for a while."""
    run(db, "withdraw_requests", session_id=session_id, turn_id=turn_id)
    run(db, "end_requests", session_id=session_id, turn_id=turn_id, now=now)


def purge_requests(db: Connection, before: int, limit: int) -> int:
    return run(db, "purge_requests", before=before, limit=limit).rowcount


def _asked(row: sqlite3.Row) -> Asked:
    return Asked(request_of(row), row["answer"])
