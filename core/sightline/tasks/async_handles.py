"""Async tool handles: calls of tools that go on while their turn does other things, and whose result is fetched later.

A handle is of this program alone and listed nowhere, but it is part of what a session may name, hand over and end. Its
work is asked to end by a token; what has not ended 100 ms later is aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from sightline.clock import Clock, within
from sightline.errors import TaskConflict, TaskNotVisible, TooManyTasks
from sightline.tasks.rules import MONITOR_PREFIX, error_text

__all__ = ["AsyncHandles", "CancelToken", "HandleFailed"]

GRACE_SECONDS = 0.1
_ABORT_SECONDS = 5.0
"""How long an abort is waited for; what has not ended by then is left behind."""
_MOST_RESULTS = 256
"""So many results of one session wait to be fetched; of more, the oldest are forgotten."""


class HandleFailed(Exception):
    """The work behind a handle failed, or was cancelled. The cause, if it is no exit, is its cause."""


class CancelToken:
    """How work learns that it should end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when the end is wanted. Cancellable at any time."""
        await self._event.wait()

    def cancel(self) -> None:
        self._event.set()


class _Handle:
    def __init__(self, name: str, work: Callable[[CancelToken], Awaitable[Any]]) -> None:
        self.token = CancelToken()
        self.task = asyncio.create_task(_guarded(work(self.token)), name=f"async handle {name}")

    @property
    def is_live(self) -> bool:
        return not self.task.done()


async def _guarded(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise HandleFailed(error_text(error)) from None


class AsyncHandles:
    """By session, on one event loop. `most`: how many live ones a session may have."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._by_session: dict[str, dict[str, _Handle]] = {}

    def begin(self, session_id: str, handle_id: str, work: Callable[[CancelToken], Awaitable[Any]]) -> None:
        """Begin work under a handle. One of that id that has ended makes way, with its result.

        Raises TaskConflict while one of that id is live, TooManyTasks.
        """
        handles = self._by_session.setdefault(session_id, {})
        if handle_id in handles and handles[handle_id].is_live:
            raise TaskConflict(session_id, handle_id)
        ended = [name for name, handle in handles.items() if not handle.is_live and name != handle_id]
        if len(handles) - len(ended) >= self._most:
            raise TooManyTasks(session_id, self._most)
        for name in [handle_id, *ended[: max(0, len(ended) - _MOST_RESULTS + 1)]]:
            _retrieved(handles.pop(name, None))
        handles[handle_id] = _Handle(handle_id, work)

    def live(self, session_id: str) -> tuple[str, ...]:
        return tuple(name for name, handle in self._by_session.get(session_id, {}).items() if handle.is_live)

    async def result(self, session_id: str, handle_id: str) -> Any:
        """What the work came to, once it has ended; the handle is gone then. May be cancelled; the work goes on.

        Raises TaskNotVisible for no handle of the session, HandleFailed.
        """
        handle = self._by_session.get(session_id, {}).get(handle_id)
        if handle is None:
            raise TaskNotVisible(session_id, handle_id)
        await asyncio.wait({handle.task})
        for handles in self._by_session.values():  # it may have been handed over meanwhile
            if handles.get(handle_id) is handle:
                del handles[handle_id]
        if handle.task.cancelled():
            raise HandleFailed("it was cancelled")
        error = handle.task.exception()
        if error is not None:
            raise HandleFailed(error_text(error)) from error
        return handle.task.result()

    async def cancel(self, session_id: str, handle_ids: Iterable[str]) -> None:
        """End these: ask, wait a moment for all, then abort. What is not live is left alone."""
        handles = self._by_session.get(session_id, {})
        live = [handles[name] for name in handle_ids if name in handles and handles[name].is_live]
        for handle in live:
            handle.token.cancel()
        await self._ended(live, GRACE_SECONDS)
        for handle in live:
            handle.task.cancel()
        await self._ended(live, _ABORT_SECONDS)

    async def cancel_unreferenced(self, session_id: str, keep: Collection[str]) -> None:
        """End all but these, and but those of monitors, which have an end of their own."""
        names = [name for name in self.live(session_id) if name not in keep and not name.startswith(MONITOR_PREFIX)]
        await self.cancel(session_id, names)

    def check_transfer(self, source: str, target: str, handle_ids: Iterable[str]) -> None:
        """Raises TaskConflict when the target has a live handle of one of the source's live ones among these."""
        moving, there = set(self.live(source)) & set(handle_ids), self.live(target)
        for name in there if source != target else ():
            if name in moving:
                raise TaskConflict(target, name)

    def transfer(self, source: str, target: str, handle_ids: Iterable[str]) -> None:
        """Hand over what is live of these. Checked before."""
        live = self.live(source)
        for name in handle_ids:
            if name in live and source != target:
                taken = self._by_session.setdefault(target, {})
                _retrieved(taken.pop(name, None))
                taken[name] = self._by_session[source].pop(name)

    def abort(self, session_id: str | None = None) -> list[asyncio.Task[Any]]:
        """Abort all of a session, or all, and forget them: the tasks, which may take a moment to end."""
        sessions = list(self._by_session) if session_id is None else [session_id]
        handles = [handle for name in sessions for handle in self._by_session.pop(name, {}).values()]
        for handle in handles:
            handle.token.cancel()
            handle.task.cancel()
            _retrieved(handle)
        return [handle.task for handle in handles]

    async def _ended(self, handles: list[_Handle], seconds: float) -> None:
        tasks = [handle.task for handle in handles if handle.is_live]
        if tasks:
            ended = asyncio.ensure_future(asyncio.wait(tasks))
            try:
                await within(self._clock, seconds, ended)
            finally:
                ended.cancel()
                await asyncio.gather(ended, return_exceptions=True)


def _retrieved(handle: _Handle | None) -> None:
    """Nobody will fetch its result, which is no fault."""
    if handle is not None:
        handle.task.add_done_callback(lambda task: task.cancelled() or task.exception())
