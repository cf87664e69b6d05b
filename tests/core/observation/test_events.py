"""Events on the wire: what goes out comes back, and what is unknown does no harm."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, structs

from sightline.observation import activities, events
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
    from_wire,
)
from sightline.queue.materializing import AcceptedInput, InputMessage, TurnCause
from sightline.queue.model import BatchState, BatchSummary, DeliveryPolicy, SlotPolicy
from sightline.session.model import Failure, Message, Tools, Usage, UsageFigures

said = InputMessage(role="user", content="hi", parts=[{"type": "text", "text": "hi"}], source_key="host:k")
woken = TurnCause(id="w", event_type="progress", origin={"process_id": "p"}, text="it is done")
spent = UsageFigures(1, 2, 3, 4, 5)
spoken = Message(message_id="m", role="assistant", content="x", at_ms=1, turn_id="t", parts=[{"a": [1, None]}])
summary = BatchSummary(
    batch_id="b",
    enqueue_seq=1,
    state=BatchState.CLAIMED,
    kind="turn_input",
    preview="hi",
    delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
    slot_policy=SlotPolicy.JOIN,
    available_at_ms=0,
    turn_id="t",
)

ACTIVITIES: list[Activity] = [
    TurnStarted(turn_id="t", attempt=1, boundary="idle", input=(said,)),
    TurnEnded(outcome=Outcome(status="failed", error=Failure("agent_error", "it broke"))),
    Retracted(correlation_id="c"),
    ModelRequestStarted(protocol_iteration=2),
    AssistantProseDelta(text="a “b” \u2028 🌍"),
    ReasoningDelta(text=""),
    ToolCallStarted(name="add", args={"a": [1, 2.5, None, True]}, call_id="1"),
    ToolCallStarted(name="add", args=None),
    ToolCallCompleted(name="add", args={}, output=None, duration_ms=3, call_id="1", state="failed"),
    ToolCallCompleted(name="add", args=[], output={"x": "y"}, duration_ms=0),
    UsageReported(protocol_iteration=1, usage=spent, cumulative=spent),
    QueuedInputAccepted(checkpoint="after_work", inputs=(AcceptedInput(id="k", message=said),)),
    ErrorReported(message="oh"),
    QueuedWorkStarted(boundary="idle", batch_ids=("b",), causes=(woken,)),
    QueuedMessagesCommitted(messages=(spoken,), checkpoint="after_work"),
    CodeBlockStarted(language="python", code="1 + 1"),
    CodeBlockCompleted(language="python", output="2", success=True, duration_ms=3, tool_call_ids=("1",)),
    CodeBlockCompleted(language="sh", output=None, success=False, duration_ms=3, error="no", graph_key="g"),
    SubmittedValue(value={"a": [1, None]}),
    ToolValue(tool_name="add", value=3),
    ChildUsage(session_id="child", source="subagent", model="small", input_tokens=5, requests=1),
    RetryStatus(wait_seconds=0.5, attempt=1, max_attempts=3, reason="overloaded"),
    PluginRuntime(plugin_id="p", event={"type": "x"}),
]
DATA: list[Data] = [
    *(TurnActivity(id="1", correlation_id="c", event=activity) for activity in ACTIVITIES),
    Committed(
        messages=(spoken,),
        usage_delta=Usage(spent, {"m": spent}),
        agent_frame_id="initial",
        turn_index=4,
        turn_id="t",
        outcome=Outcome(status="cancelled", reason="enough"),
        reset=True,
    ),
    Committed(messages=(), usage_delta=Usage(), agent_frame_id="f", turn_index=0),
    AgentFrameSwitched(frame_id="f", messages=(spoken,)),
    QueueChanged(kind="claimed", batch_ids=("b",), batches=(summary,)),
    ProcessChanged(kind="started", process_ids=("p",), processes=({"process_id": "p", "n": 1},)),
    TaskChanged(kind="started", task_ids=("k",), tasks=({"task_id": "k"},)),
    RequestChanged(kind="opened", requests=({"request_id": "r"},)),
    ResidentChanged(policy={"a": 1}),
    ResidentChanged(tools=Tools(generation=3, catalog=({"name": "add"},), error="oh"), metadata={}),
]


def event(data: Data, **fields: Any) -> Event:
    kind = KINDS.get(type(data), "unknown")
    plain = Event(session_id="s", cursor="sl1:1:2:3:s", revision=2, at_ms=9, kind=kind, data=data)
    return structs.replace(plain, **fields)


def name_of(data: Data) -> str:
    return type(data.event).__name__ if isinstance(data, TurnActivity) else type(data).__name__


@pytest.mark.parametrize("data", DATA, ids=name_of)
def test_an_event_comes_back_from_the_wire(data: Data) -> None:
    for sent in (event(data), event(data, turn_id="t")):
        assert from_wire(msgspec.json.decode(msgspec.json.encode(sent))) == sent


def test_every_kind_and_every_activity_is_among_the_examples() -> None:
    assert {type(data) for data in DATA} == set(KINDS)
    names = {name for name in activities.__all__ if hasattr(getattr(activities, name), "__struct_fields__")}
    shown = {type(activity).__name__ for activity in ACTIVITIES}
    assert names - shown == {"Outcome", "UnknownActivity"}
    assert {kind.__name__ for kind in KINDS} <= set(events.__all__)


def test_an_event_says_first_what_it_is_and_leaves_out_what_is_not_there() -> None:
    encoded = msgspec.json.encode(event(Committed(messages=(), usage_delta=Usage(), agent_frame_id="f", turn_index=1)))
    raw = msgspec.json.decode(encoded)
    assert encoded.startswith(b'{"type":"event"')
    assert "turn_id" not in raw
    assert not {"turn_id", "outcome", "reset"} & set(raw["data"])


def wire(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    envelope = {"type": "event", "session_id": "s", "cursor": "sl1:1:2:3:s", "revision": 2, "at_ms": 9}
    return {**envelope, "kind": kind, "data": data}


def test_an_unknown_kind_is_kept_by_its_name_alone() -> None:
    read = from_wire(wire("constellation_changed", {"stars": 7}))
    assert (read.kind, read.data, read.turn_id) == ("constellation_changed", UnknownData(), UNSET)


def test_an_unknown_activity_is_kept_by_its_type_alone() -> None:
    read = from_wire(wire("turn_activity", {"id": "1", "correlation_id": "c", "event": {"type": "sang", "x": 1}}))
    assert read.data == TurnActivity(id="1", correlation_id="c", event=UnknownActivity("sang"))


def test_unknown_fields_are_passed_over() -> None:
    data = {"kind": "enqueued", "batch_ids": ["b"], "batches": [], "new": 1}
    read = from_wire({**wire("queue_changed", data), "newer": 2})
    assert read.data == QueueChanged(kind="enqueued", batch_ids=("b",), batches=())


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("queue_changed", {"kind": "enqueued"}),
        ("committed", {"messages": [{"role": "nobody"}]}),
        ("turn_activity", {"id": "1", "correlation_id": "c", "event": {"type": "assistant_prose_delta", "text": 5}}),
    ],
)
def test_a_known_kind_in_another_shape_is_refused(kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        from_wire(wire(kind, data))
