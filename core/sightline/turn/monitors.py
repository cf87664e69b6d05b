"""Monitors, run: a login shell in a process group of its own, whose lines become turns of the session that watches.

A run of a monitor is a managed task, `monitor:<id>`, and is ended by ending that task, which kills all of the group.
Its lines ask for turns wherever the task belongs by then. A wish is made under a key of its own, so that it comes into
the queue once; the next one is made when the turn of the last one has ended.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from msgspec import UNSET, structs

from sightline.clock import Clock, within
from sightline.errors import Draining, NotFound, SessionDeleted, SightlineError, TaskNotFound, Unavailable
from sightline.observation.handles import Handles
from sightline.persevering import finish, persistently
from sightline.queue.materializing import task_wake_draft
from sightline.queue.model import TaskWake
from sightline.tasks.model import NewTask, TaskRecord
from sightline.tasks.monitoring import (
    MonitorRecord,
    MonitorSpec,
    MonitorUpdate,
    MonitorWatch,
    Stream,
    armed_by,
    checked_spec,
    ended,
    task_id_of,
)
from sightline.tasks.port import TaskStore
from sightline.tasks.working import RunningTask
from sightline.turn.groups import end_group, inherited_environment
from sightline.turn.tasks import TaskHost

__all__ = ["MonitorFailed", "MonitorHost"]

_log = logging.getLogger("sightline.turn.monitors")

GRACE_SECONDS = 0.2
_CHUNK = 65_536
_LONGEST_LINE = 8_192
_LATE_SECONDS = 0.5
"""What a command wrote before it ended is there by then, unless somebody out of reach keeps its output open."""
_RETRY_SECONDS = 1.0


class MonitorFailed(Exception):
    """The command ended badly, took too long, or could not be begun."""


class _Wish(NamedTuple):
    """A turn that is asked for, the so manieth of the task."""

    task: TaskRecord
    number: int
    said: str
    at_ms: int

    def to(self, session_id: str) -> TaskWake:
        return TaskWake(
            task_id=self.task.task_id,
            target_session_id=session_id,
            generation=self.task.generation,
            number=self.number,
            input=self.said,
            created_at_ms=self.at_ms,
        )


class MonitorHost:
    """The monitors of one kernel, on its event loop. They end with its tasks."""

    def __init__(self, store: TaskStore, handles: Handles, tasks: TaskHost, *, clock: Clock, incarnation: int) -> None:
        self._store = store
        self._handles = handles
        self._tasks = tasks
        self._clock = clock
        self._incarnation = incarnation
        self._watches: dict[tuple[str, str], MonitorWatch] = {}
        """Of the last run of each monitor in this life."""
        self._waiting: set[str] = set()
        """Sessions whose armed monitors run with their next turn."""
        tasks.disarm = self.disarm

    async def declare(self, session_id: str, spec: MonitorSpec) -> MonitorRecord:
        """Keep a monitor; it does not run by that. One that is declared anew runs as it was declared until it ends.

        Raises InvalidInput, SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        checked_spec(spec)
        before = await self._find(session_id, spec.id)
        if before is None:
            before = MonitorRecord(session_id=session_id, spec=spec, incarnation=self._incarnation)
        if armed_by(spec):
            self._waiting.add(session_id)
        return await self._put(structs.replace(before, spec=spec, armed=before.armed or armed_by(spec)))

    async def start(self, session_id: str, monitor_id: str) -> TaskRecord:
        """Run a monitor: its task. Raises TaskNotFound for none, TaskConflict while it runs, and what
        `TaskHost.spawn_managed` raises.
        """
        record = await self.get(session_id, monitor_id)
        new = NewTask(task_id=task_id_of(monitor_id), kind="monitor", producer="monitor")
        return await self._tasks.spawn_managed(session_id, new, lambda task: self._run(task, record))

    async def stop(self, session_id: str, monitor_id: str) -> MonitorRecord:
        """Disarm a monitor and end its run, with all that it began. Raises TaskNotFound for none."""
        try:
            await self._tasks.cancel(session_id, task_id_of(monitor_id), "stopped")
        except TaskNotFound:
            await self.disarm(session_id, monitor_id)
        return await self.get(session_id, monitor_id)

    async def disarm(self, session_id: str, monitor_id: str) -> None:
        """It is not begun by itself any more. Nothing when there is no such monitor."""
        record = await self._find(session_id, monitor_id)
        if record is not None and record.armed:
            await self._put(structs.replace(record, armed=False))

    async def get(self, session_id: str, monitor_id: str) -> MonitorRecord:
        """Raises TaskNotFound."""
        record = await self._find(session_id, monitor_id)
        if record is None:
            raise TaskNotFound(f"monitor {monitor_id!r} of session {session_id!r}")
        return record

    async def list(self, session_id: str) -> tuple[MonitorRecord, ...]:
        """By id."""
        return await self._store.list_monitors(session_id)

    def updates(self, session_id: str, monitor_id: str, after: int = 0) -> tuple[MonitorUpdate, ...]:
        """What the monitor wrote behind that number in its last run here, as far as it is kept."""
        watch = self._watches.get((session_id, monitor_id))
        return () if watch is None else tuple(update for update in watch.updates if update.sequence > after)

    async def start_life(self) -> None:
        """Know which sessions have monitors. Raises StoreUnavailable."""
        self._waiting.update(await self._store.monitored_sessions())

    def session_begins(self, session_id: str) -> None:
        """A turn of the session begins: with the first one of this life, what is armed is run. Never waits."""
        if session_id in self._waiting:
            self._waiting.discard(session_id)
            self._tasks.in_background(self._run_armed(session_id), f"monitors of {session_id}")

    async def _run_armed(self, session_id: str) -> None:
        for record in await self.list(session_id):
            if record.armed and record.state != "running":
                await self.start(session_id, record.monitor_id)

    def session_deleted(self, session_id: str) -> None:
        self._waiting.discard(session_id)
        for key in [key for key in self._watches if key[0] == session_id]:
            del self._watches[key]

    # One run

    async def _run(self, task: RunningTask, record: MonitorRecord) -> str:
        session_id, spec = record.session_id, record.spec
        record = await self._put(structs.replace(record, state="running", armed=True, exit_code=UNSET, detail=UNSET))
        run = _Run(self, task, spec)
        self._watches[session_id, spec.id] = run.watch
        after = ended(record, "stopped")
        try:
            code = await run.to_its_end()
            after = ended(record, "exited" if code == 0 else "failed", exit_code=code)
            if code != 0:
                raise MonitorFailed(f"the command ended with exit code {code}")
            return "exited"
        except MonitorFailed as error:
            if after.state == "stopped":
                after = ended(record, "failed", detail=str(error))
            raise
        finally:
            run.watch.add("state", after.state, self._clock.now_ms(), wakes=False)
            await finish(self._ended(after))

    async def _ended(self, after: MonitorRecord) -> None:
        try:
            now = await self._find(after.session_id, after.monitor_id)
            if now is not None:  # it may have been disarmed, or declared anew, meanwhile
                await self._put(structs.replace(after, spec=now.spec, armed=after.armed and now.armed))
        except (NotFound, SessionDeleted):
            pass

    async def ask(self, wish: _Wish) -> asyncio.Future[Any] | None:
        """Put a wish into the queue of the session that the task belongs to by now, once, however often it is tried:
        a future of the end of its turn. None when it has ended, or nobody is there any more.

        Raises Draining.
        """
        while True:
            try:
                session_id = (await self._store.get_task(wish.task.generation)).session_id
                async with self._handles.opened(session_id) as handle:
                    draft = task_wake_draft(wish.to(session_id))
                    batch = (await handle.enqueue(draft, reason="task_wake")).batch
                    ending = handle.ending_of(batch.batch_id)
                    if handle.shows_open(batch.batch_id):
                        return ending
                    ending.cancel()
                    return None
            except (NotFound, SessionDeleted):
                return None
            except Draining:
                raise
            except Unavailable as error:
                _log.info("task %s: its session is woken later: %s", wish.task.task_id, error)
            await self._clock.sleep(_RETRY_SECONDS)

    async def _find(self, session_id: str, monitor_id: str) -> MonitorRecord | None:
        records = await persistently(self._clock, "monitors", lambda: self._store.list_monitors(session_id))
        return next((record for record in records if record.monitor_id == monitor_id), None)

    async def _put(self, record: MonitorRecord) -> MonitorRecord:
        await persistently(self._clock, "monitors", lambda: self._store.put_monitor(record, then=lambda _: None))
        return record

    @property
    def clock(self) -> Clock:
        return self._clock


