"""Random histories of a session's stream: every kind of event and every activity of the wire, in any order, whether it
makes sense or not. What the fold makes of it has to be the same whoever folds, and from wherever.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET

from sightline.observation.activities import (
    Activity,
    AssistantProseDelta,
    ChildUsage,
    CodeBlockCompleted,
    CodeBlockStarted,
    ErrorReported,
    ModelRequestStarted,
    Outcome,
    PluginRuntime,
    QueuedInputAccepted,
    QueuedMessagesCommitted,
    QueuedWorkStarted,
    ReasoningDelta,
    Retracted,
    RetryStatus,
    SubmittedValue,
    ToolCallCompleted,
    ToolCallStarted,
    ToolValue,
    TurnEnded,
    TurnStarted,
    UnknownActivity,
    UsageReported,
)
from sightline.observation.events import (
    KINDS,
    AgentFrameSwitched,
    Committed,
    Data,
    Event,
    ProcessChanged,
    QueueChanged,
    RequestChanged,
    ResidentChanged,
    TaskChanged,
    TurnActivity,
    UnknownData,
)
from sightline.observation.model import Observation
from sightline.queue.materializing import AcceptedInput, InputMessage, TurnCause
from sightline.queue.model import BatchState, BatchSummary, DeliveryPolicy, SlotPolicy
from sightline.session.model import Failure, Message, ReadView, Tools, Usage, UsageFigures

PROCESS_KINDS = (
    "started",
    "cancel_requested",
    "waiting",
    "resumed",
    "completed",
    "failed",
    "cancelled",
    "abandoned",
    "progress",
    "granted",
    "revoked",
)
QUEUE_KINDS = ("enqueued", "claimed", "abandoned", "completed", "cancelled", "failed")
REQUEST_KINDS = ("opened", "answered", "withdrawn")

names = st.sampled_from(("a", "b", "c", "__proto__"))
texts = st.sampled_from(("word ", "", "\n", "Grüße", "🌍\u2028", '"\\'))
counts = st.integers(0, 9)
values: st.SearchStrategy[Any] = st.sampled_from((None, True, 3, "text", {"x": [1, {"y": None}]}, []))
figures = st.builds(UsageFigures, counts, counts, counts, counts, counts)
models = st.dictionaries(names, figures, max_size=2)
usages = st.builds(Usage, figures, models, st.one_of(st.just(UNSET), st.dictionaries(names, models, max_size=2)))
messages = st.builds(
    Message,
    message_id=st.uuids().map(str),
    role=st.sampled_from(("user", "assistant", "system")),
    content=texts,
    at_ms=counts,
    turn_id=st.one_of(st.just(UNSET), names),
)
inputs = st.builds(InputMessage, role=st.just("user"), content=texts, source_key=st.one_of(st.just(UNSET), names))
causes = st.builds(TurnCause, id=names, event_type=names, origin=st.just({"process_id": "p"}), text=texts)
failures = st.builds(Failure, st.just("agent_error"), texts)
outcomes = st.one_of(
    st.builds(Outcome, status=st.just("completed")),
    st.builds(Outcome, status=st.just("cancelled"), reason=texts),
    st.builds(Outcome, status=st.just("failed"), error=failures),
)


def some(what: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(what, max_size=most).map(tuple)


def maybe(what: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(UNSET), what)


deltas: st.SearchStrategy[Activity] = st.one_of(
    st.builds(AssistantProseDelta, text=texts), st.builds(ReasoningDelta, text=texts)
)
activities: st.SearchStrategy[Activity | UnknownActivity] = st.one_of(
    deltas,
    deltas,
    deltas,
    st.builds(TurnStarted, turn_id=names, attempt=counts, boundary=st.just("idle"), input=some(inputs)),
    st.builds(TurnStarted, turn_id=names, attempt=counts, boundary=st.just("idle"), input=some(inputs)),
    st.builds(TurnEnded, outcome=outcomes),
    st.builds(Retracted, correlation_id=names),
    st.builds(ModelRequestStarted, protocol_iteration=counts),
    st.builds(ToolCallStarted, name=names, args=values, call_id=maybe(names)),
    st.builds(
        ToolCallCompleted,
        name=names,
        args=values,
        output=values,
        duration_ms=counts,
        call_id=maybe(names),
        state=maybe(st.sampled_from(("completed", "failed"))),
    ),
    st.builds(UsageReported, protocol_iteration=counts, usage=figures, cumulative=figures),
    st.builds(QueuedInputAccepted, checkpoint=names, inputs=some(st.builds(AcceptedInput, id=names, message=inputs))),
    st.builds(ErrorReported, message=texts),
    st.builds(QueuedWorkStarted, boundary=st.just("idle"), batch_ids=some(names), causes=some(causes)),
    st.builds(QueuedMessagesCommitted, messages=some(messages), checkpoint=names),
    st.builds(CodeBlockStarted, language=names, code=texts, graph_key=maybe(names)),
    st.builds(
        CodeBlockCompleted,
        language=names,
        output=values,
        success=st.booleans(),
        duration_ms=counts,
        tool_call_ids=some(names),
        error=maybe(texts),
    ),
    st.builds(SubmittedValue, value=values),
    st.builds(ToolValue, tool_name=names, value=values),
    st.builds(ChildUsage, session_id=names, source=names, model=names, input_tokens=counts),
    st.builds(RetryStatus, wait_seconds=st.just(0.5), attempt=counts, max_attempts=counts, reason=texts),
    st.builds(PluginRuntime, plugin_id=names, event=values),
    st.just(UnknownActivity("sang")),
)


@st.composite
def summaries(draw: st.DrawFn) -> BatchSummary:
    number = draw(st.integers(1, 8))
    return BatchSummary(
        batch_id=f"b{number}",
        enqueue_seq=number,
        state=draw(st.sampled_from(BatchState)),
        kind="turn_input",
        preview=draw(texts),
        delivery_policy=draw(st.sampled_from(DeliveryPolicy)),
        slot_policy=draw(st.sampled_from(SlotPolicy)),
        available_at_ms=draw(counts),
        turn_id=draw(maybe(names)),
    )


@st.composite
def handles(draw: st.DrawFn, key: str, state: str) -> dict[str, Any]:
    entry: dict[str, Any] = {key: draw(names), "note": draw(texts)}
    if draw(st.booleans()):
        entry[state] = draw(st.sampled_from(("running", "waiting", "cancel_requested", "completed", "cancelled")))
    return entry


@st.composite
def changed(draw: st.DrawFn, data: type, word: str, many: str, state: str) -> Any:
    entries = draw(some(handles(f"{word}_id", state)))
    ids = tuple(entry[f"{word}_id"] for entry in entries)
    return data(kind=draw(st.sampled_from((*PROCESS_KINDS, "polished"))), **{f"{word}_ids": ids, many: entries})


@st.composite
def queue_changes(draw: st.DrawFn) -> QueueChanged:
    batches = draw(some(summaries(), 4))
    kind = draw(st.sampled_from((*QUEUE_KINDS, "polished")))
    return QueueChanged(kind=kind, batch_ids=tuple(batch.batch_id for batch in batches), batches=batches)


requests = st.fixed_dictionaries({"request_id": names, "turn_id": names, "kind": names, "prompt": texts})
data: st.SearchStrategy[Data] = st.one_of(
    *([st.builds(TurnActivity, id=names, correlation_id=names, event=activities)] * 6),
    st.builds(
        Committed,
        messages=some(messages),
        usage_delta=usages,
        agent_frame_id=names,
        turn_index=counts,
        turn_id=maybe(names),
        outcome=maybe(outcomes),
        reset=st.sampled_from((UNSET, UNSET, UNSET, True, False)),
    ),
    st.builds(AgentFrameSwitched, frame_id=names, messages=some(messages)),
    queue_changes(),
    queue_changes(),
    changed(ProcessChanged, "process", "processes", "status"),
    changed(TaskChanged, "task", "tasks", "state"),
    st.builds(RequestChanged, kind=st.sampled_from((*REQUEST_KINDS, "polished")), requests=some(requests)),
    st.builds(
        ResidentChanged,
        policy=maybe(st.just({"p": 1})),
        tools=maybe(st.builds(Tools, generation=counts, error=st.one_of(st.none(), texts))),
        metadata=maybe(st.just({"m": 1})),
    ),
    st.just(UnknownData()),
)


@st.composite
def streams(draw: st.DrawFn, most: int = 40) -> list[Event]:
    """Events in stream order: positions by one, revisions that mostly stand and sometimes grow or fall."""
    events: list[Event] = []
    revision = 1
    least = draw(st.sampled_from((0, 6, 12)))
    for position, shown in enumerate(draw(st.lists(data, min_size=least, max_size=most)), 1):
        revision = max(0, revision + draw(st.sampled_from((0, 0, 0, 0, 1, -1))))
        events.append(
            Event(
                session_id="s",
                cursor=f"sl1:7:{revision}:{position}:s",
                revision=revision,
                turn_id=draw(maybe(st.just("t"))),
                at_ms=position,
                kind=KINDS.get(type(shown), "constellation_changed"),
                data=shown,
            )
        )
    return events


beginning = Observation(
    session_id="s",
    revision=1,
    cursor="sl1:7:1:0:s",
    status="idle",
    policy={},
    metadata={},
    read_view=ReadView(messages=(Message(message_id="m", role="user", content="hi", at_ms=1),)),
    live=None,
    usage=Usage(),
    tools=Tools(),
    queue=(),
)
