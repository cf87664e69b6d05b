"""What the runner's two schedules have in common: their inputs and answers, the ladder of pauses, and the ticks.

A schedule decides which drive begins next and what becomes of it. It is told of pokes, completions, the ends of drives
and the time; it neither waits nor logs. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import takewhile
from typing import Literal, Protocol

from msgspec import Struct, field

from sightline.queue.drive import QueuedWorkRunRequest

__all__ = ["Demand", "Drive", "Overdue", "Schedule", "Ticks", "Verdict", "pause_after", "take_overdue"]

_FIRST_PAUSE = 0.025
_MAX_PAUSE = 1.0
_MAX_REASONS = 16
"""Reasons are for logs; a demand that waits for hours must not collect them for hours."""
_SLOW_DRIVE = 30.0
_DUE_SPACING = 0.005


class Demand(Struct):
    """That a drive is wanted, and why. Any number of pokes makes one demand."""

    reasons: list[str]
    trace_idle: bool

    def add(self, reason: str, trace_idle: bool) -> None:
        if reason not in self.reasons and len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)
        self.trace_idle = self.trace_idle or trace_idle

    def request(self, session_id: str | None) -> QueuedWorkRunRequest:
        return QueuedWorkRunRequest(session_id, ",".join(self.reasons), self.trace_idle)


class Drive(Struct, eq=False):
    """One call of the host, under way. `completed`: sessions that were completed before the host had answered."""

    session_id: str | None
    demand: Demand
    began_at: float
    completed: set[str] = field(default_factory=set)
    is_slow: bool = False


class Verdict(Struct, frozen=True):
    """What becomes of a demand whose drive failed for the `attempt`th time.

    `again` after `pause` seconds; `exhausted` and `terminal`: not before the next notification; `left`: to the next
    poke or poll.
    """

    kind: Literal["again", "exhausted", "terminal", "left"]
    attempt: int = 1
    pause: float = 0.0


class Overdue(Struct, frozen=True):
    """What a tick found: drives that have been slow for the first time, and sessions whose completion never came."""

    slow: tuple[Drive, ...] = ()
    lost: tuple[str, ...] = ()


class Schedule(Protocol):
    """Each drive `take` hands out is given back once: to `idle`, `submitted`, `contended`, `failed` or `dropped`."""

    ticks: Ticks

    @property
    def active(self) -> int:
        """Drives under way, and submitted sessions that are not completed."""
        ...

    @property
    def waiting(self) -> int:
        """How many drives would begin if they might."""
        ...

    @property
    def wake_at(self) -> float:
        """When `tick` is to be called next; infinity when nothing depends on time."""
        ...

    def start(self, now: float) -> None:
        """Look for work that was there before; before anything that was asked for meanwhile."""
        ...

    def poke(self, session_id: str | None, reason: str) -> None: ...

    def complete(self, session_id: str, reason: str) -> None:
        """The session's submitted run has ended: it is free, and looked at again."""
        ...

    def take(self, now: float) -> Drive | None:
        """The drive that begins now. None: nothing is wanted, or nothing may begin."""
        ...

    def idle(self, drive: Drive, now: float) -> None: ...

    def submitted(self, drive: Drive, session_id: str, now: float) -> None: ...

    def contended(self, drive: Drive, now: float) -> float | None:
        """Another owner has the work. Returns for how many seconds it has been so, when that is worth a warning."""
        ...

    def failed(self, drive: Drive, now: float, *, terminal: bool) -> Verdict: ...

    def dropped(self, drive: Drive, now: float) -> None:
        """The drive was taken away from outside. It is not repeated; what was asked for meanwhile is."""
        ...

    def leave(self, session_id: str) -> None:
        """The session's drive goes on without counting against the bound, and waits for `admit` no more."""
        ...

    def come_back(self, session_id: str) -> bool:
        """It wants to count again: true if it does, false if it has to wait until `admit` names it."""
        ...

    def admit(self) -> str | None:
        """A session whose drive counts again from now on."""
        ...

    def insist(self, session_id: str) -> None:
        """It counts again, within the bound or not."""
        ...

    def tick(self, now: float) -> Overdue:
        """Do what has come due."""
        ...

    def close(self) -> None:
        """Begin nothing more and forget what waits. Drives under way and completions are still told."""
        ...

    def forget(self) -> None:
        """Wait for no completion any more."""
        ...


def pause_after(failures: int) -> float:
    """How long to wait after so many failures in a row: 25 ms, doubling to a second."""
    return min(_MAX_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 16))


def take_overdue(drives: Iterable[Drive], in_flight: dict[str, float], now: float) -> Overdue:
    """Mark drives that have become slow; take out sessions whose deadline has passed. Both in the order they began."""
    old = takewhile(lambda drive: drive.began_at + _SLOW_DRIVE <= now, drives)
    slow = tuple(drive for drive in old if not drive.is_slow)
    lost = tuple(takewhile(lambda session_id: in_flight[session_id] <= now, in_flight))
    for drive in slow:
        drive.is_slow = True
    for session_id in lost:
        del in_flight[session_id]
    return Overdue(slow, lost)


class Ticks:
    """When to look for what no poke told of: at every interval, and when delayed work comes due.

    A tick that comes late delays those after it. Of the due times it hears of it keeps the earliest. A due time that
    has passed is good for one look; if that look finds it still there, the work is not to be had for some other reason,
    and the next poll is soon enough.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._poll_at = math.inf
        self._due_at = math.inf
        self._due_ms = 0
        self._looked_at = -math.inf
        self._looked_for_ms = -1

    @property
    def next_at(self) -> float:
        return min(self._poll_at, self._due_at)

    def begin(self, now: float) -> None:
        """The next tick is now."""
        self._poll_at = now

    def delay(self, now: float) -> None:
        """The next tick is an interval from now."""
        self._poll_at = now + self._interval

    def learn(self, due_at_ms: int, now_ms: int, now: float) -> None:
        """Work comes due at that time."""
        if due_at_ms <= now_ms and due_at_ms <= self._looked_for_ms:
            return
        due_at = max(now + (due_at_ms - now_ms) / 1000, self._looked_at + _DUE_SPACING)
        if due_at < self._due_at:
            self._due_at, self._due_ms = due_at, due_at_ms

    def take(self, now: float) -> Literal["poll", "due"] | None:
        """What it is time for. The next poll is an interval away then."""
        is_due = self._due_at <= now
        if not is_due and self._poll_at > now:
            return None
        self.delay(now)
        if not is_due:
            return "poll"
        self._looked_for_ms = max(self._looked_for_ms, self._due_ms)
        self._looked_at, self._due_at = now, math.inf
        return "due"
