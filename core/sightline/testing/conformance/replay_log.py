"""What a live log promises about its positions, its bounds, and what it can prove: `sightline.observation.replay`.

The gap table is that of `sightline.observation.gaps`; its rows are named here by their numbers.
"""

from __future__ import annotations

import gc

from sightline.observation.replay import LiveReplayStore
from sightline.testing.clock import ManualClock
from sightline.testing.conformance.logs import (
    INCARNATION,
    MakeLog,
    at,
    fill,
    payloads,
    publish,
    replayed,
    reserve,
)


def positions_are_dense_from_one_in_order_of_reservation(make: MakeLog) -> None:
    log = _log(make)
    first = reserve(log, 2, revision=3)
    second = reserve(log, 1, revision=4)
    assert list(first.cursors) == [at(1, revision=3), at(2, revision=3)]
    assert list(second.cursors) == [at(3, revision=4)]


def each_reserved_position_has_its_own_revision(make: MakeLog) -> None:
    reservation = _log(make).prepare("s", [4, 4, 5])
    assert [(cursor.position, cursor.revision) for cursor in reservation.cursors] == [(1, 4), (2, 4), (3, 5)]


def sessions_are_counted_apart(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", "b")
    [cursor] = reserve(log, session_id="other").cursors
    assert cursor == at(1, session_id="other")
    assert replayed(log, 0) == ["a", "b"]


def a_replay_begins_behind_its_cursor_and_keeps_the_order(make: MakeLog) -> None:
    log = _log(make)
    published = publish(log, "a", "b") + publish(log, "c")
    for position, expected in ((0, ["a", "b", "c"]), (1, ["b", "c"]), (2, ["c"]), (3, [])):
        assert replayed(log, position) == expected
    # Encoded once for everybody: what is replayed are the very entries that were published.
    entries = log.replay_after(at(0), 0)
    assert all(found is entry for found, entry in zip(entries, published, strict=True))


def the_current_cursor_is_the_tail_with_the_given_revision(make: MakeLog) -> None:
    log = _log(make)
    assert log.current_cursor("s", 5) == at(0, revision=5)
    publish(log, "a", "b")
    assert log.current_cursor("s", 6) == at(2, revision=6)
    assert log.current_cursor("other", 0) == at(0, session_id="other")


def the_current_cursor_is_never_behind_an_event_of_a_newer_revision(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", revision=3)
    publish(log, "frame", "commit", revision=4, kind="committed")
    publish(log, "b", revision=4)
    assert log.current_cursor("s", 2) == at(0, revision=2)
    assert log.current_cursor("s", 3) == at(1, revision=3)
    assert log.current_cursor("s", 4) == at(4, revision=4)
    assert log.current_cursor("s", 9) == at(4, revision=9)
    # A view of revision 3 together with that cursor has the commit before it, not behind it.
    assert payloads(log.replay_after(log.current_cursor("s", 3), 4)) == ["frame", "commit", "b"]


def the_current_cursor_stands_in_front_of_a_commit_that_was_lost(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", revision=3)
    log.abandon(reserve(log, revision=4))
    assert log.current_cursor("s", 3) == at(1, revision=3)
    assert log.replay_after(log.current_cursor("s", 3), 4) == "unavailable"


def the_incarnation_is_the_one_it_was_made_with(make: MakeLog) -> None:
    log = _log(make)
    assert log.incarnation == INCARNATION
    assert log.current_cursor("s", 0).incarnation == INCARNATION


def g0_a_cursor_of_another_incarnation_proves_nothing(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", "b")
    for incarnation in (INCARNATION - 1, INCARNATION + 1, 0):
        for position in (0, 1, 2, 3):
            cursor = at(position, incarnation=incarnation)
            assert log.replay_after(cursor, 0) == "unavailable"
            assert log.subscribe_after(cursor, 0, _unused) == "unavailable"


def g1_the_beginning_of_a_session_that_never_had_events_replays_nothing(make: MakeLog) -> None:
    assert replayed(_log(make), 0) == []


def g2_a_position_in_a_session_that_never_had_events_is_unavailable(make: MakeLog) -> None:
    assert replayed(_log(make), 1) == "unavailable"


def g3_a_position_beyond_the_tail_is_unavailable(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    held = reserve(log)
    assert replayed(log, 2) == "unavailable"
    log.abandon(held)


def g4_a_position_before_the_tail_of_an_emptied_log_is_trimmed(make: MakeLog) -> None:
    log = _emptied(make)
    for position in (0, 1, 2):
        assert replayed(log, position) == "trimmed"


def g5_the_tail_of_an_emptied_log_replays_nothing(make: MakeLog) -> None:
    assert replayed(_emptied(make), 3) == []


def g6_a_position_whose_next_event_was_dropped_is_trimmed(make: MakeLog) -> None:
    log = _log(make, max_events=2)
    publish(log, "a", "b", "c", "d")
    assert replayed(log, 0) == "trimmed"
    assert replayed(log, 1) == "trimmed"


def g7_a_position_whose_next_event_is_there_replays(make: MakeLog) -> None:
    log = _log(make, max_events=2)
    publish(log, "a", "b", "c", "d")
    assert replayed(log, 2) == ["c", "d"]
    assert replayed(log, 4) == []


def g8_a_lost_range_ahead_of_the_position_is_unavailable(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    log.abandon(reserve(log, 2))
    publish(log, "d")
    assert replayed(log, 0) == "unavailable"
    assert replayed(log, 1) == "unavailable"
    assert replayed(log, 2) == "unavailable"
    assert replayed(log, 3) == ["d"]
    assert replayed(log, 4) == []


def g8_a_lost_range_at_the_end_is_a_gap_and_not_silence(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    log.abandon(reserve(log))
    assert replayed(log, 1) == "unavailable"
    assert replayed(log, 2) == []
    assert log.current_cursor("s", 0) == at(2)


def g9_a_cursor_from_a_future_that_did_not_happen_is_unavailable(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    assert log.replay_after(at(0, revision=2), 1) == "unavailable"
    assert log.replay_after(at(1, revision=2), 1) == "unavailable"


def g9_a_replay_that_does_not_explain_the_sessions_revision_is_unavailable(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", revision=3)
    assert log.replay_after(at(0, revision=3), 4) == "unavailable"
    assert log.replay_after(at(1, revision=3), 4) == "unavailable"
    publish(log, "commit", revision=4, kind="committed")
    assert payloads(log.replay_after(at(0, revision=3), 4)) == ["a", "commit"]
    assert payloads(log.replay_after(at(1, revision=3), 4)) == ["commit"]


def g9_activity_after_a_commit_that_was_never_published_does_not_stand_for_it(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", revision=3)
    publish(log, "said at revision 4", revision=4)
    assert log.replay_after(at(1, revision=3), 4) == "unavailable"
    assert log.subscribe_after(at(1, revision=3), 4, _unused) == "unavailable"
    assert payloads(log.replay_after(at(1, revision=4), 4)) == ["said at revision 4"]
    publish(log, "commit", revision=5, kind="committed")
    publish(log, "said at revision 5", revision=5)
    assert payloads(log.replay_after(at(2, revision=4), 5)) == ["commit", "said at revision 5"]


def reserved_positions_become_visible_in_order(make: MakeLog) -> None:
    log = _log(make)
    first, second, third = reserve(log, 2), reserve(log), reserve(log)
    fill(log, second, "c")
    assert (replayed(log, 0), log.current_cursor("s", 0).position) == ([], 0)
    fill(log, first, "a", "b")
    assert replayed(log, 0) == ["a", "b", "c"]
    fill(log, third, "d")
    assert replayed(log, 0) == ["a", "b", "c", "d"]


def an_abandoned_reservation_is_lost_only_in_its_turn(make: MakeLog) -> None:
    log = _log(make)
    first, second, third = reserve(log), reserve(log), reserve(log)
    log.abandon(second)
    fill(log, third, "c")
    assert replayed(log, 0) == []
    fill(log, first, "a")
    assert replayed(log, 0) == "unavailable"
    assert replayed(log, 1) == "unavailable"
    assert replayed(log, 2) == ["c"]


def a_reservation_that_was_dropped_is_a_lost_range_and_holds_nobody_up(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a")
    dying = [reserve(log, 2)]
    later = reserve(log)
    fill(log, later, "d")
    assert replayed(log, 1) == []
    dying.clear()
    gc.collect()
    assert replayed(log, 1) == "unavailable"
    assert replayed(log, 3) == ["d"]
    assert log.current_cursor("s", 0) == at(4)


def a_reservation_is_settled_once(make: MakeLog) -> None:
    log = _log(make)
    published, abandoned = reserve(log), reserve(log)
    fill(log, published, "a")
    log.abandon(published)
    log.abandon(abandoned)
    log.abandon(abandoned)
    for settled in (published, abandoned):
        try:
            fill(log, settled, "again")
        except ValueError:
            pass
        else:
            raise AssertionError("a settled reservation was published")
    publish(log, "c")
    assert replayed(log, 0) == "unavailable"
    assert replayed(log, 2) == ["c"]


def the_count_is_bounded(make: MakeLog) -> None:
    log = _log(make, max_events=1)
    publish(log, "a")
    publish(log, "b")
    assert replayed(log, 0) == "trimmed"
    assert replayed(log, 1) == ["b"]
    assert replayed(log, 2) == []


def the_age_is_bounded_and_the_bound_itself_is_not_too_old(make: MakeLog) -> None:
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=120.0)
    publish(log, "a")
    clock.advance(120.0)
    assert replayed(log, 0) == ["a"]
    clock.advance(0.001)
    assert replayed(log, 0) == "trimmed"
    assert replayed(log, 1) == []


def only_what_is_too_old_is_dropped(make: MakeLog) -> None:
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=10.0)
    publish(log, "a")
    clock.advance(6.0)
    publish(log, "b")
    clock.advance(6.0)
    assert replayed(log, 0) == "trimmed"
    assert replayed(log, 1) == ["b"]


def the_bytes_are_bounded(make: MakeLog) -> None:
    log = _log(make, max_bytes=10)
    publish(log, "aaaa", "bbbb", "cc")
    assert replayed(log, 0) == ["aaaa", "bbbb", "cc"]
    publish(log, "d")
    assert replayed(log, 0) == "trimmed"
    assert replayed(log, 1) == ["bbbb", "cc", "d"]


def the_newest_event_is_kept_however_big(make: MakeLog) -> None:
    log = _log(make, max_bytes=10)
    publish(log, "a", "b" * 100)
    assert replayed(log, 0) == "trimmed"
    assert replayed(log, 1) == ["b" * 100]


def one_session_does_not_take_another_ones_room(make: MakeLog) -> None:
    log = _log(make, max_events=2, max_bytes=10)
    publish(log, "mine")
    for number in range(5):
        publish(log, f"{number}" * 9, session_id="other")
    assert replayed(log, 0) == ["mine"]


def trimming_drops_what_is_old_in_one_session_or_in_all(make: MakeLog) -> None:
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=10.0)
    for session_id in ("s", "other"):
        publish(log, "a", session_id=session_id)
    assert not log.is_empty("s")
    clock.advance(11.0)
    log.trim("s")
    assert log.is_empty("s")
    log.trim()
    assert log.is_empty("other")
    log.trim("nobody")
    assert log.is_empty("nobody")


def the_tail_survives_whatever_is_dropped(make: MakeLog) -> None:
    log = _emptied(make)
    assert log.current_cursor("s", 0) == at(3)
    [entry] = publish(log, "d")
    assert entry.position == 4
    assert replayed(log, 3) == ["d"]
    assert replayed(log, 2) == "trimmed"


def a_lost_range_is_still_a_gap_after_the_log_was_emptied(make: MakeLog) -> None:
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=10.0)
    publish(log, "a")
    log.abandon(reserve(log))
    clock.advance(1_000.0)
    log.trim()
    publish(log, "c")
    assert replayed(log, 1) in ("trimmed", "unavailable")
    assert replayed(log, 2) == ["c"]


def a_forgotten_session_is_as_if_it_had_never_been(make: MakeLog) -> None:
    log = _log(make)
    publish(log, "a", "b")
    log.forget("s")
    assert log.is_empty("s")
    assert log.current_cursor("s", 0) == at(0)
    assert replayed(log, 2) == "unavailable"
    log.forget("nobody")


def _log(make: MakeLog, *, max_events: int = 1_000, max_bytes: int = 1_000_000) -> LiveReplayStore:
    return make(ManualClock(), INCARNATION, max_events=max_events, max_bytes=max_bytes)


def _emptied(make: MakeLog) -> LiveReplayStore:
    """A log that held three events and dropped them all."""
    clock = ManualClock()
    log = make(clock, INCARNATION, max_age=10.0)
    publish(log, "a", "b", "c")
    clock.advance(1_000.0)
    log.trim()
    return log


def _unused() -> None:
    raise AssertionError("nobody is to be woken")
