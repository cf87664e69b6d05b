"""The runner and a host that fails, has to wait for another owner, or takes long."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sightline.errors import SessionDeleted, StoreUnavailable
from sightline.queue.runner import Contended, Idle, QueuedWorkRunOutcome, Submitted
from sightline.testing.clock import ManualClock, settled
from tests.core.queue.hosts import Host, logged, quiet, runner_of, strange

pytestmark = pytest.mark.anyio

LADDER = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
"""The pauses between eight tries."""


async def pauses(clock: ManualClock, count: int) -> list[float]:
    """The next pauses of whoever sleeps, each slept to its end."""
    found = []
    for _ in range(count):
        found.append(round(clock.jump(), 6))
        await settled()
    return found


# Failures


@strange
async def test_whatever_a_host_raises_costs_one_drive_and_takes_nobody_else_down(error: type[BaseException]) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", error())
    host.plan(None, error())
    async with runner_of(host, clock) as runner:
        runner.poke("test")
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        runner.poke_session("c", "test")
        await settled()
        assert host.runs == ["a", "b", "c"]
        await clock.run_for(0.025)
        assert (host.runs, host.looks) == (["a", "b", "c", "a"], 2)
        assert runner.active == 0


async def test_a_failed_drive_is_tried_eight_times_with_growing_pauses_and_then_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *(StoreUnavailable("the store is away") for _ in range(20)))
    async with runner_of(host, clock) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 7) == LADDER
        assert len(host.runs) == 8
        [line] = logged(caplog, logging.ERROR)
        assert line.startswith("session a: exhausted, 8 drives failed in a row: StoreUnavailable(")
        await clock.run_for(100.0)
        assert len(host.runs) == 8


async def test_a_session_that_was_given_up_is_tried_as_often_again_after_the_next_poke() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *(OSError() for _ in range(16)))
    async with runner_of(host, clock) as runner:
        for tries in (8, 16):
            runner.poke_session("a", "test")
            await clock.run_for(100.0)
            assert len(host.runs) == tries


async def test_a_poke_during_the_last_try_is_not_lost() -> None:
    host, clock = Host(), ManualClock()

    def poked() -> QueuedWorkRunOutcome:
        host.runner.poke_session("a", "during the last try")
        raise OSError

    host.plan("a", *(OSError() for _ in range(7)), poked)
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await clock.run_for(2.575)
        assert len(host.runs) == 9
        assert host.asked[-1] == ("a", "during the last try", True)


async def test_an_error_that_says_it_is_not_retryable_stops_at_once(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", SessionDeleted("a"))
    async with runner_of(host, clock) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await clock.run_for(100.0)
        assert host.runs == ["a"]
        assert len(logged(caplog, logging.ERROR)) == 1
        runner.poke_session("a", "a new notification")
        await settled()
        assert host.runs == ["a", "a"]


@pytest.mark.parametrize("answer", [Idle(), Submitted("a")], ids=["idle", "submitted"])
async def test_a_drive_that_succeeds_forgets_the_failures_before_it(answer: QueuedWorkRunOutcome) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *(OSError() for _ in range(7)), answer, *(OSError() for _ in range(7)))
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 7) == LADDER
        runner.complete_session("a", "turn ended")
        await settled()
        assert await pauses(clock, 7) == LADDER
        assert len(host.runs) == 16


async def test_a_drive_that_submits_another_session_forgets_the_failures_of_its_own() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError(), OSError(), Submitted("b"), OSError())
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 2) == LADDER[:2]
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 1) == LADDER[:1]


async def test_a_session_that_another_turns_out_to_have_submitted_forgets_its_failures() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError(), OSError(), OSError())
    host.plan("b", Submitted("a"))
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 1) == LADDER[:1]
        runner.poke_session("b", "test")
        await clock.run_for(0.05)
        assert host.runs == ["a", "a", "b"], "rested, and still in flight"
        runner.complete_session("a", "turn ended")
        await settled()
        assert await pauses(clock, 1) == LADDER[:1]


async def test_whoever_waits_for_another_try_holds_no_permit() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError())
    async with runner_of(host, clock, concurrency=1) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        assert (host.runs, runner.active) == (["a", "b"], 0)
        await clock.run_for(0.025)
        assert host.runs == ["a", "b", "a"]


@pytest.mark.parametrize("trouble", [OSError(), Contended()], ids=["failed", "contended"])
async def test_a_poke_does_not_shorten_the_pause_and_is_not_lost_in_it(trouble: Any) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", trouble)
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "first")
        await settled()
        runner.poke_session("a", "second")
        runner.complete_session("a", "third")
        await clock.run_for(0.024)
        assert host.runs == ["a"]
        await clock.run_for(0.001)
        assert host.asked[1:] == [("a", "first,second,third", True)]
        await clock.run_for(10.0)
        assert host.runs == ["a", "a"]


async def test_what_was_asked_for_during_a_drive_that_fails_is_asked_with_the_next_try() -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    host.plan("a", OSError())
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "first")
        await settled()
        runner.poke_session("a", "second")
        host.release()
        await clock.run_for(10.0)
        assert host.asked == [("a", "first", True), ("a", "first,second", True)]


async def test_a_failure_that_does_not_say_what_it_is_comes_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", StoreUnavailable("the store is away"), ValueError("a bug"))
    async with runner_of(host, clock) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await clock.run_for(10.0)
        assert [bool(record.exc_info) for record in caplog.records] == [False, True]


async def test_an_answer_that_is_none_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    nonsense: Any = lambda: "done"  # noqa: E731
    host.plan("a", nonsense)
    async with runner_of(host, clock) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await settled()
        assert "the host answered 'done'" in logged(caplog, logging.WARNING)[0]
        await clock.run_for(0.025)
        assert host.runs == ["a", "a"]


async def test_a_drive_that_somebody_cancels_is_not_repeated_and_does_not_lock_its_session() -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "first")
        await settled()
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "drive a"]
        task.cancel()
        host.release()
        await clock.run_for(10.0)
        assert (host.runs, host.cancelled, runner.active) == (["a"], ["a"], 0)
        runner.poke_session("a", "second")
        await settled()
        assert host.runs == ["a", "a"]


# Work that another owner holds


async def test_contended_work_is_asked_for_as_long_as_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *[Contended()] * 2_000)
    async with runner_of(host, clock) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 9) == [*LADDER, 1.0, 1.0]
        await clock.run_for(1_990.0)
        assert len(host.runs) == 2_000
        assert logged(caplog, logging.ERROR) == []


async def test_contended_work_is_worth_a_warning_every_thirty_seconds(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *[Contended()] * 1_000)
    async with runner_of(host, clock) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await clock.run_for(29.5)
        assert logged(caplog, logging.WARNING) == []
        await clock.run_for(2.0)
        assert logged(caplog, logging.WARNING) == ["session a: another owner has been holding the work for 31 s"]
        await clock.run_for(270.0)
        assert len(logged(caplog, logging.WARNING)) in (8, 9)


async def test_contention_does_not_count_as_failure_and_failure_not_as_contention() -> None:
    host, clock = Host(), ManualClock()
    for _ in range(7):
        host.plan("a", OSError(), Contended())
    host.plan("a", OSError())
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert await pauses(clock, 14) == [pause for pause in LADDER for _ in range(2)]
        await clock.run_for(100.0)
        assert len(host.runs) == 15, "the eighth failure is the last, whatever came between"


async def test_whoever_waits_for_another_owner_holds_no_permit() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *[Contended()] * 100)
    async with runner_of(host, clock, concurrency=1) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        assert (host.runs, runner.active) == (["a", "b"], 0)


async def test_two_runners_on_one_queue_do_its_work_once() -> None:
    """What makes it so is the claim: the runner that finds it taken asks again, and learns that nothing is left."""
    owner: list[Host] = []
    done: list[Host] = []

    class Claiming(Host):
        async def run_queued_work(self, request: Any) -> QueuedWorkRunOutcome:
            await super().run_queued_work(request)
            if request.session_id is None or done:
                return Idle()
            if owner:
                return Contended()
            owner.append(self)
            await clock.sleep(5.0)
            done.append(self)
            return Idle()

    clock = ManualClock()
    one, two = Claiming(), Claiming()
    async with runner_of(one, clock) as first, runner_of(two, clock) as second:
        for runner in (first, second):
            runner.poke_session("a", "enqueued")
        await clock.run_for(10.0)
        assert done == [one]
        assert len(two.runs) > 1


# Long drives


async def test_a_drive_that_takes_long_is_told_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    async with runner_of(host, clock, poll_interval=0.5) as runner:
        quiet(caplog)
        runner.poke_session("a", "test")
        await clock.run_for(29.5)
        assert logged(caplog, logging.INFO) == []
        await clock.run_for(100.0)
        assert logged(caplog, logging.INFO) == ["session a: a drive has been under way for 30 s"]
        assert host.running == ["a"]
