"""When a wake is tried: the rules of the outbox.

A wake is put into the queue of its target in a transaction that takes it out of the outbox, so it gets there once
however often it is tried. Of one process the wakes for one session get there in the order in which they were asked for:
while the first of them waits for its next try, those behind it wait with it. Other processes and other sessions do not.

A try that fails, because the queue is full or the store is away, is repeated after a pause that doubles from 25 ms to
5 minutes. A session that is gone is no failure: its wakes are discarded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct

from sightline.process.model import PendingWake

__all__ = ["Outbox"]

_FIRST_PAUSE = 0.025
_LONGEST_PAUSE = 300.0

Group = tuple[str, str]
"""A session and a process: what is kept in order."""


class _Pause(Struct):
    failures: int
    until: float


class Outbox:
    """Decides what is tried; it neither waits nor delivers. Times are seconds of one monotonic clock.

    A look at the outbox goes through all of it, page by page, between `begin` and `end`.
    """

    def __init__(self) -> None:
        self._pauses: dict[Group, _Pause] = {}
        self._seen: set[Group] = set()
        self._passed_by: set[Group] = set()
        """What is not tried in this look, though its time may come before the next page: it would lose its order."""

    def begin(self) -> None:
        self._seen.clear()
        self._passed_by.clear()

    def to_try(self, page: Iterable[PendingWake], now: float) -> tuple[tuple[PendingWake, ...], ...]:
        """What is to be tried of these, which are in order: groups that do not wait for each other, each in order."""
        groups: dict[Group, list[PendingWake]] = {}
        for entry in page:
            group = _group(entry)
            self._seen.add(group)
            pause = self._pauses.get(group)
            if pause is not None and pause.until > now:
                self._passed_by.add(group)
            if group not in self._passed_by:
                groups.setdefault(group, []).append(entry)
        return tuple(map(tuple, groups.values()))

    def settled(self, entry: PendingWake) -> None:
        """It is in its queue, or was discarded."""
        self._pauses.pop(_group(entry), None)

    def failed(self, entry: PendingWake, now: float) -> float:
        """It could not be delivered: it and those behind it are tried after as many seconds as are returned."""
        group = _group(entry)
        self._passed_by.add(group)
        pause = self._pauses.setdefault(group, _Pause(0, now))
        pause.failures += 1
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(pause.failures - 1, 16))
        pause.until = now + seconds
        return seconds

    def end(self) -> None:
        """The look has seen all there is: what failed once and is not there any more was settled elsewhere."""
        self._pauses = {group: pause for group, pause in self._pauses.items() if group in self._seen}

    def next_at(self) -> float:
        """When something that failed is to be tried next; infinity when nothing waits for that."""
        return min((pause.until for pause in self._pauses.values()), default=math.inf)


def _group(entry: PendingWake) -> Group:
    return entry.wake.target_session_id, entry.wake.process_id
