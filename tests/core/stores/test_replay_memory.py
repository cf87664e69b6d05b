"""What is the memory log's own affair, beyond the promises that all logs keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.observation.replay import ReplaySubscription
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.clock import ManualClock
from sightline.testing.conformance.logs import at, drained, fill, payloads, publish, reserve


def log(max_events: int = 2_048, clock: ManualClock | None = None) -> MemoryReplayStore:
    return MemoryReplayStore(clock or ManualClock(), 7, ReplayBounds(max_events=max_events))


def watch(replay: MemoryReplayStore, position: int, woken: list[str] | None = None) -> ReplaySubscription:
    watcher = replay.subscribe_after(at(position), 0, lambda: None if woken is None else woken.append("!"))
    assert not isinstance(watcher, str)
    return watcher


def test_an_observer_that_fails_when_it_is_woken_keeps_nobody_else_asleep() -> None:
    replay, woken = log(), list[str]()

    def fail() -> None:
        raise ValueError("a bug")

    broken = replay.subscribe_after(at(0), 0, fail)
    assert not isinstance(broken, str)
    others = [watch(replay, 0, woken) for _ in range(3)]
    for watcher in (broken, *others):
        watcher.take(1)
    publish(replay, "a")
    assert woken == ["!"] * 3
    assert all(drained(watcher) == ["a"] for watcher in (broken, *others))


def test_a_reservation_is_filled_whole_or_not_at_all() -> None:
    replay = log()
    reservation = reserve(replay, 2)
    with pytest.raises(ValueError, match="one entry"):
        replay.publish(reservation, [])
    fill(replay, reservation, "a", "b")
    assert drained(watch(replay, 0)) == ["a", "b"]


def test_a_long_stream_stays_within_its_bounds_and_every_place_in_it_is_right() -> None:
    replay = log(max_events=100)
    follower = watch(replay, 0)
    for number in range(1, 2_001):
        publish(replay, str(number))
        assert payloads(follower.take(100)) == [str(number)]
    for position in (1_900, 1_950, 1_999):
        assert drained(watch(replay, position)) == [str(number) for number in range(position + 1, 2_001)]
    assert replay.replay_after(at(1_899), 0) == "trimmed"


@given(st.lists(st.sampled_from(("publish", "reserve", "fill", "abandon", "time", "trim", "watch")), max_size=40))
def test_whatever_happens_nobody_misses_an_event_or_sees_it_twice(steps: list[str]) -> None:
    """Every watcher sees an unbroken run of positions from its own on, or a gap."""
    clock = ManualClock()
    replay = MemoryReplayStore(clock, 7, ReplayBounds(max_events=6, max_age=10.0, max_bytes=20))
    waiting, watchers = [], list[tuple[int, ReplaySubscription]]()
    for count, step in enumerate(steps):
        match step:
            case "publish":
                publish(replay, str(count))
            case "reserve":
                waiting.append(reserve(replay))
            case "fill" if waiting:
                fill(replay, waiting.pop(), str(count))
            case "abandon" if waiting:
                replay.abandon(waiting.pop())
            case "time":
                clock.advance(4.0)
            case "trim":
                replay.trim()
            case "watch":
                tail = replay.current_cursor("s", 0).position
                watchers.append((tail, watch(replay, tail)))
            case _:
                pass
    tail = replay.current_cursor("s", 0).position
    for position, watcher in watchers:
        while True:
            taken = watcher.take(1)
            if isinstance(taken, str):
                assert position < tail
                break
            if not taken:
                assert position == tail
                break
            assert [entry.position for entry in taken] == [position + 1]
            position += 1
