"""How a runner ends, what it still hears then, and how it is poked from outside."""

from __future__ import annotations

import asyncio
import copy
import gc
import weakref
from typing import Any

import pytest

from sightline.queue.runner import Contended, Idle, QueuedWorkPoke, QueuedWorkRunner, QueuedWorkRunOutcome, Submitted
from sightline.testing.clock import ManualClock, settled
from tests.core.queue.hosts import Host, either_mode, runner_of

pytestmark = pytest.mark.anyio


# The end


@either_mode
async def test_stopping_cancels_the_drives_and_waits_for_them(global_gate: bool) -> None:
    host = Host()
    host.blocked = {"a", "b"}
    async with runner_of(host, global_gate=global_gate) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
        await settled()
        begun = list(host.running)
        await runner.stop()
        assert host.cancelled == begun
        assert (host.running, runner.active) == ([], 0)


@either_mode
async def test_stopping_ends_a_drive_that_has_not_yet_had_its_first_step(global_gate: bool) -> None:
    host = Host()
    async with runner_of(host, global_gate=global_gate) as runner:
        runner.poke_session("a", "test")
        await runner.stop()
        await runner.wait_idle()
        assert (host.runs, runner.active) == ([], 0)


@either_mode
async def test_stopping_does_not_wait_for_sessions_in_flight(global_gate: bool) -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host, global_gate=global_gate) as runner:
        runner.poke_session("a", "test")
        await settled()
        await runner.stop()
        await runner.wait_idle()
        assert runner.active == 0


async def test_stopping_does_not_wait_for_a_session_that_waits_for_its_next_try() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError())
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        await runner.stop()
        await clock.run_for(10.0)
        assert host.runs == ["a"]


