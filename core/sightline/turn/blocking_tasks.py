"""Background tasks for code that blocks: see `sightline.turn.background`.

What is asked has its answer when the call returns. Work that is begun outlives the turn, so it cannot have the turn's
thread: a coroutine function runs on the event loop, as from any other turn, and a function that blocks in a thread of
its own, with a `BlockingWork` to talk through. The end of such work does not wait for its thread, which nothing can
stop; its next call raises `WorkOver`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from msgspec import UNSET, UnsetType

from sightline.clock import Clock
from sightline.session.model import Policy
from sightline.tasks.async_handles import CancelToken
from sightline.tasks.model import LiveState, TaskKind, TaskRecord
from sightline.tasks.monitoring import MonitorRecord, MonitorSpec, MonitorUpdate
from sightline.tasks.working import RunningTask
from sightline.turn.background import TurnTasks
from sightline.turn.threads import in_thread

__all__ = ["BlockingTask", "BlockingTasks", "BlockingWork", "WorkOver"]

_T = TypeVar("_T")


class WorkOver(RuntimeError):
    """Work in a thread went on although it was ended; nobody listens."""


class Bridge(Protocol):
    """See `sightline.turn.blocking.BlockingTurn.wait_for`."""

    def __call__(self, start: Callable[[], Coroutine[Any, Any, _T]], /) -> _T: ...


class BlockingWork:
    """What work in a thread of its own is given. Its calls raise WorkOver once the work was ended. Made on the loop."""

    def __init__(self, clock: Clock, token: CancelToken | None = None) -> None:
        self._clock = clock
        self._token = token
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._calls: set[asyncio.Task[Any]] = set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants its end, or did not wait for it."""
        return self._over or (self._token is not None and self._token.cancelled)

    def sleep(self, seconds: float) -> None:
        """Wait on the kernel's clock, in this thread alone."""
        self.wait_for(lambda: self._sleep(seconds))

    def wait_for(self, start: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine on the event loop and wait for what it returns or raises. The end of the work cancels it."""
        if self._over:
            raise WorkOver("the work was ended")
        return asyncio.run_coroutine_threadsafe(self._guarded(start), self._loop).result()

    def end(self) -> None:
        """Called on the loop: nobody listens any more."""
        self._over = True
        for call in self._calls:
            call.cancel()

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def _guarded(self, start: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        if self._over:
            raise WorkOver("the work was ended")
        call = asyncio.ensure_future(start())
        self._calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            raise WorkOver("the work was ended") from None
        finally:
            self._calls.discard(call)


class BlockingTask(BlockingWork):
    """See `RunningTask`: the same, for a thread."""

    def __init__(self, task: RunningTask, clock: Clock) -> None:
        super().__init__(clock)
        self._task = task

    @property
    def record(self) -> TaskRecord:
        """As it was registered."""
        return self._task.record

    def progress(self, message: str) -> None:
        """See `RunningTask.progress`."""
        self.wait_for(lambda: self._task.progress(message))

    def mark(self, state: LiveState) -> None:
        """See `RunningTask.mark`."""
        self.wait_for(lambda: self._task.mark(state))


class BlockingTasks:
    """See `TurnTasks`: the same, for a function that is no coroutine. `wait_for` bridges to the loop, where `tasks` is
    used.

    What a call begins may be a coroutine function too, which then gets what `TurnTasks` gives it.
    """

    def __init__(self, tasks: TurnTasks, clock: Clock, wait_for: Bridge) -> None:
        self._tasks = tasks
        self._clock = clock
        self._wait_for = wait_for

    def spawn(
        self,
        task_id: str,
        work: Callable[[BlockingTask], Any] | Callable[[RunningTask], Awaitable[Any]],
        *,
        kind: TaskKind = "other",
        producer: str = "agent",
        parent_task_id: str | UnsetType = UNSET,
        session_id: str | None = None,
    ) -> TaskRecord:
        """See `TurnTasks.spawn`. `work` takes its `BlockingTask`."""

        async def run(task: RunningTask) -> Any:
            return await _done(work, BlockingTask(task, self._clock), task, name=f"task {task_id}")

        return self._wait_for(
            lambda: self._tasks.spawn(
                task_id, run, kind=kind, producer=producer, parent_task_id=parent_task_id, session_id=session_id
            )
        )

    def spawn_hidden(self, label: str, work: Callable[[], object], *, session_id: str | None = None) -> None:
        """See `TurnTasks.spawn_hidden`."""

        async def run() -> None:
            await _done(work, None, name=f"hidden {label}")

        self._wait_for(lambda: self._tasks.spawn_hidden(label, run, session_id=session_id))

    def await_hidden(self) -> None:
        """See `TurnTasks.await_hidden`. The thread waits with the turn."""
        self._wait_for(self._tasks.await_hidden)

    def list(self, *, live: bool = True) -> tuple[TaskRecord, ...]:
        """See `TurnTasks.list`."""
        return self._wait_for(lambda: self._tasks.list(live=live))

    def cancel(self, task_id: str, reason: str = "requested by agent") -> TaskRecord:
        """See `TurnTasks.cancel`."""
        return self._wait_for(lambda: self._tasks.cancel(task_id, reason))

    def begin(
        self, handle_id: str, work: Callable[[BlockingWork], Any] | Callable[[CancelToken], Awaitable[Any]]
    ) -> None:
        """See `TurnTasks.begin`. `work` takes a `BlockingWork`, which says whether its end is wanted."""

        async def run(token: CancelToken) -> Any:
            return await _done(work, BlockingWork(self._clock, token), token, name=f"async handle {handle_id}")

        self._wait_for(lambda: self._tasks.begin(handle_id, run))

    def result(self, handle_id: str) -> Any:
        """See `TurnTasks.result`. The thread waits with the turn."""
        return self._wait_for(lambda: self._tasks.result(handle_id))

    def monitor(self, spec: MonitorSpec) -> TaskRecord:
        """See `TurnTasks.monitor`."""
        return self._wait_for(lambda: self._tasks.monitor(spec))

    def monitor_updates(self, monitor_id: str, after: int = 0) -> tuple[MonitorUpdate, ...]:
        """See `TurnTasks.monitor_updates`."""

        async def look() -> tuple[MonitorUpdate, ...]:
            return self._tasks.monitor_updates(monitor_id, after)

        return self._wait_for(look)

    def stop_monitor(self, monitor_id: str) -> MonitorRecord:
        """See `TurnTasks.stop_monitor`."""
        return self._wait_for(lambda: self._tasks.stop_monitor(monitor_id))

    def delegate(self, name: str, text: str, *, policy: Policy | None = None, keep: bool = False) -> TaskRecord:
        """See `TurnTasks.delegate`."""
        return self._wait_for(lambda: self._tasks.delegate(name, text, policy=policy, keep=keep))

    def send(self, task_id: str, text: str) -> TaskRecord:
        """See `TurnTasks.send`."""
        return self._wait_for(lambda: self._tasks.send(task_id, text))


async def _done(work: Callable[..., Any], blocking: BlockingWork | None, *given: Any, name: str) -> Any:
    """What the work comes to: on the loop with what is given there, or in a thread of its own."""
    if inspect.iscoroutinefunction(work) or inspect.iscoroutinefunction(getattr(work, "__call__", None)):  # noqa: B004
        return await work(*given)
    told = () if blocking is None else (blocking,)
    try:
        result = await in_thread(name, lambda: work(*told))
    finally:
        if blocking is not None:
            blocking.end()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"the work of {name} is a function that returns a coroutine; make it async")
    return result
