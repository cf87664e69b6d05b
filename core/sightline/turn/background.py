"""What one turn does in the background: work that outlives it, in the tasks of its session."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET, UnsetType

from sightline.errors import Draining, SightlineError, TaskConflict
from sightline.session.model import Policy
from sightline.tasks.async_handles import CancelToken
from sightline.tasks.model import NewTask, TaskAttempt, TaskKind, TaskRecord
from sightline.tasks.monitoring import MonitorRecord, MonitorSpec, MonitorUpdate, task_id_of
from sightline.tasks.working import TaskWork
from sightline.turn.monitors import MonitorHost
from sightline.turn.subagents import Subagents
from sightline.turn.tasks import TaskHost

__all__ = ["Sync", "TurnTasks"]

_log = logging.getLogger("sightline.turn.background")

Sync = Callable[[str, str], Awaitable[object]]
"""Reads anew what a session's agent offers: (session id, a key under which that is one reading)."""


class TurnTasks:
    """The background tasks of a turn's session, as its agent has them.

    What it begins is not repeated by a later attempt of the turn as long as it goes on here. Work that died with the
    program is begun anew.
    """

    def __init__(
        self,
        host: TaskHost,
        monitors: MonitorHost,
        subagents: Subagents,
        session_id: str,
        turn_id: str,
        sync: Sync | None,
    ) -> None:
        self._host = host
        self._monitors = monitors
        self._subagents = subagents
        self._session_id = session_id
        self._turn_id = turn_id
        self._sync = sync
        self._synced = 0

    async def spawn(
        self,
        task_id: str,
        work: TaskWork,
        *,
        kind: TaskKind = "other",
        producer: str = "agent",
        parent_task_id: str | UnsetType = UNSET,
        session_id: str | None = None,
    ) -> TaskRecord:
        """Begin work that goes on after the turn, as a task of the session, or of another one.

        `work` is a coroutine function that takes its `RunningTask`; a text it returns is what the task came to. The
        task that an earlier attempt of this turn began is found, if it is live. Raises InvalidInput, TaskConflict when
        another live task has the id, TooManyTasks, SessionNotFound, SessionDeleted, Draining, StoreUnavailable.
        """
        new = NewTask(
            task_id=task_id,
            kind=kind,
            producer=producer,
            parent_task_id=parent_task_id,
            attempt=TaskAttempt(idempotency_key=f"{self._turn_id}.{task_id}"[:256]),
        )
        return await self._host.spawn_managed(self._begun(session_id), new, work)

    async def spawn_hidden(
        self, label: str, work: Callable[[], Awaitable[object]], *, session_id: str | None = None
    ) -> None:
        """Begin work that is listed nowhere. `label` is for logs. Raises SessionNotFound, SessionDeleted, Draining."""
        await self._host.spawn_hidden(self._begun(session_id), label, work)

    async def await_hidden(self) -> None:
        """Return when no hidden work of the session is left. What it, or a task that was begun, may have changed of
        what the agent offers is read anew behind this turn.

        Raises HiddenFailed with the first failure, once all of it has ended.
        """
        try:
            await self._host.await_hidden(self._session_id)
        finally:
            await self._synchronise()

    async def list(self, *, live: bool = True) -> tuple[TaskRecord, ...]:
        """The session's tasks. Raises StoreUnavailable."""
        return await self._host.list(self._session_id, live=live)

    async def cancel(self, task_id: str, reason: str = "requested by agent") -> TaskRecord:
        """End a task of the session. See `TaskHost.cancel`."""
        return await self._host.cancel(self._session_id, task_id, reason)

    async def begin(self, handle_id: str, work: Callable[[CancelToken], Awaitable[Any]]) -> None:
        """Begin a call whose result is fetched later, in this turn or another one. See `TaskHost.begin_handle`."""
        await self._host.begin_handle(self._session_id, handle_id, work)

    async def result(self, handle_id: str) -> Any:
        """What such a call came to, once it has ended. See `TaskHost.handle_result`."""
        return await self._host.handle_result(self._session_id, handle_id)

    async def monitor(self, spec: MonitorSpec) -> TaskRecord:
        """Watch something for the session: a command whose lines wake it. Its task is `monitor:<id>`.

        One that runs already goes on as it is. Raises InvalidInput, and what `spawn` raises but TaskConflict.
        """
        await self._monitors.declare(self._session_id, spec)
        try:
            return await self._monitors.start(self._session_id, spec.id)
        except TaskConflict:
            return await self._host.get(self._session_id, task_id_of(spec.id))

    def monitor_updates(self, monitor_id: str, after: int = 0) -> tuple[MonitorUpdate, ...]:
        """What a monitor wrote lately, behind that number."""
        return self._monitors.updates(self._session_id, monitor_id, after)

    async def stop_monitor(self, monitor_id: str) -> MonitorRecord:
        """End a monitor with all that it began. Raises TaskNotFound for none, StoreUnavailable."""
        return await self._monitors.stop(self._session_id, monitor_id)

    async def delegate(self, name: str, text: str, *, policy: Policy | None = None, keep: bool = False) -> TaskRecord:
        """Begin a sub-agent, which works in a session of its own and outlives the turn. See `Subagents.delegate`.

        The one that an earlier attempt of this turn began is found, if it is live.
        """
        key = f"{self._turn_id}.{name}"
        return await self._subagents.delegate(self._session_id, name, text, policy=policy, keep=keep, key=key)

    async def send(self, task_id: str, text: str) -> TaskRecord:
        """Give a live sub-agent of the session more to do. See `Subagents.send`."""
        return await self._subagents.send(self._session_id, task_id, text)

    def _begun(self, session_id: str | None) -> str:
        """Where work is begun. In the turn's own session it may change what the agent offers, even if it fails."""
        if session_id is None or session_id == self._session_id:
            self._host.want_sync(self._session_id)
            return self._session_id
        return session_id

    async def _synchronise(self) -> None:
        if self._sync is None or not self._host.take_sync(self._session_id):
            return
        self._synced += 1
        try:
            await self._sync(self._session_id, f"{self._turn_id}.{self._synced}")
        except SightlineError as error:
            self._host.want_sync(self._session_id)
            if not isinstance(error, Draining):
                _log.warning("session %s: its tools are read anew later: %s", self._session_id, error)
