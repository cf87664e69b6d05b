"""Which processes a worker runs: the rules of its pool.

A worker looks for processes that nobody has, and begins them while it has permits. A process holds its permit while it
is at work and gives it back while it waits, for another process, a signal or a time: a parent that awaits its child
would otherwise keep the permit its child needs. Before it goes on it takes one again, ahead of what has not begun.

| a process is | it holds a permit | what a look that finds it does |
|---|---|---|
| unknown | no | begins it, if there is a permit |
| running | yes | remembers that it was found: it is looked for again when this run has ended |
| parked | no | the same |
| resting | no | passes it by until its pause is over |

A process that runs here is found only if its lease lapsed, or if the look is older than the run. It is never begun a
second time beside the first: two attempts in one worker would fence each other.

One that could not be run because something it needs is away rests, longer each time, so that a row that nobody can run
now does not take the permits of those that can. What was found to have ended, or to be somebody else's, is forgotten.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

__all__ = ["Pool"]

_FIRST_PAUSE = 0.4
_LONGEST_PAUSE = 60.0
_MAX_RESTING = 10_000
"""So many rests are remembered; of one that is forgotten the process is tried again too soon, which is harmless."""


class _Rest(Struct):
    failures: int
    until: float


class Pool:
    """Decides who is run; it neither waits nor runs. Times are seconds of one monotonic clock."""

    def __init__(self, permits: int) -> None:
        self._permits = permits
        self._found_again: dict[str, bool] = {}
        """Of each process that runs here, parked ones among them: whether a look has found it meanwhile."""
        self._parked: set[str] = set()
        self._returning: deque[str] = deque()
        self._resting: dict[str, _Rest] = {}
        self._closed = False

    @property
    def active(self) -> int:
        """How many processes run here, those that wait among them."""
        return len(self._found_again)

    @property
    def has_room(self) -> bool:
        """Whether another process may begin. Those that want to go on come first."""
        return not self._closed and not self._returning and self._at_work < self._permits

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def _at_work(self) -> int:
        return len(self._found_again) - len(self._parked)

    def begin(self, process_id: str, now: float) -> bool:
        """Whether the process that was found is to be begun; it holds a permit then, until `ended` or `failed`."""
        if process_id in self._found_again:
            self._found_again[process_id] = True
            return False
        rest = self._resting.get(process_id)
        if not self.has_room or (rest is not None and now < rest.until):
            return False
        self._found_again[process_id] = False
        return True

    def is_parked(self, process_id: str) -> bool:
        """Whether it waits, and holds no permit."""
        return process_id in self._parked

    def park(self, process_id: str) -> None:
        """The process waits: its permit is free for others. Changes nothing for one that has ended or waits already."""
        if process_id in self._found_again:
            self._parked.add(process_id)

    def come_back(self, process_id: str) -> bool:
        """It wants to go on: true if it holds a permit, false if it has to wait until `admit` names it."""
        if process_id not in self._parked:
            return True
        if process_id not in self._returning:
            self._returning.append(process_id)
        return False

    def admit(self) -> str | None:
        """A process that holds a permit again, the one that has waited longest."""
        if not self._returning or self._at_work >= self._permits:
            return None
        process_id = self._returning.popleft()
        self._parked.discard(process_id)
        return process_id

    def resume(self, process_id: str) -> None:
        """Its wait was cut short, and it goes on at once: one more than may is at work, until another ends or waits."""
        self._parked.discard(process_id)
        if process_id in self._returning:
            self._returning.remove(process_id)

    def ended(self, process_id: str) -> bool:
        """Its run is over, and there is nothing left to do for it: whether it was found again meanwhile."""
        self._resting.pop(process_id, None)
        return self._leave(process_id)

    def failed(self, process_id: str, now: float) -> float:
        """It could not be run, or not to its end: it rests for as many seconds as are returned."""
        self._leave(process_id)
        rest = self._resting.pop(process_id, None)
        failures = 1 if rest is None else rest.failures + 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
        if len(self._resting) >= _MAX_RESTING:
            del self._resting[next(iter(self._resting))]
        self._resting[process_id] = _Rest(failures, now + pause)
        return pause

    def close(self) -> None:
        """Begin nothing more. What runs may still park, come back and end."""
        self._closed = True

    def _leave(self, process_id: str) -> bool:
        self.resume(process_id)
        return self._found_again.pop(process_id)