class Tidy(Host):
    """Takes a second to settle what a cancelled drive of `a` holds, and answers as if nothing had been."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.tidied: list[str] = []

    async def run_queued_work(self, request: Any) -> QueuedWorkRunOutcome:
        try:
            return await super().run_queued_work(request)
        except asyncio.CancelledError:
            if request.session_id == "a":
                await self.clock.sleep(1.0)
            self.tidied.append(request.session_id)
            return Idle(self.clock.now_ms() + 100_000)


async def test_stopping_twice_cancels_once_and_both_wait() -> None:
    clock = ManualClock()
    host = Tidy(clock)
    host.blocked = {"a"}
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        stopping = []
        for _ in range(2):
            stopping.append(asyncio.create_task(runner.stop()))
            await settled()
        assert not any(task.done() for task in stopping)
        await clock.run_for(1.0)
        assert all(task.done() for task in stopping)
        assert host.tidied == ["a"]


async def test_what_a_drive_answers_while_the_runner_stops_holds_nothing_up() -> None:
    clock = ManualClock()
    host = Tidy(clock)
    host.blocked = {"a", "b"}
    async with runner_of(host, clock) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        stopping = asyncio.create_task(runner.stop())
        await clock.run_for(1.0)
        assert stopping.done()
        assert host.tidied == ["b", "a"]


async def test_a_host_may_stop_its_runner_from_within_a_drive() -> None:
    class Ending(Host):
        async def run_queued_work(self, request: Any) -> QueuedWorkRunOutcome:
            if request.session_id == "a":
                await self.runner.stop()
            return await super().run_queued_work(request)

    host = Ending()
    host.blocked = {"b"}
    async with runner_of(host) as runner:
        for session_id in ("b", "a", "c"):
            runner.poke_session(session_id, "test")
        await asyncio.wait_for(runner.wait_idle(), 5)
        assert host.cancelled == ["b"]
        assert "a" in host.runs


@either_mode
async def test_after_stop_claiming_what_runs_goes_on_and_nothing_new_begins(global_gate: bool) -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    host.turns("a", 1)
    async with runner_of(host, clock, global_gate=global_gate, concurrency=1, poll_interval=1.0) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        runner.stop_claiming()
        idle = asyncio.create_task(runner.wait_idle())
        host.requests.clear()
        runner.poke_session("d", "test")
        runner.poke("test")
        await clock.run_for(10.0)
        assert not idle.done()
        assert runner.waiting == 0
        host.release()
        await settled()
        assert idle.done()
        assert host.asked == []


@either_mode
async def test_after_stop_claiming_a_submitted_session_is_waited_for(global_gate: bool) -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host, global_gate=global_gate) as runner:
        runner.poke_session("a", "test")
        await settled()
        runner.stop_claiming()
        idle = asyncio.create_task(runner.wait_idle())
        await settled()
        assert not idle.done()
        runner.complete_session("a", "turn ended")
        await settled()
        assert idle.done()
        assert host.runs == ["a"]


@either_mode
async def test_after_stop_claiming_a_session_that_is_never_completed_is_waited_for_in_vain_no_longer_than_ever(
    global_gate: bool,
) -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", Submitted("a"))
    async with runner_of(host, clock, global_gate=global_gate, poll_interval=1.0, completion_timeout=60.0) as runner:
        runner.poke_session("a", "test")
        await settled()
        runner.stop_claiming()
        idle = asyncio.create_task(runner.wait_idle())
        await clock.run_for(59.0)
        assert not idle.done()
        await clock.run_for(1.0)
        assert idle.done()
        assert host.runs == ["a"]
        assert clock.sleepers == 0


@pytest.mark.parametrize("trouble", [OSError(), Contended()], ids=["failed", "contended"])
async def test_after_stop_claiming_a_drive_that_fails_is_not_tried_again(trouble: Any) -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    host.plan("a", trouble)
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        runner.stop_claiming()
        host.release()
        await clock.run_for(10.0)
        await runner.wait_idle()
        assert host.runs == ["a"]


@either_mode
async def test_a_runner_that_has_stopped_ignores_everything(global_gate: bool) -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock, global_gate=global_gate, poll_interval=1.0) as runner:
        await runner.stop()
        runner.poke("test")
        runner.poke_session("a", "test")
        runner.complete_session("a", "test")
        runner.start()
        await clock.run_for(10.0)
        assert (host.asked, runner.active, runner.waiting) == ([], 0, 0)


@either_mode
async def test_a_runner_that_was_stopped_before_it_was_started_never_runs(global_gate: bool) -> None:
    host = Host()
    async with runner_of(host, global_gate=global_gate, start=False) as runner:
        runner.poke_session("a", "test")
        await runner.stop()
        runner.poke_session("b", "test")
        runner.start()
        await settled()
        assert (host.asked, runner.waiting) == ([], 0)


@either_mode
async def test_a_runner_without_work_is_idle(global_gate: bool) -> None:
    async with runner_of(Host(), global_gate=global_gate, start=False) as runner:
        await runner.wait_idle()


async def test_a_runner_is_idle_again_when_its_drives_have_ended() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        idle = asyncio.create_task(runner.wait_idle())
        await settled()
        assert not idle.done()
        host.release()
        await settled()
        assert idle.done()


async def test_starting_twice_is_starting_once() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock, poll_interval=1.0) as runner:
        runner.start()
        await clock.run_for(3.0)
        assert host.looks == 3


# From outside


async def test_a_poke_handle_does_what_the_runner_does_and_so_do_its_copies() -> None:
    host = Host()
    host.plan("a", Submitted("a"))
    async with runner_of(host, start=False) as runner:
        poke = copy.copy(runner.spawn())
        poke.poke_session("a", "enqueued")
        await settled()
        poke.poke("somewhere")
        poke.complete_session("a", "turn ended")
        await settled()
        assert host.asked == [
            (None, "startup", False),
            ("a", "enqueued", True),
            (None, "somewhere", True),
            ("a", "turn ended", False),
        ]


async def test_a_poke_handle_whose_runner_has_stopped_does_nothing() -> None:
    host = Host()
    runner = QueuedWorkRunner(host, ManualClock(), global_gate=False)
    poke = runner.spawn()
    await runner.stop()
    poke.poke("test")
    poke.poke_session("a", "test")
    poke.complete_session("a", "test")
    await settled()
    assert host.asked == []


def test_the_users_wish_to_end_the_process_is_not_kept_from_it(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    host.plan("a", KeyboardInterrupt())

    async def start() -> None:
        host.runner = QueuedWorkRunner(host, ManualClock(), global_gate=False)
        host.runner.start()
        host.runner.poke_session("a", "test")
        await host.runner.wait_idle()
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(start())
    assert host.runner.active == 0
    assert caplog.records == [], "and is nobody's failure"


def test_a_poke_handle_keeps_no_runner_alive() -> None:
    runner = QueuedWorkRunner(Host(), ManualClock())
    poke, alive = QueuedWorkPoke(runner), weakref.ref(runner)
    del runner
    gc.collect()
    assert alive() is None
    poke.poke_session("a", "test")


def test_a_poke_after_the_loop_has_been_closed_does_nothing() -> None:
    host = Host()
    runner = QueuedWorkRunner(host, ManualClock(), global_gate=False)

    async def start() -> None:
        runner.start()
        await settled()

    asyncio.run(start())
    runner.poke_session("a", "test")
    assert host.runs == []
