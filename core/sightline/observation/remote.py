"""Frames of a stream as they come from another process: taken for true only when they agree with the wire and with
themselves.

In this process events come from the kernel and are right by their types. What comes over a network may be of another
protocol, of another session, cut and joined by something in between, or made up. A client that folds such a thing shows
a state that never was. So here everything is refused that contradicts the wire: another version, an id or a cursor that
says nothing, a part that belongs to another session or another moment than the frame it came in. What is merely new is
let pass, because servers may add it at any time: unknown types of frames, kinds, activities and fields.

The version is in the address (`/v1`) and in the subprotocol; a frame need not repeat it. If it or a part of it does, it
has to be this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.errors import InvalidFrame
from sightline.observation.cursor import MAX_CURSOR_LENGTH
from sightline.observation.events import Event, TurnActivity, from_wire
from sightline.observation.model import Observation
from sightline.observation.opening import Gap

__all__ = [
    "PROTOCOL_VERSION",
    "CaughtUpFrame",
    "GapFrame",
    "GoodbyeFrame",
    "HeartbeatFrame",
    "ObservationFrame",
    "OtherFrame",
    "RemoteFrame",
    "ResumedFrame",
    "check_frame",
    "parse_frame",
]

PROTOCOL_VERSION = 1

_CURSOR = re.compile(rf"[A-Za-z0-9._~:@-]{{1,{MAX_CURSOR_LENGTH}}}", re.ASCII)
_MAX_NUMBER = 2**63 - 1


class ObservationFrame(Struct, frozen=True, kw_only=True):
    """First frame of a fresh start."""

    session_id: str
    cursor: str
    observation: Observation


class ResumedFrame(Struct, frozen=True, kw_only=True):
    """First frame when the cursor was accepted."""

    session_id: str
    cursor: str


class GapFrame(Struct, frozen=True, kw_only=True):
    """Continuity could not be proved: start over from this observation."""

    session_id: str
    cursor: str
    gap: Gap
    observation: Observation


class CaughtUpFrame(Struct, frozen=True, kw_only=True):
    """What had been missed has been shown."""

    session_id: str
    cursor: str


class GoodbyeFrame(Struct, frozen=True, kw_only=True):
    """The server is about to close this stream. Come back after `retry_after_ms` plus up to `jitter_ms`."""

    session_id: str
    reason: str
    code: int
    cursor: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    jitter_ms: int | UnsetType = UNSET


class HeartbeatFrame(Struct, frozen=True, kw_only=True):
    """Nothing happened, and somebody is there."""

    session_id: str
    cursor: str | UnsetType = UNSET


class OtherFrame(Struct, frozen=True):
    """A frame that is not about what a session shows, or of a type this version does not know."""

    type: str


RemoteFrame = (
    ObservationFrame | ResumedFrame | GapFrame | Event | CaughtUpFrame | GoodbyeFrame | HeartbeatFrame | OtherFrame
)

_TYPES: dict[str, Any] = {
    "observation": ObservationFrame,
    "resumed": ResumedFrame,
    "gap": GapFrame,
    "caught_up": CaughtUpFrame,
    "goodbye": GoodbyeFrame,
    "heartbeat": HeartbeatFrame,
}


def parse_frame(data: bytes | str, session_id: str | None = None) -> RemoteFrame:
    """The frame that a message, or the data of a server-sent event, is. See `check_frame`."""
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFrame("frame", f"is not JSON: {error}") from None
    return check_frame(raw, session_id)


def check_frame(raw: Any, session_id: str | None = None) -> RemoteFrame:
    """The frame that a decoded message is; of this session, if one is given. Raises InvalidFrame."""
    if not isinstance(raw, Mapping):
        raise InvalidFrame("frame", "is not an object")
    _check_versions("", raw)
    kind = raw.get("type")
    _not_blank("type", kind)
    if kind != "event" and kind not in _TYPES:
        return OtherFrame(str(kind))
    frame = _converted(lambda: from_wire(dict(raw)) if kind == "event" else msgspec.convert(raw, _TYPES[str(kind)]))
    assert not isinstance(frame, OtherFrame)
    _not_blank("session_id", frame.session_id)
    if session_id is not None:
        _same("session_id", frame.session_id, session_id)
    if not isinstance(frame.cursor, UnsetType):
        _is_cursor("cursor", frame.cursor)
    match frame:
        case Event():
            _check_event(frame, raw["data"])
        case ObservationFrame(observation=view):
            _check_view(view, frame.session_id, frame.cursor)
        case GapFrame(gap=gap, observation=view):
            _check_view(view, frame.session_id, frame.cursor)
            _check_gap(gap, frame, view)
        case GoodbyeFrame(reason=reason):
            _not_blank("reason", reason)
        case _:
            pass
    return frame


def _converted(convert: Callable[[], RemoteFrame]) -> RemoteFrame:
    try:
        return convert()
    except msgspec.ValidationError as error:
        raise InvalidFrame("frame", f"has another shape: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidFrame("frame", f"lacks a part: {error}") from None


def _check_versions(path: str, part: Mapping[str, Any]) -> None:
    """Wherever a version is named, it is this one: in the frame, and in what it brings."""
    if "protocol_version" in part and part["protocol_version"] != PROTOCOL_VERSION:
        raise InvalidFrame(f"{path}protocol_version", f"is {part['protocol_version']!r}, not {PROTOCOL_VERSION}")
    for name in ("gap", "observation", "data"):
        nested = part.get(name)
        if isinstance(nested, Mapping) and not path:
            _check_versions(f"{name}.", nested)


def _check_view(view: Observation, session_id: str, cursor: str) -> None:
    _same("observation.session_id", view.session_id, session_id)
    _same("observation.cursor", view.cursor, cursor)
    _is_number("observation.revision", view.revision)


def _check_gap(gap: Gap, frame: GapFrame, view: Observation) -> None:
    _same("gap.session_id", gap.session_id, frame.session_id)
    _not_blank("gap.requested_cursor", gap.requested_cursor)
    _same("gap.latest_cursor", gap.latest_cursor, frame.cursor)
    _is_number("gap.latest_revision", gap.latest_revision)
    _same("gap.latest_revision", gap.latest_revision, view.revision)
    _not_blank("gap.reason", gap.reason)


_LISTS = {
    "queue_changed": ("batch_id", "batch_ids", "batches"),
    "process_changed": ("process_id", "process_ids", "processes"),
    "task_changed": ("task_id", "task_ids", "tasks"),
    "request_changed": ("request_id", None, "requests"),
}
"""By kind: how an entry is named, and where the names and the entries are."""


def _check_event(event: Event, data: Mapping[str, Any]) -> None:
    _is_number("revision", event.revision)
    _not_blank("kind", event.kind)
    if not isinstance(event.turn_id, UnsetType):
        _not_blank("turn_id", event.turn_id)
        if event.kind == "committed" and "turn_id" in data:
            _same("data.turn_id", data["turn_id"], event.turn_id)
    if isinstance(event.data, TurnActivity):
        _not_blank("data.id", event.data.id)
        _not_blank("data.correlation_id", event.data.correlation_id)
    if event.kind in _LISTS:
        key, names, entries = _LISTS[event.kind]
        found = [entry.get(key) for entry in data[entries]]
        for identity in found:
            _not_blank(f"data.{entries}.{key}", identity)
        if names is not None:
            _same(f"data.{entries}", found, list(data[names]))


def _not_blank(field: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidFrame(field, "says nothing")


def _is_cursor(field: str, value: str) -> None:
    if not _CURSOR.fullmatch(value):
        raise InvalidFrame(field, "is no cursor")


def _is_number(field: str, value: int) -> None:
    if not 0 <= value <= _MAX_NUMBER:
        raise InvalidFrame(field, "is out of range")


def _same(field: str, value: object, expected: object) -> None:
    if value != expected:
        raise InvalidFrame(field, f"is {value!r}, which contradicts {expected!r}")
