"""What one client knows of one session of the demo agent, and whether what it is told goes on from there.

Cheaper than a fold, and as strict about text: positions have no holes, the deltas of a turn are numbered from 0, and a
turn that was completed has said all that it was told to say. Snapshots are held to the same.
"""

from __future__ import annotations

import itertools
import re

import msgspec
from msgspec import Struct

__all__ = ["Follower", "Frame", "frame_of"]

_DELTA = re.compile(r"seq=(\d+) t=(\d+) ")
_TOLD = re.compile(r"stream (\d+)")


class _Said(Struct):
    content: str = ""
    role: str = ""
    status: str = "completed"


class _Live(Struct):
    text: str
    input: list[_Said]


class _Transcript(Struct):
    messages: list[_Said]
    truncated: bool


class _View(Struct):
    cursor: str
    live: _Live | None
    read_view: _Transcript


class _Gap(Struct):
    requested_cursor: str
    latest_cursor: str
    reason: str


class _Activity(Struct):
    type: str
    text: str = ""
    input: list[_Said] = []


class _Outcome(Struct):
    status: str


class _Data(Struct, frozen=True):
    event: _Activity | None = None
    outcome: _Outcome | None = None
    messages: list[_Said] = []


class _Problem(Struct):
    code: str


class Frame(Struct):
    """As much of any frame as is looked at."""

    type: str
    session_id: str = ""
    cursor: str = ""
    kind: str = ""
    data: _Data = _Data()
    observation: _View | None = None
    gap: _Gap | None = None
    reason: str = ""
    problem: _Problem | None = None


frame_of = msgspec.json.Decoder(Frame).decode


class Follower:
    """`gaps` are their reasons, `events` how many were shown."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.events = 0
        self.gaps: list[str] = []
        self.resumed = 0
        self.sent_at_ns = 0
        """When the last delta was said."""
        self._opened = False
        self._place = 0
        self._told: int | None = None
        """How many deltas the running turn was told to say, where that is known."""
        self._said = 0

    def connect(self) -> None:
        self._opened = False

    def take(self, frame: Frame) -> None:
        """Raises AssertionError when this cannot come next."""
        match frame.type:
            case "event":
                self._follow(frame)
            case "observation":
                assert not self._opened, "an observation in the middle of a stream"
                self._begin(frame)
            case "resumed":
                assert not self._opened, "resumed in the middle of a stream"
                assert frame.cursor == self.cursor, f"resumed at {frame.cursor}, not {self.cursor}"
                self.resumed += 1
            case "gap":
                assert frame.gap is not None
                assert frame.gap.requested_cursor == self.cursor, f"a gap from {frame.gap.requested_cursor}"
                assert frame.gap.latest_cursor == frame.cursor
                self.gaps.append(frame.gap.reason)
                self._begin(frame)
            case "goodbye" if frame.reason == "session_deleted" and not self._opened:
                return  # it was gone before its older messages had been read
            case "caught_up" | "goodbye":
                assert self._opened, f"{frame.type} before anything else"
                assert frame.cursor == self.cursor, f"{frame.type} at {frame.cursor}, not {self.cursor}"
            case other:
                raise AssertionError(f"a frame of type {other}")
        self._opened = True
        self.cursor = frame.cursor

    def _follow(self, frame: Frame) -> None:
        assert self._opened, "an event before anything else"
        place = _position(frame.cursor)
        assert place == self._place + 1, f"event {place} of {frame.session_id} came after {self._place}"
        self._place = place
        self.events += 1
        if frame.kind == "turn_activity":
            assert frame.data.event is not None
            self._activity(frame.data.event)
        elif frame.kind == "committed" and frame.data.outcome is not None:
            if frame.data.outcome.status == "completed":
                assert self._told in (None, self._said), f"{self._said} of {self._told} deltas came"
                _check_messages(frame.data.messages)
            self._told, self._said = None, 0

    def _activity(self, event: _Activity) -> None:
        match event.type:
            case "assistant_prose_delta":
                match_ = _DELTA.match(event.text)
                assert match_ is not None, event.text[:50]
                assert int(match_[1]) == self._said, f"delta {match_[1]} came as number {self._said}"
                self._said += 1
                self.sent_at_ns = int(match_[2])
            case "turn_started":
                self._told, self._said = _told(event.input), 0
            case "retracted":
                self._said = 0

    def _begin(self, frame: Frame) -> None:
        view = frame.observation
        assert view is not None
        assert view.cursor == frame.cursor
        self._place = _position(frame.cursor)
        self._told, self._said = None, 0
        if view.live is not None:
            self._told = _told(view.live.input)
            self._said = _count(view.live.text)
        _check_messages(view.read_view.messages)


def _position(cursor: str) -> int:
    return int(cursor.split(":", 4)[3])


def _told(messages: list[_Said]) -> int | None:
    match = _TOLD.match(messages[0].content)
    return None if match is None else int(match[1])


def _count(text: str) -> int:
    """How many deltas the text is made of: all of them from the first on."""
    numbers = [int(number) for number, _ in _DELTA.findall(text)]
    assert numbers == list(range(len(numbers))), "a text with a hole"
    return len(numbers)


def _check_messages(messages: list[_Said]) -> None:
    """Every answer is the whole of what its turn was told to say."""
    for asked, answer in itertools.pairwise(messages):
        if (asked.role, answer.role, answer.status) == ("user", "assistant", "completed"):
            told = _told([asked])
            assert told is None or _count(answer.content) == told, f"{asked.content}: {_count(answer.content)} came"
