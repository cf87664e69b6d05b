"""The journals of turns."""

from __future__ import annotations

from sightline.errors import LeaseLost
from sightline.session.leasing import is_lost
from sightline.session.model import SessionLease
from sightline.stores.memory.state import State

__all__ = ["recall", "remember"]


def remember(
    state: State, session_id: str, turn_id: str, key: str, value: str, lease: SessionLease, replace: bool
) -> str:
    session = state.sessions.get(session_id)
    if session is None or is_lost(session.lane, lease):
        raise LeaseLost(session_id, lease.generation)
    journal = session.journals.setdefault(turn_id, {})
    if replace:
        journal[key] = value
    return journal.setdefault(key, value)


def recall(state: State, session_id: str, turn_id: str) -> dict[str, str]:
    session = state.sessions.get(session_id)
    return {} if session is None else dict(session.journals.get(turn_id, {}))
