"""What sessions are told of their tasks.

A task is told of in the moment in which the store has written what became of it, like work in the queue. A session that
is not loaded by then is loaded and told behind that: it may have observers who come back to where they were, and what
they have is only right if everything was told. That the session may know by then does no harm: a task is told of as it
stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from sightline.clock import Clock
from sightline.errors import NotFound, SessionDeleted, SightlineError
from sightline.observation.handles import Handles
from sightline.tasks.model import TaskEvent
from sightline.tasks.telling import TaskEvents

__all__ = ["TaskNews"]

_log = logging.getLogger("sightline.observation.tasks")

_PAUSE = 1.0
"""Seconds before what could not be told is tried again."""


class TaskNews:
    """On one event loop. Readers inside the program are told by `events`, of all sessions."""

    def __init__(self, handles: Handles, clock: Clock) -> None:
        self.events = TaskEvents()
        self._handles = handles
        self._clock = clock
        self._late: deque[TaskEvent] = deque()
        self._telling: asyncio.Task[None] | None = None
        self._stopped = False

    def tell(self, event: TaskEvent) -> None:
        """Called in the order of the writes. Neither waits nor raises."""
        self.events.tell(event)
        handle = self._handles.get(event.session_id)
        if handle is not None and not any(each.session_id == event.session_id for each in self._late):
            handle.record_task_changed(event.kind, event.record)
        elif not self._stopped:
            self._late.append(event)
            if self._telling is None:
                self._telling = asyncio.create_task(self._tell_late(), name="news of tasks")

    async def stop(self) -> None:
        """Tell no more; returns when no task is left."""
        self._stopped = True
        self.events.close()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell_late(self) -> None:
        try:
            while self._late:
                event = self._late[0]
                try:
                    async with self._handles.opened(event.session_id) as handle:
                        handle.record_task_changed(event.kind, event.record)
                except (NotFound, SessionDeleted):
                    pass  # it is gone, and nobody watches it
                except SightlineError as error:
                    _log.warning("session %s is told of a task later: %s", event.session_id, error)
                    await self._clock.sleep(_PAUSE)
                    continue
                self._late.popleft()
        finally:
            self._telling = None
