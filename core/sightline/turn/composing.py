"""What a turn or a session command leaves behind, put together for the commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct

from sightline.observation.activities import Outcome
from sightline.queue.materializing import InputMessage
from sightline.queue.model import Claim
from sightline.session.model import Tools, Usage
from sightline.session.rules import title_from
from sightline.turn.commit import TurnCommit
from sightline.turn.rules import assistant_message, gave_up, user_messages

__all__ = ["Said", "command_commit", "turn_commit"]


class Said(Struct, frozen=True, kw_only=True):
    """What came out of one attempt: the answer, its parts when it is more than text, and what it cost."""

    content: str
    parts: list[dict[str, Any]]
    used: Usage


def turn_commit(
    claims: Sequence[Claim],
    inputs: Sequence[InputMessage],
    said: Said,
    outcome: Outcome,
    *,
    revision: int,
    message_ids: Sequence[str],
    started_ms: int,
    now: int,
) -> TurnCommit:
    """`claims`: the one the turn began with, then those of its checkpoints. `message_ids`: one for each input, and one
    for the answer.
    """
    claim = claims[0]
    *input_ids, answer_id = message_ids
    answer = assistant_message(
        outcome,
        content=said.content,
        parts=said.parts,
        message_id=answer_id,
        turn_id=claim.turn_id,
        at_ms=now,
    )
    typed = next((message.content for message in inputs if message.origin is UNSET and message.content), "")
    return TurnCommit(
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        expected_revision=revision,
        outcome=outcome,
        messages=(*user_messages(claim, inputs, input_ids, started_ms), *(() if answer is None else (answer,))),
        usage=said.used,
        completions=tuple(claim.completion() for claim in claims),
        title=title_from(typed),
        now=now,
        charge=not gave_up(outcome),
        lease=claim.lease,
    )


def command_commit(
    claim: Claim, outcome: Outcome, *, reset: bool, tools: Tools | None, revision: int, now: int
) -> TurnCommit:
    """A reset is history and moves the head; what leaves no trace in the transcript does not."""
    return TurnCommit(
        session_id=claim.session_id,
        turn_id=claim.turn_id,
        expected_revision=revision,
        outcome=outcome,
        messages=(),
        usage=Usage(),
        completions=(claim.completion(),),
        title="",
        now=now,
        charge=not gave_up(outcome),
        lease=claim.lease,
        advances=reset,
        reset=reset,
        tools=tools,
    )
