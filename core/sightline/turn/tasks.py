"""The background tasks of one kernel: listed in the store, told of, and done here as far as this program does them.

Three flavours. Hidden work is listed nowhere and waited for as a whole. Managed work is a coroutine of this program
that a session lists. External tasks are done by somebody else, who says how they stand; whoever registers one may say
how it is cancelled, otherwise a wish for its end is all there can be, and it lasts until its owner says that it is
over.

Tasks belong to sessions and are named by session and id. What ends is found by the generation of its registration, so
that handing a task over, or its id's return, does not confuse whose end it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from sightline.clock import Clock, within
from sightline.errors import (
    Draining,
    NotFound,
    SessionDeleted,
    SightlineError,
    StoreUnavailable,
    TaskNotFound,
    TasksUnavailable,
)
from sightline.observation.handle import RuntimeHandle
from sightline.observation.handles import Handles
from sightline.observation.tasks import TaskNews
from sightline.persevering import persistently
from sightline.tasks.async_handles import AsyncHandles, CancelToken
from sightline.tasks.hidden import HiddenWork
from sightline.tasks.model import (
    CancelRequest,
    ChangedTask,
    Ending,
    NewTask,
    RegisteredTask,
    TaskChange,
    TaskEvent,
    TaskFilter,
    TaskKind,
    TaskName,
    TaskRecord,
    Transferred,
)
from sightline.tasks.port import TaskStore
from sightline.tasks.rules import MONITOR_PREFIX, check_visible, described
from sightline.tasks.telling import TaskReader
from sightline.tasks.working import CancelCallback, RunningTask, TaskWork, WorkTable

__all__ = ["BY_HOST", "TaskHost"]

_log = logging.getLogger("sightline.turn.tasks")

BY_HOST = "requested by host"
STOPPED = "the server stopped"
_SESSION_DELETED = "session deleted"
_LIST_LIMIT = 1_000
_ALL = 2**31
"""More than there can be: registrations are limited, and who ends all of them must not miss one."""
_GONE_SECONDS = 5.0
_PAUSE = 1.0

_T = TypeVar("_T")


class TaskHost:
    """Lives on one event loop, from `start` to `stop`.

    Without `runs_work` tasks of others are kept and told of, and nothing is done here. `max_live`: how many live tasks,
    and as many live async handles, a session may have.
    """

    def __init__(self, store: TaskStore, handles: Handles, *, runs_work: bool, clock: Clock, max_live: int) -> None:
        self._store = store
        self._handles = handles
        self._runs_work = runs_work
        self._clock = clock
        self._max_live = max_live
        self._news = TaskNews(handles, clock)
        self._hidden = HiddenWork()
        self._works = WorkTable(clock, self._report)
        self._async_handles = AsyncHandles(clock, max_live)
        self._ending: set[asyncio.Task[Any]] = set()
        self._retrying: set[asyncio.Task[None]] = set()
        self._wanting_sync: set[str] = set()
        self._draining = False
        self.disarm: Callable[[str, str], Awaitable[object]] | None = None
        """Called with session and monitor before the task of a monitor is cancelled. What it raises aborts that."""

    # Life

    async def start(self) -> None:
        """Say of managed tasks of earlier lives that nobody does them any more. Raises StoreUnavailable."""

        def ended(lost: tuple[TaskRecord, ...]) -> None:
            for record in lost:
                self._tell("failed", record)

        await self._store.lose_tasks(now=self._clock.now_ms(), then=ended)

    async def see_to(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Do it, and while the store is away again and again; returns after the first try. Ends with the drain."""
        if self._draining:
            return
        tried = asyncio.Event()
        task = asyncio.create_task(self._until_done(work, what, tried), name=what)
        self._retrying.add(task)
        task.add_done_callback(self._retrying.discard)
        task.add_done_callback(lambda _: tried.set())
        await tried.wait()

    async def _until_done(self, work: Callable[[], Awaitable[None]], what: str, tried: asyncio.Event) -> None:
        while True:
            try:
                await work()
                return
            except StoreUnavailable as error:
                _log.warning("%s: %s", what, error)
            except Exception:
                _log.exception("%s", what)
                return
            tried.set()
            await self._clock.sleep(_PAUSE)

    @property
    def running(self) -> int:
        """How much hidden and managed work runs here."""
        return self._hidden.count + self._works.running

    async def wait_hidden(self) -> None:
        """Return when no hidden work is left, of any session. Cancellable at any time."""
        await self._hidden.wait_idle()

    def begin_draining(self) -> None:
        """Begin no more work; what runs goes on."""
        self._draining = True
        for task in self._retrying:
            task.cancel()

    async def stop(self) -> None:
        """End everything that is done here now: managed tasks are cancelled and say so. Nothing is left then."""
        self.begin_draining()
        await asyncio.gather(*self._retrying, return_exceptions=True)
        await self._gone([*self._hidden.cancel(), *self._async_handles.abort()])
        await self._works.stop(STOPPED)
        await self._gone(list(self._ending))
        await self._news.stop()

    def session_deleted(self, session_id: str, listed: Iterable[TaskRecord]) -> None:
        """The session is gone, and these tasks with it: end what is done for them. Neither waits nor raises."""
        self._hidden.cancel(session_id)
        self._async_handles.abort(session_id)
        self._wanting_sync.discard(session_id)
        for generation in self._works.of_session(session_id):
            self.in_background(self._works.cancel(generation, _SESSION_DELETED), f"end of task {generation}")
        for record in listed:
            self._news.events.tell(TaskEvent(kind="revoked", record=record))

    # Hidden work

    async def spawn_hidden(self, session_id: str, label: str, work: Callable[[], Awaitable[object]]) -> None:
        """Begin work that is listed nowhere. `label` is for logs.

        Raises SessionNotFound, SessionDeleted before anything else, then TasksUnavailable, Draining.
        """
        async with self._handles.opened(session_id):
            self.refuse_work()
            self._hidden.spawn(session_id, label, work)

    async def await_hidden(self, session_id: str) -> None:
        """Return when none of the session's hidden work is left, that which it began meanwhile among it.

        Raises HiddenFailed with the first failure, once all of it has ended. Cancelling stops none of the work.
        """
        await self._hidden.drain(session_id)

    def want_sync(self, session_id: str) -> None:
        """Work was begun that may change what the session's agent offers: whoever waits for it reads that anew."""
        self._wanting_sync.add(session_id)

    def take_sync(self, session_id: str) -> bool:
        """Whether something is to be read anew; that is said once."""
        wanted = session_id in self._wanting_sync
        self._wanting_sync.discard(session_id)
        return wanted

    # Registering

    async def spawn_managed(self, session_id: str, new: NewTask, work: TaskWork) -> TaskRecord:
        """List a task and begin its work, which is there once the task is, also when the caller has left.

        A live task of the same idempotency key is found and goes on. Raises like `spawn_hidden`, and InvalidInput,
        TaskConflict, TooManyTasks, StoreUnavailable.
        """

        def registered(result: RegisteredTask) -> None:
            if result.created:
                record = result.record
                self._works.begin(
                    RunningTask(record, lambda change: self.change_registered(record.generation, change)), work
                )

        async with self._handles.opened(session_id) as handle:
            self.refuse_work()
            return await self._register(handle, new, "managed", registered)

    async def register(self, session_id: str, new: NewTask, *, cancel: CancelCallback | None = None) -> TaskRecord:
        """List a task that somebody else does. `cancel` ends it; without it, cancelling asks for the end.

        Raises InvalidInput, TaskConflict, TooManyTasks, SessionNotFound, SessionDeleted, StoreUnavailable.
        """

        def registered(result: RegisteredTask) -> None:
            if cancel is not None:
                self._works.ends_by(result.record, cancel)

        async with self._handles.opened(session_id) as handle:
            return await self._register(handle, new, "external", registered)

    async def unregister(self, session_id: str, task_id: str) -> TaskRecord | None:
        """Forget a task, however it stands: what it was. Nothing when it is not there."""
        async with self._handles.opened(session_id) as handle:

            def removed(record: TaskRecord | None) -> None:
                if record is not None:
                    self._works.forget(record.generation)
                    self._tell("revoked", record)

            record = await handle.write(self._store.remove_task(TaskName(session_id, task_id), then=removed))
            if record is not None and record.flavour == "managed":
                await self._works.cancel(record.generation, "forgotten")
            return record

    # How tasks stand

    async def change(self, session_id: str, task_id: str, change: TaskChange) -> TaskRecord | None:
        """Say how a task stands: the task then. None when it is not there; nothing happens when it has ended.

        Raises SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        async with self._handles.opened(session_id) as handle:
            result = await self._write(handle, TaskName(session_id, task_id), change)
            return None if result is None else result.record

    async def get(self, session_id: str, task_id: str) -> TaskRecord:
        """Raises TaskNotFound, SessionNotFound, SessionDeleted, StoreUnavailable."""
        return await self._store.get_task(TaskName(session_id, task_id))

    async def list(self, session_id: str, *, live: bool = False) -> tuple[TaskRecord, ...]:
        """The session's tasks in the order in which they came to it: the newest thousand, or all live ones.

        Raises SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        return await self._store.list_tasks(session_id, live=live, limit=_ALL if live else _LIST_LIMIT)

    def events(self, wanted: TaskFilter | None = None) -> TaskReader:
        """A reader of what happens to tasks from now on; close it when done. See `sightline.tasks.telling`."""
        return self._news.events.read(wanted or TaskFilter())

    # Ending

    async def cancel(self, session_id: str, task_id: str, reason: str = BY_HOST) -> TaskRecord:
        """End a task: the task then, which has ended, or is asked to end where nobody here can see to it.

        A task that has ended stays as it is. Raises TaskNotFound, SessionNotFound, SessionDeleted, StoreUnavailable,
        and what the task's own callback raises, which may be tried again.
        """
        name = TaskName(session_id, task_id)
        async with self._handles.opened(session_id) as handle:
            asked = await self._write(handle, name, CancelRequest(reason))
            if asked is None:
                raise TaskNotFound(described(name))
            record = asked.record
            if record.is_terminal:
                return record
            if record.kind == "monitor" and self.disarm is not None:
                await self.disarm(session_id, task_id.removeprefix(MONITOR_PREFIX))
            await self._works.cancel(record.generation, reason)
            try:
                return await self._store.get_task(record.generation)
            except TaskNotFound:
                return record

    async def cancel_all(self, session_id: str, reason: str = BY_HOST) -> tuple[TaskRecord, ...]:
        """End all live tasks of a session: those tasks then. What one of them raises is raised when all were tried."""
        records = await self.list(session_id, live=True)
        return await self._cancel_each(session_id, records, reason)

    async def cancel_unreferenced(self, session_id: str, keep: Sequence[str]) -> tuple[TaskRecord, ...]:
        """End all live tasks and async handles of a session but these: the tasks then. Raises like `cancel_all`."""
        records = [record for record in await self.list(session_id, live=True) if record.task_id not in keep]
        await self._async_handles.cancel_unreferenced(session_id, keep)
        return await self._cancel_each(session_id, records, BY_HOST)

    # Handles

    async def begin_handle(
        self, session_id: str, handle_id: str, work: Callable[[CancelToken], Awaitable[Any]]
    ) -> None:
        """Begin work whose result is fetched later by `handle_result`.

        Raises like `spawn_hidden`, and TaskConflict while a live handle has the id, TooManyTasks.
        """
        async with self._handles.opened(session_id):
            self.refuse_work()
            self._async_handles.begin(session_id, handle_id, work)

    async def handle_result(self, session_id: str, handle_id: str) -> Any:
        """What the work behind a handle came to, once it has ended; it is fetched once.

        Raises TaskNotVisible, HandleFailed. Cancelling stops none of the work.
        """
        return await self._async_handles.result(session_id, handle_id)

    def live_handles(self, session_id: str) -> tuple[str, ...]:
        return self._async_handles.live(session_id)

    async def cancel_handle(self, session_id: str, handle_id: str) -> None:
        """End the work behind a handle: by its token, and 100 ms later by force. Nothing when it is not live."""
        await self._async_handles.cancel(session_id, (handle_id,))

    async def validate(self, session_id: str, handle_ids: Sequence[str]) -> None:
        """Raises TaskNotVisible when one of these is neither a live async handle nor a live task of the session."""
        if handle_ids:
            tasks = await self.list(session_id, live=True)
            visible = (*self._async_handles.live(session_id), *(record.task_id for record in tasks))
            check_visible(session_id, handle_ids, visible)

    async def transfer(self, source: str, target: str, handle_ids: Sequence[str]) -> tuple[TaskRecord, ...]:
        """Hand live tasks and async handles to another session, all or none: the tasks then. Of none it does nothing.

        Their work goes on, and ends where they are by then. Raises TaskNotVisible for what is neither, TaskConflict
        when the target has a live one of one of the ids, SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        if not handle_ids:
            return ()

        def handed(moved: tuple[Transferred, ...]) -> None:
            self._async_handles.transfer(source, target, handle_ids)
            for each in moved:
                self._works.moved(each.after.generation, target)
                self._tell("revoked", each.before)
                self._tell("granted", each.after)

        async with self._handles.opened(source) as giving, self._handles.opened(target) as taking:
            await self.validate(source, handle_ids)
            self._async_handles.check_transfer(source, target, handle_ids)
            write = self._store.transfer_tasks(source, target, handle_ids, now=self._clock.now_ms(), then=handed)
            # It is a write of both: when its answer is lost, neither knows what it has.
            moved = await giving.write(taking.write(write))
            return tuple(each.after for each in moved)

    # Inside

    def refuse_work(self) -> None:
        """Raises TasksUnavailable, Draining."""
        if not self._runs_work:
            raise TasksUnavailable
        if self._draining:
            raise Draining

    def ends_by(self, record: TaskRecord, callback: CancelCallback) -> None:
        """How a task that was registered before is cancelled."""
        self._works.ends_by(record, callback)

    async def home_of(self, generation: int) -> str | None:
        """The session that a registration belongs to by now, if it is there. Raises StoreUnavailable."""
        try:
            return (await self._store.get_task(generation)).session_id
        except TaskNotFound:
            return None

    async def pause(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def live_of_kind(self, kind: TaskKind) -> tuple[TaskRecord, ...]:
        """Of all sessions. Raises StoreUnavailable."""
        return await self._store.live_tasks_of_kind(kind)

    async def _register(
        self, handle: RuntimeHandle, new: NewTask, flavour: Any, then: Callable[[RegisteredTask], None]
    ) -> TaskRecord:
        def registered(result: RegisteredTask) -> None:
            if result.created:
                self._tell("started", result.record)
            then(result)

        registration = await handle.write(
            self._store.register_task(
                handle.session_id,
                new,
                flavour=flavour,
                max_live=self._max_live,
                now=self._clock.now_ms(),
                then=registered,
            )
        )
        return registration.record

    async def _cancel_each(self, session_id: str, records: Iterable[TaskRecord], reason: str) -> tuple[TaskRecord, ...]:
        cancelled, failure = [], None
        for record in records:
            try:
                cancelled.append(await self.cancel(session_id, record.task_id, reason))
            except TaskNotFound:
                continue  # it was forgotten, or handed over, meanwhile
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return tuple(cancelled)

    async def _write(self, handle: RuntimeHandle, task: TaskName | int, change: TaskChange) -> ChangedTask | None:
        return await handle.write(self._store.change_task(task, change, now=self._clock.now_ms(), then=self._changed))

    def _changed(self, result: ChangedTask | None) -> None:
        if result is not None and result.kind is not None:
            if result.record.is_terminal:
                self._works.forget(result.record.generation)
            self._tell(result.kind, result.record)

    async def change_registered(self, generation: int, change: TaskChange) -> None:
        """Say how what is done here stands, in whatever session the task is by then. Raises StoreUnavailable."""
        try:
            record = await self._store.get_task(generation)
            async with self._handles.opened(record.session_id) as handle:
                await self._write(handle, generation, change)
        except (NotFound, SessionDeleted):
            pass  # nobody lists it any more

    async def _report(self, generation: int, ending: Ending) -> None:
        await self._persistently(lambda: self.change_registered(generation, ending))

    def _tell(self, kind: Any, record: TaskRecord) -> None:
        self._news.tell(TaskEvent(kind=kind, record=record))

    def in_background(self, work: Awaitable[Any], name: str) -> None:
        """Do work of this kernel's own; what goes wrong is logged, and `stop` waits for it."""

        async def run() -> None:
            try:
                await work
            except Exception as error:
                _log.warning("%s: %s", name, error, exc_info=None if isinstance(error, SightlineError) else error)

        task = asyncio.create_task(run(), name=name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _gone(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Wait a while until these have ended; what has not by then is left behind."""
        if tasks:
            waiting = asyncio.ensure_future(asyncio.wait(tasks))
            if not await within(self._clock, _GONE_SECONDS, waiting):
                left = [task.get_name() for task in tasks if not task.done()]
                _log.warning("these did not end although they were cancelled: %s", ", ".join(left))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _persistently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await persistently(self._clock, "background tasks", work)
