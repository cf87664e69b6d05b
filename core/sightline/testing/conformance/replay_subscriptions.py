"""What a live log promises to those who watch: everything once, in order, or a gap; and to be woken."""

from __future__ import annotations

from collections.abc import Callable

from sightline.observation.replay import LiveReplayStore, ReplaySubscription
from sightline.testing.clock import ManualClock
from sightline.testing.conformance.logs import (
    INCARNATION,
    MakeLog,
    at,
    drained,
    fill,
    payloads,
    publish,
    reserve,
)


def what_was_there_comes_first_and_then_what_comes(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", "b")
    watcher = _watch(log, 1)
    publish(log, "c")
    assert drained(watcher) == ["b", "c"]
    publish(log, "d")
    assert drained(watcher) == ["d"]
    assert drained(watcher) == []


def whoever_begins_at_any_place_sees_every_event_once(make: MakeLog) -> None:
    log = _log(make)
    texts = [str(number) for number in range(40)]
    watchers: list[tuple[int, ReplaySubscription]] = []
    for number, text in enumerate(texts):
        watchers += [(position, _watch(log, position)) for position in (0, number // 2, number)]
        publish(log, text)
    for position, watcher in watchers:
        assert drained(watcher, max_bytes=1 + position) == texts[position:]


def every_watcher_gets_the_same_entries(make: MakeLog) -> None:
    log = _log(make)
    watchers = [_watch(log, 0) for _ in range(3)]
    [entry] = publish(log, "a")
    for watcher in watchers:
        taken = watcher.take(100)
        assert len(taken) == 1
        assert taken[0] is entry


def a_take_is_no_larger_than_asked_but_never_empty_while_there_is_something(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "aaa", "bbb", "cccccc", "d")
    watcher = _watch(log, 0)
    assert payloads(watcher.take(6)) == ["aaa", "bbb"]
    assert payloads(watcher.take(5)) == ["cccccc"]
    assert payloads(watcher.take(0)) == ["d"]
    assert payloads(watcher.take(0)) == []


def behind_says_whether_there_is_something(make: MakeLog) -> None:
    log = _log(make)
    watcher = _watch(log, 0)
    found = [watcher.behind]
    publish(log, "a")
    found.append(watcher.behind)
    drained(watcher)
    found.append(watcher.behind)
    assert found == [False, True, False]


def one_who_found_nothing_is_woken_once(make: MakeLog) -> None:
    log = _log(make)
    woken: list[str] = []
    watcher = _watch(log, 0, lambda: woken.append("!"))
    assert payloads(watcher.take(100)) == []
    publish(log, "a")
    publish(log, "b")
    assert woken == ["!"]
    assert drained(watcher) == ["a", "b"]
    publish(log, "c")
    assert woken == ["!", "!"]


def one_who_has_not_looked_yet_is_not_woken(make: MakeLog) -> None:
    log = _log(make)
    woken: list[str] = []
    watcher = _watch(log, 0, lambda: woken.append("!"))
    publish(log, "a", "b")
    assert woken == []
    assert payloads(watcher.take(1)) == ["a"]
    publish(log, "c")
    assert woken == []
    assert drained(watcher) == ["b", "c"]
    publish(log, "d")
    assert woken == ["!"]


def whoever_is_woken_finds_the_event_there(make: MakeLog) -> None:
    log = _log(make)
    found: list[str] = []
    watcher: ReplaySubscription = _watch(log, 0, lambda: found.extend(payloads(watcher.take(100))))
    watcher.take(100)
    publish(log, "a", "b")
    assert found == ["a", "b"]


def a_publication_that_waits_for_an_earlier_one_wakes_nobody(make: MakeLog) -> None:
    log = _log(make)
    woken: list[str] = []
    watcher = _watch(log, 0, lambda: woken.append("!"))
    watcher.take(100)
    first, second = reserve(log), reserve(log)
    fill(log, second, "b")
    assert woken == []
    fill(log, first, "a")
    assert woken == ["!"]
    assert drained(watcher) == ["a", "b"]


def a_wake_may_begin_and_end_subscriptions(make: MakeLog) -> None:
    log = _log(make)
    opened: list[ReplaySubscription] = []

    def wake() -> None:
        opened.append(_watch(log, 0))
        for watcher in watchers:
            watcher.close()

    watchers = [_watch(log, 0, wake) for _ in range(2)]
    for watcher in watchers:
        watcher.take(100)
    publish(log, "a")
    assert len(opened) == 1
    assert drained(opened[0]) == ["a"]


def one_who_fell_behind_the_bounds_gets_a_gap(make: MakeLog) -> None:
    log = make(ManualClock(), INCARNATION, max_events=2)
    watcher = _watch(log, 0)
    publish(log, "a", "b")
    assert payloads(watcher.take(1)) == ["a"]
    publish(log, "c", "d")
    assert watcher.take(100) == "trimmed"


def one_who_is_just_within_the_bounds_misses_nothing(make: MakeLog) -> None:
    log = make(ManualClock(), INCARNATION, max_events=2)
    watcher = _watch(log, 0)
    publish(log, "a")
    publish(log, "b")
    assert drained(watcher) == ["a", "b"]


def whoever_fell_behind_is_told_of_how_much_exactly(make: MakeLog) -> None:
    for bound, published in ((4, 5), (4, 6), (4, 40), (1, 2)):
        log = make(ManualClock(), INCARNATION, max_events=bound)
        watcher, tail = _watch(log, 0), _watch(log, 0)
        for number in range(published):
            publish(log, str(number))
            assert drained(tail) == [str(number)]
        assert watcher.take(100) == "trimmed"
        assert (watcher.lost, tail.lost) == (published - bound, 0)


def whoever_is_behind_by_the_whole_bound_has_lost_nothing(make: MakeLog) -> None:
    log = make(ManualClock(), INCARNATION, max_events=4)
    watcher = _watch(log, 0)
    publish(log, "a", "b", "c", "d")
    assert (drained(watcher), watcher.lost) == (["a", "b", "c", "d"], 0)
    publish(log, "e", "f", "g", "h")
    assert (drained(watcher), watcher.lost) == (["e", "f", "g", "h"], 0)


def whoever_fell_behind_goes_on_from_the_last_event_delivered_or_gets_a_gap(make: MakeLog) -> None:
    log = make(ManualClock(), INCARNATION, max_events=4)
    watcher = _watch(log, 0)
    publish(log, "a")
    assert drained(watcher) == ["a"]
    publish(log, "b", "c", "d", "e", "f")
    assert watcher.take(100) == "trimmed"
    assert log.subscribe_after(at(1), 0, _nobody) == "trimmed"
    assert drained(_watch(log, 2)) == ["c", "d", "e", "f"]


def what_is_trimmed_by_age_is_lost_as_well(make: MakeLog) -> None:
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=10.0)
    watcher = _watch(log, 0)
    publish(log, "a", "b", "c")
    clock.advance(11.0)
    log.trim()
    assert (watcher.take(100), watcher.lost) == ("trimmed", 3)


def a_lost_range_is_a_gap_for_whoever_stands_before_it(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    woken: list[str] = []
    before, behind = _watch(log, 1, lambda: woken.append("!")), _watch(log, 0)
    before.take(100)
    log.abandon(reserve(log))
    assert woken == ["!"]
    assert before.take(100) == "unavailable"
    assert behind.take(100) == "unavailable"


def a_gap_leaves_no_subscription(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    assert log.subscribe_after(at(5), 0, _nobody) == "unavailable"
    assert log.subscribers("s") == 0


def a_closed_subscription_sees_and_hears_nothing_more(make: MakeLog) -> None:
    log = _log(make)
    woken: list[str] = []
    watcher, other = _watch(log, 0, lambda: woken.append("!")), _watch(log, 0)
    watcher.take(100)
    assert log.subscribers("s") == 2
    watcher.close()
    watcher.close()
    publish(log, "a")
    assert (woken, watcher.behind, payloads(watcher.take(100))) == ([], False, [])
    assert log.subscribers("s") == 1
    assert drained(other) == ["a"]


def subscriptions_are_counted_by_session(make: MakeLog) -> None:
    log = _log(make)
    _watch(log, 0)
    assert (log.subscribers("s"), log.subscribers("other")) == (1, 0)


def a_subscription_goes_on_when_everything_before_it_was_dropped(make: MakeLog) -> None:
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=10.0)
    publish(log, "a")
    watcher = _watch(log, 0)
    assert drained(watcher) == ["a"]
    clock.advance(1_000.0)
    log.trim()
    publish(log, "b")
    assert drained(watcher) == ["b"]


def a_forgotten_session_ends_its_subscriptions(make: MakeLog) -> None:
    log = _log(make)
    watcher = _watch(log, 0)
    log.forget("s")
    assert (watcher.behind, payloads(watcher.take(100)), log.subscribers("s")) == (False, [], 0)


def _nobody() -> None:
    pass


def _log(make: MakeLog) -> LiveReplayStore:
    return make(ManualClock(), INCARNATION)


def _watch(log: LiveReplayStore, position: int, wake: Callable[[], None] = _nobody) -> ReplaySubscription:
    watcher = log.subscribe_after(at(position), 0, wake)
    assert not isinstance(watcher, str), watcher
    return watcher
