"""Sub-agents as tasks: a session of its own works for another one, which lists it, talks to it, and ends it.

The task `subagent:<path>` is external: the work is the turns of the child session, which are as durable as any. The
path says who began whom: `reader.notes` is the `notes` of `reader`. A sub-agent with one thing to do ends as its turn
does; one that is kept waits between its turns until it is ended, or a turn of it does not end well.

Ending it closes the whole subtree: what waits in the child's queue and the turn that runs are cancelled, and so are the
child's own tasks, its sub-agents among them. Their sessions stay readable.

After a restart the children's turns go on by themselves; whoever watches for their ends begins anew with what is
stored.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from sightline.errors import (
    BatchNotCancellable,
    BatchNotFound,
    InvalidInput,
    NotFound,
    SessionDeleted,
    SessionExists,
    SightlineError,
    TaskConflict,
    Unavailable,
)
from sightline.ids import Ids
from sightline.observation.model import Observation
from sightline.queue.model import Batch, BatchState, Draft, TextItem, TurnInput, TurnInputPayload
from sightline.session.model import Failure, Metadata, Policy
from sightline.tasks.model import Ending, NewTask, Progress, TaskAttempt, TaskChange, TaskRecord, Unfolding
from sightline.tasks.rules import OWNER_LOST, bounded
from sightline.turn.tasks import TaskHost

__all__ = ["SUBAGENT_PREFIX", "Subagents"]

_log = logging.getLogger("sightline.turn.subagents")

SUBAGENT_PREFIX = "subagent:"
PRODUCER = "subagents"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_LOOK_SECONDS = 30.0
"""So often it is asked again whether a turn has ended, in case nobody told."""
_PAUSE = 1.0
_NEWEST = 50
"""So many of the child's newest messages are looked through for its answer."""
_REASON = "the sub-agent was ended"


class _Accepted(Protocol):
    @property
    def batch(self) -> Batch: ...


class Sessions(Protocol):
    """What sub-agents need of a kernel. See `sightline.kernel.Kernel`."""

    async def create_session(self, session_id: str, *, policy: Policy, metadata: Metadata) -> Observation: ...

    async def observe(self, session_id: str, messages: int) -> Observation: ...

    async def enqueue(self, draft: Draft) -> _Accepted: ...

    async def wait_for_batch(self, session_id: str, batch_id: str, timeout: float) -> Batch: ...

    async def list_batches(self, session_id: str, *, pending_only: bool) -> tuple[Batch, ...]: ...

    async def cancel_batch(self, session_id: str, batch_id: str) -> object: ...

    async def cancel_turn(self, session_id: str, *, reason: str) -> object: ...

    async def count_child(self, session_id: str, child_id: str, turn_id: str, key: str) -> None: ...


