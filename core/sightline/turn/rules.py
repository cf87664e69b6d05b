"""Decisions about a turn: what it runs on, what it leaves behind, when it is given up."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, structs

from sightline.errors import InvalidInput
from sightline.observation.activities import Outcome
from sightline.queue.materializing import InputMessage
from sightline.queue.model import Batch, BatchState, Claim
from sightline.queue.rules import new_batch
from sightline.session.model import INITIAL_FRAME, Failure, Message, Request
from sightline.turn.commit import FollowUp, TurnCommit

__all__ = [
    "GAVE_UP",
    "assistant_message",
    "batch_end",
    "check_answer",
    "early_outcome",
    "ended_batches",
    "error_text",
    "failure_text",
    "follow_up_batch",
    "follow_up_turn",
    "frame_after",
    "gave_up",
    "process_id_of",
    "user_messages",
]

GAVE_UP = "engine_gave_up"
_FOLLOW_UP = ":agent-frame:"
_FIT_FOR_URLS = re.compile(r"[A-Za-z0-9._:@-]{1,80}", re.ASCII)


def check_answer(request: Request, answer: str) -> None:
    """Raises InvalidInput for what is no answer to the request: an approval that offers options takes nothing else. A
    slip there would be a word that nobody gave. What other kinds offer is a help, and whoever is asked may know better.
    """
    if request.kind != "approval" or not request.options:
        return
    said = _canonical(msgspec.json.decode(answer))
    offered = [_canonical(option) for option in request.options]
    if said not in offered:
        raise InvalidInput("answer", f"must be one of {b', '.join(offered).decode()}")


def _canonical(value: Any) -> bytes:
    """JSON that is equal where the values are: to Python, true and 1 are."""
    return msgspec.json.encode(value, order="sorted")


def early_outcome(claim: Claim, max_attempts: int) -> Outcome | None:
    """How a claimed turn ends without being run: it was cancelled before, or too many attempts died. None: run it."""
    if claim.cancel_requested is not None:
        return Outcome(status="cancelled", reason=claim.cancel_requested)
    if claim.attempt > max_attempts:
        sentence = f"given up after {max_attempts} attempts that did not come to an end"
        return Outcome(status="failed", error=Failure(GAVE_UP, sentence))
    return None


def gave_up(outcome: Outcome) -> bool:
    """Whether the turn ended without another attempt; then the claim that ended it is not counted as one."""
    return not isinstance(outcome.error, UnsetType) and outcome.error.code == GAVE_UP


def process_id_of(turn_id: str, key: str) -> str:
    """The id of the process that a turn starts under a key, fit for URLs whatever the key."""
    if not _FIT_FOR_URLS.fullmatch(key):
        key = f"~{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:40]}"
    return f"{turn_id}.{key}"


def user_messages(
    claim: Claim, inputs: Sequence[InputMessage], message_ids: Sequence[str], at_ms: int
) -> tuple[Message, ...]:
    """The input as history: it stays also when the turn failed or was cancelled."""
    return tuple(
        Message(
            message_id=message_id,
            role="system" if message.role == "system" else "user",
            content=message.content,
            parts=message.parts,
            origin=_origin(message),
            turn_id=claim.turn_id,
            at_ms=at_ms,
        )
        for message, message_id in zip(inputs, message_ids, strict=True)
    )


def _origin(message: InputMessage) -> dict[str, Any] | UnsetType:
    origin: dict[str, Any] = {} if isinstance(message.origin, UnsetType) else dict(message.origin)
    if not isinstance(message.source_key, UnsetType):
        origin["source_key"] = message.source_key
    return origin or UNSET


def assistant_message(
    outcome: Outcome, *, content: str, parts: list[dict[str, Any]], message_id: str, turn_id: str, at_ms: int
) -> Message | None:
    """What the agent said so far. A turn that did not end well leaves a message even when nothing was said, so that
    history tells.
    """
    ended_well = outcome.status == "completed"
    if ended_well and not content and not parts:
        return None
    return Message(
        message_id=message_id,
        role="assistant",
        content=content,
        parts=parts or UNSET,
        turn_id=turn_id,
        status=UNSET if outcome.status == "completed" else outcome.status,
        error=outcome.error,
        at_ms=at_ms,
    )


def frame_after(commit: TurnCommit, frame_id: str) -> str:
    """The session's agent frame behind the commit."""
    if commit.frame is not None:
        return commit.frame.frame_id
    return INITIAL_FRAME if commit.reset else frame_id


def follow_up_batch(work: FollowUp, enqueue_seq: int, now: int) -> Batch:
    """What a turn leaves, as the queue has it. No bound of the queue refuses it: its turn has ended well."""
    batch = new_batch(work.draft, batch_id=work.batch_id, enqueue_seq=enqueue_seq, now=now, cancelled=False)
    return structs.replace(batch, turn_id=work.turn_id)


def follow_up_turn(turn_id: str) -> str:
    """The id of the turn that goes on in the frame which this turn began: the first one's, and how many came since."""
    root, _, count = turn_id.rpartition(_FOLLOW_UP)
    return f"{root}{_FOLLOW_UP}{int(count) + 1}" if root and count.isdecimal() else f"{turn_id}{_FOLLOW_UP}1"


_ENDS = {
    "completed": BatchState.COMPLETED,
    "cancelled": BatchState.CANCELLED,
    "failed": BatchState.FAILED,
}


def batch_end(outcome: Outcome) -> BatchState:
    """The state in which a turn's outcome leaves its batches."""
    return _ENDS[outcome.status]


def ended_batches(claims: Iterable[Claim], outcome: Outcome, *, charge: bool, waited: bool) -> tuple[Batch, ...]:
    """The claims' batches as the commit leaves them. `waited`: no attempt before this one is counted any more."""
    return tuple(
        structs.replace(
            batch,
            state=batch_end(outcome),
            turn_id=claim.turn_id,
            attempts=1 if waited else batch.attempts if charge else batch.attempts - 1,
            error=outcome.error,
        )
        for claim in claims
        for batch in claim.batches
    )


_MOST_SAID = 10_000
_MOST_PARTS = 5


def error_text(error: BaseException) -> str:
    """What an exception says, as text that can be stored: it may be no Unicode, have no end, or fail itself."""
    try:
        text = str(error)
    except Exception as another:
        text = f"(its text cannot be had: {type(another).__name__})"
    return (text if len(text) <= _MOST_SAID else text[:_MOST_SAID] + "…").encode("utf-8", "replace").decode()


def failure_text(error: BaseException) -> str:
    """What an exception is and says. A group says what the first of its members are: its own text names none."""
    text = f"{type(error).__name__}: {error_text(error)}"
    if not isinstance(error, BaseExceptionGroup):
        return text
    members = [failure_text(member) for member in error.exceptions[:_MOST_PARTS]]
    return f"{text}: {'; '.join(members)}"[: 2 * _MOST_SAID]
