"""The transactions about the journals of turns."""

from __future__ import annotations

from sightline.errors import LeaseLost
from sightline.session.leasing import is_lost
from sightline.session.model import SessionLease
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.leases import lane_of
from sightline.stores.sqlite.statements import first, run

__all__ = ["recall", "remember"]


def remember(
    db: Connection, session_id: str, turn_id: str, key: str, value: str, lease: SessionLease, replace: bool
) -> str:
    lane = lane_of(db, session_id)
    if lane is None or is_lost(lane, lease):
        raise LeaseLost(session_id, lease.generation)
    row = first(db, "get_note", session_id=session_id, turn_id=turn_id, key=key)
    if row is not None and not replace:
        kept: str = row["value"]
        return kept
    run(db, "put_note", session_id=session_id, turn_id=turn_id, key=key, value=value)
    return value


def recall(db: Connection, session_id: str, turn_id: str) -> dict[str, str]:
    return {row["key"]: row["value"] for row in run(db, "get_notes", session_id=session_id, turn_id=turn_id)}
