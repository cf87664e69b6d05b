"""What holds for both schedules whatever happens, and what the ticks promise. No loop, no clock: time is a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.queue.demand import FairSchedule
from sightline.queue.gate import GatedSchedule
from sightline.queue.schedule import Drive, Schedule, Ticks, pause_after

PERMITS = 3
Step: TypeAlias = Callable[["World"], None]

SESSIONS = st.sampled_from(["a", "b", "c", "d", "e"])
KEYS = SESSIONS | st.none()


class World:
    """A schedule, the drives it has handed out, and who is still to be asked for."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.now = 0.0
        self.drives: list[Drive] = []
        self.unserved: set[str | None] = set()
        self.submitted: set[str] = set()
        self.away: set[str] = set()
        self.returning: list[str] = []
        schedule.start(self.now)
        self.go_on()

    def go_on(self) -> None:
        while (session_id := self.schedule.admit()) is not None:
            assert session_id == self.returning.pop(0), "who came back first goes on first"
            self.away.remove(session_id)
        while (drive := self.schedule.take(self.now)) is not None:
            self.drives.append(drive)
            self.unserved.discard(drive.session_id)
        keys = [drive.session_id for drive in self.drives]
        assert len(keys) == len(set(keys)), "a key is drive once at a time"

    def poke(self, key: str | None) -> None:
        self.unserved.add(key)
        self.schedule.poke(key, "poke")

    def complete(self, session_id: str) -> None:
        self.unserved.add(session_id)
        self.submitted.discard(session_id)
        self.schedule.complete(session_id, "complete")

    def end(self, index: int, how: str, session_id: str) -> None:
        if self.drives:
            drive = self.drives.pop(index % len(self.drives))
            self.away.discard(str(drive.session_id))
            self.returning = [name for name in self.returning if name != drive.session_id]
            match how:
                case "idle":
                    self.schedule.idle(drive, self.now)
                case "submitted":
                    self.submitted.add(session_id)
                    self.schedule.submitted(drive, session_id, self.now)
                case "contended":
                    self.schedule.contended(drive, self.now)
                case "dropped":
                    self.schedule.dropped(drive, self.now)
                case _:
                    self.schedule.failed(drive, self.now, terminal=how == "terminal")

    def leave(self, index: int) -> None:
        sessions = [drive.session_id for drive in self.drives if drive.session_id is not None]
        if sessions:
            session_id = sessions[index % len(sessions)]
            self.away.add(session_id)
            self.returning = [name for name in self.returning if name != session_id]
            self.schedule.leave(session_id)

    def come_back(self, session_id: str) -> None:
        counts = self.schedule.come_back(session_id)
        assert counts == (session_id not in self.away)
        if not counts and session_id not in self.returning:
            self.returning.append(session_id)

    @property
    def counted(self) -> int:
        return self.schedule.active - len(self.away)

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while (wake_at := self.schedule.wake_at) <= end:
            self.now = max(self.now, wake_at)
            self.schedule.tick(self.now)
            self.go_on()
        self.now = end

    def come_to_rest(self) -> None:
        """Everybody finds nothing more to do, and whoever waits for time gets it. The last polls are still to come."""
        while self.drives or self.submitted or self.schedule.waiting:
            for session_id in sorted(self.submitted):
                self.complete(session_id)
            self.go_on()
            while self.drives:
                self.end(0, "idle", "")
                self.go_on()
        self.sleep(1.0)
        while self.drives:
            self.end(0, "idle", "")
            self.go_on()

    def kept(self) -> dict[str, Sized]:
        return {name: value for name, value in vars(self.schedule).items() if isinstance(value, Sized) and len(value)}


pokes = st.builds(lambda key: lambda world: world.poke(key), KEYS)
completions = st.builds(lambda session_id: lambda world: world.complete(session_id), SESSIONS)
ends = st.builds(
    lambda index, how, session_id: lambda world: world.end(index, how, session_id),
    st.integers(0, 4),
    st.sampled_from(["idle", "submitted", "contended", "failed", "terminal", "dropped"]),
    SESSIONS,
)
partings = st.builds(lambda index: lambda world: world.leave(index), st.integers(0, 4))
returns = st.builds(lambda session_id: lambda world: world.come_back(session_id), SESSIONS)
pauses = st.builds(lambda seconds: lambda world: world.sleep(seconds), st.sampled_from([0.01, 0.1, 1.0, 40.0]))
steps: st.SearchStrategy[list[Step]] = st.lists(st.one_of(pokes, completions, ends, ends, pauses), max_size=60)
steps_with_partings: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(pokes, completions, ends, pauses, partings, returns), max_size=60
)


def fair(timeout: float = 30.0) -> FairSchedule:
    return FairSchedule(Ticks(10.0), permits=PERMITS, completion_timeout=timeout)


