"""The schedule of the kernel's runner: each session on its own, within a number of permits.

A *key* is a session, or none for the look at whatever there is. A key is wanted by *demands* and is in one place:

* *pending*: in line for a permit. Whatever is asked of it merges into its demand.
* *running*, *in flight* (submitted and not completed) or *resting* (until its next try). Whatever is asked of it merges
  into its one *rerun* slot, which goes to the back of the line afterwards: a busy session does not starve the others.
* nowhere: nothing is kept of it.

A drive and a session in flight hold a permit each, who rests holds none. A drive may leave for a while, when it waits
for something outside, and holds none meanwhile; when it comes back it gets the next one, before any that is to begin,
or one above their number if it insists.

A drive that fails rests: 25 ms, doubling to a second, and its eighth failure in a row is the last until somebody asks
again. A contended one rests by the same ladder for as long as it takes, which costs it nothing of its eight tries. Rest
is never shortened, or a storm of pokes would be a storm of tries. Success forgets all troubles.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from typing import TypeAlias

from msgspec import Struct

from sightline.queue.schedule import Demand, Drive, Overdue, Ticks, Verdict, pause_after, take_overdue

__all__ = ["FairSchedule"]

_Key: TypeAlias = str | None

_MAX_FAILURES = 8
_CONTENDED_HEARTBEAT = 30.0


class _Trouble(Struct):
    failures: int = 0
    contentions: int = 0
    contended_since: float = 0.0
    warned_at: float = 0.0


class FairSchedule:
    """See `Schedule`."""

    def __init__(self, ticks: Ticks, *, permits: int, completion_timeout: float) -> None:
        self.ticks = ticks
        self._permits = permits
        self._completion_timeout = completion_timeout
        # The line is taken from its front, and a session that gets in flight leaves it from anywhere.
        self._pending: OrderedDict[_Key, Demand] = OrderedDict()
        self._running: dict[_Key, Drive] = {}
        self._in_flight: dict[str, float] = {}
        self._resting: set[_Key] = set()
        self._rests: list[tuple[float, int, _Key]] = []
        self._rest_count = 0
        self._away: set[_Key] = set()
        self._returning: dict[str, None] = {}
        self._rerun: dict[_Key, Demand] = {}
        self._troubles: dict[_Key, _Trouble] = {}
        self._closed = False

    @property
    def active(self) -> int:
        return len(self._running) + len(self._in_flight)

    @property
    def waiting(self) -> int:
        return len(self._pending)

    @property
    def wake_at(self) -> float:
        if self._closed:
            return self.ticks.next_at if self.active else math.inf
        return min(self.ticks.next_at, self._rests[0][0]) if self._rests else self.ticks.next_at

    # What is asked for

    def start(self, now: float) -> None:
        self.ticks.delay(now)
        self._ask(None, "startup", trace_idle=False)
        self._pending.move_to_end(None, last=False)

    def poke(self, session_id: str | None, reason: str) -> None:
        self._ask(session_id, reason, trace_idle=True)

    def complete(self, session_id: str, reason: str) -> None:
        if self._in_flight.pop(session_id, None) is None:
            self._completed_early(session_id)
        self._line_up(session_id)
        self._ask(session_id, reason, trace_idle=False)

    def _completed_early(self, session_id: str) -> None:
        """Whoever may still answer that it submitted the session has seen it completed already."""
        if session_id in self._running:
            # Also the others might, but a long drive would then collect the name of every session that ends beside it.
            drives = [drive for key in (session_id, None) if (drive := self._running.get(key)) is not None]
        else:
            drives = list(self._running.values())
        for drive in drives:
            drive.completed.add(session_id)

    def _ask(self, key: _Key, reason: str, *, trace_idle: bool) -> None:
        if self._closed:
            return
        place = self._rerun if self._is_busy(key) else self._pending
        demand = place.get(key)
        if demand is None:
            place[key] = Demand([reason], trace_idle)
        else:
            demand.add(reason, trace_idle)

    def _is_busy(self, key: _Key) -> bool:
        return key in self._running or key in self._in_flight or key in self._resting

    def _line_up(self, key: _Key) -> None:
        """Put what waits for a key at the back of the line, if the key has become free."""
        if key in self._rerun and not self._is_busy(key):
            self._pending[key] = self._rerun.pop(key)

    # What is driven

    def take(self, now: float) -> Drive | None:
        if not self._pending or not self._has_permit:
            return None
        key, demand = self._pending.popitem(last=False)
        drive = self._running[key] = Drive(key, demand, now)
        return drive

    @property
    def _has_permit(self) -> bool:
        return self.active - len(self._away) < self._permits

    def leave(self, session_id: str) -> None:
        if session_id in self._running:
            self._away.add(session_id)
            self._returning.pop(session_id, None)

    def come_back(self, session_id: str) -> bool:
        if session_id not in self._away:
            return True
        if session_id not in self._returning:
            self._returning[session_id] = None
        return False

    def admit(self) -> str | None:
        if not self._returning or not self._has_permit:
            return None
        session_id = next(iter(self._returning))
        self._stay(session_id)
        return session_id

    def insist(self, session_id: str) -> None:
        self._stay(session_id)

    def _stay(self, session_id: _Key) -> None:
        """It is not away any more."""
        self._away.discard(session_id)
        if session_id is not None:
            self._returning.pop(session_id, None)

    def idle(self, drive: Drive, now: float) -> None:
        self._troubles.pop(drive.session_id, None)
        self._end(drive)

    def submitted(self, drive: Drive, session_id: str, now: float) -> None:
        is_progress = session_id in drive.completed or session_id not in self._in_flight
        if session_id not in drive.completed:
            self._in_flight.pop(session_id, None)  # in flight anew: the deadlines stay in order
            self._in_flight[session_id] = now + self._completion_timeout
            waiting = self._pending.pop(session_id, None)
            if waiting is not None:
                self._rerun[session_id] = waiting
        self._troubles.pop(drive.session_id, None)
        self._troubles.pop(session_id, None)
        if drive.session_id is None and is_progress:
            # The host has found one session; there may be more, and the next poll would find one of them.
            for reason in drive.demand.reasons:
                self._ask(None, reason, trace_idle=False)
        self._end(drive)

    def contended(self, drive: Drive, now: float) -> float | None:
        if self._closed:
            self._end(drive)
            return None
        trouble = self._troubles.setdefault(drive.session_id, _Trouble())
        if not trouble.contentions:
            trouble.contended_since = trouble.warned_at = now
        trouble.contentions += 1
        self._rest(drive, now + pause_after(trouble.contentions))
        if now - trouble.warned_at < _CONTENDED_HEARTBEAT:
            return None
        trouble.warned_at = now
        return now - trouble.contended_since

    def failed(self, drive: Drive, now: float, *, terminal: bool) -> Verdict:
        trouble = self._troubles.pop(drive.session_id, None) or _Trouble()
        attempt = trouble.failures = trouble.failures + 1
        if terminal or self._closed or attempt == _MAX_FAILURES:
            self._end(drive)
            return Verdict("terminal" if terminal else "left" if self._closed else "exhausted", attempt)
        self._troubles[drive.session_id] = trouble
        pause = pause_after(attempt)
        self._rest(drive, now + pause)
        return Verdict("again", attempt, pause)

    def dropped(self, drive: Drive, now: float) -> None:
        self._troubles.pop(drive.session_id, None)
        self._end(drive)

    def _end(self, drive: Drive) -> None:
        self._stay(drive.session_id)
        del self._running[drive.session_id]
        self._line_up(drive.session_id)

    def _rest(self, drive: Drive, until: float) -> None:
        key, demand = drive.session_id, drive.demand
        self._stay(key)
        del self._running[key]
        waiting = self._rerun.get(key)
        if waiting is not None:
            for reason in waiting.reasons:
                demand.add(reason, waiting.trace_idle)
        self._rerun[key] = demand
        self._resting.add(key)
        self._rest_count += 1
        heapq.heappush(self._rests, (until, self._rest_count, key))

    # What time brings

    def tick(self, now: float) -> Overdue:
        while self._rests and self._rests[0][0] <= now:
            _, _, key = heapq.heappop(self._rests)
            self._resting.discard(key)
            self._line_up(key)
        reason = self.ticks.take(now)
        if reason is None:
            return Overdue()
        overdue = take_overdue(self._running.values(), self._in_flight, now)
        for session_id in overdue.lost:
            self._line_up(session_id)
            self._ask(session_id, "completion timed out", trace_idle=False)
        # A look that is in line or under way is the poll. What has just come due it may have missed.
        if reason == "due" or not (None in self._pending or self._is_busy(None)):
            self._ask(None, reason, trace_idle=False)
        return overdue

    def close(self) -> None:
        self._closed = True
        self._pending.clear()
        self._rerun.clear()
        self._rests.clear()
        self._resting.clear()
        self._troubles.clear()

    def forget(self) -> None:
        self._in_flight.clear()
