"""The runner: who is driven when, how often, and by how many at a time. Time moves when told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sightline.queue.runner import QueuedWorkRunner
from sightline.testing.clock import ManualClock, settled

pytestmark = pytest.mark.anyio

BACKOFF = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


class Host:
    """Owns the queue, as far as the runner knows. A session's runs answer what was planned for it, then that nothing is
    there.
    """

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.looks = 0
        self.ready: list[str] = []
        self.due: int | None = None
        self.running: set[str] = set()
        self.most = 0
        self.cancelled: list[str] = []
        self.blocked: set[str] = set()
        self.poll_errors: deque[Exception] = deque()
        self._plans: dict[str, deque[bool | BaseException]] = {}
        self._gate = asyncio.Event()

    def plan(self, session_id: str, *answers: bool | BaseException) -> None:
        self._plans.setdefault(session_id, deque()).extend(answers)

    def release(self) -> None:
        self.blocked.clear()
        self._gate.set()
        self._gate = asyncio.Event()

    async def run_session(self, session_id: str) -> bool:
        assert session_id not in self.running, "a session is driven by one task at a time"
        self.runs.append(session_id)
        self.running.add(session_id)
        self.most = max(self.most, len(self.running))
        try:
            if session_id in self.blocked:
                await self._gate.wait()
            else:
                await asyncio.sleep(0)
            plan = self._plans.get(session_id)
            answer = plan.popleft() if plan else False
            if isinstance(answer, BaseException):
                raise answer
            return answer
        except asyncio.CancelledError:
            self.cancelled.append(session_id)
            raise
        finally:
            self.running.discard(session_id)

    async def claimable_sessions(self, limit: int) -> Sequence[str]:
        self.looks += 1
        if self.poll_errors:
            raise self.poll_errors.popleft()
        return self.ready[:limit]

    async def next_due(self) -> int | None:
        return self.due


@asynccontextmanager
async def runner_of(
    host: Host,
    clock: ManualClock | None = None,
    *,
    concurrency: int = 64,
    poll_interval: float = 1_000.0,
    start: bool = True,
) -> AsyncIterator[QueuedWorkRunner]:
    before = asyncio.all_tasks()
    runner = QueuedWorkRunner(host, clock or ManualClock(), concurrency=concurrency, poll_interval=poll_interval)
    if start:
        runner.start()
        await settled()
    try:
        yield runner
    finally:
        await runner.stop()
    assert asyncio.all_tasks() == before, "a runner that stopped left a task"


async def test_work_that_was_there_before_is_driven_at_the_start() -> None:
    host = Host()
    host.ready = ["a", "b"]
    async with runner_of(host):
        assert host.runs == ["a", "b"]


async def test_the_poll_finds_what_no_poke_told() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock, poll_interval=0.4):
        host.ready = ["a"]
        await clock.run_for(0.399)
        assert host.runs == []
        await clock.run_for(0.001)
        assert host.runs == ["a"]


async def test_a_poke_drives_its_session_without_any_time_going_by() -> None:
    host = Host()
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a"]


async def test_a_poke_for_nobody_makes_the_poll_look_at_once() -> None:
    host = Host()
    async with runner_of(host) as runner:
        host.ready = ["a"]
        runner.poke("test")
        await settled()
        assert host.runs == ["a"]


async def test_a_session_is_driven_until_nothing_is_left() -> None:
    host = Host()
    host.plan("a", True, True, True)
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a"] * 4


async def test_a_burst_of_pokes_during_a_drive_costs_one_more() -> None:
    host = Host()
    host.blocked = {"a"}
    async with runner_of(host) as runner:
        for _ in range(100):
            runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a"]
        for _ in range(100):
            runner.poke_session("a", "test")
        host.release()
        await settled()
        assert host.runs == ["a", "a"]


async def test_a_burst_of_pokes_before_a_drive_costs_one_drive() -> None:
    host = Host()
    async with runner_of(host) as runner:
        for _ in range(100):
            runner.poke_session("a", "test")
        await settled()
        assert len(host.runs) <= 2


async def test_a_poke_that_comes_when_the_drive_has_already_found_nothing_is_not_lost() -> None:
    class Late(Host):
        async def run_session(self, session_id: str) -> bool:
            found = await super().run_session(session_id)
            if len(self.runs) == 1:
                runner.poke_session(session_id, "between the look and the answer")
            return found

    host = Late()
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a", "a"]


async def test_a_busy_session_goes_to_the_back_of_the_line_after_each_turn() -> None:
    host = Host()
    host.plan("a", True, True)
    host.plan("b", True)
    async with runner_of(host, concurrency=1) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
        await settled()
        assert host.runs == ["a", "b", "c", "a", "b", "a"]


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


async def test_the_poll_sees_sessions_beyond_those_that_are_driven() -> None:
    host, clock = Host(), ManualClock()
    names = [f"s{number}" for number in range(10)]
    host.blocked = set(names)
    host.ready = names
    async with runner_of(host, clock, concurrency=2, poll_interval=1.0) as runner:
        assert runner.active == 2
        host.release()
        host.ready = names[8:]
        await clock.run_for(1.0)
        assert set(host.runs) == set(names)


async def test_a_failed_drive_is_tried_again_after_growing_pauses_and_then_left_to_the_next_poke() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *(OSError("the store is away") for _ in range(20)))
    async with runner_of(host, clock, poll_interval=10_000.0) as runner:
        runner.poke_session("a", "test")
        await settled()
        for count, pause in enumerate(BACKOFF, 1):
            assert len(host.runs) == count
            assert clock.jump() == pytest.approx(pause)
            await settled()
        assert len(host.runs) == 9
        await clock.run_for(100.0)
        assert len(host.runs) == 9
        runner.poke_session("a", "test")
        await clock.run_for(0.025)
        assert len(host.runs) == 11


async def test_a_drive_that_succeeds_forgets_the_failures_before_it() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", *(OSError() for _ in range(5)), True, OSError(), False)
    async with runner_of(host, clock, poll_interval=10_000.0) as runner:
        runner.poke_session("a", "test")
        await settled()
        pauses = []
        for _ in range(6):
            pauses.append(clock.jump())
            await settled()
        assert pauses == pytest.approx([*BACKOFF[:5], BACKOFF[0]])
        assert len(host.runs) == 8


async def test_a_session_that_was_given_up_is_found_again_by_the_poll() -> None:
    host, clock = Host(), ManualClock()
    host.ready = ["a"]
    host.plan("a", *(OSError() for _ in range(9)))
    async with runner_of(host, clock, poll_interval=60.0):
        await clock.run_for(59.0)
        assert len(host.runs) == 9
        await clock.run_for(1.0)
        assert len(host.runs) == 10


async def test_whoever_waits_for_another_try_holds_no_permit() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError())
    async with runner_of(host, clock, concurrency=1) as runner:
        runner.poke_session("a", "test")
        runner.poke_session("b", "test")
        await settled()
        assert host.runs == ["a", "b"]
        await clock.run_for(0.025)
        assert host.runs == ["a", "b", "a"]


async def test_a_poke_does_not_shorten_the_pause_and_is_not_lost_in_it() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError())
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a"]
        await clock.run_for(0.025)
        assert host.runs == ["a", "a"]


async def test_a_host_that_fails_takes_nobody_else_down() -> None:
    host = Host()
    host.plan("a", ValueError("a bug"))
    async with runner_of(host) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        runner.poke_session("c", "test")
        await settled()
        assert host.runs == ["a", "b", "c"]


async def test_a_drive_that_was_cancelled_by_somebody_does_not_lock_its_session() -> None:
    host = Host()
    host.plan("a", asyncio.CancelledError())
    async with runner_of(host) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert runner.active == 0
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == ["a", "a"]


async def test_a_poll_that_fails_is_followed_by_the_next() -> None:
    host, clock = Host(), ManualClock()
    host.poll_errors.extend([OSError("the store is away"), ValueError("a bug")])
    host.ready = ["a"]
    async with runner_of(host, clock, poll_interval=1.0):
        await clock.run_for(1.0)
        assert (host.looks, host.runs) == (2, [])
        await clock.run_for(1.0)
        assert (host.looks, host.runs) == (3, ["a"])


async def test_delayed_work_is_looked_for_when_it_is_due_and_not_before() -> None:
    host, clock = Host(), ManualClock()
    host.due = clock.now_ms() + 150
    async with runner_of(host, clock, poll_interval=10.0):
        assert host.looks == 1
        host.due = None
        await clock.run_for(0.149)
        assert host.looks == 1
        await clock.run_for(0.001)
        assert host.looks == 2


async def test_work_that_is_due_later_than_the_next_poll_does_not_delay_the_poll() -> None:
    host, clock = Host(), ManualClock()
    host.due = clock.now_ms() + 60_000
    async with runner_of(host, clock, poll_interval=1.0):
        await clock.run_for(3.0)
        assert host.looks == 4


async def test_a_poke_after_work_was_enqueued_for_later_sets_the_timer() -> None:
    host, clock = Host(), ManualClock()
    async with runner_of(host, clock, poll_interval=1_000.0) as runner:
        host.due = clock.now_ms() + 150
        runner.poke("enqueued for later")
        await settled()
        host.due, host.ready = None, ["a"]
        await clock.run_for(0.150)
        assert host.runs == ["a"]


async def test_stopping_cancels_the_drives_and_waits_for_them() -> None:
    host = Host()
    host.blocked = {"a", "b"}
    async with runner_of(host) as runner:
        for session_id in ("a", "b", "c"):
            runner.poke_session(session_id, "test")
        await settled()
        await runner.stop()
        assert sorted(host.cancelled) == ["a", "b"]
        assert (host.running, runner.active) == (set(), 0)


async def test_stopping_does_not_wait_for_a_session_that_waits_for_its_next_try() -> None:
    host, clock = Host(), ManualClock()
    host.plan("a", OSError())
    async with runner_of(host, clock) as runner:
        runner.poke_session("a", "test")
        await settled()
        await runner.stop()
        await clock.run_for(10.0)
        assert host.runs == ["a"]


async def test_after_stop_claiming_what_runs_goes_on_and_nothing_new_begins() -> None:
    host, clock = Host(), ManualClock()
    host.blocked = {"a"}
    host.plan("a", True)
    async with runner_of(host, clock, concurrency=1, poll_interval=1.0) as runner:
        for session_id in ("a", "b"):
            runner.poke_session(session_id, "test")
        await settled()
        runner.stop_claiming()
        idle = asyncio.create_task(runner.wait_idle())
        host.ready = ["c"]
        runner.poke_session("d", "test")
        runner.poke("test")
        await clock.run_for(10.0)
        assert not idle.done()
        host.release()
        await settled()
        assert idle.done()
        assert host.runs == ["a"]


async def test_a_runner_that_was_not_started_remembers_its_pokes() -> None:
    host = Host()
    async with runner_of(host, start=False) as runner:
        runner.poke_session("a", "test")
        await settled()
        assert host.runs == []
        runner.start()
        await settled()
        assert host.runs == ["a"]


async def test_a_runner_without_work_is_idle() -> None:
    async with runner_of(Host(), start=False) as runner:
        await runner.wait_idle()


def test_a_runner_needs_at_least_one_permit() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        QueuedWorkRunner(Host(), ManualClock(), concurrency=0)
