"""The frames of a stream: their shapes, and how each is written for a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.observation.model import Observation
from sightline.observation.opening import Gap
from sightline.observation.replay import Entry
from sightline.session.model import SessionEntry
from sightline_gateway.lines import rfc6455
from sightline_gateway.lines.deflate import FULL_WINDOW, SMALLEST_WINDOW
from sightline_gateway.problems import Problem

__all__ = [
    "CLOSE_CODES",
    "CaughtUp",
    "Comment",
    "ErrorFrame",
    "Frame",
    "GapFrame",
    "Goodbye",
    "Heartbeat",
    "IndexChanged",
    "IndexFrame",
    "ObservationFrame",
    "Pong",
    "Resumed",
    "Run",
    "as_message",
    "as_server_sent",
    "as_text",
    "as_unidentified",
    "chunk",
    "compressed_messages",
    "control",
    "event",
    "http_chunk",
    "messages",
    "narrowly_compressed_messages",
    "pieces",
    "singly",
    "unidentified_chunk",
]

_ENCODER = msgspec.json.Encoder()
_WORTH_COMPRESSING = 256

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
    observation: Observation | msgspec.Raw


class Resumed(Struct, frozen=True, kw_only=True, tag="resumed", tag_field="type"):
    """First frame when the cursor was accepted."""

    session_id: str
    cursor: str


class GapFrame(Struct, frozen=True, kw_only=True, tag="gap", tag_field="type"):
    """Continuity could not be proved: start over from this observation."""

    session_id: str
    cursor: str
    gap: Gap
    observation: Observation | msgspec.Raw


class CaughtUp(Struct, frozen=True, kw_only=True, tag="caught_up", tag_field="type"):
    """What had been missed has been shown; from here on it is live."""

    session_id: str
    cursor: str


class Goodbye(Struct, frozen=True, kw_only=True, tag="goodbye", tag_field="type"):
    """The server is about to close this stream.

    Come back after `retry_after_ms` plus up to `jitter_ms`, unless the code forbids it. On a stream of several sessions
    each of them gets its own; a stream without any gets one that names none.
    """

    session_id: str | UnsetType = UNSET
    cursor: str | UnsetType = UNSET
    reason: str
    code: int
    retry_after_ms: int | UnsetType = UNSET
    jitter_ms: int | UnsetType = UNSET


class Heartbeat(Struct, frozen=True, kw_only=True, tag="heartbeat", tag_field="type"):
    """Nothing happened for as long as was asked; names no session on a stream of several."""

    session_id: str | UnsetType = UNSET
    cursor: str | UnsetType = UNSET


class Pong(Struct, frozen=True, kw_only=True, tag="pong", tag_field="type"):
    id: Any = UNSET


class ErrorFrame(Struct, frozen=True, kw_only=True, tag="error", tag_field="type"):
    """What a client asked for is refused. `id`, and on a stream of several sessions `session_id`, are those it gave."""

    session_id: str | UnsetType = UNSET
    problem: Problem
    id: Any = UNSET


class IndexFrame(Struct, frozen=True, kw_only=True, tag="index", tag_field="type"):
    """The list of sessions, newest activity first; replaces whatever of it was there."""

    session_id: str
    sessions: tuple[SessionEntry, ...]


class IndexChanged(Struct, frozen=True, kw_only=True, tag="index_changed", tag_field="type"):
    """One line of the list is this now, or is gone."""

    session_id: str
    session: SessionEntry | UnsetType = UNSET
    removed: str | UnsetType = UNSET


class Frame:
    """A frame ready to be written: its name, whose it is, the cursor after it (none: it moves nothing), its JSON.

    What a transport makes of it is made once, by whoever needs it first: the frame of an event is the same object for
    everybody.
    """

    __slots__ = ("compressed", "cursor", "is_event", "message", "name", "payload", "server_sent", "session_id", "text")

    def __init__(
        self, name: str, session_id: str, cursor: str | None, payload: bytes, *, is_event: bool = False
    ) -> None:
        self.name = name
        self.session_id = session_id
        self.cursor = cursor
        self.payload = payload
        self.is_event = is_event
        self.text: str | None = None
        self.message: bytes | None = None
        self.compressed: dict[int, bytes] | None = None
        self.server_sent: bytes | None = None


class Run(Frame):
    """Events in a row that many may have missed, as one piece: what a transport makes of it is made once, too."""

    __slots__ = ("chunk", "frames")

    def __init__(self, frames: Sequence[Frame]) -> None:
        last = frames[-1]
        super().__init__(last.name, last.session_id, last.cursor, b"", is_event=True)
        self.frames = frames
        self.chunk: bytes | None = None


class Comment(Frame):
    """What keeps proxies from closing a quiet stream of server-sent events; no frame to anybody."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", "", None, b"")
        self.server_sent = b": keep-alive\n\n"


