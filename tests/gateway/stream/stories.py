"""What one client was told over all its connections, checked while it is told: exactly once, in order, or a gap.

Cursors are opaque to clients; a test may look inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.gateway.stream.folding import fold
from tests.gateway.stream.stage import Json

__all__ = ["Story", "position"]


def position(cursor: str) -> int:
    """Where in its session's log a cursor stands."""
    return int(cursor.split(":")[3])


def incarnation(cursor: str) -> int:
    """In which life of the log."""
    return int(cursor.split(":")[1])


@dataclass
class Story:
    """`published`: all events of the session by position from 1, where somebody has kept them."""

    published: Sequence[Json] | None = None
    cursor: str | None = None
    snapshots: list[tuple[str, Json]] = field(default_factory=list)
    since: list[Json] = field(default_factory=list)
    resumed: int = 0
    gaps: int = 0
    connections: int = 0
    goodbyes: list[str] = field(default_factory=list)
    _opened: bool = False
    _caught_up: bool = False

    def connect(self) -> None:
        self.connections += 1
        self._opened = self._caught_up = False

    def take(self, frame: Json) -> None:
        match frame["type"]:
            case "observation":
                assert not self._opened
                assert self.cursor is None
                self._begin(frame["observation"])
            case "resumed":
                assert not self._opened
                assert frame["cursor"] == self.cursor
                self.resumed += 1
            case "gap":
                assert frame["gap"]["requested_cursor"] == self.cursor
                assert frame["gap"]["latest_cursor"] == frame["cursor"]
                self.gaps += 1
                self._begin(frame["observation"])
            case "event":
                self._follow(frame)
            case "caught_up":
                assert self._opened
                assert not self._caught_up
                assert frame["cursor"] == self.cursor
                self._caught_up = True
            case "goodbye":
                assert self._opened
                assert frame["cursor"] == self.cursor
                self.goodbyes.append(frame["reason"])
            case other:
                raise AssertionError(other)
        self._opened = True
        self.cursor = frame["cursor"]

    def _follow(self, event: Json) -> None:
        assert self._opened
        assert self.cursor is not None
        place = position(self.cursor)
        assert position(event["cursor"]) == place + 1
        assert incarnation(event["cursor"]) == incarnation(self.cursor)
        if self.published is not None:
            assert event == self.published[place]
        self.since.append(event)

    def _begin(self, observation: Json) -> None:
        self.snapshots.append((observation["cursor"], observation))
        self.since = []

    def view(self) -> Json:
        """What it adds up to."""
        return fold(self.snapshots[-1][1], self.since)
