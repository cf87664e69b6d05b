"""What the kernel needs from a store of tasks.

It is the database of the sessions: a task belongs to its session and ends with it. What a change does is decided by
`sightline.tasks.rules`, called inside the transaction. `then` is what it is in `sightline.session.port`; it is
told also of what changed nothing.

Tasks of a session are listed in the order in which they came to it: were registered in it, or handed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sightline.tasks.model import (
    ChangedTask,
    Flavour,
    NewTask,
    RegisteredTask,
    TaskChange,
    TaskKind,
    TaskName,
    TaskRecord,
    Transferred,
)
from sightline.tasks.monitoring import MonitorRecord

__all__ = ["TaskStore"]


class TaskStore(Protocol):
    """Tasks by session and id, and by the generation of their registration."""

    async def register_task(
        self,
        session_id: str,
        new: NewTask,
        *,
        flavour: Flavour,
        max_live: int,
        now: int,
        then: Callable[[RegisteredTask], None],
    ) -> RegisteredTask:
        """Begin to list a task, with a generation that no task had before. One of the same id that has ended makes way;
        a live one that came with the same idempotency key is the one.

        Raises InvalidInput, TaskConflict while one of that id is live, TooManyTasks, SessionNotFound, SessionDeleted.
        """
        ...

    async def change_task(
        self, task: TaskName | int, change: TaskChange, *, now: int, then: Callable[[ChangedTask | None], None]
    ) -> ChangedTask | None:
        """Do to a task what `rules.changed` says; none when there is no such task. By its generation it is found in
        whatever session it is. Raises nothing of its own.
        """
        ...

    async def get_task(self, task: TaskName | int) -> TaskRecord:
        """By name or generation. Raises TaskNotFound; by name also SessionNotFound, SessionDeleted."""
        ...

    async def list_tasks(self, session_id: str, *, live: bool, limit: int) -> tuple[TaskRecord, ...]:
        """A session's tasks, the newest `limit`; with `live` only those that have not ended.

        Raises SessionNotFound, SessionDeleted.
        """
        ...

    async def live_tasks_of_kind(self, kind: TaskKind) -> tuple[TaskRecord, ...]:
        """All sessions' tasks of a kind that have not ended, by generation."""
        ...

    async def transfer_tasks(
        self,
        source: str,
        target: str,
        task_ids: Sequence[str],
        *,
        now: int,
        then: Callable[[tuple[Transferred, ...]], None],
    ) -> tuple[Transferred, ...]:
        """Hand live tasks from session to session, all or none, with their generations. Ids that are no live tasks of
        the source are left out; one that has ended in the target makes way. To where they are already they are not
        handed.

        Raises TaskConflict when the target has a live task of one of the ids, SessionNotFound, SessionDeleted.
        """
        ...

    async def remove_task(self, task: TaskName, *, then: Callable[[TaskRecord | None], None]) -> TaskRecord | None:
        """Forget a task, however it stands: what it was, none when there was none. Raises nothing of its own."""
        ...

    async def lose_tasks(self, *, now: int, then: Callable[[tuple[TaskRecord, ...]], None]) -> tuple[TaskRecord, ...]:
        """End the managed tasks of earlier lives of the store, as `rules.lost` says: those that ended by it."""
        ...

    async def put_monitor(self, record: MonitorRecord, *, then: Callable[[None], None]) -> None:
        """Keep a monitor as it stands, by session and id. Raises SessionNotFound, SessionDeleted."""
        ...

    async def monitored_sessions(self) -> tuple[str, ...]:
        """The sessions that have monitors."""
        ...

    async def list_monitors(self, session_id: str) -> tuple[MonitorRecord, ...]:
        """A session's monitors, by id, as `monitoring.restored` has them. Raises nothing of its own."""
        ...

    async def purge_tasks(self, before: int, limit: int) -> int:
        """Forget tasks that ended before that time, at most `limit`: how many."""
        ...
