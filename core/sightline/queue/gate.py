"""The schedule with the global gate: one call of the host at a time, and none for nobody while a session is in flight.

What arrives waits in one line and is taken in order:

| command | does |
|---|---|
| startup | asks for nobody; the first tick follows at once |
| poke | asks for its session, or for nobody |
| complete | takes the session out of flight, then asks for it |
| tick | asks for nobody |

To ask for a session that is in flight, or for nobody while any session is, does nothing, and nothing remembers it: the
session's completion or a later poll will. That is simple, and a long run of one session keeps the poll from all others;
`FairSchedule` does not.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from msgspec import Struct

from sightline.queue.schedule import Demand, Drive, Overdue, Ticks, Verdict, take_overdue

__all__ = ["GatedSchedule"]


class _Command(Struct, frozen=True):
    kind: Literal["startup", "poke", "complete", "tick", "lost"]
    session_id: str | None
    reason: str


class GatedSchedule:
    """See `Schedule`."""

    def __init__(self, ticks: Ticks, *, completion_timeout: float) -> None:
        self.ticks = ticks
        self._completion_timeout = completion_timeout
        self._line: deque[_Command] = deque()
        self._in_flight: dict[str, float] = {}
        self._drive: Drive | None = None
        self._tick_waits = False
        self._starting = False
        self._closed = False

    @property
    def active(self) -> int:
        return len(self._in_flight) + (self._drive is not None)

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def wake_at(self) -> float:
        return math.inf if self._closed and not self.active else self.ticks.next_at

    def start(self, now: float) -> None:
        self.ticks.delay(now)
        self._line.appendleft(_Command("startup", None, "startup"))

    def poke(self, session_id: str | None, reason: str) -> None:
        if not self._closed:
            self._line.append(_Command("poke", session_id, reason))

    def complete(self, session_id: str, reason: str) -> None:
        if self._closed:
            self._release(session_id)
        else:
            self._line.append(_Command("complete", session_id, reason))

    def take(self, now: float) -> Drive | None:
        while self._line and self._drive is None:
            command = self._line.popleft()
            session_id = command.session_id
            if command.kind == "complete" and session_id is not None:
                self._in_flight.pop(session_id, None)
            elif command.kind == "tick":
                self._tick_waits = False
                self.ticks.delay(now)
            if self._is_shut(session_id):
                continue
            self._starting = command.kind == "startup"
            self._drive = Drive(session_id, Demand([command.reason], command.kind == "poke"), now)
            return self._drive
        return None

    def _is_shut(self, session_id: str | None) -> bool:
        return bool(self._in_flight) if session_id is None else session_id in self._in_flight

    def idle(self, drive: Drive, now: float) -> None:
        self._end(now)

    def submitted(self, drive: Drive, session_id: str, now: float) -> None:
        if session_id not in drive.completed:
            self._in_flight.pop(session_id, None)  # in flight anew: the deadlines stay in order
            self._in_flight[session_id] = now + self._completion_timeout
        self._end(now)

    def contended(self, drive: Drive, now: float) -> float | None:
        self._end(now)
        return None

    def failed(self, drive: Drive, now: float, *, terminal: bool) -> Verdict:
        self._end(now)
        return Verdict("left")

    def dropped(self, drive: Drive, now: float) -> None:
        self._end(now)

    def leave(self, session_id: str) -> None:
        """There is no bound but the gate, which a drive has to itself."""

    def come_back(self, session_id: str) -> bool:
        return True

    def admit(self) -> str | None:
        return None

    def insist(self, session_id: str) -> None:
        pass

    def _end(self, now: float) -> None:
        self._drive = None
        if self._starting:
            self._starting = False
            self.ticks.begin(now)

    def tick(self, now: float) -> Overdue:
        reason = self.ticks.take(now)
        if reason is None:
            return Overdue()
        overdue = take_overdue(() if self._drive is None else (self._drive,), self._in_flight, now)
        if not self._closed:
            self._line.extend(_Command("lost", session_id, "completion timed out") for session_id in overdue.lost)
            if not self._tick_waits:
                self._tick_waits = True
                self._line.append(_Command("tick", None, reason))
        return overdue

    def close(self) -> None:
        self._closed = True
        for command in self._line:
            if command.kind == "complete" and command.session_id is not None:
                self._release(command.session_id)
        self._line.clear()

    def _release(self, session_id: str) -> None:
        """What its completion does to a session when nothing is asked any more."""
        if self._in_flight.pop(session_id, None) is None and self._drive is not None:
            self._drive.completed.add(session_id)

    def forget(self) -> None:
        self._in_flight.clear()
