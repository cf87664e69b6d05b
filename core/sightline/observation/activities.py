"""What happens inside a turn, as observers see it: one struct per activity type, told apart by `type`.

Several activities that belong together share the correlation id of the `turn_activity` event that carries them: the
deltas of one model request, the start and end of one tool call. Retracting a correlation takes back what it showed.

Not all of them add up to something: those of `TELLING` tell what is going on, for whoever shows it, and leave the
running turn as it is.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from sightline.queue.materializing import AcceptedInput, InputMessage, TurnCause
from sightline.session.model import Failure, Message, UsageFigures

__all__ = [
    "TELLING",
    "Activity",
    "AssistantProseDelta",
    "ChildUsage",
    "CodeBlockCompleted",
    "CodeBlockStarted",
    "ErrorReported",
    "ModelRequestStarted",
    "Outcome",
    "PluginRuntime",
    "QueuedInputAccepted",
    "QueuedMessagesCommitted",
    "QueuedWorkStarted",
    "ReasoningDelta",
    "Retracted",
    "RetryStatus",
    "SubmittedValue",
    "ToolCallCompleted",
    "ToolCallStarted",
    "ToolValue",
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


class QueuedWorkStarted(Struct, frozen=True, kw_only=True, tag="queued_work_started", tag_field="type"):
    """The turn runs on these batches; `causes` are what woke the session, when nobody typed."""

    boundary: str
    batch_ids: tuple[str, ...]
    causes: tuple[TurnCause, ...] = ()


class QueuedMessagesCommitted(Struct, frozen=True, kw_only=True, tag="queued_messages_committed", tag_field="type"):
    """Messages that a checkpoint wrote to the transcript apart from the turn's own commit."""

    messages: tuple[Message, ...]
    checkpoint: str


class CodeBlockStarted(Struct, frozen=True, kw_only=True, tag="code_block_started", tag_field="type"):
    language: str
    code: str
    graph_key: str | UnsetType = UNSET


class CodeBlockCompleted(Struct, frozen=True, kw_only=True, tag="code_block_completed", tag_field="type"):
    language: str
    output: Any
    success: bool
    duration_ms: int
    tool_call_ids: tuple[str, ...] = ()
    error: str | UnsetType = UNSET
    graph_key: str | UnsetType = UNSET


class SubmittedValue(Struct, frozen=True, kw_only=True, tag="submitted_value", tag_field="type"):
    """A result the agent hands in beside its text."""

    value: Any


class ToolValue(Struct, frozen=True, kw_only=True, tag="tool_value", tag_field="type"):
    """A value that a tool shows before its call has ended."""

    tool_name: str
    value: Any


class ChildUsage(Struct, frozen=True, kw_only=True, tag="child_usage", tag_field="type"):
    """What a session that works for this turn has used; accounted for there, not here."""

    session_id: str
    source: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0


class RetryStatus(Struct, frozen=True, kw_only=True, tag="retry_status", tag_field="type"):
    """A request to a model is about to be made again."""

    wait_seconds: float
    attempt: int
    max_attempts: int
    reason: str


class PluginRuntime(Struct, frozen=True, kw_only=True, tag="plugin_runtime", tag_field="type"):
    plugin_id: str
    event: Any


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
    | QueuedWorkStarted
    | QueuedMessagesCommitted
    | CodeBlockStarted
    | CodeBlockCompleted
    | SubmittedValue
    | ToolValue
    | ChildUsage
    | RetryStatus
    | PluginRuntime
)

TELLING = (
    TurnEnded,
    UsageReported,
    QueuedWorkStarted,
    QueuedMessagesCommitted,
    CodeBlockStarted,
    CodeBlockCompleted,
    SubmittedValue,
    ToolValue,
    ChildUsage,
    RetryStatus,
    PluginRuntime,
)
"""Activities that add up to nothing in `live`."""
