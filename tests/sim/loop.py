"""Time that costs nothing: an event loop that jumps, and clocks that disagree about it.

`VirtualLoop` is an asyncio loop without selectors and sockets. When no callback is ready, it moves time to the next
timer instead of waiting for it, so a minute of polls and leases takes as long as the code between them, and which
callback comes after which follows from the timers alone. When nothing is ready and no timer is set, nothing can ever
happen again; a real loop would hang there, this one raises `Standstill`.

Threads are the exception: between `enter_thread` and `leave_thread` somebody works in one, and the loop waits for it in
real time, with virtual time standing still. So even a store with threads takes no virtual time of its own.

Every task belongs to the life (one run of one worker's process) in whose context it was created, and every life knows
its tasks. That is what makes it possible to kill one of several processes that share an interpreter. The dead begin
nothing.

A `SimClock` is one machine's idea of the time. It begins with an offset, runs at a rate of its own and may be stepped;
sleeping on it lasts as long as that machine thinks it does. Once its life has been killed, it raises `Killed`.
"""

from __future__ import annotations

import asyncio
import heapq
import queue
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TypeVar, cast

__all__ = ["EPOCH_MS", "OWNER", "Killed", "Owner", "SimClock", "Standstill", "VirtualLoop", "until"]

_T = TypeVar("_T")

EPOCH_MS = 1_760_000_000_000
"""The wall time, in milliseconds, at which every world begins."""
_THREAD_PATIENCE = 30.0
_LEAST = 1e-6


class Killed(BaseException):
    """The process that runs this code is dead; none of its code goes on. Not an Exception: nobody may handle it."""


class Standstill(Exception):
    """Somebody waits, and nothing is left that could ever happen."""


class Owner(Protocol):
    """Who runs in a context: a life that knows its tasks."""

    tasks: list[asyncio.Task[Any]]
    dead: bool


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class _Call:
    """A callback that is to be called, unless it is cancelled before; what `asyncio.TimerHandle` is elsewhere."""

    __slots__ = ("_when", "args", "callback", "context", "gone")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None, when: float = 0.0
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self.gone = False
        self._when = when

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `time()` is virtual and begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._outside = 0
        self._halt = False
        self._count = 0
        self._soon: deque[_Call] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._from_threads: queue.SimpleQueue[_Call] = queue.SimpleQueue()

    def time(self) -> float:
        return self._now

    def enter_thread(self) -> None:
        """A thread begins to work for a task: time stands still until `leave_thread`."""
        self._outside += 1

    def leave_thread(self) -> None:
        self._outside -= 1

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None and owner.dead:
            coro.close()
            raise Killed
        # To count the tasks and make a name of the number would cost more than the task.
        task: asyncio.Task[_T] = asyncio.Task(
            coro, loop=self, name="task" if name is None else str(name), context=context
        )
        if owner is not None:
            owner.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        call = _Call(callback, args, context)
        self._soon.append(call)
        return cast(asyncio.Handle, call)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        call = _Call(callback, args, context, when)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, call))
        return cast(asyncio.TimerHandle, call)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        call = _Call(callback, args, context)
        self._from_threads.put(call)
        return cast(asyncio.Handle, call)

    def run_forever(self) -> None:
        asyncio._set_running_loop(self)
        try:
            while not self._halt:
                self._turn()
        finally:
            self._halt = False
            asyncio._set_running_loop(None)

    def stop(self) -> None:
        self._halt = True

    def _turn(self) -> None:
        """Run what is ready now, after having moved to the moment at which something is."""
        soon, timers = self._soon, self._timers
        while not self._from_threads.empty():
            soon.append(self._from_threads.get())
        if not soon:
            self._wait()
        while timers and timers[0][0] <= self._now:
            soon.append(heapq.heappop(timers)[2])
        for _ in range(len(soon)):
            call = soon.popleft()
            if not call.gone:
                try:
                    call.context.run(call.callback, *call.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.call_exception_handler({"message": f"{call.callback} failed", "exception": error})

    def _wait(self) -> None:
        timers = self._timers
        if self._outside:
            try:
                self._soon.append(self._from_threads.get(timeout=_THREAD_PATIENCE))
            except queue.Empty:
                raise Standstill(f"a thread has not answered for {_THREAD_PATIENCE} s") from None
            return
        while timers and timers[0][2].gone:
            heapq.heappop(timers)
        if not timers:
            raise Standstill("everybody waits for somebody else")
        self._now = max(self._now, timers[0][0])


async def until(holds: Callable[[], bool], every: float) -> None:
    """Return once it holds; looked at every so many seconds of virtual time, which cost nothing."""
    while not holds():  # noqa: ASYNC110 - an event would have to be set by everybody who could make it hold
        await asyncio.sleep(every)


class SimClock:
    """See `sightline.clock.Clock`. `offset_ms` and `rate` say how wrong it is."""

    def __init__(self, loop: VirtualLoop, *, offset_ms: int = 0, rate: float = 1.0) -> None:
        self._loop = loop
        self._rate = rate
        self.offset_ms = offset_ms
        self.halted = False

    def now_ms(self) -> int:
        return EPOCH_MS + self.offset_ms + int(self._loop.time() * self._rate * 1000)

    def now_ns(self) -> int:
        return (EPOCH_MS + self.offset_ms) * 1_000_000 + int(self._loop.time() * self._rate * 1e9)

    def monotonic(self) -> float:
        return self._loop.time() * self._rate

    async def sleep(self, seconds: float) -> None:
        if self.halted:
            raise Killed
        # Whoever sleeps until its clock shows a time may be woken by the last digit too early: the rest has to pass.
        await asyncio.sleep(max(_LEAST, seconds / self._rate) if seconds > 0 else 0)
        if self.halted:
            raise Killed
