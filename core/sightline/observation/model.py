"""What an observer sees of a session at one moment: a frozen snapshot with the cursor it was taken at."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, to_builtins

from sightline.process.model import HandleSummary
from sightline.queue.materializing import InputMessage
from sightline.queue.model import Batch, BatchState, BatchSummary
from sightline.queue.rules import summary_of
from sightline.session.model import Message, Metadata, Policy, ReadView, Request, SessionRecord, Status, Tools, Usage
from sightline.session.rules import status_of
from sightline.tasks.model import TaskRecord
from sightline.tasks.rules import shown_task

__all__ = [
    "GapReason",
    "Live",
    "Observation",
    "Segment",
    "SessionState",
    "ToolCall",
    "first_observation",
    "newest",
    "shown_process",
    "shown_request",
]

GapReason = Literal["trimmed", "unavailable", "lagged"]


class Segment(Struct, frozen=True, kw_only=True):
    """A stretch of one channel's text under one correlation."""

    correlation_id: str
    channel: Literal["text", "reasoning"]
    text: str


class ToolCall(Struct, frozen=True, kw_only=True):
    call_id: str
    correlation_id: str
    name: str
    args: Any
    state: Literal["running", "completed", "failed"]
    output: Any | UnsetType = UNSET


class Live(Struct, frozen=True, kw_only=True):
    """The running turn so far: what its activities add up to. Provisional; only a commit makes history."""

    turn_id: str
    attempt: int
    started_at_ms: int
    boundary: str
    input: tuple[InputMessage, ...]
    segments: tuple[Segment, ...] = ()
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    protocol_iteration: int = 0
    error: str | UnsetType = UNSET


class Observation(Struct, frozen=True, kw_only=True):
    """A session as of `cursor`. Folding the events after the cursor into it gives every later observation."""

    session_id: str
    revision: int
    cursor: str
    status: Status
    policy: Policy
    metadata: Metadata
    read_view: ReadView
    live: Live | None
    usage: Usage
    tools: Tools
    queue: tuple[BatchSummary, ...]
    requests: tuple[dict[str, Any], ...] = ()
    processes: tuple[dict[str, Any], ...] = ()
    tasks: tuple[dict[str, Any], ...] = ()


class SessionState(Struct, frozen=True, kw_only=True):
    """A session as the store has it, in one consistent read: head, newest messages (oldest first), open batches by
    sequence, open requests in the order in which they came.

    `generation`: all that was done to the session under leases of this generation and earlier ones is in it. One that
    somebody still holds is not among them, even when it has expired.
    """

    record: SessionRecord
    messages: tuple[Message, ...]
    truncated: bool
    open_batches: tuple[Batch, ...]
    generation: int = 0
    requests: tuple[Request, ...] = ()
    processes: tuple[HandleSummary, ...] = ()
    tasks: tuple[TaskRecord, ...] = ()


def first_observation(state: SessionState, cursor: str) -> Observation:
    """What a session looks like that was just loaded, from where the cursor is: no turn shows."""
    record = state.record
    queue = tuple(summary_of(batch) for batch in state.open_batches)
    claimed = sum(1 for summary in queue if summary.state is BatchState.CLAIMED)
    return Observation(
        session_id=record.session_id,
        revision=record.revision,
        cursor=cursor,
        status=status_of(asked=bool(state.requests), live=False, claimed=claimed, pending=len(queue) - claimed),
        policy=record.policy,
        metadata=record.metadata,
        read_view=ReadView(
            messages=state.messages,
            agent_frame_id=record.agent_frame_id,
            turn_index=record.turn_index,
            truncated=state.truncated,
        ),
        live=None,
        usage=record.usage,
        tools=record.tools,
        queue=queue,
        requests=tuple(shown_request(request) for request in state.requests),
        processes=tuple(shown_process(summary) for summary in state.processes),
        tasks=tuple(shown_task(record) for record in state.tasks),
    )


def shown_request(request: Request) -> dict[str, Any]:
    """A request as readers have it, who have it from JSON."""
    shown: dict[str, Any] = to_builtins(request)
    return shown


def shown_process(summary: HandleSummary) -> dict[str, Any]:
    """A process as readers have it, who have it from JSON."""
    shown: dict[str, Any] = {
        "__handle__": summary.handle,
        "process_id": summary.process_id,
        "id": summary.id,
        "kind": summary.kind,
        "label": summary.label,
        "status": summary.status,
        "created_at_ms": summary.created_at_ms,
        "cancel_requested": summary.cancel_requested,
        "descriptor": summary.descriptor,
    }
    for name in ("definition", "progress"):
        if (value := getattr(summary, name)) is not UNSET:
            shown[name] = value
    return shown


def newest(observation: Observation, count: int) -> Observation:
    """The observation cut to its newest `count` messages; itself when it has no more than that."""
    view = observation.read_view
    if len(view.messages) <= count:
        return observation
    kept = view.messages[len(view.messages) - count :]
    cut = ReadView(messages=kept, agent_frame_id=view.agent_frame_id, turn_index=view.turn_index, truncated=True)
    return Observation(
        **{name: getattr(observation, name) for name in Observation.__struct_fields__ if name != "read_view"},
        read_view=cut,
    )
