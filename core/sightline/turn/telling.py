"""What observers are told of a turn and of the work it takes: the events of each step, in their order.

Taking work is told by `queue_changed`, its turn by `turn_started`, what a checkpoint takes in by
`queued_input_accepted`. The end is told in one go: the batches leave the queue, what the turn still asks is withdrawn,
it has ended, and the commit brings what it left. An attempt that ends without a commit takes back what it
showed. A session command shows nothing while it runs; what it changed is told with its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import structs

from sightline.observation.activities import QueuedInputAccepted, Retracted, TurnEnded, TurnStarted
from sightline.observation.changes import Change, queue_change, request_change
from sightline.observation.events import AgentFrameSwitched, Committed, ResidentChanged, TurnActivity
from sightline.queue.materializing import AcceptedInput, InputMessage, own_key
from sightline.queue.model import Batch, BatchState, Boundary, Claim
from sightline.turn.commit import CommitResult, TurnCommit

__all__ = ["claimed", "command_ended", "input_accepted", "retracted", "turn_ended", "turn_started"]

_QUEUE_KINDS = {
    BatchState.COMPLETED: "completed",
    BatchState.CANCELLED: "cancelled",
    BatchState.FAILED: "failed",
}


def claimed(claim: Claim) -> Change:
    return structs.replace(queue_change("claimed", claim.batches), turn_id=claim.turn_id)


def turn_started(claim: Claim, inputs: Sequence[InputMessage]) -> Change:
    started = TurnStarted(
        turn_id=claim.turn_id, attempt=claim.attempt, boundary=str(Boundary.IDLE), input=tuple(inputs)
    )
    identity = f"{claim.turn_id}.{claim.attempt}-started"
    return Change(TurnActivity(id=identity, correlation_id=identity, event=started), claim.turn_id)


def input_accepted(claim: Claim, inputs: Sequence[InputMessage]) -> Change:
    """Input taken in at a checkpoint, under its senders' own keys."""
    accepted = tuple(AcceptedInput(id=own_key(message.source_key), message=message) for message in inputs)
    identity = f"{claim.turn_id}.{claim.claim_id}-accepted"
    data = TurnActivity(
        id=identity,
        correlation_id=identity,
        event=QueuedInputAccepted(checkpoint="after_work", inputs=accepted),
    )
    return Change(data, claim.turn_id)


def retracted(claim: Claim, correlations: Iterable[str]) -> tuple[Change, ...]:
    return tuple(
        Change(
            TurnActivity(
                id=f"{correlation}-retracted",
                correlation_id=correlation,
                event=Retracted(correlation_id=correlation),
            ),
            claim.turn_id,
        )
        for correlation in correlations
    )


def turn_ended(
    commit: TurnCommit, batches: Sequence[Batch], result: CommitResult, asked: Sequence[dict[str, Any]]
) -> tuple[Change, ...]:
    """`asked`: what observers see of the turn's requests."""
    turn_id = commit.turn_id
    withdrawn = (request_change("withdrawn", asked, turn_id),) if asked else ()
    ended = TurnActivity(
        id=f"{turn_id}-ended", correlation_id=f"{turn_id}-ended", event=TurnEnded(outcome=commit.outcome)
    )
    return (
        _left_queue(turn_id, batches),
        *withdrawn,
        Change(ended, turn_id),
        *_frame_switched(commit, result),
        _committed(commit, result, with_outcome=True),
        *(() if result.follow_up is None else (queue_change("enqueued", (result.follow_up,)),)),
    )


def command_ended(commit: TurnCommit, batches: Sequence[Batch], result: CommitResult) -> tuple[Change, ...]:
    changes = [_left_queue(commit.turn_id, batches)]
    if commit.advances:
        changes.append(_committed(commit, result, with_outcome=False))
    if commit.tools is not None:
        changes.append(Change(ResidentChanged(tools=commit.tools), commit.turn_id))
    return tuple(changes)


def _frame_switched(commit: TurnCommit, result: CommitResult) -> tuple[Change, ...]:
    """In front of the commit, which then brings no messages: those of the turn are of the frame that is over."""
    if commit.frame is None:
        return ()
    data = AgentFrameSwitched(frame_id=commit.frame.frame_id, messages=commit.frame.messages)
    return (Change(data, commit.turn_id, result.revision),)


def _left_queue(turn_id: str, batches: Sequence[Batch]) -> Change:
    return structs.replace(queue_change(_QUEUE_KINDS[batches[0].state], batches), turn_id=turn_id)


def _committed(commit: TurnCommit, result: CommitResult, *, with_outcome: bool) -> Change:
    data = Committed(
        turn_id=commit.turn_id,
        messages=commit.messages if commit.frame is None else (),
        usage_delta=commit.usage,
        agent_frame_id=result.agent_frame_id,
        turn_index=result.turn_index,
    )
    if with_outcome:
        data = structs.replace(data, outcome=commit.outcome)
    if commit.reset:
        data = structs.replace(data, reset=True)
    return Change(data, commit.turn_id, result.revision)
