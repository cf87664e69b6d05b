"""The transactions about session leases. Who gets one, the rules say."""

from __future__ import annotations

import sqlite3

from sightline.errors import LeaseLost
from sightline.session.leasing import Lane, acquired, is_lost, renewed
from sightline.session.model import LaneBusy, SessionLease
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.sessions import absent
from sightline.stores.sqlite.statements import first, run

__all__ = ["acquire_lease", "lane_of", "release_lease", "renew_lease", "write_lease"]


def acquire_lease(
    db: Connection, session_id: str, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> SessionLease | LaneBusy:
    lane = lane_of(db, session_id)
    if lane is None:
        raise absent(db, session_id)
    lease = acquired(lane, session_id, owner_id=owner_id, lease_token=lease_token, now=now, ttl_ms=ttl_ms)
    if isinstance(lease, SessionLease):
        write_lease(db, lease)
    return lease


def renew_lease(db: Connection, lease: SessionLease, now: int, ttl_ms: int) -> SessionLease:
    lane = lane_of(db, lease.session_id)
    if lane is None or is_lost(lane, lease):
        raise LeaseLost(lease.session_id, lease.generation)
    longer = renewed(lane, lease, now=now, ttl_ms=ttl_ms)
    write_lease(db, longer)
    return longer


def release_lease(db: Connection, lease: SessionLease) -> None:
    run(
        db,
        "release_lane",
        session_id=lease.session_id,
        generation=lease.generation,
        lease_token=lease.lease_token,
    )


def lane_of(db: Connection, session_id: str) -> Lane | None:
    row: sqlite3.Row | None = first(db, "get_lane", session_id=session_id)
    return None if row is None else Lane(row[0], row[1], row[2], row[3])


def write_lease(db: Connection, lease: SessionLease) -> None:
    run(
        db,
        "set_lane",
        session_id=lease.session_id,
        generation=lease.generation,
        owner_id=lease.owner_id,
        lease_token=lease.lease_token,
        expires=lease.expires_at_ms,
    )
