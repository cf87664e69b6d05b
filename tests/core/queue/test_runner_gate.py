"""The runner with its global gate: one call of the host at a time, and none for nobody while a session is in flight."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sightline.errors import SessionDeleted
from sightline.queue.runner import Contended, Idle, QueuedWorkRunner, Submitted
from sightline.testing.clock import ManualClock, settled
from tests.core.queue.hosts import Host, logged, quiet, runner_of, strange

pytestmark = pytest.mark.anyio


async def test_a_submitted_session_is_held_in_flight_until_its_completion() -> None:
    host, clock = Host(), ManualClock()
    host.plan("root", Submitted("root"), Idle())
    async with runner_of(host, clock, global_gate=True, poll_interval=0.4) as runner:
        runner.poke_session("root", "process_wake")
        await settled()
        assert host.asked == [("root", "process_wake", True)]
        runner.poke_session("root", "duplicate")
        await settled()
        assert len(host.asked) == 1, "a session in flight is not submitted again"
        await clock.run_for(4.0)
        assert len(host.asked) == 1, "a poll submits nothing while work is in flight"
        runner.complete_session("root", "queued_turn_completed")
        await settled()
        assert host.asked[1:] == [("root", "queued_turn_completed", False)]


async def test_the_gate_is_what_a_runner_has_unless_told_otherwise() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    runner = QueuedWorkRunner(host, ManualClock())
    poke = runner.spawn()
    poke.poke_session("a", "test")
    poke.poke("somewhere")
    await settled()
    assert ("a", "test", True) in host.asked
    assert (None, "somewhere", True) not in host.asked
    await runner.stop()


async def test_the_start_asks_for_whatever_is_there_and_the_first_poll_follows_at_once() -> None:
    host = Host()
    async with runner_of(host, global_gate=True, start=False) as runner:
        runner.start()
        await settled()
        assert host.asked == [(None, "startup", False), (None, "poll", False)]


async def test_the_first_poll_waits_for_the_answer_to_the_start() -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {None}
    host.plan(None, Submitted("a"))
    async with runner_of(host, clock, global_gate=True, poll_interval=1.0, start=False) as runner:
        runner.start()
        await clock.run_for(5.5)
        host.release()
        await clock.run_for(5.0)
        assert host.asked == [(None, "startup", False)]


async def test_what_was_poked_before_the_start_comes_after_it_in_order() -> None:
    host = Host()
    async with runner_of(host, global_gate=True, start=False) as runner:
        runner.poke_session("a", "early")
        runner.poke("early")
        runner.start()
        await settled()
        assert host.asked[:3] == [(None, "startup", False), ("a", "early", True), (None, "early", True)]


async def test_a_poll_asks_for_whatever_is_ready_after_each_interval() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock, global_gate=True, poll_interval=0.4):
        await clock.run_for(1.2)
        assert host.asked == [(None, "poll", False)] * 3


async def test_polls_that_come_late_delay_those_after_them() -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    async with runner_of(host, clock, global_gate=True, poll_interval=1.0) as runner:
        runner.poke_session("a", "takes long")
        await clock.run_for(5.7)
        host.release()
        await clock.run_for(0.9)
        assert host.looks == 1
        await clock.run_for(0.1)
        assert host.looks == 2


async def test_the_host_is_asked_for_one_thing_at_a_time_and_in_order() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host, global_gate=True) as runner:
        for session_id in ("a", "b", "c", "b"):
            runner.poke_session(session_id, "test")
        runner.poke("somewhere")
        await settled()
        assert host.runs == ["a"]
        host.release()
        await settled()
        assert [session_id for session_id, _, _ in host.asked] == ["a", "b", "c", "b", None]
        assert host.most == 1


async def test_another_session_passes_the_gate_by_its_name() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host, global_gate=True) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        assert host.runs == ["a", "b"]


async def test_a_poke_for_nobody_is_dropped_while_a_session_is_in_flight() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host, global_gate=True) as runner:
        runner.poke_session("a", "test")
        runner.poke("somewhere")
        runner.complete_session("a", "turn ended")
        await settled()
        assert host.asked == [("a", "test", True), ("a", "turn ended", False)]
        runner.poke("somewhere")
        await settled()
        assert host.looks == 1


async def test_the_host_may_submit_another_session_than_it_was_asked_for() -> None:
    host = Host()
    host.plan(None, Submitted("b"))
    async with runner_of(host, global_gate=True) as runner:
        runner.poke("somewhere")
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        assert host.runs == ["a"]
        runner.complete_session("b", "turn ended")
        await settled()
        assert host.runs == ["a", "b"]


async def test_completing_a_session_that_is_not_in_flight_asks_for_it() -> None:
    host = Host()
    async with runner_of(host, global_gate=True) as runner:
        runner.complete_session("a", "not in flight")
        await settled()
        assert host.asked == [("a", "not in flight", False)]


async def test_a_completion_that_comes_before_the_answer_counts() -> None:
    host = Host()
    host.blocked = {"a"}
    host.plan("a", Submitted("a"))
    async with runner_of(host, global_gate=True) as runner:
        runner.poke_session("a", "test")
        await settled()
        runner.complete_session("a", "was quick")
        host.release()
        await settled()
        assert host.runs == ["a", "a"]
        assert runner.active == 0


@strange
async def test_the_loop_survives_whatever_the_host_raises(error: type[BaseException]) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", error())
    host.plan(None, error(), error())
    async with runner_of(host, clock, global_gate=True, poll_interval=1.0) as runner:
        runner.poke_session("a", "test")
        runner.poke("somewhere")
        runner.poke_session("b", "test")
        await clock.run_for(2.0)
        assert [session_id for session_id, _, _ in host.asked] == ["a", None, "b", None, None]


async def test_the_start_may_fail() -> None:
    host, clock = Host(), ManualClock()
    host.plan(None, OSError())
    async with runner_of(host, clock, global_gate=True, poll_interval=1.0, start=False) as runner:
        runner.start()
        await clock.run_for(1.0)
        assert [reason for _, reason, _ in host.asked] == ["startup", "poll", "poll"]


@pytest.mark.parametrize(
    "trouble", [OSError(), SessionDeleted("a"), Contended(), Idle()], ids=lambda t: type(t).__name__
)
async def test_a_session_without_success_is_left_to_the_next_poke_or_poll(trouble: Any) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", trouble)
    async with runner_of(host, clock, global_gate=True) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(100.0)
        assert (host.runs, runner.active) == (["a"], 0)
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a", "a"]


async def test_a_failure_is_told_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    host.plan("a", SessionDeleted("a"))
    async with runner_of(host, global_gate=True) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await settled()
        assert logged(caplog, logging.WARNING) == ["session a: drive failed: SessionDeleted('a')"]


async def test_a_drive_that_somebody_cancels_does_not_lock_the_runner() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host, global_gate=True) as runner:
        runner.poke_session("a", "test")
        await settled()
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "drive a"]
        task.cancel()
        host.release()
        runner.poke_session("b", "test")
        await settled()
        assert host.runs == ["a", "b"]


async def test_a_session_that_is_never_completed_opens_the_gate_again_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"))
    async with runner_of(host, clock, global_gate=True, poll_interval=1.0, completion_timeout=60.0) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(59.0)
        assert len(host.asked) == 1
        quiet(caplog)
        await clock.run_for(1.0)
        assert host.asked[1:] == [("a", "completion timed out", False), (None, "poll", False)]
        assert logged(caplog, logging.WARNING) == [
            "session a: submitted, and not completed within 60 s: taken to be lost"
        ]


async def test_a_completion_in_time_starts_the_time_anew() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"), Submitted("a"))
    async with runner_of(host, clock, global_gate=True, poll_interval=1.0, completion_timeout=60.0) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(59.0)
        runner.complete_session("a", "turn ended")
        await clock.run_for(59.0)
        assert host.runs == ["a", "a"]
        await clock.run_for(1.0)
        assert host.runs == ["a", "a", "a"]


async def test_a_call_that_takes_long_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    async with runner_of(host, clock, global_gate=True, poll_interval=0.5) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await clock.run_for(100.0)
        assert logged(caplog, logging.INFO) == ["session a: a drive has been under way for 30 s"]


async def test_delayed_work_is_looked_for_when_it_is_due() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Idle(clock.now_ms() + 150))
    async with runner_of(host, clock, global_gate=True) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(0.149)
        assert host.looks == 0
        await clock.run_for(0.001)
        assert host.asked[1:] == [(None, "due", False)]


async def test_the_same_session_may_be_submitted_while_it_is_in_flight_and_completed_once() -> None:
    host = Host()
    host.plan("a", Submitted("x"))
    host.plan("b", Submitted("x"))
    async with runner_of(host, global_gate=True) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        assert runner.active == 1
        runner.complete_session("x", "turn ended")
        await settled()
        assert runner.active == 0


async def test_a_completion_that_waits_behind_a_call_is_heard_when_the_runner_stops_claiming() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    host.blocked = {"b"}
    async with runner_of(host, global_gate=True) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        runner.complete_session("a", "turn ended")
        runner.stop_claiming()
        host.release()
        await asyncio.wait_for(runner.wait_idle(), 5)
        assert host.runs == ["a", "b"]
