"""The runner: what it asks for, when, how often, and how much at a time. Time moves when told."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from sightline.queue.runner import Idle, QueuedWorkRunner, QueuedWorkRunOutcome, Submitted
from sightline.testing.clock import ManualClock, settled
from tests.core.queue.hosts import NEVER, Host, either_mode, logged, quiet, runner_of

pytestmark = pytest.mark.anyio


# What the host is asked


async def test_the_host_is_asked_at_the_start_for_what_was_there_before() -> None:
    host = Host()
    async with runner_of(host, start=False) as runner:
        runner.start()
        await settled()
        assert host.asked == [(None, "startup", False)]


async def test_the_look_at_the_start_comes_before_what_was_poked_until_then() -> None:
    host = Host()
    async with runner_of(host, concurrency=1, start=False) as runner:
        runner.poke_session("a", "early")
        await settled()
        assert host.asked == []
        runner.start()
        await settled()
        assert host.asked == [(None, "startup", False), ("a", "early", True)]


async def test_a_poke_for_nobody_asks_for_whatever_is_ready() -> None:
    host = Host()
    async with runner_of(host) as runner:
        runner.poke("something")
        await settled()
        assert host.asked == [(None, "something", True)]


async def test_a_poke_asks_for_its_session_without_any_time_going_by() -> None:
    host = Host()
    async with runner_of(host) as runner:
        runner.poke_session("a", "enqueued")
        await settled()
        assert host.asked == [("a", "enqueued", True)]


async def test_a_poll_asks_for_whatever_is_ready_after_each_interval() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock, poll_interval=0.4):
        await clock.run_for(0.399)
        assert host.asked == []
        await clock.run_for(0.001)
        assert host.asked == [(None, "poll", False)]
        await clock.run_for(0.8)
        assert host.looks == 3


async def test_a_completion_asks_for_its_session_again_and_traces_nothing() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host) as runner:
        runner.poke_session("a", "enqueued")
        await settled()
        runner.complete_session("a", "turn ended")
        await settled()
        assert host.asked == [("a", "enqueued", True), ("a", "turn ended", False)]


async def test_a_poll_that_comes_while_one_is_under_way_is_left_out() -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {None}
    async with runner_of(host, clock, poll_interval=1.0, start=False) as runner:
        runner.start()
        await clock.run_for(5.5)
        host.release()
        await settled()
        assert host.looks == 1
        await clock.run_for(0.5)
        assert host.looks == 2


# One demand, one rerun


async def test_a_burst_of_pokes_before_a_drive_is_one_drive_that_knows_all_reasons() -> None:
    host = Host()
    host.blocked = {"other"}
    async with runner_of(host, concurrency=1) as runner:
        runner.poke_session("other", "holds the permit")
        for reason in ("enqueued", "wake", "enqueued", "cancel") * 25:
            runner.poke_session("a", reason)
        host.release()
        await settled()
        assert host.asked[1:] == [("a", "enqueued,wake,cancel", True)]


async def test_a_burst_of_pokes_during_a_drive_is_one_more_drive_that_knows_all_reasons() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host) as runner:
        runner.poke_session("a", "first")
        await settled()
        for reason in ("second", "third", "second") * 30:
            runner.poke_session("a", reason)
        host.release()
        await settled()
        assert host.asked == [("a", "first", True), ("a", "second,third", True)]


async def test_pokes_for_nobody_are_one_demand_like_those_for_a_session() -> None:
    host = Host()
    host.blocked = {None}
    async with runner_of(host) as runner:
        runner.poke("first")
        await settled()
        for reason in ("second", "third"):
            runner.poke(reason)
        host.release()
        await settled()
        assert host.asked == [(None, "first", True), (None, "second,third", True)]


async def test_a_demand_is_traced_if_anybody_poked_for_it() -> None:
    host = Host()
    host.blocked = {"a", "b"}
    async with runner_of(host) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "first")
            await settled()
            runner.complete_session(session_id, "ended")
        runner.poke_session("a", "poke")
        host.release()
        await settled()
        assert host.asked[2:] == [("a", "ended,poke", True), ("b", "ended", False)]


async def test_a_demand_that_waits_does_not_collect_reasons_without_end() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host) as runner:
        runner.poke_session("a", "first")
        await settled()
        for number in range(1_000):
            runner.poke_session("a", f"poke {number}")
        host.release()
        await settled()
        assert len(host.asked[1][1]) < 200


async def test_a_poke_that_comes_when_the_drive_has_already_found_nothing_is_not_lost() -> None:
    host = Host()

    def too_late() -> QueuedWorkRunOutcome:
        host.runner.poke_session("a", "between the look and the answer")
        return Idle()

    host.plan("a", too_late)
    async with runner_of(host) as runner:
        runner.poke_session("a", "first")
        await settled()
        assert host.runs == ["a", "a"]


# Permits and the line


async def test_sessions_share_the_permits_and_all_get_their_turn() -> None:
    host = Host()
    names = [f"s{number}" for number in range(65)]
    host.blocked = set(names)
    async with runner_of(host, concurrency=64) as runner:
        for name in names:
            runner.poke_session(name, "test")
        await settled()
        assert (len(host.runs), runner.active, runner.waiting) == (64, 64, 1)
        host.release()
        await settled()
        assert host.runs == names
        assert (host.most, runner.active, runner.waiting) == (64, 0, 0)


async def test_a_submitted_session_holds_its_permit_until_it_is_completed() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host, concurrency=1) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        assert (host.runs, runner.active, runner.waiting) == (["a"], 1, 1)
        runner.complete_session("a", "turn ended")
        await settled()
        assert (host.runs, runner.active) == (["a", "b", "a"], 0)


async def test_a_busy_session_goes_to_the_back_of_the_line_after_each_turn() -> None:
    host = Host()
    host.turns("a", 2)
    host.turns("b", 1)
    async with runner_of(host, concurrency=1) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
        await settled()
        assert host.runs == ["a", "b", "c", "a", "b", "a"]


async def test_a_session_that_is_poked_all_the_time_does_not_starve_the_others() -> None:
    host = Host()

    def greedy() -> QueuedWorkRunOutcome:
        host.runner.poke_session("a", "me again")
        return Idle()

    host.plan("a", *[greedy] * 3)
    async with runner_of(host, concurrency=1) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
        await settled()
        assert host.runs == ["a", "b", "c", "a", "a", "a"]


async def test_a_session_is_driven_until_nothing_is_left() -> None:
    host = Host()
    host.turns("a", 3)
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a"] * 4


async def test_while_one_session_is_in_flight_pokes_and_polls_serve_all_others() -> None:
    """The global gate would keep the poll, and whoever relies on it, waiting for the end of the one."""
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"))
    async with runner_of(host, clock, poll_interval=1.0) as runner:
        runner.poke_session("a", "test")
        runner.poke_session("b", "test")
        await settled()

        def finds() -> QueuedWorkRunOutcome:
            runner.poke_session("c", "found")
            return Idle()

        host.plan(None, finds)
        await clock.run_for(1.0)
        assert host.runs == ["a", "b", "c"]
        assert runner.active == 1


# Submitted and completed


async def test_a_poke_for_a_session_in_flight_is_remembered_until_it_is_completed() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host) as runner:
        runner.poke_session("a", "first")
        await settled()
        runner.poke_session("a", "second")
        await settled()
        assert host.runs == ["a"]
        runner.complete_session("a", "turn ended")
        await settled()
        assert host.asked[1:] == [("a", "second,turn ended", True)]


async def test_a_host_may_submit_another_session_than_it_was_asked_for() -> None:
    host = Host()
    host.plan("a", Submitted("b"))
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        runner.poke_session("a", "again")
        runner.poke_session("b", "again")
        await settled()
        assert host.runs == ["a", "a"]
        runner.complete_session("b", "turn ended")
        await settled()
        assert host.runs == ["a", "a", "b"]


async def test_a_session_that_gets_in_flight_while_it_is_in_line_is_not_run_until_it_is_completed() -> None:
    host = Host()
    host.plan(None, Submitted("a"))
    host.blocked = {None, "b"}
    async with runner_of(host, concurrency=2) as runner:
        runner.poke("look")
        runner.poke_session("b", "holds the other permit")
        runner.poke_session("a", "enqueued")
        await settled()
        host.release(None)
        await settled()
        host.release("b")
        await settled()
        assert (host.runs, runner.active) == (["b"], 1)
        runner.complete_session("a", "turn ended")
        await settled()
        assert ("a", "enqueued,turn ended", True) in host.asked


async def test_one_look_finds_every_session_though_the_host_answers_with_one_at_a_time() -> None:
    host = Host()
    names = [f"s{number}" for number in range(10)]
    host.plan(None, *map(Submitted, names))
    async with runner_of(host) as runner:
        runner.poke("work for ten")
        await settled()
        assert (host.looks, runner.active) == (11, 10)
        for name in names:
            runner.complete_session(name, "turn ended")
        await settled()
        assert host.runs == names


async def test_a_host_that_answers_with_the_same_session_for_ever_is_not_asked_for_ever() -> None:
    host, clock = Host(), ManualClock()
    host.plan(None, *[Submitted("a")] * 100)
    async with runner_of(host, clock) as runner:
        runner.poke("test")
        await settled()
        assert (host.looks, runner.active) == (2, 1)


@pytest.mark.parametrize("asked_for", ["a", "b", None])
async def test_a_completion_that_comes_before_the_answer_counts(asked_for: str | None) -> None:
    host = Host()
    host.blocked = {asked_for}
    host.plan(asked_for, Submitted("a"))
    async with runner_of(host) as runner:
        if asked_for is None:
            runner.poke("test")
        else:
            runner.poke_session(asked_for, "test")
        await settled()
        runner.complete_session("a", "was quick")
        await settled()
        host.release()
        await settled()
        assert runner.active == 0
        assert host.asked[-1 if asked_for == "a" else 1] == ("a", "was quick", False)


async def test_a_completion_counts_for_a_drive_that_was_under_way_and_for_no_later_one() -> None:
    host = Host()
    async with runner_of(host) as runner:
        runner.complete_session("a", "of nothing")
        await settled()
        host.plan("a", Submitted("a"))
        runner.poke_session("a", "test")
        await settled()
        assert runner.active == 1


async def test_the_end_of_a_session_is_told_to_a_look_that_still_has_to_answer() -> None:
    """The look began the run, it ended, its completion drove the session, and only then does the look say so."""
    host = Host()
    host.blocked = {None}
    host.plan(None, Submitted("a"))
    async with runner_of(host) as runner:
        runner.poke("test")
        await settled()
        host.blocked.add("a")
        runner.poke_session("a", "test")
        await settled()
        runner.complete_session("a", "was quick")
        host.release("a")
        await settled()
        host.release()
        await settled()
        assert runner.active == 0


async def test_completing_what_is_not_in_flight_is_a_poke_like_any_other() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        for _ in range(5):
            runner.complete_session("a", "not in flight")
        host.release()
        await settled()
        assert host.asked == [("a", "test", True), ("a", "not in flight", False)]


# Completions that never come


async def test_a_session_that_is_never_completed_is_driven_again_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"))
    async with runner_of(host, clock, concurrency=1, poll_interval=1.0, completion_timeout=60.0) as runner:
        runner.poke_session("a", "test")
        runner.poke_session("b", "waits for the permit")
        await clock.run_for(59.0)
        assert host.runs == ["a"]
        quiet(caplog)
        await clock.run_for(1.0)
        assert host.runs == ["a", "b", "a"]
        assert ("a", "completion timed out", False) in host.asked
        assert runner.active == 0
        assert logged(caplog, logging.WARNING) == [
            "session a: submitted, and not completed within 60 s: taken to be lost"
        ]


async def test_a_completion_that_comes_in_time_starts_the_time_anew() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"), Submitted("a"))
    async with runner_of(host, clock, poll_interval=1.0, completion_timeout=60.0) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(59.0)
        runner.complete_session("a", "turn ended")
        await clock.run_for(59.0)
        assert host.runs == ["a", "a"]
        await clock.run_for(1.0)
        assert host.runs == ["a", "a", "a"]


@either_mode
async def test_a_session_that_is_submitted_again_keeps_no_other_from_being_found_lost(global_gate: bool) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"))
    host.plan("b", Submitted("b"))
    host.plan("c", Submitted("a"))
    async with runner_of(host, clock, global_gate=global_gate, poll_interval=1.0, completion_timeout=60.0) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
            await clock.run_for(10.0)
        host.requests.clear()
        await clock.run_for(40.0)
        assert host.runs == ["b"]
        await clock.run_for(10.0)
        assert host.runs == ["b", "a"]


async def test_a_completion_that_comes_too_late_is_a_poke() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"))
    async with runner_of(host, clock, poll_interval=1.0, completion_timeout=60.0) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(61.0)
        runner.complete_session("a", "at last")
        await settled()
        assert host.asked[-1] == ("a", "at last", False)
        assert runner.active == 0


async def test_sessions_in_flight_cost_no_task_and_no_timer_each() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock) as runner:
        tasks, sleepers = len(asyncio.all_tasks()), clock.sleepers
        for number in range(50):
            host.plan(f"s{number}", Submitted(f"s{number}"))
            runner.poke_session(f"s{number}", "test")
        await settled()
        assert runner.active == 50
        assert (len(asyncio.all_tasks()), clock.sleepers) == (tasks, sleepers)


async def test_one_timer_is_enough_for_everything() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock) as runner:
        for number in range(50):
            host.plan(f"s{number}", *[OSError()] * 3)
            runner.poke_session(f"s{number}", "test")
            await clock.run_for(0.003)
            assert clock.sleepers == 1


# Work that comes due


async def test_delayed_work_is_looked_for_when_it_is_due_and_not_before() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Idle(clock.now_ms() + 150))
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "enqueued for later")
        await clock.run_for(0.149)
        assert host.looks == 0
        await clock.run_for(0.001)
        assert host.asked[1:] == [(None, "due", False)]
        await clock.run_for(100.0)
        assert host.looks == 1


async def test_of_two_due_times_the_earlier_is_kept() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Idle(clock.now_ms() + 150))
    host.plan("b", Idle(clock.now_ms() + 100))
    host.plan("c", Idle(clock.now_ms() + 90_000))
    async with runner_of(host, clock) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
            await settled()
        await clock.run_for(0.1)
        assert host.looks == 1


async def test_work_that_is_due_later_than_the_next_poll_does_not_delay_the_poll() -> None:
    host, clock = Host(), ManualClock()
    host.plan(None, Idle(clock.now_ms() + 60_000))
    async with runner_of(host, clock, poll_interval=1.0):
        await clock.run_for(3.0)
        assert host.looks == 3


async def test_work_that_comes_due_while_the_host_looks_is_looked_for_again() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Idle(clock.now_ms() + 150))
    host.blocked = {None}
    async with runner_of(host, clock, start=False) as runner:
        runner.poke_session("a", "test")
        runner.start()
        await clock.run_for(0.15)
        host.release()
        await settled()
        assert [reason for key, reason, _ in host.asked if key is None] == ["startup", "due"]


async def test_work_that_is_overdue_and_not_to_be_had_is_looked_for_once_and_left_to_the_poll() -> None:
    host, clock = Host(), ManualClock()
    past = clock.now_ms() - 5_000
    host.plan(None, *[Idle(past)] * 1_000)
    async with runner_of(host, clock, poll_interval=1.0) as runner:
        runner.poke("test")
        await clock.run_for(0.9)
        assert host.looks == 2
        await clock.run_for(3.0)
        assert host.looks <= 6


async def test_a_host_whose_clock_is_behind_is_not_asked_without_pause() -> None:
    host, clock = Host(), ManualClock()
    host.plan(None, *[lambda: Idle(clock.now_ms())] * 10_000)
    async with runner_of(host, clock) as runner:
        runner.poke("test")
        await clock.run_for(1.0)
        assert host.looks <= 202


# Wrong values


@pytest.mark.parametrize(
    ("name", "value"),
    [("concurrency", value) for value in (0, -1, 100_001, 1.5, True)]
    + [(name, value) for name in ("poll_interval", "completion_timeout") for value in (0, -1, math.inf, math.nan)],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        QueuedWorkRunner(Host(), ManualClock(), **{name: value})


def test_the_bounds_are_right_values() -> None:
    for concurrency in (1, 100_000):
        QueuedWorkRunner(Host(), ManualClock(), concurrency=concurrency, poll_interval=NEVER, completion_timeout=0.1)
