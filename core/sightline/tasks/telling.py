"""The stream of what happens to tasks, for readers inside the program.

Each reader has a buffer of its own. One who is too slow loses the oldest events, and is told how many, in their place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from sightline.tasks.model import TaskEvent, TaskFilter, TasksLost
from sightline.tasks.rules import passes

__all__ = ["TaskEvents", "TaskReader"]

CAPACITY = 256


class TaskReader:
    """An async iterator of events and losses. Ends when it is closed, after what it still has."""

    def __init__(self, wanted: TaskFilter, events: TaskEvents, capacity: int) -> None:
        self._wanted = wanted
        self._events = events
        self._capacity = capacity
        self._buffer: deque[TaskEvent] = deque()
        self._lost = 0
        self._closed = False
        self._woken = asyncio.Event()

    def put(self, event: TaskEvent) -> None:
        if not passes(event, self._wanted):
            return
        if len(self._buffer) == self._capacity:
            self._buffer.popleft()
            self._lost += 1
        self._buffer.append(event)
        self._woken.set()

    def close(self) -> None:
        """Nothing more is told. Idempotent."""
        self._closed = True
        self._events.leave(self)
        self._woken.set()

    def __aiter__(self) -> AsyncIterator[TaskEvent | TasksLost]:
        return self

    async def __anext__(self) -> TaskEvent | TasksLost:
        while True:
            if self._lost:
                lost, self._lost = self._lost, 0
                return TasksLost(lost)
            if self._buffer:
                return self._buffer.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._woken.clear()
            await self._woken.wait()


class TaskEvents:
    """Where events come in and readers stand."""

    def __init__(self) -> None:
        self._readers: set[TaskReader] = set()

    def read(self, wanted: TaskFilter, capacity: int = CAPACITY) -> TaskReader:
        """A reader of what happens from now on, to be closed by whoever asked for it."""
        reader = TaskReader(wanted, self, capacity)
        self._readers.add(reader)
        return reader

    def leave(self, reader: TaskReader) -> None:
        self._readers.discard(reader)

    def tell(self, event: TaskEvent) -> None:
        """Neither waits nor raises."""
        for reader in self._readers:
            reader.put(event)

    def close(self) -> None:
        for reader in list(self._readers):
            reader.close()
