"""What a turn machine asks for, and what it is told: the two sides of its one conversation with the world.

An effect that is answered carries an `effect_id`; the answer carries it back. Ids grow from 1 within a turn, so an
answer that comes late, twice, or after a restart is known for what it is. The other effects are told and need no
answer.

Whoever performs effects may perform one again after a crash: that of the state it has saved. `replay_key` names it the
same way both times, for whatever remembers results.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from sightline.observation.activities import Activity
from sightline.turn.conversation import (
    AssistantPart,
    ConversationMessage,
    SystemMessage,
    ToolCallPart,
    ToolResultPart,
    UserMessage,
)

__all__ = [
    "Cancel",
    "CancelModelCall",
    "CancelToolCalls",
    "Checkpoint",
    "CheckpointDelivery",
    "CheckpointKind",
    "Done",
    "Effect",
    "Emit",
    "Ending",
    "EndingReason",
    "Input",
    "ModelCall",
    "ModelOutcome",
    "ModelResult",
    "Progress",
    "Start",
    "ToolCalls",
    "ToolResults",
    "replay_key",
]

CheckpointKind = Literal["after_work", "before_completion"]

ModelOutcome = Literal["completed", "output_limit", "context_overflow", "content_filter", "provider_error", "cancelled"]
"""How a model call ended. `completed` also when it ended in tool calls; `output_limit` when it was cut off;
`context_overflow` when the provider refused the prompt as too long.
"""

EndingReason = Literal["finished", "max_turns", "incomplete", "provider_error", "cancelled"]


class Ending(Struct, frozen=True, kw_only=True):
    """How the turn ended. `finished` and `max_turns` ended well, the latter with what could be said within the limit.

    `outcome` is the model's own, where the ending came from a model call that did not end well; a call cut off because
    the prompt had left it no room counts as a `context_overflow`. `message` is a sentence for people.
    """

    reason: EndingReason
    outcome: ModelOutcome | UnsetType = UNSET
    message: str = ""


# What the machine asks for.


class ModelCall(Struct, frozen=True, kw_only=True, tag="model_call"):
    """Make a model request with the conversation so far; answer with ModelResult.

    Streaming, showing and retrying are the performer's: the machine is told the end. `iteration` counts the turn's
    model calls from 1. In the `final` one no tools are offered.
    """

    effect_id: int
    iteration: int
    messages: tuple[ConversationMessage, ...]
    final: bool = False


class ToolCalls(Struct, frozen=True, kw_only=True, tag="tool_calls"):
    """Run these calls, all at once; answer with ToolResults, each result as soon as it is there or several together.

    A call that fails, whose tool is not there, or which somebody was asked about and refused, is answered with a result
    that says so.
    """

    effect_id: int
    iteration: int
    calls: tuple[ToolCallPart, ...]


class Checkpoint(Struct, frozen=True, kw_only=True, tag="checkpoint"):
    """Take in what was sent for this turn meanwhile; answer with CheckpointDelivery, also when it is nothing."""

    effect_id: int
    iteration: int
    kind: CheckpointKind


class CancelModelCall(Struct, frozen=True, kw_only=True, tag="cancel_model_call"):
    """Stop the model call; its answer is not waited for."""

    effect_id: int


class CancelToolCalls(Struct, frozen=True, kw_only=True, tag="cancel_tool_calls"):
    """Stop the calls that have not been answered; their answers are not waited for."""

    effect_id: int
    call_ids: tuple[str, ...]


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    """The conversation has grown by `messages` and is whole: a moment at which it could be kept."""

    iteration: int
    messages: tuple[ConversationMessage, ...]


class Emit(Struct, frozen=True, kw_only=True, tag="emit"):
    """Show this to who watches."""

    activity: Activity


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The turn is over. `messages` are those that no Progress told of; what came of a call that was broken off is
    among them.
    """

    ending: Ending
    iteration: int
    messages: tuple[ConversationMessage, ...]


Answered = ModelCall | ToolCalls | Checkpoint
Effect = Answered | CancelModelCall | CancelToolCalls | Progress | Emit | Done


# What the machine is told.


class Start(Struct, frozen=True, kw_only=True, tag="start"):
    """Begin, with everything the model is to know: instructions, history, this turn's input.

    `max_turns` is how many model calls may use tools; unset: any number. `context_window` is the model's, in tokens,
    where it is known.
    """

    messages: tuple[ConversationMessage, ...]
    max_turns: int | UnsetType = UNSET
    context_window: int | UnsetType = UNSET


class ModelResult(Struct, frozen=True, kw_only=True, tag="model_result"):
    """How a model call ended and what came out of it, which may be something in every case. `input_tokens` is the size
    of its prompt, where it is known; `message` says what went wrong.
    """

    effect_id: int
    outcome: ModelOutcome = "completed"
    parts: tuple[AssistantPart, ...] = ()
    input_tokens: int | UnsetType = UNSET
    message: str = ""


class ToolResults(Struct, frozen=True, kw_only=True, tag="tool_results"):
    """Answers to some of the calls, or to all."""

    effect_id: int
    results: tuple[ToolResultPart, ...]


class CheckpointDelivery(Struct, frozen=True, kw_only=True, tag="checkpoint_delivery"):
    """What a checkpoint took in, in order. Nothing is the usual thing."""

    effect_id: int
    messages: tuple[SystemMessage | UserMessage, ...] = ()


class Cancel(Struct, frozen=True, kw_only=True, tag="cancel"):
    """End the turn now. `partial` is what the model call under way has said so far."""

    reason: str
    partial: tuple[AssistantPart, ...] = ()


Input = Start | ModelResult | ToolResults | CheckpointDelivery | Cancel


def replay_key(session_id: str, turn_id: str, turn_index: int, effect: Answered) -> str:
    """The name under which the effect's result is remembered: the same whenever the turn comes to this effect again.

    For one tool call of several, add its `call_id`.
    """
    kind = effect.__struct_config__.tag
    return f"{session_id}:{turn_id}:{turn_index}:{effect.iteration}:{kind}:{effect.effect_id}"
