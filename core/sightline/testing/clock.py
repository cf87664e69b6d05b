"""A clock that moves when told, and the pause in which everything else gets to run.

Nothing that is built on the kernel's clock port has to wait in a test: `advance` moves time and wakes whoever slept
until then, `jump` moves it to the next sleeper, `settled` lets all tasks run until none can. Together they make a
schedule that is the same in every run.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

__all__ = ["ManualClock", "settled"]

_QUIET_ROUNDS = 4
"""A result may take so many rounds of the loop from the future that got it to the task that waits behind others."""

_settling: set[asyncio.Task[Any]] = set()


class ManualClock:
    """See `sightline.clock.Clock`. Wall time and monotonic time move together, from `start_ms` and from zero."""

    def __init__(self, start_ms: int = 1_760_000_000_000) -> None:
        self._start_ns = start_ms * 1_000_000
        self._elapsed_ns = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def now_ns(self) -> int:
        return self._start_ns + self._elapsed_ns

    def monotonic(self) -> float:
        return self._elapsed_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        """Return once time has been moved that far; at once, after one round of the loop, for zero or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        # At least one nanosecond: a sleeper that time never moves past would be woken by nothing.
        deadline = self._elapsed_ns + max(1, round(seconds * 1e9))
        heapq.heappush(self._sleepers, (deadline, self._count, woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return sum(1 for _, _, woken in self._sleepers if not woken.done())

    @property
    def next_in(self) -> float | None:
        """Seconds until the next sleeper is due, none when nobody sleeps."""
        self._drop_gone()
        return (self._sleepers[0][0] - self._elapsed_ns) / 1e9 if self._sleepers else None

    def advance(self, seconds: float) -> None:
        """Move time and wake those who are due, the earliest first. They run when the caller next waits."""
        self._move_to(self._elapsed_ns + round(seconds * 1e9))

    def jump(self) -> float:
        """Move to the next sleeper and wake it: the seconds that took. Raises LookupError when nobody sleeps."""
        self._drop_gone()
        if not self._sleepers:
            raise LookupError("nobody sleeps on this clock")
        before = self._elapsed_ns
        self._move_to(self._sleepers[0][0])
        return (self._elapsed_ns - before) / 1e9

    async def run_for(self, seconds: float) -> None:
        """Let so much time go by as it would: stop at each sleeper on the way and let everything run."""
        end = self._elapsed_ns + round(seconds * 1e9)
        await settled()
        while self.next_in is not None and self._sleepers[0][0] <= end:
            self.jump()
            await settled()
        self._move_to(end)
        await settled()

    def _move_to(self, elapsed_ns: int) -> None:
        self._elapsed_ns = max(self._elapsed_ns, elapsed_ns)
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_ns:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def _drop_gone(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)


async def settled() -> None:
    """Return when every other task of the loop waits for something that nothing on the loop is about to do.

    Threads are not seen: a task that waits for one counts as waiting. Others that settle are not waited for.
    """
    this = asyncio.current_task()
    assert this is not None
    # Calls that are due and belong to no task. Only asyncio's own loop shows them.
    ready = getattr(asyncio.get_running_loop(), "_ready", ())
    _settling.add(this)
    try:
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            await asyncio.sleep(0)
            others = len(_settling) - 1
            busy = len(ready) > others or any(_can_run(task) for task in asyncio.all_tasks() - _settling)
            quiet = 0 if busy else quiet + 1
    finally:
        _settling.discard(this)


def _can_run(task: asyncio.Task[Any]) -> bool:
    # The one thing about a task that asyncio does not say in public; anyio and trio's kit read it for the same end.
    waiting_for: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    return waiting_for is None or waiting_for.done()
