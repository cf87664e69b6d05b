"""The one transaction in which a turn becomes history. Its order is told in `sightline.turn.commit`."""

from __future__ import annotations

import sqlite3

from msgspec import UNSET, structs

from sightline.errors import ClaimExpired, HeadConflict, LeaseLost, TurnCommitConflict
from sightline.queue.model import Batch
from sightline.session.model import Usage
from sightline.session.rules import add_usage
from sightline.stores.sqlite.batches import insert_batch
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.requests import end_requests
from sightline.stores.sqlite.rows import batch_of, decode, text
from sightline.stores.sqlite.sessions import absent
from sightline.stores.sqlite.statements import first, run, run_all
from sightline.turn.commit import CommitResult, TurnCommit
from sightline.turn.rules import batch_end, follow_up_batch, frame_after

__all__ = ["commit_turn", "count_usage", "turn_usage"]


def commit_turn(db: Connection, commit: TurnCommit, digest: str) -> CommitResult:
    head = first(db, "get_head", session_id=commit.session_id, turn_id=commit.turn_id)
    if head is None:
        raise absent(db, commit.session_id)
    if head["stamp"] is not None:
        return _repeated(db, commit, digest)
    if head["revision"] != commit.expected_revision:
        raise HeadConflict(commit.session_id, commit.expected_revision, head["revision"])
    lease = commit.lease
    if lease is not None and (head["lease_generation"], head["lease_token"]) != (lease.generation, lease.lease_token):
        raise LeaseLost(commit.session_id, lease.generation)
    _complete(db, commit)
    run(db, "forget_turn", session_id=commit.session_id, turn_id=commit.turn_id)
    if head["has_notes"]:
        run(db, "delete_journal", session_id=commit.session_id, turn_id=commit.turn_id)
    if head["has_asked"]:
        end_requests(db, commit.session_id, commit.turn_id, commit.now)
    return _write_turn(db, commit, head, digest)


def _repeated(db: Connection, commit: TurnCommit, digest: str) -> CommitResult:
    stamp = first(db, "get_stamp", session_id=commit.session_id, turn_id=commit.turn_id)
    if stamp["hash"] != digest:
        raise TurnCommitConflict(commit.session_id, commit.turn_id)
    work = None if commit.frame is None else commit.frame.follow_up
    row = None if work is None else first(db, "batch_of_turn", session_id=commit.session_id, turn_id=work.turn_id)
    return CommitResult(
        revision=stamp["revision"],
        turn_index=stamp["turn_index"],
        agent_frame_id=stamp["agent_frame_id"],
        follow_up=None if row is None else batch_of(row),
    )


def _complete(db: Connection, commit: TurnCommit) -> None:
    error = None if commit.outcome.error is UNSET else text(commit.outcome.error)
    state, uncharge = batch_end(commit.outcome), 0 if commit.charge else 1
    for completion in commit.completions:
        if completion.session_id != commit.session_id or not completion.batch_ids:
            raise ClaimExpired(commit.session_id, completion.claim_id)
        for batch_id in completion.batch_ids:
            completed = run(
                db,
                "complete_batch",
                batch_id=batch_id,
                session_id=commit.session_id,
                claim_id=completion.claim_id,
                lease_token=completion.lease_token,
                size=len(completion.batch_ids),
                state=state,
                uncharge=uncharge,
                error=error,
                now=commit.now,
            )
            if completed.rowcount != 1:
                raise ClaimExpired(commit.session_id, completion.claim_id)


def _write_turn(db: Connection, commit: TurnCommit, head: sqlite3.Row, digest: str) -> CommitResult:
    count, frame_start = head["message_count"], head["frame_start"]
    if commit.reset:
        run(db, "delete_messages", session_id=commit.session_id)
        run(db, "delete_frames", session_id=commit.session_id)
        count = frame_start = 0
    messages = commit.messages
    if commit.frame is not None:
        frame_start = count + len(messages)
        messages = (*messages, *commit.frame.messages)
        run(
            db,
            "insert_frame",
            session_id=commit.session_id,
            frame_id=commit.frame.frame_id,
            reason=commit.frame.reason,
            now=commit.now,
        )
    rows = [
        {"session_id": commit.session_id, "seq": seq, "message_id": message.message_id, "body": text(message)}
        for seq, message in enumerate(messages, count + 1)
    ]
    if rows:
        run_all(db, "insert_message", rows)
    step = 1 if commit.advances else 0
    result = CommitResult(
        revision=head["revision"] + step,
        turn_index=0 if commit.reset else head["turn_index"] + step,
        agent_frame_id=frame_after(commit, head["agent_frame_id"]),
        follow_up=_queue_follow_up(db, commit),
    )
    usage = head["usage"]
    run(
        db,
        "update_head",
        session_id=commit.session_id,
        revision=result.revision,
        turn_index=result.turn_index,
        message_count=count + len(rows),
        frame_start=frame_start,
        agent_frame_id=result.agent_frame_id,
        usage=usage if commit.usage == _NO_USAGE else text(add_usage(decode(usage, Usage), commit.usage)),
        tools=None if commit.tools is None else text(commit.tools),
        reset=commit.reset,
        title=commit.title,
        now=commit.now,
        touched=db.touch(),
        closed=sum(len(completion.batch_ids) for completion in commit.completions)
        - (0 if result.follow_up is None else 1),
        release=commit.lease is not None,
    )
    run(
        db,
        "insert_stamp",
        session_id=commit.session_id,
        turn_id=commit.turn_id,
        hash=digest,
        status=commit.outcome.status,
        revision=result.revision,
        turn_index=result.turn_index,
        agent_frame_id=result.agent_frame_id,
        usage=None if commit.usage == _NO_USAGE else text(commit.usage),
    )
    return result


def turn_usage(db: Connection, session_id: str, turn_id: str) -> Usage:
    row = first(db, "turn_usage", session_id=session_id, turn_id=turn_id)
    return _NO_USAGE if row is None or row["usage"] is None else decode(row["usage"], Usage)


def count_usage(db: Connection, session_id: str, key: str, usage: Usage) -> bool:
    head = first(db, "get_head", session_id=session_id, turn_id=key)
    if head is None:
        raise absent(db, session_id)
    if head["stamp"] is not None:
        return False
    run(db, "set_usage", session_id=session_id, usage=text(add_usage(decode(head["usage"], Usage), usage)))
    run(
        db,
        "insert_stamp",
        session_id=session_id,
        turn_id=key,
        hash="",
        status="completed",
        revision=head["revision"],
        turn_index=head["turn_index"],
        agent_frame_id=head["agent_frame_id"],
        usage=text(usage),
    )
    return True


def _queue_follow_up(db: Connection, commit: TurnCommit) -> Batch | None:
    work = None if commit.frame is None else commit.frame.follow_up
    if work is None:
        return None
    batch = follow_up_batch(work, 0, commit.now)
    return structs.replace(batch, enqueue_seq=insert_batch(db, batch, ended_at_ms=None))


_NO_USAGE = Usage()
