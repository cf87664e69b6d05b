"""The commit: the one transaction in which a turn's effect becomes history and its input is consumed.

In order, inside the transaction: the turn's stamp (a retry after an unknown outcome finds it and gets the first
result), the session's head (nobody else committed meanwhile), the session lease (nobody else may commit now), the
claims (they are still ours), then messages, usage, the end of the batches, what is left to a turn that follows, the
stamp, the end of the turn's journal and of what it asked, and the release of the lease. The stamp comes first, so that
a retry whose claims are gone already still succeeds.

A turn may have taken more than it knows: a claim at a checkpoint whose answer was lost. What it does not complete
although it had taken it goes back to the queue as work of no turn. Left with the turn's id it would be taken for that
turn again, whose stamp would refuse it for ever.

A session command ends by the same transaction: what it changes, and that it was done, become true together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from sightline.observation.activities import Outcome
from sightline.queue.model import Batch, Completion, Draft
from sightline.queue.rules import digest
from sightline.session.model import Message, SessionLease, Tools, Usage

__all__ = ["CommitResult", "CommitStore", "FollowUp", "FrameSwitch", "TurnCommit", "stamp_hash"]


class FollowUp(Struct, frozen=True, kw_only=True):
    """Work that the turn leaves to the frame it began: open from the commit on, as that of the turn it names."""

    turn_id: str
    batch_id: str
    draft: Draft


class FrameSwitch(Struct, frozen=True, kw_only=True):
    """Another agent frame begins with the end of the turn: the transcript is `messages` from then on, and what the
    turn and those before it left can only be paged back to. `reason`: `continue_as`, `compaction`, or an agent's own
    word.
    """

    frame_id: str
    reason: str
    messages: tuple[Message, ...]
    follow_up: FollowUp | None = None


class TurnCommit(Struct, frozen=True, kw_only=True):
    """What a turn, or a session command, leaves behind. `title` names the session if it has no name yet.

    `charge` is false when the last attempt did not run at all (the turn was given up): it is not counted. `lease` is
    proved and then released. `advances` is false for what leaves no trace in the transcript: revision and turn index
    stay. `reset` empties the transcript first and begins the turn index, and the initial agent frame, anew; `tools`
    replaces the tool surface. `frame` is what begins behind the turn's messages.
    """

    session_id: str
    turn_id: str
    expected_revision: int
    outcome: Outcome
    messages: tuple[Message, ...]
    usage: Usage
    completions: tuple[Completion, ...]
    title: str
    now: int
    charge: bool = True
    lease: SessionLease | None = None
    advances: bool = True
    reset: bool = False
    tools: Tools | None = None
    frame: FrameSwitch | None = None


class CommitResult(Struct, frozen=True, kw_only=True):
    """Where the session stands after the commit; the same when the commit is repeated. `follow_up` is what the turn
    left, as it stands; none when that has ended by now.
    """

    revision: int
    turn_index: int
    agent_frame_id: str
    follow_up: Batch | None = None


class CommitStore(Protocol):
    async def commit(self, commit: TurnCommit, then: Callable[[CommitResult], None]) -> CommitResult:
        """All or nothing; `then` is what it is in `sightline.session.port`.

        Open batches of this turn that no completion names become pending, free of the turn, and their last attempt is
        not counted. The turn's journal is deleted; what it asks and nobody has answered is withdrawn.

        Raises TurnCommitConflict (the stamp exists with another hash), HeadConflict, LeaseLost, ClaimExpired,
        SessionDeleted, SessionNotFound: nothing was written. After StoreUnavailable the outcome is unknown: commit
        again with the same content.
        """
        ...

    async def turn_usage(self, session_id: str, turn_id: str) -> Usage:
        """What a committed turn has used; nothing where there is no such turn. Raises nothing of its own."""
        ...

    async def count_usage(self, session_id: str, key: str, usage: Usage, *, then: Callable[[bool], None]) -> bool:
        """Add what was used elsewhere to what the session has, once under that key, which no turn of it has: whether it
        was added now. The revision stays. `then` is what it is in `sightline.session.port`.

        Raises SessionNotFound, SessionDeleted.
        """
        ...


def stamp_hash(commit: TurnCommit) -> str:
    """What makes two commits of a turn the same: how it ended, what was said, and under which lease. Ids, times and the
    expected revision are left out.

    The lease is in it because a turn that was taken over is often run again to the same end. Whoever was superseded
    must not take the other's commit, with its own ids and times, for one of its own.
    """
    return digest(
        [
            commit.outcome,
            [(message.role, message.content, message.parts or None) for message in commit.messages],
            commit.usage,
            [completion.batch_ids for completion in commit.completions],
            commit.advances,
            commit.reset,
            commit.tools,
            None if commit.lease is None else commit.lease.generation,
            *_frame_content(commit.frame),
        ]
    )


def _frame_content(frame: FrameSwitch | None) -> list[object]:
    if frame is None:
        return []
    said = [(message.role, message.content, message.parts or None) for message in frame.messages]
    task = [] if frame.follow_up is None else [frame.follow_up.draft.payloads]
    return [frame.reason, said, *task]
