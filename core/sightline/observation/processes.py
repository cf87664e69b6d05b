"""What sessions are told of the processes they see.

A process logs, and whoever sees it by then is told: `started` with its registration, `progress` for what it logs of its
own, its end by its name. Who sees it is read from the store, so telling takes a moment; it is done in the background,
in the order in which things happened, and progress that comes faster than it can be told is told once, as it stands.

Sessions that are not loaded are told nothing: when one is loaded, what it sees is read with it. So a session that is
being loaded is waited for, or it would show a process as it was when it was read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from sightline.clock import Clock
from sightline.errors import NotFound, SessionDeleted, SightlineError
from sightline.observation.handles import Handles
from sightline.process.model import Appended, GrantHolder, HandleSummary, ProcessRecord
from sightline.process.rules import grant_of, told_as

__all__ = ["GrantReader", "ProcessNews"]

_log = logging.getLogger("sightline.observation.processes")

_PAUSE = 1.0
"""Seconds before what could not be told is tried again."""


class GrantReader(Protocol):
    """The part of a registry that says who sees a process."""

    async def grants_of_process(self, process_id: str) -> tuple[GrantHolder, ...]: ...


class _News(Struct):
    kind: str
    record: ProcessRecord


class ProcessNews:
    """On one event loop. What it is told while nothing is being told begins a task, which ends when all is told."""

    def __init__(self, store: GrantReader, handles: Handles, clock: Clock) -> None:
        self._store = store
        self._handles = handles
        self._clock = clock
        self._news: dict[str, list[_News]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def logged(self, appended: Appended) -> None:
        """Something was logged, by whomever. Neither waits nor raises."""
        kind = None if appended.event is None or appended.replayed else told_as(appended.event)
        if kind is not None:
            self._add(kind, appended.record)

    def started(self, record: ProcessRecord) -> None:
        """A process was registered, with its grants."""
        self._add("started", record)

    async def stop(self) -> None:
        """Tell no more; returns when no task is left."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _add(self, kind: str, record: ProcessRecord) -> None:
        if self._stopped:
            return
        news = self._news.setdefault(record.process_id, [])
        if news and news[-1].kind == kind:
            news[-1].record = record
        else:
            news.append(_News(kind, record))
        self._begin()

    def _begin(self) -> None:
        if self._task is None and self._news and not self._stopped:
            self._task = asyncio.create_task(self._tell_all(), name="process news")
            self._task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            _log.error("news of processes: %s", task.exception(), exc_info=task.exception())
        self._begin()  # something may have come after the task had looked for the last time

    async def _tell_all(self) -> None:
        while self._news:
            process_id = next(iter(self._news))
            news = self._news.pop(process_id)
            try:
                await self._tell(process_id, news)
            except SightlineError as error:
                _log.warning("process %s: its news is told later: %s", process_id, error)
                self._news[process_id] = news + self._news.get(process_id, [])
                await self._clock.sleep(_PAUSE)

    async def _tell(self, process_id: str, news: Sequence[_News]) -> None:
        holders: dict[str, list[GrantHolder]] = {}
        for holder in await self._store.grants_of_process(process_id):
            holders.setdefault(holder.scope.session_id, []).append(holder)
        for session_id, granted in holders.items():
            if not self._handles.knows(session_id):
                continue
            try:
                async with self._handles.opened(session_id) as handle:
                    frame_id = handle.view.read_view.agent_frame_id
                    # The session's own grant comes first, and of several the first says how it is called.
                    seen = [each for each in granted if each.scope.agent_frame_id in ("", frame_id)]
                    for each in news if seen else ():
                        grant = grant_of(each.record, seen[0].descriptor)
                        handle.record_process_changed(each.kind, (HandleSummary.of(grant),))
            except (NotFound, SessionDeleted):
                continue  # it is gone, and nobody watches it
