"""The one transaction in which a turn becomes history. Its order is told in `sightline.turn.commit`."""

from __future__ import annotations

import sqlite3

from msgspec import UNSET

from sightline.errors import ClaimExpired, HeadConflict, TurnCommitConflict
from sightline.session.model import Usage
from sightline.session.rules import add_usage
from sightline.stores.sqlite.batches import end_batch
from sightline.stores.sqlite.claims import held_rows
from sightline.stores.sqlite.rows import decode, text
from sightline.stores.sqlite.sessions import head_of, touch
from sightline.stores.sqlite.statements import first, run
from sightline.turn.commit import CommitResult, TurnCommit
from sightline.turn.rules import batch_end

__all__ = ["commit_turn"]


def commit_turn(db: sqlite3.Connection, commit: TurnCommit, digest: str) -> CommitResult:
    head = head_of(db, commit.session_id)
    stamp = first(db, "get_stamp", session_id=commit.session_id, turn_id=commit.turn_id)
    if stamp is not None:
        if stamp["hash"] != digest:
            raise TurnCommitConflict(commit.session_id, commit.turn_id)
        return CommitResult(
            revision=stamp["revision"],
            turn_index=stamp["turn_index"],
            agent_frame_id=stamp["agent_frame_id"],
        )
    if head["revision"] != commit.expected_revision:
        raise HeadConflict(commit.session_id, commit.expected_revision, head["revision"])
    _complete(db, commit)
    return _write_turn(db, commit, head, digest)


def _complete(db: sqlite3.Connection, commit: TurnCommit) -> None:
    error = None if commit.outcome.error is UNSET else text(commit.outcome.error)
    uncharge = 0 if commit.charge else 1
    for completion in commit.completions:
        rows = held_rows(db, commit.session_id, completion.claim_id, completion.lease_token)
        if [row["batch_id"] for row in rows] != list(completion.batch_ids):
            raise ClaimExpired(commit.session_id, completion.claim_id)
        for row in rows:
            end_batch(db, row, batch_end(commit.outcome), commit.now, error=error, uncharge=uncharge)


def _write_turn(db: sqlite3.Connection, commit: TurnCommit, head: sqlite3.Row, digest: str) -> CommitResult:
    for seq, message in enumerate(commit.messages, head["message_count"] + 1):
        run(
            db,
            "insert_message",
            session_id=commit.session_id,
            seq=seq,
            message_id=message.message_id,
            body=text(message),
        )
    run(
        db,
        "update_head",
        session_id=commit.session_id,
        expected=commit.expected_revision,
        appended=len(commit.messages),
        usage=text(add_usage(decode(head["usage"], Usage), commit.usage)),
        title=commit.title,
        now=commit.now,
        touched=touch(db),
    )
    result = CommitResult(
        revision=head["revision"] + 1,
        turn_index=head["turn_index"] + 1,
        agent_frame_id=head["agent_frame_id"],
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
    )
    return result
