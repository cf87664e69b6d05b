"""The frames of a stream: their shapes, and how each is written for a transport."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.observation.handle import Gap
from sightline.observation.model import Observation
from sightline.observation.replay import Entry
from sightline_gateway.problems import Problem

__all__ = [
    "CLOSE_CODES",
    "CaughtUp",
    "ErrorFrame",
    "Frame",
    "GapFrame",
    "Goodbye",
    "Heartbeat",
    "ObservationFrame",
    "Pong",
    "Resumed",
    "control",
    "event",
    "sse",
]

_ENCODER = msgspec.json.Encoder()

CLOSE_CODES = {
    "session_deleted": 4410,
    "slow_consumer": 4502,
    "draining": 4503,
    "rotated": 4504,
}
"""The close code that goes with each reason for a goodbye."""


class ObservationFrame(Struct, frozen=True, kw_only=True, tag="observation", tag_field="type"):
    """First frame of a fresh start."""

    session_id: str
    cursor: str
    observation: Observation


class Resumed(Struct, frozen=True, kw_only=True, tag="resumed", tag_field="type"):
    """First frame when the cursor was accepted."""

    session_id: str
    cursor: str


class GapFrame(Struct, frozen=True, kw_only=True, tag="gap", tag_field="type"):
    """Continuity could not be proved: start over from this observation."""

    session_id: str
    cursor: str
    gap: Gap
    observation: Observation


class CaughtUp(Struct, frozen=True, kw_only=True, tag="caught_up", tag_field="type"):
    """What had been missed has been shown; from here on it is live."""

    session_id: str
    cursor: str


class Goodbye(Struct, frozen=True, kw_only=True, tag="goodbye", tag_field="type"):
    """The server is about to close this stream. Come back after `retry_after_ms` plus up to `jitter_ms`, unless the code forbids it."""

    session_id: str
    cursor: str
    reason: str
    code: int
    retry_after_ms: int | UnsetType = UNSET
    jitter_ms: int | UnsetType = UNSET


class Heartbeat(Struct, frozen=True, kw_only=True, tag="heartbeat", tag_field="type"):
    session_id: str
    cursor: str


class Pong(Struct, frozen=True, kw_only=True, tag="pong", tag_field="type"):
    id: Any = UNSET


class ErrorFrame(Struct, frozen=True, kw_only=True, tag="error", tag_field="type"):
    problem: Problem
    id: Any = UNSET


class Frame:
    """A frame ready to be written: SSE's event name, the cursor after it (none: it moves nothing), the JSON, and for events the shared entry."""

    __slots__ = ("cursor", "entry", "name", "payload")

    def __init__(self, name: str, cursor: str | None, payload: bytes, entry: Entry | None = None) -> None:
        self.name = name
        self.cursor = cursor
        self.payload = payload
        self.entry = entry


Control = ObservationFrame | Resumed | GapFrame | CaughtUp | Goodbye | Heartbeat | Pong | ErrorFrame


def control(frame: Control) -> Frame:
    """A control frame, encoded."""
    cursor: str | None = getattr(frame, "cursor", None)
    return Frame(str(frame.__struct_config__.tag), cursor, _ENCODER.encode(frame))


def event(entry: Entry) -> Frame:
    """An event's frame; the JSON is the one everybody gets."""
    return Frame(entry.kind, entry.cursor, entry.payload, entry)


def sse(frame: Frame) -> bytes:
    """The frame as a server-sent event. An event is framed once and the bytes kept with its entry."""
    if frame.entry is not None:
        if frame.entry.sse is None:
            frame.entry.sse = _sse(frame)
        return frame.entry.sse
    return _sse(frame)


def _sse(frame: Frame) -> bytes:
    identity = b"" if frame.cursor is None else b"id: %b\n" % frame.cursor.encode()
    return b"event: %b\n%bdata: %b\n\n" % (frame.name.encode(), identity, frame.payload)