def gated(timeout: float = 30.0) -> GatedSchedule:
    return GatedSchedule(Ticks(10.0), completion_timeout=timeout)


@given(steps)
def test_no_poke_and_no_completion_is_lost(history: list[Step]) -> None:
    """Whatever was asked for is followed by a drive that begins later."""
    world = World(fair())
    for step in history:
        step(world)
        world.go_on()
    world.come_to_rest()
    assert world.unserved == set()


@given(steps)
def test_never_do_more_run_than_there_are_permits(history: list[Step]) -> None:
    world = World(fair())
    for step in history:
        step(world)
        world.go_on()
        assert len(world.drives) <= world.schedule.active <= PERMITS
        assert world.schedule.waiting == 0 or world.schedule.active == PERMITS, (
            "no permit lies idle while somebody waits"
        )


@given(steps_with_partings)
def test_who_is_away_holds_no_permit_and_who_comes_back_gets_the_next(history: list[Step]) -> None:
    world = World(fair())
    for step in history:
        step(world)
        world.go_on()
        assert world.counted <= PERMITS
        wanted = world.schedule.waiting or world.returning
        assert not wanted or world.counted == PERMITS, "no permit lies idle while somebody waits"
    world.come_to_rest()
    assert world.unserved == set()
    assert world.kept() == {}


@given(steps)
def test_of_sessions_at_rest_nothing_is_kept(history: list[Step]) -> None:
    world = World(fair())
    for step in history:
        step(world)
        world.go_on()
    world.come_to_rest()
    assert world.kept() == {}


@given(steps)
def test_behind_the_gate_one_call_is_made_at_a_time_and_nothing_is_kept(history: list[Step]) -> None:
    world = World(gated())
    for step in history:
        step(world)
        world.go_on()
        assert len(world.drives) <= 1
    world.come_to_rest()
    assert world.kept() == {}


@pytest.mark.parametrize("schedule", [fair, gated])
@given(steps, steps)
def test_a_closed_schedule_begins_nothing_and_comes_to_rest(
    schedule: Callable[[], Schedule], before: list[Step], after: list[Step]
) -> None:
    world = World(schedule())
    for step in before:
        step(world)
        world.go_on()
    world.schedule.close()
    drives = list(world.drives)
    for step in after:
        step(world)
        world.go_on()
        assert set(map(id, world.drives)) <= set(map(id, drives))
    while world.drives:
        world.end(0, "failed", "")
    world.go_on()
    world.sleep(60.0)
    assert (world.schedule.active, world.schedule.waiting, world.schedule.wake_at) == (0, 0, math.inf)
    assert world.kept() == {}


# Ticks


def test_pauses_double_from_25_milliseconds_to_a_second_for_ever() -> None:
    assert [pause_after(count) for count in range(1, 9)] == [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pause_after(10**9) == 1.0


def test_a_tick_that_is_taken_late_delays_the_next() -> None:
    ticks = Ticks(1.0)
    ticks.delay(0.0)
    assert ticks.take(0.9) is None
    assert ticks.take(5.5) == "poll"
    assert ticks.next_at == 6.5


def test_a_due_time_is_a_tick_of_its_own_and_moves_the_poll() -> None:
    ticks = Ticks(1.0)
    ticks.delay(0.0)
    ticks.learn(1_500, 1_000, 0.0)
    assert ticks.next_at == 0.5
    assert ticks.take(0.5) == "due"
    assert ticks.next_at == 1.5


def test_a_due_time_that_the_clock_has_not_reached_after_all_is_waited_for_again() -> None:
    """The wall clock went back while the tick was waited for."""
    ticks = Ticks(100.0)
    ticks.delay(0.0)
    ticks.learn(1_500, 1_000, 0.0)
    assert ticks.take(0.5) == "due"
    ticks.learn(1_500, 1_400, 0.5)
    assert ticks.next_at == pytest.approx(0.6)


def test_a_due_time_that_has_passed_is_good_for_one_look() -> None:
    ticks = Ticks(100.0)
    ticks.delay(0.0)
    ticks.learn(1_000, 2_000, 10.0)
    assert ticks.take(10.0) == "due"
    ticks.learn(1_000, 2_001, 10.001)
    assert ticks.next_at == 110.0


@given(st.lists(st.integers(-10, 10), max_size=50))
def test_looks_for_what_is_due_are_at_least_five_milliseconds_apart(moves: list[int]) -> None:
    ticks = Ticks(1_000.0)
    ticks.delay(0.0)
    looks, now, now_ms = [], 0.0, 1_000_000
    for move in moves:
        ticks.learn(now_ms + move, now_ms, now)
        now = max(now, min(ticks.next_at, now + 0.002))
        if ticks.take(now) == "due":
            looks.append(now)
    assert all(later - earlier >= 0.005 - 1e-9 for earlier, later in pairwise(looks))
