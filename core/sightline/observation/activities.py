"""What happens inside a turn, as observers see it: one struct per activity type, told apart by `type`.

Several activities that belong together share the correlation id of the `turn_activity` event that carries them: the
deltas of one model request, the start and end of one tool call. Retracting a correlation takes back what it showed.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from sightline.queue.materializing import AcceptedInput, InputMessage
from sightline.session.model import Failure, UsageFigures

__all__ = [
    "Activity",
    "AssistantProseDelta",
    "ErrorReported",
    "ModelRequestStarted",
    "Outcome",
    "QueuedInputAccepted",
    "ReasoningDelta",
    "Retracted",
    "ToolCallCompleted",
    "ToolCallStarted",
    "TurnEnded",
    "TurnStarted",
    "UnknownActivity",
    "UsageReported",
]


class Outcome(Struct, frozen=True, kw_only=True):
    """How a turn ended. `error` is there when it failed, `reason` when somebody asked for its end."""

    status: Literal["completed", "cancelled", "failed"]
    reason: str | UnsetType = UNSET
    error: Failure | UnsetType = UNSET


class TurnStarted(Struct, frozen=True, kw_only=True, tag="turn_started", tag_field="type"):
    turn_id: str
    attempt: int
    boundary: str
    input: tuple[InputMessage, ...]


class TurnEnded(Struct, frozen=True, kw_only=True, tag="turn_ended", tag_field="type"):
    outcome: Outcome


class Retracted(Struct, frozen=True, kw_only=True, tag="retracted", tag_field="type"):
    correlation_id: str


class ModelRequestStarted(Struct, frozen=True, kw_only=True, tag="model_request_started", tag_field="type"):
    protocol_iteration: int


class AssistantProseDelta(Struct, frozen=True, kw_only=True, tag="assistant_prose_delta", tag_field="type"):
    text: str


class ReasoningDelta(Struct, frozen=True, kw_only=True, tag="reasoning_delta", tag_field="type"):
    text: str


class ToolCallStarted(Struct, frozen=True, kw_only=True, tag="tool_call_started", tag_field="type"):
    name: str
    args: Any
    call_id: str | UnsetType = UNSET


class ToolCallCompleted(Struct, frozen=True, kw_only=True, tag="tool_call_completed", tag_field="type"):
    """`state` is there when the call failed; then `output` tells why."""

    name: str
    args: Any
    output: Any
    duration_ms: int
    call_id: str | UnsetType = UNSET
    state: Literal["completed", "failed"] | UnsetType = UNSET


class UsageReported(Struct, frozen=True, kw_only=True, tag="usage", tag_field="type"):
    protocol_iteration: int
    usage: UsageFigures
    cumulative: UsageFigures


class QueuedInputAccepted(Struct, frozen=True, kw_only=True, tag="queued_input_accepted", tag_field="type"):
    checkpoint: str
    inputs: tuple[AcceptedInput, ...]


class ErrorReported(Struct, frozen=True, kw_only=True, tag="error", tag_field="type"):
    message: str


class UnknownActivity(Struct, frozen=True):
    """An activity of a type this version does not know; the fold passes over it."""

    type: str


Activity = (
    TurnStarted
    | TurnEnded
    | Retracted
    | ModelRequestStarted
    | AssistantProseDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallCompleted
    | UsageReported
    | QueuedInputAccepted
    | ErrorReported
)
