"""The one transaction in which a turn becomes history. Its order is told in `sightline.turn.commit`."""

from __future__ import annotations

from msgspec import structs

from sightline.errors import ClaimExpired, HeadConflict, LeaseLost, TurnCommitConflict
from sightline.session.leasing import is_lost
from sightline.session.model import SessionRecord
from sightline.session.rules import add_usage
from sightline.stores.memory.requests import end_requests
from sightline.stores.memory.sessions import release_lease
from sightline.stores.memory.state import Row, Session, Stamp, State
from sightline.turn.commit import CommitResult, TurnCommit, stamp_hash
from sightline.turn.rules import batch_end, frame_after

__all__ = ["commit_turn"]


def commit_turn(state: State, commit: TurnCommit) -> CommitResult:
    session = state.session(commit.session_id)
    digest = stamp_hash(commit)
    stamp = session.stamps.get(commit.turn_id)
    if stamp is not None:
        if stamp.hash != digest:
            raise TurnCommitConflict(commit.session_id, commit.turn_id)
        return stamp.result
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
    session.messages.extend(commit.messages)
    if commit.frame is not None:
        session.frame_start = len(session.messages)
        session.messages.extend(commit.frame.messages)
    session.record = _advanced(session, commit)
    session.touched = state.touch()
    result = CommitResult(
        revision=session.record.revision,
        turn_index=session.record.turn_index,
        agent_frame_id=session.record.agent_frame_id,
    )
    session.stamps[commit.turn_id] = Stamp(digest, commit.outcome.status, result)
    if commit.lease is not None:
        release_lease(state, commit.lease)
    return result


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