def pieces(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """What to write at once, in order: each run by itself, so that its bytes need not be copied."""
    cut: list[Sequence[Frame]] = []
    begin = 0
    for place, frame in enumerate(frames):
        if isinstance(frame, Run):
            cut += [part for part in (frames[begin:place], frames[place : place + 1]) if part]
            begin = place + 1
    return [*cut, frames[begin:]] if begin < len(frames) else cut


def singly(frames: Sequence[Frame]) -> list[Frame]:
    """The frames with each run as its parts."""
    return [part for frame in frames for part in (frame.frames if isinstance(frame, Run) else (frame,))]


def as_text(frame: Frame) -> str:
    """As a WebSocket's message, for a server that frames it itself."""
    if frame.text is None:
        frame.text = frame.payload.decode()
    return frame.text


def as_message(frame: Frame) -> bytes:
    """As a WebSocket's message, framed."""
    if frame.message is None:
        frame.message = messages(frame.frames) if isinstance(frame, Run) else rfc6455.frame(rfc6455.TEXT, frame.payload)
    return frame.message


def as_server_sent(frame: Frame) -> bytes:
    """As a server-sent event."""
    if isinstance(frame, Run):
        frame.server_sent = frame.server_sent or b"".join([as_server_sent(part) for part in frame.frames])
        return frame.server_sent
    if frame.server_sent is None:
        identity = b"" if frame.cursor is None else b"id: %b\n" % frame.cursor.encode()
        frame.server_sent = b"event: %b\n%bdata: %b\n\n" % (frame.name.encode(), identity, frame.payload)
    return frame.server_sent


def as_unidentified(frame: Frame) -> bytes:
    """As a server-sent event without an id, for a stream of several sessions."""
    if isinstance(frame, Run):
        return b"".join([as_unidentified(part) for part in frame.frames])
    if frame.cursor is None:
        return as_server_sent(frame)
    return b"event: %b\ndata: %b\n\n" % (frame.name.encode(), frame.payload)


def messages(frames: Sequence[Frame]) -> bytes:
    """As WebSocket messages in a row."""
    return b"".join([frame.message or as_message(frame) for frame in frames])


def compressed_messages(frames: Sequence[Frame]) -> bytes:
    """As WebSocket messages in a row, for clients that agreed to a full window; what is short stays as it is."""
    return b"".join([as_compressed(frame, FULL_WINDOW) for frame in frames])


def narrowly_compressed_messages(frames: Sequence[Frame]) -> bytes:
    """The same for clients that agreed to less than that, whatever it is."""
    return b"".join([as_compressed(frame, SMALLEST_WINDOW) for frame in frames])


def as_compressed(frame: Frame, window: int) -> bytes:
    """As a WebSocket's message, framed, and compressed where that is worth it."""
    if frame.compressed is None:
        frame.compressed = {}
    known = frame.compressed.get(window)
    if known is None:
        if isinstance(frame, Run):
            known = b"".join([as_compressed(part, window) for part in frame.frames])
        elif len(frame.payload) < _WORTH_COMPRESSING:
            known = as_message(frame)
        else:
            known = rfc6455.deflated(frame.payload, window=window)
        frame.compressed[window] = known
    return known


def chunk(frames: Sequence[Frame]) -> bytes:
    """As server-sent events in one chunk of an HTTP response."""
    if len(frames) == 1 and isinstance(frames[0], Run):
        run = frames[0]
        run.chunk = run.chunk or http_chunk(as_server_sent(run))
        return run.chunk
    return http_chunk(b"".join([frame.server_sent or as_server_sent(frame) for frame in frames]))


def unidentified_chunk(frames: Sequence[Frame]) -> bytes:
    """As server-sent events without ids, in one chunk of an HTTP response."""
    return http_chunk(b"".join([as_unidentified(frame) for frame in frames]))


def http_chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


Control = (
    ObservationFrame
    | Resumed
    | GapFrame
    | CaughtUp
    | Goodbye
    | Heartbeat
    | Pong
    | ErrorFrame
    | IndexFrame
    | IndexChanged
)


def control(frame: Control) -> Frame:
    """A control frame, encoded."""
    session_id = getattr(frame, "session_id", UNSET)
    cursor = getattr(frame, "cursor", UNSET)
    return Frame(
        str(frame.__struct_config__.tag),
        "" if session_id is UNSET else session_id,
        None if cursor is UNSET else cursor,
        _ENCODER.encode(frame),
    )


def event(entry: Entry, session_id: str) -> Frame:
    """An event's frame; its name is the event's kind."""
    frame: Frame | None = entry.framed
    if frame is None:
        frame = entry.framed = Frame(entry.kind, session_id, entry.cursor, entry.payload, is_event=True)
    return frame
