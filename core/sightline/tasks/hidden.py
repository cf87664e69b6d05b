"""Hidden work: what goes on behind a session, is listed nowhere, and is waited for as a whole.

It belongs to this program alone. Who waits for it waits for all of it, also for what it began meanwhile; what went
wrong is raised when everything has ended, and nothing is dropped because something else failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sightline.tasks.rules import error_text

__all__ = ["HiddenFailed", "HiddenWork"]

_log = logging.getLogger("sightline.tasks")


class HiddenFailed(Exception):
    """Hidden work failed; the first failure since it was last waited for. The cause, if it is no exit, is its cause."""


class HiddenWork:
    """By session, on one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        self._failures: dict[str, HiddenFailed] = {}

    def spawn(self, session_id: str, label: str, work: Callable[[], Awaitable[object]]) -> None:
        """Begin work. `label` is for logs."""
        task = asyncio.create_task(self._run(session_id, label, work), name=f"hidden {session_id}: {label}")
        running = self._running.setdefault(session_id, set())
        running.add(task)

        def ended(_: object) -> None:
            running.discard(task)
            if not running and self._running.get(session_id) is running:
                del self._running[session_id]

        task.add_done_callback(ended)

    @property
    def count(self) -> int:
        return sum(map(len, self._running.values()))

    async def drain(self, session_id: str) -> None:
        """Return when none of the session's is left; work that asks for this itself is not waited for.

        Raises HiddenFailed, once for each failure that is the first. May be cancelled at any time; the work goes on.
        """
        current = asyncio.current_task()
        while waiting := self._running.get(session_id, set()) - {current}:
            await asyncio.wait(waiting)
        failure = self._failures.pop(session_id, None)
        if failure is not None:
            raise failure

    async def wait_idle(self) -> None:
        """Return when none is left of any session. Failures are left to those who ask for them."""
        while waiting := {task for running in self._running.values() for task in running}:
            await asyncio.wait(waiting)

    def cancel(self, session_id: str | None = None) -> list[asyncio.Task[None]]:
        """Cancel all of a session, or all: the tasks, which may take a moment to end."""
        groups = list(self._running.values()) if session_id is None else [self._running.get(session_id, set())]
        tasks = [task for running in groups for task in running]
        for task in tasks:
            task.cancel()
        if session_id is not None:
            self._failures.pop(session_id, None)
        return tasks

    async def _run(self, session_id: str, label: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # An exit too: in a task of its own, asyncio would let it end the whole process.
            _log.warning("hidden work %r of session %s failed: %s", label, session_id, error_text(error))
            failure = HiddenFailed(f"{label}: {error_text(error)}")
            failure.__cause__ = error if isinstance(error, Exception) else None
            self._failures.setdefault(session_id, failure)
