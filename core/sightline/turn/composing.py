"""What a turn or a session command leaves behind, put together for the commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, structs

from sightline.observation.activities import Outcome
from sightline.queue.materializing import InputMessage
from sightline.queue.model import Claim, Draft, TextItem, TurnInput, TurnInputPayload
from sightline.session.model import INITIAL_FRAME, Message, Role, Tools, Usage
from sightline.session.rules import title_from
from sightline.turn.commit import FollowUp, FrameSwitch, TurnCommit
from sightline.turn.rules import assistant_message, follow_up_turn, gave_up, user_messages

__all__ = ["NewFrame", "Said", "command_commit", "frame_switch", "named_for", "turn_commit"]


class NewFrame(Struct, frozen=True, kw_only=True):
    """What an agent wants to go on with: messages as (role, content), and what is to be done then."""

    reason: str
    messages: tuple[tuple[Role, str], ...]
    task: str | None = None

    @classmethod
    def of(cls, messages: Iterable[tuple[Role, str]], reason: str, task: str | None) -> NewFrame:
        """Raises TypeError for what is no text."""
        if task == "":
            raise TypeError("a task is a text that is not empty")
        try:
            return msgspec.convert({"reason": reason, "messages": tuple(messages), "task": task}, cls)
        except msgspec.ValidationError as error:
            raise TypeError(f"a frame begins with (role, content): {error}") from None


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
    frame_id: str,
    switch: FrameSwitch | None,
) -> TurnCommit:
    """`claims`: the one the turn began with, then those of its checkpoints. `message_ids`: one for each input, and one
    for the answer. `frame_id` is the agent frame it ran in, `switch` the one that it began; only a turn that ended well
    has begun one.
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
        messages=named_for(
            frame_id, (*user_messages(claim, inputs, input_ids, started_ms), *(() if answer is None else (answer,)))
        ),
        usage=said.used,
        completions=tuple(claim.completion() for claim in claims),
        title=title_from(typed),
        now=now,
        charge=not gave_up(outcome),
        lease=claim.lease,
        frame=switch if outcome.status == "completed" else None,
    )


def named_for(frame_id: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages as those of the frame."""
    if frame_id == INITIAL_FRAME:
        return tuple(messages)
    return tuple(structs.replace(message, agent_frame_id=frame_id) for message in messages)


def frame_switch(
    begun: NewFrame, claim: Claim, *, frame_id: str, message_ids: Sequence[str], batch_id: str, now: int
) -> FrameSwitch:
    """What an agent wants to go on with, as the messages of a frame of its own. `batch_id` is for its task."""
    messages = tuple(
        Message(message_id=message_id, role=role, content=content, at_ms=now)
        for (role, content), message_id in zip(begun.messages, message_ids, strict=True)
    )
    return FrameSwitch(
        frame_id=frame_id,
        reason=begun.reason,
        messages=named_for(frame_id, messages),
        follow_up=None if begun.task is None else _follow_up(claim, begun.task, batch_id),
    )


def _follow_up(claim: Claim, task: str, batch_id: str) -> FollowUp:
    draft = Draft(session_id=claim.session_id, payloads=(TurnInputPayload(TurnInput((TextItem(task),))),))
    return FollowUp(turn_id=follow_up_turn(claim.turn_id), batch_id=batch_id, draft=draft)


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
