"""Which processes a worker runs."""

from __future__ import annotations

from sightline.process.pooling import Pool


def test_as_many_begin_as_there_are_permits() -> None:
    pool = Pool(2)
    assert [pool.begin(name, 0.0) for name in "abc"] == [True, True, False]
    assert not pool.has_room
    assert not pool.ended("a")
    assert pool.begin("c", 0.0)


def test_what_runs_is_not_begun_again_and_looked_for_when_it_has_ended() -> None:
    pool = Pool(2)
    pool.begin("a", 0.0)
    assert not pool.begin("a", 0.0)
    assert pool.ended("a")
    assert pool.begin("a", 0.0)
    assert not pool.ended("a")


def test_what_waits_gives_its_permit_back_and_takes_one_before_anybody_new() -> None:
    pool = Pool(1)
    pool.begin("a", 0.0)
    pool.park("a")
    assert pool.begin("b", 0.0)
    assert not pool.come_back("a")
    assert pool.admit() is None
    pool.ended("b")
    assert not pool.begin("c", 0.0)
    assert pool.admit() == "a"
    assert pool.come_back("a")
    assert not pool.has_room


def test_those_that_come_back_are_let_go_on_in_their_order() -> None:
    pool = Pool(1)
    for name in "abc":
        assert pool.begin(name, 0.0)
        pool.park(name)
    assert [pool.come_back(name) for name in "cab"] == [False] * 3
    assert pool.admit() == "c"
    assert pool.admit() is None
    pool.park("c")
    assert pool.admit() == "a"


def test_a_wait_that_is_cut_short_counts_at_once() -> None:
    pool = Pool(1)
    pool.begin("a", 0.0)
    pool.park("a")
    pool.begin("b", 0.0)
    pool.come_back("a")
    pool.resume("a")
    assert pool.admit() is None
    pool.ended("b")
    assert not pool.has_room
    pool.ended("a")
    assert pool.has_room


def test_what_ends_while_it_waits_leaves_nothing_behind() -> None:
    pool = Pool(1)
    for name in "ab":
        pool.begin(name, 0.0)
        pool.park(name)
    pool.come_back("a")
    pool.ended("a")
    assert pool.admit() is None
    assert pool.has_room
    assert pool.active == 1
    pool.park("a")
    assert pool.active == 1


def test_what_failed_rests_longer_each_time_up_to_a_minute() -> None:
    pool = Pool(1)
    now, pauses = 0.0, []
    for _ in range(10):
        assert pool.begin("a", now)
        pause = pool.failed("a", now)
        assert not pool.begin("a", now + pause - 0.001)
        now += pause
        pauses.append(pause)
    assert pauses == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]


def test_an_end_makes_failures_forgotten() -> None:
    pool = Pool(1)
    pool.begin("a", 0.0)
    pool.failed("a", 0.0)
    pool.begin("a", 1.0)
    pool.ended("a")
    pool.begin("a", 1.0)
    assert pool.failed("a", 1.0) == 0.4


def test_a_closed_pool_begins_nothing_and_lets_what_waits_go_on() -> None:
    pool = Pool(2)
    pool.begin("a", 0.0)
    pool.park("a")
    pool.close()
    assert not pool.begin("b", 0.0)
    assert not pool.come_back("a")
    assert pool.admit() == "a"
