"""What a live log promises when many publish at once and others begin to watch in between.

A publication is two steps, and whatever lies between a reservation and its filling is somebody else's chance to come
in. The orders are drawn from seeds, so that a failing one is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sightline.observation.replay import LiveReplayStore, ReplaySubscription, Reservation
from sightline.testing.clock import ManualClock
from sightline.testing.conformance.logs import INCARNATION, MakeLog, at, fill, payloads, reserve

_APPENDERS = 64
_SEEDS = 24


def of_sixty_four_who_publish_at_once_everybody_who_watches_sees_each_event_once(make: MakeLog) -> None:
    for seed in range(_SEEDS):
        log, draw = make(ManualClock(), INCARNATION), _numbers(seed)
        seen: list[tuple[int, ReplaySubscription, list[int]]] = []
        for _ in _steps(log, draw, lost=0):
            if draw(4) == 0:
                begin = draw(log.current_cursor("s", 0).position + 1)
                seen.append((begin, _watch(log, begin), []))
            for _, watcher, positions in seen:
                if draw(3) == 0:
                    positions += _taken(watcher, draw(40))
        assert log.current_cursor("s", 0).position == _APPENDERS
        for begin, watcher, positions in seen:
            while taken := _taken(watcher, 1_000):
                positions += taken
            assert positions == list(range(begin + 1, _APPENDERS + 1)), f"seed {seed}: from {begin}: {positions}"


def whoever_sleeps_until_woken_misses_nothing_of_what_many_publish_at_once(make: MakeLog) -> None:
    for seed in range(_SEEDS):
        log, draw = make(ManualClock(), INCARNATION), _numbers(seed)
        found: list[int] = []
        watchers: list[ReplaySubscription] = []

        def look(found: list[int] = found, watchers: list[ReplaySubscription] = watchers) -> None:
            while taken := _taken(watchers[0], 5):
                found += taken

        watchers.append(_watch(log, 0, look))
        look()
        for _ in _steps(log, draw, lost=0):
            tail = log.current_cursor("s", 0).position
            assert found == list(range(1, tail + 1)), f"seed {seed}: at {tail}: {found}"


def of_many_who_publish_or_die_at_once_everybody_sees_an_unbroken_run_or_a_gap(make: MakeLog) -> None:
    for seed in range(_SEEDS):
        log, draw = make(ManualClock(), INCARNATION), _numbers(seed)
        watchers: list[tuple[int, ReplaySubscription]] = []
        for _ in _steps(log, draw, lost=8):
            if draw(4) == 0:
                begin = log.current_cursor("s", 0).position
                watchers.append((begin, _watch(log, begin)))
        tail = log.current_cursor("s", 0).position
        assert tail == _APPENDERS
        for begin, watcher in watchers:
            position = begin
            while taken := watcher.take(1):
                if isinstance(taken, str):
                    assert taken == "unavailable"
                    break
                assert [entry.position for entry in taken] == [position + 1], f"seed {seed}: from {begin}"
                position += 1
            else:
                assert position == tail, f"seed {seed}: from {begin}: silence at {position}"


def _steps(log: LiveReplayStore, draw: Callable[[int], int], *, lost: int) -> Iterator[None]:
    """Everybody reserves, and later fills or (`lost` of them) gives up, one step at a time in a drawn order."""
    waiting: list[tuple[int, Reservation | None]] = [(number, None) for number in range(_APPENDERS)]
    while waiting:
        number, reservation = waiting.pop(draw(len(waiting)))
        if reservation is None:
            waiting.append((number, reserve(log)))
        elif number < lost:
            log.abandon(reservation)
        else:
            fill(log, reservation, str(number))
        yield


def _taken(watcher: ReplaySubscription, max_bytes: int) -> list[int]:
    taken = watcher.take(max_bytes)
    payloads(taken)  # no gap
    return [entry.position for entry in taken if not isinstance(entry, str)]


def _watch(log: LiveReplayStore, position: int, wake: Callable[[], None] = lambda: None) -> ReplaySubscription:
    watcher = log.subscribe_after(at(position), 0, wake)
    assert not isinstance(watcher, str), watcher
    return watcher


def _numbers(seed: int) -> Callable[[int], int]:
    """Numbers below a bound, the same for the same seed (a linear congruence modulo 2 to the 64th)."""
    state = seed

    def draw(below: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state >> 33) % below

    return draw