class Subagents:
    """Of one kernel, on its event loop, from `start` to `stop`."""

    def __init__(self, sessions: Sessions, tasks: TaskHost, ids: Ids) -> None:
        self._sessions = sessions
        self._tasks = tasks
        self._ids = ids
        self._watching: dict[str, asyncio.Task[None]] = {}
        """By batch."""

    async def start(self) -> None:
        """Watch those of earlier lives. Raises StoreUnavailable."""
        for record in await self._tasks.live_of_kind("subagent"):
            if record.producer == PRODUCER and record.child_session_id is not UNSET:
                self._tasks.ends_by(record, lambda record=record: self._close(record))  # type: ignore[misc]
                self._tasks.in_background(self._resume(record, record.child_session_id), f"resume {record.task_id}")

    async def stop(self) -> None:
        """Watch no more; the turns of children go on as turns do. Returns when no task is left."""
        watching = list(self._watching.values())
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    async def delegate(
        self,
        session_id: str,
        name: str,
        text: str,
        *,
        policy: Policy | None = None,
        keep: bool = False,
        key: str | UnsetType = UNSET,
    ) -> TaskRecord:
        """Begin a sub-agent with its first turn: its task, whose `child_session_id` is where it works. Its policy is
        the session's own unless told otherwise. Under the same `key` a live one is found.

        Raises InvalidInput for a name that is none, TaskConflict while a live one has it, and what
        `TaskHost.spawn_managed` and `Kernel.enqueue` raise. It is safe to repeat with a key.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput("name", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
        parent = await self._sessions.observe(session_id, 0)
        self._tasks.refuse_work()
        above = _path_of(parent)
        path = name if above is None else f"{above}.{name}"
        new = NewTask(
            task_id=f"{SUBAGENT_PREFIX}{path}",
            kind="subagent",
            producer=PRODUCER,
            parent_task_id=UNSET if above is None else f"{SUBAGENT_PREFIX}{above}",
            child_session_id=self._ids.new(),
            attempt=TaskAttempt(idempotency_key=key),
        )
        record = await self._tasks.register(session_id, new)
        self._tasks.ends_by(record, lambda: self._close(record))
        child_id = record.child_session_id
        assert child_id is not UNSET
        facts = {"path": path, "session_id": session_id, "task_id": record.task_id, "keep": keep}
        try:
            await self._sessions.create_session(
                child_id, policy=parent.policy if policy is None else policy, metadata={"subagent": facts}
            )
        except SessionExists:
            pass
        await self._say(record, child_id, text, "1")
        return record

    async def send(self, session_id: str, task_id: str, text: str, *, key: str | None = None) -> TaskRecord:
        """Give a live sub-agent more to do, once under a key. Raises TaskNotFound, TaskConflict when it has ended, and
        what `Kernel.enqueue` raises.
        """
        record = await self._tasks.get(session_id, task_id)
        if record.is_terminal or record.producer != PRODUCER or record.child_session_id is UNSET:
            raise TaskConflict(session_id, task_id, "is no live sub-agent")
        await self._say(record, record.child_session_id, text, key or self._ids.new())
        return await self._tasks.get(session_id, task_id)

    async def _say(self, record: TaskRecord, child_id: str, text: str, key: str) -> None:
        said = TurnInputPayload(TurnInput((TextItem(text),)))
        source_key = f"{_prefix(record)}{key}"
        accepted = await self._sessions.enqueue(Draft(session_id=child_id, payloads=(said,), source_key=source_key))
        await self._change(record, Unfolding("running"))
        self._watch(record, child_id, accepted.batch)

    # What becomes of it

    def _watch(self, record: TaskRecord, child_id: str, batch: Batch) -> None:
        if batch.batch_id in self._watching:
            return
        task = asyncio.create_task(self._see_through(record, child_id, batch), name=f"turn of {record.task_id}")
        self._watching[batch.batch_id] = task
        task.add_done_callback(lambda _: self._watching.pop(batch.batch_id, None))

    async def _see_through(self, record: TaskRecord, child_id: str, batch: Batch) -> None:
        while True:
            try:
                while batch.state.is_open:
                    batch = await self._sessions.wait_for_batch(child_id, batch.batch_id, _LOOK_SECONDS)
                await self._came_to(record, child_id, batch)
                return
            except (NotFound, SessionDeleted):
                ending = Ending(state="failed", code="session_deleted", summary="its session is gone")
                await self._change(record, ending)
                return
            except Unavailable as error:
                _log.info("%s is looked after later: %s", record.task_id, error)
                await self._tasks.pause(_PAUSE)
            except SightlineError as error:
                _log.warning("%s is not looked after any more: %s", record.task_id, error)
                return

    async def _came_to(self, record: TaskRecord, child_id: str, batch: Batch) -> None:
        view = await self._sessions.observe(child_id, _NEWEST)
        if batch.turn_id is not UNSET:
            owner = await self._tasks.home_of(record.generation)
            if owner is not None:
                key = f"{_prefix(record)}{batch.batch_id}:usage"
                await self._sessions.count_child(owner, child_id, batch.turn_id, key)
        answer = _answer(view, batch.turn_id)
        if batch.state is BatchState.COMPLETED and _facts(view).get("keep"):
            if answer:
                await self._change(record, Progress(bounded(answer)))
            if not view.queue:
                await self._change(record, Unfolding("waiting"))
            return
        await self._change(record, _ending(batch, answer))

    async def _resume(self, record: TaskRecord, child_id: str) -> None:
        try:
            batches = await self._sessions.list_batches(child_id, pending_only=False)
        except (NotFound, SessionDeleted):
            batches = ()
        mine = [batch for batch in batches if str(batch.source_key).startswith(_prefix(record))]
        open_ones = [batch for batch in mine if batch.state.is_open] or mine[-1:]
        for batch in open_ones:
            self._watch(record, child_id, batch)
        if not mine:
            lost = Ending(state="failed", code=OWNER_LOST, summary="the program ended before it had anything to do")
            await self._change(record, lost)

    async def _close(self, record: TaskRecord) -> None:
        """End the subtree. What has ended already is left as it is."""
        child_id = record.child_session_id
        assert child_id is not UNSET
        try:
            for batch in await self._sessions.list_batches(child_id, pending_only=True):
                try:
                    await self._sessions.cancel_batch(child_id, batch.batch_id)
                except (BatchNotFound, BatchNotCancellable):
                    continue  # its turn has begun, and is cancelled below
            await self._sessions.cancel_turn(child_id, reason=_REASON)
            await self._tasks.cancel_all(child_id, _REASON)
        except (NotFound, SessionDeleted):
            pass

    async def _change(self, record: TaskRecord, change: TaskChange) -> None:
        await self._tasks.change_registered(record.generation, change)


def _prefix(record: TaskRecord) -> str:
    return f"subagent:{record.generation}:"


def _facts(view: Observation) -> dict[str, Any]:
    facts = view.metadata.get("subagent")
    return facts if isinstance(facts, dict) else {}


def _path_of(view: Observation) -> str | None:
    """The path of the sub-agent that works in the session, if one does."""
    path = _facts(view).get("path")
    return path if isinstance(path, str) else None


def _answer(view: Observation, turn_id: str | UnsetType) -> str:
    for message in reversed(view.read_view.messages):
        if message.turn_id == turn_id and message.role == "assistant":
            return message.content
    return ""


def _ending(batch: Batch, answer: str) -> Ending:
    match batch.state:
        case BatchState.COMPLETED:
            return Ending(state="completed", summary=answer)
        case BatchState.CANCELLED:
            return Ending(state="cancelled", summary="its turn was cancelled")
        case _:
            error = batch.error if isinstance(batch.error, Failure) else Failure("turn_failed", "its turn failed")
            return Ending(state="failed", code=error.code, summary=error.message)
