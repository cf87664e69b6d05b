"""The checks of live logs can fail: each mistake that somebody could make in an adapter is caught by the check that is
about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sightline.clock import Clock
from sightline.observation.cursor import Cursor
from sightline.observation.entry import Entry
from sightline.observation.gaps import ReplayGap
from sightline.observation.replay import LiveReplayStore, Reservation
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.conformance import REPLAY_CHECKS, check_live_log
from sightline.testing.conformance.logs import MakeLog

CHECKS = {check.__name__: check for check in REPLAY_CHECKS}


class Sound(MemoryReplayStore):
    """No mistake."""


class RegistersLater(MemoryReplayStore):
    """The replay part is read at once, the place taken when somebody first looks: what came in between is lost."""

    def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> Any:
        replay = self.replay_after(cursor, revision)
        return replay if isinstance(replay, str) else _Late(self, cursor, list(replay), wake)


class _Late:
    lost = 0

    def __init__(self, log: MemoryReplayStore, cursor: Cursor, replay: list[Entry], wake: Callable[[], None]) -> None:
        self._log, self._cursor, self._replay, self._wake = log, cursor, replay, wake
        self._live: Any = None

    @property
    def behind(self) -> bool:
        return bool(self._replay)

    def take(self, max_bytes: int) -> Any:
        if self._live is None:
            tail = self._log.current_cursor(self._cursor.session_id, 1 << 60)
            here = Cursor(tail.incarnation, self._cursor.revision, tail.position, tail.session_id)
            self._live = MemoryReplayStore.subscribe_after(self._log, here, self._cursor.revision, self._wake)
        taken, self._replay = self._replay, []
        return taken or self._live.take(max_bytes)

    def close(self) -> None:
        pass


class RegistersTwice(MemoryReplayStore):
    """The place is taken one event too early: the last of the replay comes once more as live."""

    def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> Any:
        found = super().subscribe_after(cursor, revision, wake)
        if not isinstance(found, str) and cursor.position:
            found._position -= 1
        return found


class ShowsOutOfOrder(MemoryReplayStore):
    """A publication does not wait for those that reserved before it."""

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        ring: Any = reservation.ring  # type: ignore[attr-defined]
        ring.tail = max(ring.tail, reservation.cursors[0].position - 1)
        super().publish(reservation, entries)


class AbandonsSilently(MemoryReplayStore):
    """Positions that were given up are filled with nothing."""

    def abandon(self, reservation: Reservation) -> None:
        super().abandon(reservation)
        for ring in self._rings.values():
            ring.last_hole = 0


class ForgetsTheDead(MemoryReplayStore):
    """A reservation that was dropped is waited for, for ever."""

    def prepare(self, session_id: str, revisions: Sequence[int]) -> Reservation:
        kept = super().prepare(session_id, revisions)
        self.__dict__.setdefault("kept", []).append(kept)
        return kept


class LosesOneTooMany(MemoryReplayStore):
    """The bound is taken to be one less."""

    def __init__(self, clock: Clock, incarnation: int, bounds: ReplayBounds) -> None:
        most = max(1, bounds.max_events - 1)
        super().__init__(clock, incarnation, ReplayBounds(most, bounds.max_age, bounds.max_bytes))


class DropsWhatIsJustOldEnough(MemoryReplayStore):
    """An event as old as the bound is dropped."""

    def __init__(self, clock: Clock, incarnation: int, bounds: ReplayBounds) -> None:
        super().__init__(clock, incarnation, ReplayBounds(bounds.max_events, bounds.max_age - 0.001, bounds.max_bytes))


class JumpsOverCommits(MemoryReplayStore):
    """The current cursor is the tail, whatever the revision knows."""

    def current_cursor(self, session_id: str, revision: int) -> Cursor:
        tail = super().current_cursor(session_id, 1 << 60)
        return Cursor(tail.incarnation, revision, tail.position, session_id)


class TakesActivityForCommits(MemoryReplayStore):
    """Any event of the session's revision is good enough."""

    def replay_after(self, cursor: Cursor, revision: int) -> Sequence[Entry] | ReplayGap:
        found = super().replay_after(cursor, cursor.revision)
        newest = max((entry.revision for entry in found if not isinstance(entry, str)), default=cursor.revision)
        return "unavailable" if not isinstance(found, str) and newest < revision else found


