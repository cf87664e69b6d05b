"""Sessions, their transcripts and their leases."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.errors import InvalidInput, LeaseLost, SessionDeleted, SessionExists
from sightline.observation.model import SessionState
from sightline.process.model import GrantsEnded
from sightline.process.rules import SESSION_DELETED
from sightline.queue.model import BatchState
from sightline.session.leasing import Lane, acquired, is_lost, renewed
from sightline.session.model import (
    INITIAL_FRAME,
    AgentFrame,
    LaneBusy,
    MessagePage,
    NewSession,
    SessionEntry,
    SessionLease,
    SessionPage,
    SessionRecord,
    Status,
    Usage,
)
from sightline.session.rules import frame_records, status_of
from sightline.stores.memory.granting import end_grants
from sightline.stores.memory.state import Session, State

__all__ = [
    "acquire_lease",
    "create_session",
    "delete_session",
    "lane_of",
    "list_frames",
    "list_sessions",
    "load_session",
    "page_messages",
    "release_lease",
    "renew_lease",
    "session_entries",
]


def create_session(state: State, new: NewSession, now: int) -> SessionRecord:
    if new.session_id in state.deleted:
        raise SessionDeleted(new.session_id)
    if new.session_id in state.sessions:
        raise SessionExists(new.session_id)
    record = SessionRecord(
        session_id=new.session_id,
        revision=0,
        turn_index=0,
        agent_frame_id=INITIAL_FRAME,
        policy=new.policy,
        metadata=new.metadata,
        usage=Usage(),
        title="",
        created_at_ms=now,
        updated_at_ms=now,
    )
    state.sessions[new.session_id] = Session(record, state.touch())
    return record


def load_session(state: State, session_id: str, newest: int) -> SessionState:
    session = state.session(session_id)
    kept = session.messages[max(session.frame_start, len(session.messages) - newest) :]
    return SessionState(
        record=session.record,
        messages=tuple(kept),
        truncated=len(kept) < len(session.messages) - session.frame_start,
        open_batches=tuple(row.batch for row in session.open_rows()),
        generation=session.lane.settled_generation,
        requests=session.open_requests(),
    )


def list_sessions(state: State, limit: int, after: int | None, status: Status | None) -> SessionPage:
    found = [
        (session.touched, entry)
        for session in sorted(state.sessions.values(), key=lambda session: -session.touched)
        if after is None or session.touched < after
        if status is None or _entry(session).status == status
        for entry in (_entry(session),)
    ]
    page = found[:limit]
    more = len(found) > limit
    return SessionPage(tuple(entry for _, entry in page), str(page[-1][0]) if more and page else None)


def session_entries(state: State, session_ids: Sequence[str]) -> tuple[SessionEntry, ...]:
    return tuple(_entry(state.sessions[name]) for name in session_ids if name in state.sessions)


def page_messages(state: State, session_id: str, before: str | None, limit: int) -> MessagePage:
    messages = state.session(session_id).messages
    end = len(messages)
    if before is not None:
        places = (place for place, message in enumerate(messages) if message.message_id == before)
        end = next(places, -1)
        if end < 0:
            raise InvalidInput("before", "is no message of this session")
    page = tuple(messages[max(0, end - limit) : end])
    return MessagePage(page, page[0].message_id if page and end > len(page) else None)


def list_frames(state: State, session_id: str) -> tuple[AgentFrame, ...]:
    session = state.session(session_id)
    return frame_records(session.record.created_at_ms, session.frames)


def delete_session(state: State, session_id: str, now: int) -> GrantsEnded:
    state.session(session_id)
    ended = end_grants(state, session_id, SESSION_DELETED, now)
    for task in state.sessions[session_id].tasks.values():
        del state.homes[task.generation]
    del state.sessions[session_id]
    state.deleted.add(session_id)
    return ended


def acquire_lease(
    state: State, session_id: str, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> SessionLease | LaneBusy:
    session = state.session(session_id)
    lease = acquired(session.lane, session_id, owner_id=owner_id, lease_token=lease_token, now=now, ttl_ms=ttl_ms)
    if isinstance(lease, SessionLease):
        session.lane = lane_of(lease)
    return lease


def renew_lease(state: State, lease: SessionLease, now: int, ttl_ms: int) -> SessionLease:
    session = state.sessions.get(lease.session_id)
    if session is None or is_lost(session.lane, lease):
        raise LeaseLost(lease.session_id, lease.generation)
    longer = renewed(session.lane, lease, now=now, ttl_ms=ttl_ms)
    session.lane = lane_of(longer)
    return longer


def release_lease(state: State, lease: SessionLease) -> None:
    session = state.sessions.get(lease.session_id)
    if session is not None and not is_lost(session.lane, lease):
        session.lane = session.lane.released()


def lane_of(lease: SessionLease) -> Lane:
    return Lane(lease.generation, lease.owner_id, lease.lease_token, lease.expires_at_ms)


def _entry(session: Session) -> SessionEntry:
    states = [row.batch.state for row in session.open_rows()]
    pending = states.count(BatchState.PENDING)
    record = session.record
    return SessionEntry(
        session_id=record.session_id,
        status=status_of(
            asked=bool(session.open_requests()), live=False, claimed=len(states) - pending, pending=pending
        ),
        revision=record.revision,
        updated_at_ms=record.updated_at_ms,
        metadata=record.metadata,
        pending=pending,
        title=record.title,
    )
