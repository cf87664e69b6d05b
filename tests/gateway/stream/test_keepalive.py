"""The wheel: who is visited when, on a loop whose time is the test's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from sightline_gateway.lines.keepalive import KeepAlive

ROUND = 20.0


class Loop:
    """Calls later what it is asked to, when time is moved on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> object:
        self.timers.append((self.now + seconds, call))
        return object()

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and min(self.timers)[0] <= end:
            self.timers.sort(key=lambda timer: timer[0])
            self.now, call = self.timers.pop(0)
            call()
        self.now = end


class Connection:
    def __init__(self, loop: Loop) -> None:
        self.place = -1
        self.visits: list[float] = []
        self._loop = loop

    def visit(self) -> None:
        self.visits.append(self._loop.now)


def started() -> tuple[Loop, KeepAlive]:
    loop = Loop()
    return loop, KeepAlive(cast("asyncio.AbstractEventLoop", loop), ROUND)


def test_ten_thousand_connections_are_visited_once_in_a_round_a_few_at_a_time_by_one_timer() -> None:
    loop, keepalive = started()
    connections = [Connection(loop) for _ in range(10_000)]
    for connection in connections:
        keepalive.add(connection)
    assert len(loop.timers) == 1
    loop.run_for(3 * ROUND + 0.1)
    assert len(loop.timers) == 1
    for connection in connections:
        first, second, third = connection.visits
        assert 0 < first <= ROUND + 0.001
        assert abs(second - first - ROUND) < 0.001
        assert abs(third - second - ROUND) < 0.001
    at_once = Counter(connection.visits[0] for connection in connections)
    assert max(at_once.values()) == 10_000 // 80


def test_nobody_is_visited_at_once() -> None:
    loop, keepalive = started()
    for _ in range(200):
        connection = Connection(loop)
        keepalive.add(connection)
        loop.run_for(0)
        assert connection.visits == []
        loop.run_for(0.1)


def test_who_left_is_not_visited_and_without_anybody_there_is_no_timer() -> None:
    loop, keepalive = started()
    first, second = Connection(loop), Connection(loop)
    keepalive.add(first)
    keepalive.add(second)
    keepalive.discard(first)
    keepalive.discard(first)
    loop.run_for(ROUND + 0.1)
    assert (len(first.visits), len(second.visits)) == (0, 1)
    keepalive.discard(second)
    loop.run_for(ROUND)
    assert loop.timers == []
    keepalive.add(first)
    loop.run_for(ROUND + 0.1)
    assert len(first.visits) == 1


def test_a_visit_may_end_connections() -> None:
    loop, keepalive = started()
    connections = [Connection(loop) for _ in range(400)]

    def end_all(connection: Any) -> None:
        for each in connections:
            keepalive.discard(each)

    for connection in connections:
        connection.visit = lambda connection=connection: end_all(connection)  # type: ignore[method-assign,misc]
        keepalive.add(connection)
    loop.run_for(2 * ROUND)
    assert loop.timers == []