class StartsOver(MemoryReplayStore):
    """What is trimmed takes the tail with it."""

    def trim(self, session_id: str | None = None) -> None:
        super().trim(session_id)
        self._tails.clear()


class KeepsTheDeleted(MemoryReplayStore):
    """A session that was deleted leaves its log."""

    def forget(self, session_id: str) -> None:
        pass


class WakesAlways(MemoryReplayStore):
    """Whoever has not looked is woken as well."""

    def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> Any:
        found = super().subscribe_after(cursor, revision, wake)
        if not isinstance(found, str):
            found.armed = True
        return found


DEFECTS: list[tuple[type[MemoryReplayStore], str]] = [
    (RegistersLater, "whoever_begins_at_any_place_sees_every_event_once"),
    (RegistersLater, "of_sixty_four_who_publish_at_once_everybody_who_watches_sees_each_event_once"),
    (RegistersTwice, "what_was_there_comes_first_and_then_what_comes"),
    (RegistersTwice, "of_sixty_four_who_publish_at_once_everybody_who_watches_sees_each_event_once"),
    (ShowsOutOfOrder, "reserved_positions_become_visible_in_order"),
    (ShowsOutOfOrder, "of_sixty_four_who_publish_at_once_everybody_who_watches_sees_each_event_once"),
    (AbandonsSilently, "g8_a_lost_range_at_the_end_is_a_gap_and_not_silence"),
    (AbandonsSilently, "of_many_who_publish_or_die_at_once_everybody_sees_an_unbroken_run_or_a_gap"),
    (ForgetsTheDead, "a_reservation_that_was_dropped_is_a_lost_range_and_holds_nobody_up"),
    (LosesOneTooMany, "whoever_is_behind_by_the_whole_bound_has_lost_nothing"),
    (LosesOneTooMany, "whoever_fell_behind_is_told_of_how_much_exactly"),
    (DropsWhatIsJustOldEnough, "the_age_is_bounded_and_the_bound_itself_is_not_too_old"),
    (JumpsOverCommits, "the_current_cursor_is_never_behind_an_event_of_a_newer_revision"),
    (TakesActivityForCommits, "g9_activity_after_a_commit_that_was_never_published_does_not_stand_for_it"),
    (StartsOver, "the_tail_survives_whatever_is_dropped"),
    (KeepsTheDeleted, "a_forgotten_session_is_as_if_it_had_never_been"),
    (WakesAlways, "one_who_has_not_looked_yet_is_not_woken"),
]


def making(log: Callable[[Clock, int, ReplayBounds], LiveReplayStore]) -> MakeLog:
    def make(
        clock: Clock,
        incarnation: int,
        *,
        max_events: int = 1_000,
        max_age: float = 1_000.0,
        max_bytes: int = 1_000_000,
    ) -> LiveReplayStore:
        return log(clock, incarnation, ReplayBounds(max_events, max_age, max_bytes))

    return make


@pytest.mark.parametrize(("defect", "check"), DEFECTS, ids=[f"{log.__name__}-{check}" for log, check in DEFECTS])
def test_a_mistake_is_caught_by_the_check_that_is_about_it(defect: Any, check: str) -> None:
    CHECKS[check](making(Sound))
    with pytest.raises(AssertionError):
        CHECKS[check](making(defect))


def test_all_checks_can_be_run_without_a_test_framework() -> None:
    check_live_log(making(Sound))
    with pytest.raises(AssertionError):
        check_live_log(making(StartsOver))
