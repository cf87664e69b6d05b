"""The one transaction in which a turn becomes history. Its order is told in `sightline.turn.commit`."""

from __future__ import annotations

from msgspec import structs

from sightline.errors import ClaimExpired, HeadConflict, LeaseLost, TurnCommitConflict
from sightline.queue.model import Batch
from sightline.session.leasing import is_lost
from sightline.session.model import SessionRecord, Usage
from sightline.session.rules import add_usage
from sightline.stores.memory.requests import end_requests
from sightline.stores.memory.sessions import release_lease
from sightline.stores.memory.state import Row, Session, Stamp, State
from sightline.turn.commit import CommitResult, TurnCommit, stamp_hash
from sightline.turn.rules import batch_end, follow_up_batch, frame_after

__all__ = ["commit_turn", "count_usage", "turn_usage"]


def commit_turn(state: State, commit: TurnCommit) -> CommitResult:
    session = state.session(commit.session_id)
    digest = stamp_hash(commit)
    stamp = session.stamps.get(commit.turn_id)
    if stamp is not None:
        if stamp.hash != digest:
            raise TurnCommitConflict(commit.session_id, commit.turn_id)
        return structs.replace(stamp.result, follow_up=_found_follow_up(session, commit))
    if session.record.revision != commit.expected_revision:
        raise HeadConflict(commit.session_id, commit.expected_revision, session.record.revision)
    if commit.lease is not None and is_lost(session.lane, commit.lease):
        raise LeaseLost(commit.session_id, commit.lease.generation)
    rows = _held(session, commit)
    for row in rows:
        row.end(batch_end(commit.outcome), commit.now)
        attempts = max(1, row.batch.attempts) - (0 if commit.charge else 1)
        row.batch = structs.replace(row.batch, attempts=attempts, error=commit.outcome.error)
    for row in session.open_rows():
        if row.batch.turn_id == commit.turn_id:
            row.forget_turn()
    session.journals.pop(commit.turn_id, None)
    end_requests(session, commit.turn_id, commit.now)
    if commit.reset:
        session.messages.clear()
        session.frame_start = 0
        session.frames.clear()
    session.messages.extend(commit.messages)
    if commit.frame is not None:
        session.frame_start = len(session.messages)
        session.messages.extend(commit.frame.messages)
        session.frames.append((commit.frame.frame_id, commit.frame.reason, commit.now))
    session.record = _advanced(session, commit)
    session.touched = state.touch()
    result = CommitResult(
        revision=session.record.revision,
        turn_index=session.record.turn_index,
        agent_frame_id=session.record.agent_frame_id,
    )
    session.stamps[commit.turn_id] = Stamp(digest, commit.outcome.status, result, commit.usage)
    if commit.lease is not None:
        release_lease(state, commit.lease)
    return structs.replace(result, follow_up=_queue_follow_up(state, session, commit))


def turn_usage(state: State, session_id: str, turn_id: str) -> Usage:
    session = state.sessions.get(session_id)
    stamp = None if session is None else session.stamps.get(turn_id)
    return Usage() if stamp is None else stamp.usage


def count_usage(state: State, session_id: str, key: str, usage: Usage) -> bool:
    session = state.session(session_id)
    if key in session.stamps:
        return False
    record = session.record
    session.record = structs.replace(record, usage=add_usage(record.usage, usage))
    result = CommitResult(revision=record.revision, turn_index=record.turn_index, agent_frame_id=record.agent_frame_id)
    session.stamps[key] = Stamp("", "completed", result, usage)
    return True


def _queue_follow_up(state: State, session: Session, commit: TurnCommit) -> Batch | None:
    work = None if commit.frame is None else commit.frame.follow_up
    if work is None:
        return None
    state.sequence += 1
    batch = follow_up_batch(work, state.sequence, commit.now)
    session.rows[work.batch_id] = Row(batch)
    return batch


def _found_follow_up(session: Session, commit: TurnCommit) -> Batch | None:
    """As it stands, if it has not ended."""
    work = None if commit.frame is None else commit.frame.follow_up
    rows = () if work is None else session.open_rows()
    return next((row.batch for row in rows if work is not None and row.batch.turn_id == work.turn_id), None)


def _held(session: Session, commit: TurnCommit) -> list[Row]:
    """The rows of all claims, each of them whole and named once."""
    rows: dict[str, Row] = {}
    for completion in commit.completions:
        held = session.held(completion.claim_id, completion.lease_token)
        names = [row.batch.batch_id for row in held]
        if (
            completion.session_id != commit.session_id
            or not held
            or len(held) != held[0].claim_size
            or sorted(names) != sorted(completion.batch_ids)
            or not rows.keys().isdisjoint(names)
        ):
            raise ClaimExpired(commit.session_id, completion.claim_id)
        rows.update(zip(names, held, strict=True))
    return list(rows.values())


def _advanced(session: Session, commit: TurnCommit) -> SessionRecord:
    record = session.record
    step = 1 if commit.advances else 0
    return structs.replace(
        record,
        revision=record.revision + step,
        turn_index=0 if commit.reset else record.turn_index + step,
        agent_frame_id=frame_after(commit, record.agent_frame_id),
        usage=add_usage(record.usage, commit.usage),
        title="" if commit.reset else record.title or commit.title,
        tools=record.tools if commit.tools is None else commit.tools,
        updated_at_ms=commit.now,
    )