class _Run:
    """One run of a monitor's command: what it writes is told, and asks for turns."""

    def __init__(self, host: MonitorHost, task: RunningTask, spec: MonitorSpec) -> None:
        self.watch = MonitorWatch()
        self._host = host
        self._clock = host.clock
        self._task = task
        self._spec = spec
        self._wakes = 0
        self._wish: _Wish | None = None
        """What may be in the queue or not."""
        self._written = asyncio.Event()
        self._shown = asyncio.Event()
        self._latest = ""

    async def to_its_end(self) -> int:
        """The exit code. Raises MonitorFailed when it could not be begun or took too long."""
        transport, process = await self._begin()
        waking, showing = asyncio.create_task(self._wake_up()), asyncio.create_task(self._show())
        reading = [
            asyncio.create_task(self._read("stdout", process.stdout)),
            asyncio.create_task(self._read("stderr", process.stderr)),
        ]
        exited = asyncio.ensure_future(process.wait())
        try:
            if self._spec.persistent:
                await asyncio.wait({exited})
            elif not await within(self._clock, self._spec.timeout_ms / 1000, exited):
                raise MonitorFailed(f"it took longer than {self._spec.timeout_ms} ms")
            await within(self._clock, _LATE_SECONDS, asyncio.gather(*reading))
            waking.cancel()
            await asyncio.gather(waking, return_exceptions=True)
            await self._say_the_rest()
            return exited.result()
        finally:
            await finish(self._end(transport, process))
            ending = (waking, showing, *reading, exited)
            for each in ending:
                each.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _begin(self) -> tuple[asyncio.SubprocessTransport, Process]:
        loop = asyncio.get_running_loop()
        starting = asyncio.ensure_future(
            loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(_CHUNK, loop),
                "/bin/sh",
                "-l",
                "-c",
                self._spec.command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                cwd=None if self._spec.cwd is UNSET else self._spec.cwd,
                env={**inherited_environment(), **self._spec.env},
                start_new_session=True,
            )
        )
        try:
            transport, protocol = await asyncio.shield(starting)
        except OSError as error:
            raise MonitorFailed(f"it could not be begun: {error}") from error
        except asyncio.CancelledError:
            await asyncio.wait({starting})  # it may be there in a moment, and nobody else would end it
            if not starting.cancelled() and starting.exception() is None:
                transport, protocol = starting.result()
                await finish(self._end(transport, Process(transport, protocol, loop)))
            raise
        return transport, Process(transport, protocol, loop)

    async def _end(self, transport: asyncio.SubprocessTransport, process: Process) -> None:
        """Return when nothing of its group lives."""
        await end_group(process.pid, grace=GRACE_SECONDS)
        exited = asyncio.ensure_future(process.wait())
        await within(self._clock, _LATE_SECONDS, exited)
        exited.cancel()
        await asyncio.gather(exited, return_exceptions=True)
        transport.close()

    async def _read(self, stream: Stream, source: asyncio.StreamReader | None) -> None:
        assert source is not None
        async for line in _lines(source):
            wakes = self._spec.wake_policy == "queue_turn"
            update = self.watch.add(stream, line, self._clock.now_ms(), wakes=wakes)
            if update is not None:
                self._latest = update.text
                self._shown.set()
                if self.watch.wants_turn:
                    self._written.set()

    async def _wake_up(self) -> None:
        """One wish at a time; what is written until its turn has ended goes into the next."""
        while True:
            await self._written.wait()
            self._written.clear()
            if self.watch.wants_turn:
                ending = await self._ask()
                if ending is not None:
                    await asyncio.wait({ending})

    async def _ask(self) -> asyncio.Future[Any] | None:
        if self._wish is None:
            self._wakes += 1
            self._wish = _Wish(self._task.record, self._wakes, self.watch.take(), self._clock.now_ms())
        ending = await self._host.ask(self._wish)
        self._wish = None
        return ending

    async def _say_the_rest(self) -> None:
        """The command has ended: what waits is asked for now, and its turn is not waited for."""
        try:
            while self._wish is not None or self.watch.wants_turn:
                ending = await self._ask()
                if ending is not None:
                    ending.cancel()
        except Draining:
            _log.info("task %s: its last lines wake nobody any more", self._task.record.task_id)

    async def _show(self) -> None:
        """The latest line is how far the task is. What comes faster than it can be written is left out."""
        while True:
            await self._shown.wait()
            self._shown.clear()
            try:
                await self._task.progress(self._latest)
            except SightlineError as error:
                _log.info("task %s: a line is not shown: %s", self._task.record.task_id, error)


async def _lines(source: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines as they come; one that is too long comes in pieces."""
    rest = b""
    while chunk := await source.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if len(rest) > _LONGEST_LINE:
            yield rest.decode("utf-8", "replace")
            rest = b""
    if rest:
        yield rest.decode("utf-8", "replace")
