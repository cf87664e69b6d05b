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
    """The server is about to close this stream.

    Come back after `retry_after_ms` plus up to `jitter_ms`, unless the code forbids it.
    """

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
    """A frame ready to be written: its name, the cursor after it (none: it moves nothing), its JSON.

    `text` and `sse` are made once, by whoever needs them first: the frame of an event is the same object for everybody.
    """

    __slots__ = ("_sse", "_text", "cursor", "is_event", "name", "payload")

    def __init__(self, name: str, cursor: str | None, payload: bytes, *, is_event: bool = False) -> None:
        self.name = name
        self.cursor = cursor
        self.payload = payload
        self.is_event = is_event
        self._sse: bytes | None = None
        self._text: str | None = None

    @property
    def text(self) -> str:
        """As a WebSocket's message."""
        if self._text is None:
            self._text = self.payload.decode()
        return self._text

    @property
    def sse(self) -> bytes:
        """As a server-sent event."""
        if self._sse is None:
            identity = b"" if self.cursor is None else b"id: %b\n" % self.cursor.encode()
            self._sse = b"event: %b\n%bdata: %b\n\n" % (self.name.encode(), identity, self.payload)
        return self._sse


Control = ObservationFrame | Resumed | GapFrame | CaughtUp | Goodbye | Heartbeat | Pong | ErrorFrame


def control(frame: Control) -> Frame:
    """A control frame, encoded."""
    cursor: str | None = getattr(frame, "cursor", None)
    return Frame(str(frame.__struct_config__.tag), cursor, _ENCODER.encode(frame))


def event(entry: Entry) -> Frame:
    """An event's frame; its name is the event's kind."""
    frame: Frame | None = entry.framed
    if frame is None:
        frame = entry.framed = Frame(entry.kind, entry.cursor, entry.payload, is_event=True)
    return frame
