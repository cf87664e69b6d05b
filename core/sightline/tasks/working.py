"""Managed work: coroutines that run as tasks of a session, and what ends the tasks that others do.

The work runs in a task of its own, and beside it another one waits for its end and reports it, whatever the end is: it
returned, it raised, it was cancelled, or it tried to end the program. All is found by the generation of its
registration, so it does not matter which session the task belongs to by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from sightline.clock import Clock, within
from sightline.tasks.model import Ending, LiveState, Progress, TaskChange, TaskRecord, Unfolding
from sightline.tasks.rules import error_text

__all__ = ["CancelCallback", "RunningTask", "TaskWork", "WorkTable"]

_log = logging.getLogger("sightline.tasks")

_ABORT_SECONDS = 5.0
"""How long work that was cancelled is waited for."""

CancelCallback = Callable[[], Awaitable[object]]
"""Ends what somebody else does. What it raises passes on to whoever cancels, and it may be called again then."""


class RunningTask:
    """What managed work is given: its own task."""

    def __init__(self, record: TaskRecord, change: Callable[[TaskChange], Awaitable[object]]) -> None:
        self.record = record
        """As it was registered."""
        self._change = change

    async def progress(self, message: str) -> None:
        """Say how far it has come. Raises StoreUnavailable."""
        await self._change(Progress(message))

    async def mark(self, state: LiveState) -> None:
        """Say that it waits, or is at work again. Raises StoreUnavailable."""
        await self._change(Unfolding(state))


TaskWork = Callable[[RunningTask], Awaitable[Any]]
"""Managed work. A text that it returns is what the task came to; what it raises, why the task failed."""

_Report = Callable[[int, Ending], Awaitable[object]]


class _Work:
    def __init__(self, inner: asyncio.Task[Any]) -> None:
        self.inner = inner
        self.outer: asyncio.Task[None] | None = None
        self.reason = "its work was cancelled"


class WorkTable:
    """By generation, on one event loop. `report` writes down how a task ended; what it raises is logged."""

    def __init__(self, clock: Clock, report: _Report) -> None:
        self._clock = clock
        self._report = report
        self._works: dict[int, _Work] = {}
        self._callbacks: dict[int, CancelCallback] = {}
        self._homes: dict[int, str] = {}

    @property
    def running(self) -> int:
        return len(self._works)

    def begin(self, task: RunningTask, work: TaskWork) -> None:
        """Run it. Nothing is begun twice for one registration."""
        generation, name = task.record.generation, f"task {task.record.session_id}/{task.record.task_id}"
        if generation in self._works:
            return
        self._homes[generation] = task.record.session_id
        begun = self._works[generation] = _Work(asyncio.create_task(_ending_of(work, task), name=name))
        begun.outer = asyncio.create_task(self._see_through(generation, begun), name=f"end of {name}")

    def ends_by(self, record: TaskRecord, callback: CancelCallback) -> None:
        """How a task that somebody else does is cancelled."""
        self._callbacks[record.generation] = callback
        self._homes[record.generation] = record.session_id

    def forget(self, generation: int) -> None:
        """The task has ended, and needs no callback."""
        self._callbacks.pop(generation, None)
        if generation not in self._works:
            self._homes.pop(generation, None)

    def moved(self, generation: int, session_id: str) -> None:
        """The task was handed to another session."""
        if generation in self._homes:
            self._homes[generation] = session_id

    def of_session(self, session_id: str) -> list[int]:
        """The tasks of a session that can be ended here."""
        return [generation for generation, home in self._homes.items() if home == session_id]

    async def cancel(self, generation: int, reason: str) -> bool:
        """End what is done under this registration: whether the task has ended by that, as far as can be seen here.

        Managed work is cancelled and waited for a while. A callback is called, once if it does not raise; what it
        raises passes on. Where there is neither, nobody here can end it.
        """
        work = self._works.get(generation)
        if work is not None:
            work.reason = reason
            work.inner.cancel()
            assert work.outer is not None
            return await within(self._clock, _ABORT_SECONDS, work.outer)
        callback = self._callbacks.pop(generation, None)
        if callback is None:
            return False
        try:
            await callback()
        except BaseException:
            self._callbacks.setdefault(generation, callback)
            raise
        self._homes.pop(generation, None)
        await self._report(generation, Ending(state="cancelled", summary=reason))
        return True

    async def stop(self, reason: str) -> None:
        """Cancel all managed work; returns when its ends are written down, or it does not end."""
        works = list(self._works.values())
        for work in works:
            work.reason = reason
            work.inner.cancel()
        outers = [work.outer for work in works if work.outer is not None]
        if outers:
            waiting = asyncio.gather(*outers, return_exceptions=True)
            if not await within(self._clock, _ABORT_SECONDS, waiting):
                _log.warning("%d tasks did not end although they were cancelled", len(self._works))
            for outer in outers:
                outer.cancel()  # what has not ended by now is found to be lost by the next start
            await asyncio.gather(*outers, return_exceptions=True)
        self._callbacks.clear()
        self._homes.clear()

    async def _see_through(self, generation: int, work: _Work) -> None:
        try:
            await asyncio.wait({work.inner})
            cancelled = work.inner.cancelled()
            ending = Ending(state="cancelled", summary=work.reason) if cancelled else work.inner.result()
            await self._report(generation, ending)
        except Exception as error:
            # It shows as running until the next start, which finds that its owner is lost.
            _log.error("the end of task %d could not be written down: %s", generation, error)
        finally:
            del self._works[generation]
            self._homes.pop(generation, None)


async def _ending_of(work: TaskWork, task: RunningTask) -> Ending:
    try:
        result = await work(task)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        _log.info("task %s of session %s failed: %s", task.record.task_id, task.record.session_id, error_text(error))
        return Ending(state="failed", summary=error_text(error))
    return Ending(state="completed", summary=result if isinstance(result, str) else "")
