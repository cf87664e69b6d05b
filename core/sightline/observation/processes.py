"""What sessions are told of the processes they see.

A process logs, and whoever sees it by then is told: `started` with its registration, `progress` for what it logs of its
own, `waiting` and `resumed` around a longer wait, its end by its name. `granted` and `revoked` are told to the session
that came to see it, or does not see it any more. Who sees it is read from the store, so telling takes a moment; it is
done in the background, of each process in the order in which things happened, and progress that comes faster than it
can be told is told once, as it stands. Whoever has to know waits until it is `told`.

A write whose answer was lost may have been done without a word. What it was about is `doubtful`: then each session that
may be concerned is told what its view does not show, if there is anything.

A session that is not loaded is loaded to be told. Nobody watches it then, but somebody may come back with a cursor, and
would take it for a proof that nothing happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct, field

from sightline.clock import Clock
from sightline.errors import Draining, NotFound, SessionDeleted, SightlineError
from sightline.observation.handle import RuntimeHandle
from sightline.observation.handles import Handles
from sightline.observation.model import shown_process
from sightline.process.model import Appended, GrantHolder, HandleSummary, ProcessRecord
from sightline.process.rules import grant_of, told_as

__all__ = ["GrantReader", "ProcessNews"]

_log = logging.getLogger("sightline.observation.processes")

_DOUBT = ""
_PAUSE = 1.0
"""Seconds before what could not be told is tried again."""


class GrantReader(Protocol):
    """The part of a registry that says what a process is, and who sees it."""

    async def get_process(self, process_id: str) -> ProcessRecord: ...

    async def grants_of_process(self, process_id: str) -> tuple[GrantHolder, ...]: ...


class _News(Struct):
    """`record` is the process after it; without one, as it stands when it is told. `session_id`: whom alone it is for.
    A blank kind is a doubt. `readings`: how many readings of sessions there had been when it came.
    """

    kind: str
    record: ProcessRecord | None = None
    session_id: str | None = None
    readings: int = 0

    def suits(self, handle: RuntimeHandle) -> bool:
        """Whether its record is newer than what the session was read with."""
        return self.record is not None and handle.reading <= self.readings


class _Bundle(Struct):
    """What of one process is to be told at once. `settled` is set when it was told, or when `error` says why not."""

    news: list[_News]
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    error: SightlineError | None = None

    def settle(self, error: SightlineError | None = None) -> None:
        self.error = error
        self.settled.set()


class ProcessNews:
    """On one event loop. What it is told while nothing is being told begins a task, which ends when all is told."""

    def __init__(self, store: GrantReader, handles: Handles, clock: Clock) -> None:
        self._store = store
        self._handles = handles
        self._clock = clock
        self._bundles: dict[str, _Bundle] = {}
        self._telling: dict[str, _Bundle] = {}
        """What is told now: one at most."""
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    # None of these waits or raises.

    def logged(self, appended: Appended) -> None:
        """Something was logged, by whomever."""
        if appended.replayed:
            self.doubtful(appended.record.process_id)  # the first time nobody may have heard of it
        elif appended.event is not None and (kind := told_as(appended.event)) is not None:
            self._add(appended.record.process_id, _News(kind, appended.record))

    def started(self, record: ProcessRecord) -> None:
        """A process was registered, with its grants."""
        self._add(record.process_id, _News("started", record))

    def waits(self, process_id: str, waits: bool) -> None:
        """A process has been waiting for a while, or goes on after that."""
        self._add(process_id, _News("waiting" if waits else "resumed"))

    def granted(self, process_id: str, session_id: str) -> None:
        """The session, or a frame of it, was let see a process."""
        self._add(process_id, _News("granted", session_id=session_id))

    def revoked(self, process_id: str, session_id: str) -> None:
        """A process was taken from the session, or from a frame of it."""
        self._add(process_id, _News("revoked", session_id=session_id))

    def doubtful(self, process_id: str, *session_ids: str) -> None:
        """Something may have happened to the process, or to what these sessions see of it."""
        for session_id in (None, *session_ids):
            self._add(process_id, _News(_DOUBT, session_id=session_id))

    async def told(self, process_ids: Iterable[str]) -> None:
        """Return when all that happened to these processes so far was told. Cancellable at any time.

        Raises StoreUnavailable when that has to wait for the store, and Draining when nothing more is told here.
        """
        if self._stopped:
            raise Draining
        names = set(process_ids)
        for bundle in [each[name] for each in (self._telling, self._bundles) for name in names if name in each]:
            await bundle.settled.wait()
            if bundle.error is not None:
                raise bundle.error

    async def stop(self) -> None:
        """Tell no more; returns when no task is left."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for bundle in (*self._telling.values(), *self._bundles.values()):
            bundle.settle(Draining())

    def _add(self, process_id: str, each: _News) -> None:
        if self._stopped:
            return
        each.readings = self._handles.readings
        bundle = self._bundles.get(process_id)
        if bundle is None:
            self._bundles[process_id] = _Bundle([each])
        elif (last := bundle.news[-1]).kind == each.kind and last.session_id == each.session_id:
            bundle.news[-1] = each
        else:
            bundle.news.append(each)
        self._begin()

    def _begin(self) -> None:
        if self._task is None and self._bundles and not self._stopped:
            self._task = asyncio.create_task(self._tell_all(), name="process news")
            self._task.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self._begin()  # something may have come after the task had looked for the last time

    async def _tell_all(self) -> None:
        while self._bundles:
            process_id = next(iter(self._bundles))
            bundle = self._telling[process_id] = self._bundles.pop(process_id)
            trouble: SightlineError | None = None
            try:
                await self._tell(process_id, bundle.news)
            except SightlineError as error:
                _log.warning("process %s: its news is told later: %s", process_id, error)
                later = self._bundles.setdefault(process_id, _Bundle([]))
                later.news[:0] = bundle.news
                trouble = error
            except Exception:
                _log.exception("process %s: its news is lost", process_id)
            bundle.settle(trouble)
            del self._telling[process_id]
            if trouble is not None:
                await self._clock.sleep(_PAUSE)

    async def _tell(self, process_id: str, news: Sequence[_News]) -> None:
        holders: dict[str, list[GrantHolder]] = {}
        for holder in await self._store.grants_of_process(process_id):
            holders.setdefault(holder.scope.session_id, []).append(holder)
        concerned = [each.session_id for each in news if each.session_id is not None]
        for session_id in dict.fromkeys((*holders, *concerned)):
            try:
                async with self._handles.opened(session_id) as handle:
                    concerning = [each for each in news if each.session_id in (None, session_id)]
                    now = await self._as_it_stands(process_id, handle, concerning)
                    frame_id = handle.view.read_view.agent_frame_id
                    # The session's own grant comes first, and of several the first says how it is called.
                    granted = holders.get(session_id, ())
                    seen = [each.descriptor for each in granted if each.scope.agent_frame_id in ("", frame_id)]
                    for each in concerning:
                        if (record := each.record if each.suits(handle) else now) is not None:
                            _tell_one(handle, each.kind, record, seen)
            except (NotFound, SessionDeleted):
                continue  # it is gone, and nobody watches it

    async def _as_it_stands(
        self, process_id: str, handle: RuntimeHandle, news: Sequence[_News]
    ) -> ProcessRecord | None:
        """The process as it is now, if the news does not say it; none when it is not there.

        What came before the session was read is in what was read, with whatever came after it: that the process has
        ended, perhaps, and in another program, which nobody here would tell of again.
        """
        while not all(each.suits(handle) for each in news):
            reading = handle.reading
            try:
                now = await self._store.get_process(process_id)
            except NotFound:
                return None  # it was not registered
            if handle.reading == reading:
                return now
        return None


def _tell_one(handle: RuntimeHandle, kind: str, record: ProcessRecord, seen: Sequence[dict[str, Any]]) -> None:
    """Tell one session, which sees the process under these names, and if there are none does not see it."""
    shown = handle.shown_process(record.process_id)
    if not seen:
        if kind in ("revoked", _DOUBT) and shown is not None:
            _change(handle, "revoked", record, shown["descriptor"])
    elif kind == _DOUBT:
        _reconcile(handle, record, seen[0], shown)
    elif kind != "revoked":
        _change(handle, kind, record, seen[0])


def _reconcile(
    handle: RuntimeHandle, record: ProcessRecord, descriptor: dict[str, Any], shown: dict[str, Any] | None
) -> None:
    if record.is_terminal:
        if shown is not None:
            _change(handle, record.status, record, descriptor)
    elif shown is None:
        _change(handle, "granted", record, descriptor)
    elif shown != shown_process(HandleSummary.of(grant_of(record, descriptor))):
        _change(handle, "progress", record, descriptor)


def _change(handle: RuntimeHandle, kind: str, record: ProcessRecord, descriptor: dict[str, Any]) -> None:
    handle.record_process_changed(kind, (HandleSummary.of(grant_of(record, descriptor)),))
