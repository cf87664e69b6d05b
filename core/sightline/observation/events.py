"""The entries of a session's live stream: one envelope, one struct of data per kind.

The same types encode the wire, describe it, and are folded. Readers ignore kinds they do not know; `from_wire` turns
such data into `UnknownData`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.observation.activities import Activity, Outcome, UnknownActivity
from sightline.queue.model import BatchSummary
from sightline.session.model import Message, Tools, Usage

__all__ = [
    "KINDS",
    "AgentFrameSwitched",
    "Committed",
    "Data",
    "Event",
    "ProcessChanged",
    "QueueChanged",
    "RequestChanged",
    "ResidentChanged",
    "TaskChanged",
    "TurnActivity",
    "UnknownData",
    "from_wire",
]


class TurnActivity(Struct, frozen=True, kw_only=True):
    """One semantic event of a running turn."""

    id: str
    correlation_id: str
    event: Activity | UnknownActivity


class Committed(Struct, frozen=True, kw_only=True):
    """The revision advanced. Carries what was appended, so its size does not grow with the transcript."""

    messages: tuple[Message, ...]
    usage_delta: Usage
    agent_frame_id: str
    turn_index: int
    turn_id: str | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    reset: bool | UnsetType = UNSET


class AgentFrameSwitched(Struct, frozen=True, kw_only=True):
    frame_id: str
    messages: tuple[Message, ...] = ()


class QueueChanged(Struct, frozen=True, kw_only=True):
    """`kind`: enqueued, claimed, abandoned, completed, cancelled or failed."""

    kind: str
    batch_ids: tuple[str, ...]
    batches: tuple[BatchSummary, ...]


class ProcessChanged(Struct, frozen=True, kw_only=True):
    kind: str
    process_ids: tuple[str, ...]
    processes: tuple[dict[str, Any], ...]


class TaskChanged(Struct, frozen=True, kw_only=True):
    kind: str
    task_ids: tuple[str, ...]
    tasks: tuple[dict[str, Any], ...]


class RequestChanged(Struct, frozen=True, kw_only=True):
    kind: str
    requests: tuple[dict[str, Any], ...]


class ResidentChanged(Struct, frozen=True, kw_only=True):
    """The changed ones of these; an absent one did not change."""

    policy: dict[str, Any] | UnsetType = UNSET
    tools: Tools | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class UnknownData(Struct, frozen=True):
    """Data of a kind this version does not know."""


Data = (
    TurnActivity
    | Committed
    | AgentFrameSwitched
    | QueueChanged
    | ProcessChanged
    | TaskChanged
    | RequestChanged
    | ResidentChanged
    | UnknownData
)

KINDS: dict[type, str] = {
    TurnActivity: "turn_activity",
    Committed: "committed",
    AgentFrameSwitched: "agent_frame_switched",
    QueueChanged: "queue_changed",
    ProcessChanged: "process_changed",
    TaskChanged: "task_changed",
    RequestChanged: "request_changed",
    ResidentChanged: "resident_changed",
}
"""The wire name of every kind of data a server may send."""

_TYPES: dict[str, type] = {kind: data for data, kind in KINDS.items()}


class Event(Struct, frozen=True, kw_only=True, tag="event", tag_field="type"):
    """One entry of the stream, complete: where it stands, when, and what."""

    session_id: str
    cursor: str
    revision: int
    turn_id: str | UnsetType = UNSET
    at_ms: int
    kind: str
    data: Data


def from_wire(raw: dict[str, Any]) -> Event:
    """The event that a decoded JSON object is. Raises msgspec.ValidationError when a known kind has another shape."""
    kind = raw["kind"]
    data_type = _TYPES.get(kind)
    data: Data
    if data_type is None:
        data = UnknownData()
    elif data_type is TurnActivity:
        data = _activity(raw["data"])
    else:
        data = msgspec.convert(raw["data"], data_type)
    return Event(
        session_id=raw["session_id"],
        cursor=raw["cursor"],
        revision=raw["revision"],
        turn_id=raw.get("turn_id", UNSET),
        at_ms=raw["at_ms"],
        kind=kind,
        data=data,
    )


_ACTIVITY_TYPES = frozenset(str(member.__struct_config__.tag) for member in Activity.__args__)


def _activity(raw: dict[str, Any]) -> TurnActivity:
    event = raw["event"]
    known = event.get("type") in _ACTIVITY_TYPES
    return TurnActivity(
        id=raw["id"],
        correlation_id=raw["correlation_id"],
        event=msgspec.convert(event, Activity) if known else UnknownActivity(str(event.get("type"))),
    )
