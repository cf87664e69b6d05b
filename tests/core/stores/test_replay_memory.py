"""What is the memory log's own affair, beyond the promises that all logs keep."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.observation.replay import Entry, ReplaySubscription
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


# Tail numbers of sessions that nobody looks at


def quiet(replay: MemoryReplayStore, clock: ManualClock, *session_ids: str, events: int = 1) -> None:
    """Let these sessions have events, and then nothing for long."""
    for session_id in session_ids:
        publish(replay, *("x" for _ in range(events)), session_id=session_id)
    clock.advance(1_000.0)
    replay.trim()


def test_of_sessions_that_were_left_alone_only_so_many_are_remembered() -> None:
    clock = ManualClock()
    replay = MemoryReplayStore(clock, 7, ReplayBounds(max_tails=100))
    for number in range(5_000):
        quiet(replay, clock, f"s{number}")
        assert len(replay._tails) <= 100
    assert not replay._rings


def test_a_session_whose_number_is_forgotten_goes_on_beyond_whatever_it_had() -> None:
    clock = ManualClock()
    replay = MemoryReplayStore(clock, 7, ReplayBounds(max_tails=2))
    quiet(replay, clock, "long", events=9)
    quiet(replay, clock, "s", events=3)
    quiet(replay, clock, "other", "another")
    assert replay.current_cursor("another", 0) == at(1, session_id="another")
    # `long` and `s` are forgotten: the floor is the larger number of the two.
    assert replay.current_cursor("s", 0) == at(9)
    assert replay.replay_after(at(3), 0) == "trimmed"
    assert replay.replay_after(at(2), 0) == "trimmed"
    [entry] = publish(replay, "d")
    assert entry.position == 10
    assert replay.replay_after(at(3), 0) == "trimmed"
    assert drained(watch(replay, 9)) == ["d"]


def test_whoever_was_told_the_floor_is_not_deceived_when_it_rises() -> None:
    clock = ManualClock()
    replay = MemoryReplayStore(clock, 7, ReplayBounds(max_tails=0))
    quiet(replay, clock, "one", events=4)
    told = replay.current_cursor("s", 0)
    assert told == at(4)
    assert replay.replay_after(told, 0) == ()
    quiet(replay, clock, "two", events=8)
    assert replay.replay_after(told, 0) == "trimmed"


def test_the_tail_of_a_deleted_session_is_forgotten_and_raises_nothing() -> None:
    clock = ManualClock()
    replay = MemoryReplayStore(clock, 7, ReplayBounds(max_tails=0))
    publish(replay, "a", "b", "c")
    replay.forget("s")
    assert replay.current_cursor("new", 0) == at(0, session_id="new")


def test_a_log_holds_at_least_one_event_of_a_session() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ReplayBounds(max_events=0)


# Joined deltas


def says(replay: MemoryReplayStore, *texts: str) -> None:
    for text in texts:
        reservation = reserve(replay)
        cursor = str(reservation.cursors[0])
        payload = msgspec.json.encode(
            {
                "cursor": cursor,
                "data": {"correlation_id": "c", "event": {"type": "assistant_prose_delta", "text": text}},
            }
        )
        replay.publish(reservation, [Entry(reservation.cursors[0].position, cursor, 0, "turn_activity", payload)])


def heard(entries: Sequence[Entry] | str) -> list[tuple[int, str]]:
    assert not isinstance(entries, str), entries
    return [(entry.position, msgspec.json.decode(entry.payload)["data"]["event"]["text"]) for entry in entries]


def joining(**bounds: int) -> MemoryReplayStore:
    return MemoryReplayStore(ManualClock(), 7, ReplayBounds(merge=True, **bounds))


def test_who_comes_back_gets_fewer_larger_events_and_what_is_live_as_it_comes() -> None:
    replay = joining()
    says(replay, "a", "b", "c")
    watcher = watch(replay, 1)
    says(replay, "d", "e")
    assert heard(watcher.take(1_000)) == [(3, "bc")]
    assert heard(watcher.take(1_000)) == [(4, "d"), (5, "e")]
    assert heard(watcher.take(1_000)) == []
    assert heard(replay.replay_after(at(1), 0)) == [(5, "bcde")]


def test_whatever_is_joined_every_position_stays_a_place_to_go_on_from() -> None:
    replay = joining()
    says(replay, "a", "b", "c", "d")
    assert heard(watch(replay, 0).take(1_000)) == [(4, "abcd")]
    for position, rest in enumerate(("abcd", "bcd", "cd", "d")):
        assert heard(watch(replay, position).take(1_000)) == [(4, rest)]


def test_a_take_joins_what_it_takes_and_the_next_goes_on_behind() -> None:
    replay = joining()
    says(replay, *"abcdef")
    watcher = watch(replay, 0)
    heard_so_far = []
    while taken := heard(watcher.take(220)):
        heard_so_far += taken
    assert "".join(text for _, text in heard_so_far) == "abcdef"
    assert len(heard_so_far) == 3


def test_a_log_that_was_not_told_to_joins_nothing() -> None:
    replay = log()
    says(replay, "a", "b")
    assert heard(watch(replay, 0).take(1_000)) == [(1, "a"), (2, "b")]
