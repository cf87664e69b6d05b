"""The fold: what a session's events add up to. Written once here and once in JavaScript; both pass the same vectors.

The law: a snapshot folded with the events after its cursor equals the snapshot the server would hand out at the last
event's cursor, also in the middle of a turn. The server keeps its own view by this same code, so it cannot disagree
with its clients about what an event means.

What each thing does:

* every event moves the cursor, and the revision to the largest seen;
* `turn_started` sets `live` anew, also when one is there (a second attempt replaces the first);
* text goes on in the last segment while correlation and channel stay the same, else begins a segment;
* a tool call begins running and is found again by its call id, or by its correlation when it has none;
* `retracted` takes back the segments and tool calls of its correlation;
* `committed` appends messages and adds usage; with an outcome it clears `live`; with `reset` it empties the transcript
  first;
* a new agent frame begins with its own messages, all of them;
* the queue is kept in the order of its sequence; batches that ended leave;
* processes, tasks and requests are kept by id, in the order in which they came. They leave with the kinds that end
  them; a process or task leaves also when its summary says that it has ended, because progress may be told of one
  whose end was told before;
* what is unknown changes nothing else.

`Fold` is the accumulator: mutable, so that a delta costs the same at the first and at the millionth character.
`observation()` freezes it, and makes anew only the parts that were touched since the last time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from sightline.observation.activities import (
    AssistantProseDelta,
    ErrorReported,
    ModelRequestStarted,
    QueuedInputAccepted,
    ReasoningDelta,
    Retracted,
    ToolCallCompleted,
    ToolCallStarted,
    TurnStarted,
    UsageReported,
)
from sightline.observation.events import (
    AgentFrameSwitched,
    Committed,
    Event,
    ProcessChanged,
    QueueChanged,
    RequestChanged,
    ResidentChanged,
    TaskChanged,
    TurnActivity,
)
from sightline.observation.model import Live, Observation, Segment, ToolCall
from sightline.queue.materializing import InputMessage
from sightline.queue.model import BatchState, BatchSummary
from sightline.session.model import Message, ReadView, UsageFigures
from sightline.session.rules import add_usage, status_of

__all__ = ["Fold", "fold"]

Channel = Literal["text", "reasoning"]

_ENDS = frozenset({"completed", "failed", "cancelled", "abandoned"})
"""How processes and tasks end: the kinds that tell of it, and the states their summaries have from then on."""
_GONE_HANDLES = _ENDS | {"revoked"}
_GONE_REQUESTS = frozenset({"answered", "withdrawn"})


def fold(observation: Observation, events: Iterable[Event]) -> Observation:
    """The observation after the events. The given one is not changed."""
    folded = Fold(observation)
    for event in events:
        folded.apply(event)
    return folded.observation()


class Fold:
    """A session's state while events are added to it.

    `keep` bounds how many messages stay in memory: older ones leave and the view says `truncated`. Clients do not set
    it: they append and never drop.
    """

    def __init__(self, start: Observation, *, keep: int | None = None) -> None:
        self._start = start
        self._keep = keep
        self._cursor = start.cursor
        self._revision = start.revision
        self._policy = start.policy
        self._metadata = start.metadata
        self._tools = start.tools
        self._usage = start.usage
        self._messages = list(start.read_view.messages)
        self._truncated = start.read_view.truncated
        self._frame_id = start.read_view.agent_frame_id
        self._turn_index = start.read_view.turn_index
        self._live = None if start.live is None else _LiveFold.resume(start.live)
        self._queue = _Queue(start.queue)
        self._requests = _by_id(start.requests, "request_id")
        self._processes = _by_id(start.processes, "process_id")
        self._tasks = _by_id(start.tasks, "task_id")
        self._frozen: Observation | None = start
        self._frozen_messages: tuple[Message, ...] | None = None
        self._drop_oldest()

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def cursor(self) -> str:
        return self._cursor

    def move_to(self, cursor: str) -> None:
        """The view is that of another position, at which nothing was told."""
        self._frozen = None
        self._cursor = cursor

    @property
    def live_usage(self) -> UsageFigures:
        """What the running turn has reported so far; a commit makes it part of `usage`."""
        return UsageFigures() if self._live is None else self._live.used

    @property
    def has_open_work(self) -> bool:
        return bool(self._queue.by_id)

    def has_open(self, batch_id: str) -> bool:
        """Whether the queue has this batch."""
        return batch_id in self._queue.by_id

    def request(self, request_id: str) -> dict[str, Any] | None:
        """The request, while it is open."""
        return self._requests.get(request_id)

    def process(self, process_id: str) -> dict[str, Any] | None:
        """The process, while it shows."""
        return self._processes.get(process_id)

    def requests_of(self, turn_id: str) -> tuple[dict[str, Any], ...]:
        """The open requests of a turn."""
        return tuple(request for request in self._requests.values() if request.get("turn_id") == turn_id)

    @property
    def is_quiet(self) -> bool:
        """No turn shows and no work is open."""
        return self._live is None and not self._queue.by_id

    def apply(self, event: Event) -> None:
        """Add one event. Events come in stream order."""
        self._frozen = None
        self._cursor = event.cursor
        self._revision = max(self._revision, event.revision)
        match event.data:
            case TurnActivity():
                self._activity(event.data, event.at_ms)
            case Committed():
                self._committed(event.data)
            case QueueChanged(batches=batches):
                self._queue.update(batches)
            case AgentFrameSwitched(frame_id=frame_id, messages=messages):
                self._frame_id = frame_id
                self._replace_messages(messages)
            case ProcessChanged(kind=kind, processes=processes):
                _merge(self._processes, processes, "process_id", "status", gone=kind in _GONE_HANDLES)
            case TaskChanged(kind=kind, tasks=tasks):
                _merge(self._tasks, tasks, "task_id", "state", gone=kind in _GONE_HANDLES)
            case RequestChanged(kind=kind, requests=requests):
                _merge(self._requests, requests, "request_id", "", gone=kind in _GONE_REQUESTS)
            case ResidentChanged(policy=policy, tools=tools, metadata=metadata):
                self._policy = self._policy if isinstance(policy, UnsetType) else policy
                self._tools = self._tools if isinstance(tools, UnsetType) else tools
                self._metadata = self._metadata if isinstance(metadata, UnsetType) else metadata
            case _:
                pass

    def observation(self) -> Observation:
        """The state as a frozen snapshot; the same object until the next event."""
        if self._frozen is None:
            self._frozen = self._freeze()
        return self._frozen

    def _freeze(self) -> Observation:
        queue, claimed = self._queue.freeze()
        if self._frozen_messages is None:
            self._frozen_messages = tuple(self._messages)
        return Observation(
            session_id=self._start.session_id,
            revision=self._revision,
            cursor=self._cursor,
            status=status_of(
                asked=bool(self._requests),
                live=self._live is not None,
                claimed=claimed,
                pending=len(queue) - claimed,
            ),
            policy=self._policy,
            metadata=self._metadata,
            read_view=ReadView(
                messages=self._frozen_messages,
                agent_frame_id=self._frame_id,
                turn_index=self._turn_index,
                truncated=self._truncated,
            ),
            live=None if self._live is None else self._live.freeze(),
            usage=self._usage,
            tools=self._tools,
            queue=queue,
            requests=tuple(self._requests.values()),
            processes=tuple(self._processes.values()),
            tasks=tuple(self._tasks.values()),
        )

    def _committed(self, data: Committed) -> None:
        if data.reset is True:
            self._replace_messages(data.messages)
        elif data.messages:
            self._messages.extend(data.messages)
            self._frozen_messages = None
            self._drop_oldest()
        self._usage = add_usage(self._usage, data.usage_delta)
        self._frame_id = data.agent_frame_id
        self._turn_index = data.turn_index
        if data.outcome is not UNSET:
            self._live = None

    def _replace_messages(self, messages: Iterable[Message]) -> None:
        """The transcript is these from now on, and nothing is in front of them."""
        self._messages = list(messages)
        self._frozen_messages = None
        self._truncated = False
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        if self._keep is not None and len(self._messages) > self._keep:
            del self._messages[: len(self._messages) - self._keep]
            self._truncated = True
            self._frozen = self._frozen_messages = None

    def _activity(self, data: TurnActivity, at_ms: int) -> None:
        if isinstance(data.event, TurnStarted):
            self._live = _LiveFold(data.event, at_ms)
        elif self._live is not None:
            self._live.apply(data)


class _Queue:
    """Open batches by id, in the order of their sequence.

    New work has the largest sequence so far, so it goes to the end; only what comes out of turn costs a sort.
    """

    def __init__(self, summaries: Iterable[BatchSummary]) -> None:
        self.by_id: dict[str, BatchSummary] = {}
        self._frozen: tuple[tuple[BatchSummary, ...], int] | None = None
        self.update(summaries)

    def update(self, summaries: Iterable[BatchSummary]) -> None:
        by_id, in_order = self.by_id, True
        for summary in summaries:
            if not summary.state.is_open:
                by_id.pop(summary.batch_id, None)
                continue
            before = by_id.get(summary.batch_id) or next(reversed(by_id.values()), None)
            in_order = in_order and (before is None or _in_order(before, summary))
            by_id[summary.batch_id] = summary
        if not in_order:
            self.by_id = dict(sorted(by_id.items(), key=lambda entry: entry[1].enqueue_seq))
        self._frozen = None

    def freeze(self) -> tuple[tuple[BatchSummary, ...], int]:
        """The batches, and how many of them are claimed."""
        if self._frozen is None:
            queue = tuple(self.by_id.values())
            self._frozen = queue, sum(1 for summary in queue if summary.state is BatchState.CLAIMED)
        return self._frozen


def _in_order(before: BatchSummary, summary: BatchSummary) -> bool:
    """Whether a batch may take the place of the same one, or the place behind another."""
    if before.batch_id == summary.batch_id:
        return before.enqueue_seq == summary.enqueue_seq
    return before.enqueue_seq <= summary.enqueue_seq


class _LiveFold:
    """The running turn while its activities are added. Text is kept in pieces until somebody looks."""

    def __init__(self, started: TurnStarted, at_ms: int) -> None:
        self.turn_id = started.turn_id
        self.attempt = started.attempt
        self.started_at_ms = at_ms
        self.boundary = started.boundary
        self.input: list[InputMessage] = list(started.input)
        self.segments: list[tuple[str, Channel, list[str]]] = []
        self.tool_calls: list[ToolCall] = []
        self.protocol_iteration = 0
        self.error: str | UnsetType = UNSET
        self.used = UsageFigures()

    @classmethod
    def resume(cls, live: Live) -> _LiveFold:
        started = TurnStarted(turn_id=live.turn_id, attempt=live.attempt, boundary=live.boundary, input=live.input)
        folded = cls(started, live.started_at_ms)
        folded.segments = [(segment.correlation_id, segment.channel, [segment.text]) for segment in live.segments]
        folded.tool_calls = list(live.tool_calls)
        folded.protocol_iteration = live.protocol_iteration
        folded.error = live.error
        return folded

    def apply(self, data: TurnActivity) -> None:
        match data.event:
            case AssistantProseDelta(text=text):
                self._text(data.correlation_id, "text", text)
            case ReasoningDelta(text=text):
                self._text(data.correlation_id, "reasoning", text)
            case ToolCallStarted() as started:
                self.tool_calls.append(
                    ToolCall(
                        call_id=data.id if isinstance(started.call_id, UnsetType) else started.call_id,
                        correlation_id=data.correlation_id,
                        name=started.name,
                        args=started.args,
                        state="running",
                    )
                )
            case ToolCallCompleted() as completed:
                self._tool_completed(data.correlation_id, completed)
            case ModelRequestStarted(protocol_iteration=iteration):
                self.protocol_iteration = iteration
            case QueuedInputAccepted(inputs=inputs):
                self.input.extend(accepted.message for accepted in inputs)
            case Retracted(correlation_id=correlation_id):
                self.segments = [entry for entry in self.segments if entry[0] != correlation_id]
                self.tool_calls = [call for call in self.tool_calls if call.correlation_id != correlation_id]
            case ErrorReported(message=message):
                self.error = message
            case UsageReported(cumulative=cumulative):
                self.used = cumulative
            case _:
                pass

    def _text(self, correlation_id: str, channel: Channel, text: str) -> None:
        if self.segments and self.segments[-1][0] == correlation_id and self.segments[-1][1] == channel:
            self.segments[-1][2].append(text)
        else:
            self.segments.append((correlation_id, channel, [text]))

    def _tool_completed(self, correlation_id: str, completed: ToolCallCompleted) -> None:
        for index in range(len(self.tool_calls) - 1, -1, -1):
            call = self.tool_calls[index]
            same = (
                call.correlation_id == correlation_id
                if isinstance(completed.call_id, UnsetType)
                else call.call_id == completed.call_id
            )
            if same and call.state == "running":
                self.tool_calls[index] = ToolCall(
                    call_id=call.call_id,
                    correlation_id=call.correlation_id,
                    name=call.name,
                    args=call.args,
                    state="failed" if completed.state == "failed" else "completed",
                    output=completed.output,
                )
                return

    def freeze(self) -> Live:
        for _, _, pieces in self.segments:
            # Joining in place keeps a snapshot per event from costing the whole text every time twice.
            if len(pieces) > 1:
                pieces[:] = ["".join(pieces)]
        segments = tuple(
            Segment(correlation_id=correlation, channel=channel, text=pieces[0])
            for correlation, channel, pieces in self.segments
        )
        return Live(
            turn_id=self.turn_id,
            attempt=self.attempt,
            started_at_ms=self.started_at_ms,
            boundary=self.boundary,
            input=tuple(self.input),
            segments=segments,
            text="".join(segment.text for segment in segments if segment.channel == "text"),
            reasoning="".join(segment.text for segment in segments if segment.channel == "reasoning"),
            tool_calls=tuple(self.tool_calls),
            protocol_iteration=self.protocol_iteration,
            error=self.error,
        )


def _by_id(entries: Iterable[Mapping[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {entry[key]: dict(entry) for entry in entries}


def _merge(
    kept: dict[str, dict[str, Any]], changed: Iterable[dict[str, Any]], key: str, state: str, *, gone: bool
) -> None:
    """`key` names an entry, `state` is where it says how it stands, if entries of this sort say it."""
    for entry in changed:
        if gone or entry.get(state) in _ENDS:
            kept.pop(entry[key], None)
        else:
            kept[entry[key]] = entry
