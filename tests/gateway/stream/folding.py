"""The fold once more, written from the wire contract alone: what the server says is checked by somebody else's reading.

It works on decoded JSON and shares no code with the server's fold.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

__all__ = ["assert_same_view", "fold"]

Json = dict[str, Any]

_OPEN = ("pending", "claimed")
_GONE = ("completed", "failed", "cancelled", "abandoned", "revoked", "answered", "withdrawn")


def fold(observation: Json, events: Iterable[Json]) -> Json:
    """The observation after the events; the given one stays as it was."""
    view = copy.deepcopy(observation)
    for event in events:
        _apply(view, event)
    view["status"] = _status(view)
    return view


def assert_same_view(left: Json, right: Json) -> None:
    """Equal but for older messages that one of them has and the other does not show."""
    ours, theirs = _plain(left), _plain(right)
    shared = min(len(ours["messages"]), len(theirs["messages"]))
    for view, other in ((ours, theirs), (theirs, ours)):
        assert len(view["messages"]) == shared or other["truncated"], "messages are missing and nobody says so"
    for view in (ours, theirs):
        del view["truncated"]
        view["messages"] = view["messages"][len(view["messages"]) - shared :]
    assert ours == theirs


def _plain(observation: Json) -> Json:
    view = copy.deepcopy(observation)
    transcript = view.pop("read_view")
    return {**view, **transcript}


def _apply(view: Json, event: Json) -> None:
    assert event["type"] == "event"
    assert event["session_id"] == view["session_id"]
    view["cursor"] = event["cursor"]
    view["revision"] = max(view["revision"], event["revision"])
    data = event["data"]
    match event["kind"]:
        case "turn_activity":
            _activity(view, data, event["at_ms"])
        case "committed":
            _committed(view, data)
        case "queue_changed":
            batches = {batch["batch_id"]: batch for batch in (*view["queue"], *data["batches"])}
            still_open = [batch for batch in batches.values() if batch["state"] in _OPEN]
            view["queue"] = sorted(still_open, key=lambda batch: batch["enqueue_seq"])
        case "agent_frame_switched":
            view["read_view"]["agent_frame_id"] = data["frame_id"]
            view["read_view"]["messages"] = data["messages"]
        case "process_changed":
            _merge(view["processes"], data["processes"], "process_id", data["kind"])
        case "task_changed":
            _merge(view["tasks"], data["tasks"], "task_id", data["kind"])
        case "request_changed":
            _merge(view["requests"], data["requests"], "request_id", data["kind"])
        case "resident_changed":
            view |= {name: data[name] for name in ("policy", "tools", "metadata") if name in data}


def _committed(view: Json, data: Json) -> None:
    transcript = view["read_view"]
    if data.get("reset"):
        transcript["messages"] = []
    transcript["messages"] = transcript["messages"] + data["messages"]
    transcript["agent_frame_id"] = data["agent_frame_id"]
    transcript["turn_index"] = data["turn_index"]
    usage, delta = view["usage"], data["usage_delta"]
    usage["totals"] = _sum(usage["totals"], delta["totals"])
    for model, figures in delta["by_model"].items():
        usage["by_model"][model] = _sum(usage["by_model"].get(model, {}), figures)
    for source, models in delta.get("by_source", {}).items():
        ledger = usage.setdefault("by_source", {}).setdefault(source, {})
        for model, figures in models.items():
            ledger[model] = _sum(ledger.get(model, {}), figures)
    if "outcome" in data:
        view["live"] = None


def _sum(left: Json, right: Json) -> Json:
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}


def _merge(kept: list[Json], changed: list[Json], key: str, kind: str) -> None:
    for entry in changed:
        places = [place for place, known in enumerate(kept) if known[key] == entry[key]]
        if kind in _GONE:
            for place in places:
                del kept[place]
        elif places:
            kept[places[0]] = entry
        else:
            kept.append(entry)


def _activity(view: Json, data: Json, at_ms: int) -> None:
    activity = data["event"]
    if activity["type"] == "turn_started":
        view["live"] = {
            "turn_id": activity["turn_id"],
            "attempt": activity["attempt"],
            "started_at_ms": at_ms,
            "boundary": activity["boundary"],
            "input": activity["input"],
            "segments": [],
            "tool_calls": [],
            "protocol_iteration": 0,
        }
    live = view["live"]
    if live is None:
        return
    correlation = data["correlation_id"]
    match activity["type"]:
        case "assistant_prose_delta":
            _text(live["segments"], correlation, "text", activity["text"])
        case "reasoning_delta":
            _text(live["segments"], correlation, "reasoning", activity["text"])
        case "tool_call_started":
            call = {name: activity[name] for name in ("call_id", "name", "args")}
            live["tool_calls"].append({**call, "correlation_id": correlation, "state": "running"})
        case "tool_call_completed":
            [call] = [call for call in live["tool_calls"] if call["call_id"] == activity["call_id"]]
            call["state"] = activity.get("state", "completed")
            call["output"] = activity["output"]
        case "model_request_started":
            live["protocol_iteration"] = activity["protocol_iteration"]
        case "queued_input_accepted":
            live["input"] = live["input"] + [accepted["message"] for accepted in activity["inputs"]]
        case "retracted":
            for name in ("segments", "tool_calls"):
                live[name] = [part for part in live[name] if part["correlation_id"] != activity["correlation_id"]]
        case "error":
            live["error"] = activity["message"]
    for name in ("text", "reasoning"):
        live[name] = "".join(part["text"] for part in live["segments"] if part["channel"] == name)


def _text(segments: list[Json], correlation: str, channel: str, text: str) -> None:
    if segments and (segments[-1]["correlation_id"], segments[-1]["channel"]) == (correlation, channel):
        segments[-1]["text"] += text
    else:
        segments.append({"correlation_id": correlation, "channel": channel, "text": text})


def _status(view: Json) -> str:
    states = {batch["state"] for batch in view["queue"]}
    if view["requests"]:
        return "waiting"
    if view["live"] is not None or "claimed" in states:
        return "running"
    return "queued" if "pending" in states else "idle"
