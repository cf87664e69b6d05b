"""A host that does what a test planned, and a runner for it on a clock that moves when told."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from sightline.queue.runner import Idle, QueuedWorkRunner, QueuedWorkRunOutcome, QueuedWorkRunRequest, Submitted
from sightline.testing.clock import ManualClock, settled

Answer: TypeAlias = QueuedWorkRunOutcome | BaseException | Callable[[], QueuedWorkRunOutcome]
Asked: TypeAlias = tuple[str | None, str, bool]


class Strange(BaseException):
    """Not an Exception."""


strange = pytest.mark.parametrize("error", [Strange, SystemExit, GeneratorExit, asyncio.CancelledError, ValueError])
either_mode = pytest.mark.parametrize("global_gate", [True, False], ids=["gated", "fair"])

NEVER = 10_000.0
"""A poll interval no test waits for."""


class Host:
    """Answers each key, a session or none, what was planned for it, then that it is idle."""

    def __init__(self) -> None:
        self.requests: list[QueuedWorkRunRequest] = []
        self.running: list[str | None] = []
        self.most = 0
        self.cancelled: list[str | None] = []
        self.blocked: set[str | None] = set()
        self.runner: QueuedWorkRunner
        self.begun = True
        """False: idle, whatever is planned."""
        self._plans: dict[str | None, deque[Answer]] = {}
        self._gate = asyncio.Event()

    @property
    def asked(self) -> list[Asked]:
        return [(request.session_id, request.reason, request.trace_idle) for request in self.requests]

    @property
    def runs(self) -> list[str]:
        """The sessions that were asked for."""
        return [request.session_id for request in self.requests if request.session_id is not None]

    @property
    def looks(self) -> int:
        """How often nobody in particular was asked for."""
        return sum(request.session_id is None for request in self.requests)

    def plan(self, key: str | None, *answers: Answer) -> None:
        self._plans.setdefault(key, deque()).extend(answers)

    def turns(self, session_id: str, count: int) -> None:
        """Plan turns that are seen through before they are answered, as the kernel's are."""

        def turn() -> QueuedWorkRunOutcome:
            self.runner.complete_session(session_id, "turn ended")
            return Submitted(session_id)

        self.plan(session_id, *[turn] * count)

    def release(self, *keys: str | None) -> None:
        """Let the blocked runs of these keys go on, or all."""
        self.blocked = self.blocked - set(keys) if keys else set()
        self._gate.set()
        self._gate = asyncio.Event()

    async def run_queued_work(self, request: QueuedWorkRunRequest) -> QueuedWorkRunOutcome:
        if not self.begun:
            return Idle()
        key = request.session_id
        assert key not in self.running, "one key is run by one task at a time"
        self.requests.append(request)
        self.running.append(key)
        self.most = max(self.most, len(self.running))
        try:
            await asyncio.sleep(0)
            while key in self.blocked:
                await self._gate.wait()
            plan = self._plans.get(key)
            answer = plan.popleft() if plan else Idle()
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        finally:
            self.running.remove(key)


@asynccontextmanager
async def runner_of(
    host: Host,
    clock: ManualClock | None = None,
    *,
    global_gate: bool = False,
    concurrency: int = 64,
    poll_interval: float = NEVER,
    completion_timeout: float = 1200.0,
    start: bool = True,
) -> AsyncIterator[QueuedWorkRunner]:
    """A runner that has already looked for what was there before, and found nothing. In the end no task is left."""
    before = asyncio.all_tasks()
    host.runner = runner = QueuedWorkRunner(
        host,
        clock or ManualClock(),
        global_gate=global_gate,
        concurrency=concurrency,
        poll_interval=poll_interval,
        completion_timeout=completion_timeout,
    )
    if start:
        host.begun = False
        runner.start()
        await settled()
        host.begun = True
    try:
        yield runner
    finally:
        await runner.stop()
    left = asyncio.all_tasks() - before
    assert not left, left
    assert runner.active == 0


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """What the runner wrote at this level, and forget it."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == level]
    caplog.clear()
    return lines


def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep what is written from INFO on."""
    caplog.set_level(logging.INFO, logger="sightline.queue.runner")
