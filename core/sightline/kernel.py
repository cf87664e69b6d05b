"""The kernel: puts the parts together and is what hosts talk to.

`Kernel(store=…, agent=…)` holds sessions, queues their work and runs it; `subscribe` lets anybody watch. Everything it
accepts is in the store before it answers. It lives on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from sightline.agents.engines.standard import standard_engines
from sightline.clock import Clock, SystemClock, within
from sightline.errors import CommandFailed, Draining, InvalidInput, SessionDeleted
from sightline.housekeeping import Housekeeping
from sightline.ids import Ids, SystemIds
from sightline.limits import Limits
from sightline.observation.cursor import Cursor, parse_for_session
from sightline.observation.events import Event
from sightline.observation.handle import RuntimeHandle
from sightline.observation.handles import Handles
from sightline.observation.model import Observation
from sightline.observation.opening import GapAnswer, Opening
from sightline.observation.port import SessionLoader
from sightline.observation.replay import LiveReplayStore
from sightline.observation.surroundings import Surroundings
from sightline.observation.watching import Snapshot, watch
from sightline.observation.widening import widened
from sightline.process.engine import Engine
from sightline.process.model import GrantsEnded
from sightline.process.port import ProcessRegistry, ProcessStore
from sightline.process.worker import WorkerLimits
from sightline.queue.materializing import command_source_key
from sightline.queue.model import (
    Batch,
    Cancellation,
    CommandPayload,
    Draft,
    Receipt,
    RefreshToolSurface,
    SessionCommand,
)
from sightline.queue.rules import check_draft
from sightline.queue.runner import QueuedWorkPoke, QueuedWorkRunner
from sightline.session.model import (
    AgentFrame,
    Attachment,
    Failure,
    MessagePage,
    Metadata,
    NewSession,
    Policy,
    Request,
    SessionEntry,
    SessionPage,
    Status,
)
from sightline.session.port import AttachmentStore
from sightline.stores.memory import MemoryAttachments, MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.tasks.port import TaskStore
from sightline.turn.agent import Agent
from sightline.turn.background import TurnTasks
from sightline.turn.children import count_child
from sightline.turn.commands import ToolSource
from sightline.turn.driver import DriverLimits, TurnDriver, TurnStore
from sightline.turn.host import TurnHost, close_agent
from sightline.turn.monitors import MonitorHost
from sightline.turn.processes import ProcessHost
from sightline.turn.requests import Asked
from sightline.turn.subagents import Subagents
from sightline.turn.tasks import TaskHost

__all__ = ["Kernel", "KernelStore", "Limits", "Written"]

_log = logging.getLogger("sightline.kernel")

_LIST_LIMIT = 1_000
_COMMAND_SECONDS = 60.0


class KernelStore(TurnStore, SessionLoader, ProcessStore, TaskStore, Protocol):
    """One database behind all ports of the kernel."""

    @property
    def incarnation(self) -> int:
        """Which life of the store this is; grows with each opening where the store can promise it."""
        ...

    async def close(self) -> None: ...


class Written(Struct, frozen=True):
    """A batch a request brought or found, and a cursor: a stream that has passed it has shown the write."""

    batch: Batch
    replayed: bool
    applied_through: str


class Kernel:
    """Create, `start`, use, `drain` (or not), `stop`.

    `agent` None: accept and show work, but run none here. One that has an async `close` is closed by `stop`. `tools`
    reads what the agent offers, for the tool surface; `processes` is where a session's handle reads the processes it
    may see, the store unless told otherwise; `engines` run processes, by their kind: unless told otherwise, all that
    `sightline.process.kinds` knows, functions as they were registered with `sightline.process.functions.process`.
    Without a `store` everything is in memory and ends with the process; session commands are applied before they are
    answered then. Without `attachments` pictures are kept in memory.
    """

    def __init__(
        self,
        *,
        agent: Agent | None,
        store: KernelStore | None = None,
        replay: LiveReplayStore | None = None,
        attachments: AttachmentStore | None = None,
        tools: ToolSource | None = None,
        processes: ProcessRegistry | None = None,
        engines: Mapping[str, Engine] | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds()
        self.limits = limits or Limits()
        self._at_once = store is None
        self._store: KernelStore = MemoryStore(self.clock) if store is None else store
        self._replay = replay or MemoryReplayStore(self.clock, self._store.incarnation)
        self._attachments = attachments or MemoryAttachments()
        around = Surroundings(
            clock=self.clock,
            ids=self.ids,
            queue_store=self._store,
            process_registry=self._store if processes is None else processes,
            max_open=self.limits.max_queue,
            admit=self._refuse_when_draining,
            mend=self._mend,
        )
        self._handles = Handles(self._store, self._replay, keep=self.limits.keep_messages, around=around)
        self._driver: TurnDriver | None = None
        self._host: TurnHost | None = None
        self._runner: QueuedWorkRunner | None = None
        self._housekeeping = Housekeeping(
            self._store, self._replay, self._handles, clock=self.clock, limits=self.limits, mend=self._mend
        )
        self._draining = False
        self._agent = agent
        self.processes = ProcessHost(
            self._store,
            self._handles,
            engines=standard_engines(self, command_output=self.limits.command_output) if engines is None else engines,
            runs_work=agent is not None,
            clock=self.clock,
            ids=self.ids,
            limits=WorkerLimits(
                concurrency=self.limits.concurrency,
                lease_ms=round(self.limits.process_lease * 1000),
                max_attempts=self.limits.max_attempts,
            ),
            poll_interval=self.limits.poll_interval,
            max_open=self.limits.max_queue,
            poke=self._poke_session,
        )
        self.tasks = TaskHost(
            self._store,
            self._handles,
            runs_work=agent is not None,
            clock=self.clock,
            max_live=self.limits.max_tasks,
        )
        self.monitors = MonitorHost(
            self._store, self._handles, self.tasks, clock=self.clock, incarnation=self._store.incarnation
        )
        self.subagents = Subagents(self, self.tasks, self.ids)
        if agent is not None:
            self._sync = None if tools is None else self._read_tools_anew
            self._driver = TurnDriver(
                store=self._store,
                attachments=self._attachments,
                agent=agent,
                tools=tools,
                clock=self.clock,
                ids=self.ids,
                owner_id=self.ids.new(),
                limits=DriverLimits(
                    max_attempts=self.limits.max_attempts,
                    lease_ms=round(self.limits.session_lease * 1000),
                    turn_timeout=self.limits.turn_timeout,
                    flush_window=self.limits.flush_window,
                    poll_interval=self.limits.poll_interval,
                ),
                refresh=self._handles.refresh,
                processes=self.processes,
                tasks=self._turn_tasks,
            )
            self._host = TurnHost(
                self._store,
                self._handles,
                self._driver,
                self.clock,
                concurrency=self.limits.concurrency,
                poll_interval=self.limits.poll_interval,
            )
            self._runner = self._host.runner
            self._handles.around = replace(around, queued_work_poke=QueuedWorkPoke(self._runner))

    # Life

    async def start(self) -> None:
        """Begin to run work, that of earlier lives first. While the store is away, what they left is looked for again
        and again, and everything else goes on.
        """
        self._housekeeping.start()
        if self._driver is not None:
            self._driver.start()
        if self._runner is not None:
            self._runner.start()
        self.processes.start()
        await self.tasks.see_to(self._look_back, "what earlier lives left")

    async def _look_back(self) -> None:
        """Find tasks whose work has died, monitors that are armed, and sub-agents at work."""
        await self.tasks.start()
        await self.monitors.start_life()
        await self.subagents.start()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def running_turns(self) -> int:
        return 0 if self._driver is None else self._driver.running

    @property
    def turns_timed_out(self) -> int:
        """How many turns were stopped here because they took longer than `turn_timeout`."""
        return 0 if self._driver is None else self._driver.timed_out

    @property
    def agents_left_behind(self) -> int:
        """How many agents did not end here although they were cancelled; some may have ended since."""
        return 0 if self._driver is None else self._driver.left_behind

    async def drain(self, timeout: float) -> None:
        """Take no more work; give running turns and processes `timeout` seconds to end, then hand them back uncharged;
        those that wait for something at once.
        """
        self._begin_draining()
        self.tasks.begin_draining()
        runner = self._runner
        if runner is None or self._driver is None:
            return

        async def wait_idle() -> None:
            await runner.wait_idle()
            await self.processes.wait_idle()
            await self.tasks.wait_hidden()

        runner.stop_claiming()
        self.processes.stop_claiming()
        self._driver.hand_back_waiting()
        idle = asyncio.ensure_future(wait_idle())
        try:
            if not await within(self.clock, timeout, idle):
                self._driver.hand_back()
                await self.processes.stop()
                await self.tasks.stop()
                await idle
        finally:
            idle.cancel()

    async def stop(self) -> None:
        """End everything now; what runs is handed back. Does not close the store. Idempotent."""
        self._begin_draining()
        self.tasks.begin_draining()
        if self._driver is not None:
            self._driver.hand_back()
        if self._runner is not None:
            await self._runner.stop()
        await self.processes.stop()
        if self._driver is not None:
            await self._driver.stop()
        await self.subagents.stop()
        await self.tasks.stop()
        await close_agent(self._agent, self.clock)
        await self._housekeeping.stop()
        await self._handles.stop()

    # Sessions

    async def create_session(
        self, session_id: str | None = None, *, policy: Policy | None = None, metadata: Metadata | None = None
    ) -> Observation:
        """A new session. Raises SessionExists, SessionDeleted, Draining, StoreUnavailable."""
        self._refuse_when_draining()
        new = NewSession(session_id=session_id or self.ids.new(), policy=policy or {}, metadata=metadata or {})
        await self._store.create_session(new, self.clock.now_ms(), lambda _: None)
        self._handles.listed(new.session_id)
        async with self.opened(new.session_id) as handle:
            return handle.view

    async def list_sessions(
        self, *, limit: int = 50, after: int | None = None, status: Status | None = None
    ) -> SessionPage:
        """Newest activity first."""
        return await self._store.list_sessions(limit=limit, after=after, status=status)

    async def session_entries(self, session_ids: Sequence[str]) -> tuple[SessionEntry, ...]:
        """The lines of the list for these; those of sessions that are not there are left out."""
        return await self._store.session_entries(session_ids)

    def on_listed(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """See `Handles.on_listed`."""
        return self._handles.on_listed(listener)

    async def observe(self, session_id: str, messages: int | None = None) -> Observation:
        """The session now, with its newest `messages`. Raises SessionNotFound, SessionDeleted, StoreUnavailable."""
        async with self.opened(session_id) as handle:
            return await self.widen(handle.view, messages)

    async def list_frames(self, session_id: str) -> tuple[AgentFrame, ...]:
        """The session's agent frames, the current one last.

        Raises SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        return await self._store.list_frames(session_id)

    async def page_messages(self, session_id: str, *, before: str | None = None, limit: int = 50) -> MessagePage:
        """Older messages, page by page."""
        return await self._store.page_messages(session_id, before=before, limit=limit)

    async def delete_session(self, session_id: str) -> GrantsEnded:
        """Erase the session and fence its id; its observers are told, its turn and its tasks are stopped. Returns what
        became of the processes that it saw: those that nobody else sees are asked to end.
        """
        listed = await self.tasks.list(session_id, live=True)

        def deleted(ended: GrantsEnded) -> None:
            self._handles.deleted(session_id)
            self.tasks.session_deleted(session_id, listed)
            self.monitors.session_deleted(session_id)
            if self._driver is not None:
                self._driver.session_deleted(session_id)
            self.processes.session_deleted(session_id, ended)

        ended = await self._store.delete_session(session_id, self.clock.now_ms(), deleted)
        await self._attachments.delete_session(session_id)
        return ended

    async def attachment(self, session_id: str, attachment_id: str) -> tuple[Attachment, bytes]:
        """A picture of the session. Raises AttachmentNotFound, SessionNotFound, SessionDeleted, StoreUnavailable."""
        async with self.opened(session_id):
            return await self._attachments.get(session_id, attachment_id)

    # Work

    async def enqueue(self, draft: Draft) -> Written:
        """Accept work: durable when this returns, and the runner has been poked.

        Raises InvalidInput, IdempotencyKeyReused, QueueFull, SessionNotFound, SessionDeleted, Draining,
        StoreUnavailable.
        """
        return await self._enqueue(draft, self.ids.new())

    async def _enqueue(self, draft: Draft, batch_id: str) -> Written:
        check_draft(draft)
        self._refuse_when_draining()
        async with self.opened(draft.session_id) as handle:
            result = await handle.enqueue(draft, batch_id=batch_id)
            return Written(result.batch, result.replayed, handle.cursor)

    async def submit_command(
        self, session_id: str, command: SessionCommand, idempotency_key: str
    ) -> tuple[Receipt, Written]:
        """Put a session command into the queue: accepted when this returns, applied when its turn comes.

        Without a store to be accepted by, it is applied when this returns. Raises what `enqueue` raises, InvalidInput
        for a blank key, and (without a store) CommandFailed.
        """
        if not idempotency_key.strip():
            raise InvalidInput("idempotency_key", "must not be blank")
        source_key = command_source_key(command, idempotency_key)
        batch_id = f"inline-command:{self.ids.new()}" if self._at_once else self.ids.new()
        written = await self._enqueue(
            Draft(session_id=session_id, payloads=(CommandPayload(command),), source_key=source_key), batch_id
        )
        if self._at_once and self._runner is not None:
            ended = await self.wait_for_batch(session_id, written.batch.batch_id, _COMMAND_SECONDS)
            if isinstance(ended.error, Failure):
                raise CommandFailed(ended.error.code, ended.error.message)
        return Receipt(session_id=session_id, batch_id=written.batch.batch_id, source_key=source_key), written

    def _turn_tasks(self, session_id: str, turn_id: str) -> TurnTasks:
        self.monitors.session_begins(session_id)
        return TurnTasks(self.tasks, self.monitors, self.subagents, session_id, turn_id, self._sync)

    async def _read_tools_anew(self, session_id: str, key: str) -> None:
        """Background work may have changed what the agent offers; behind its turn that is looked at."""
        command = RefreshToolSurface(reason="background work")
        key = command_source_key(command, f"background:{key}")
        draft = Draft(session_id=session_id, payloads=(CommandPayload(command),), source_key=key)
        await self._enqueue(draft, self.ids.new())

    async def get_batch(self, session_id: str, batch_id: str) -> Batch:
        """Also ended ones, within the retention window. Raises BatchNotFound."""
        return await self._store.get_batch(session_id, batch_id)

    async def wait_for_batch(self, session_id: str, batch_id: str, timeout: float) -> Batch:
        """The batch once it has ended, or as it is after `timeout` seconds. Cancellable at any time."""
        async with self.opened(session_id) as handle:
            ended = handle.ending_of(batch_id)
            try:
                # The view says what is open, and it is asked after the future was made; of the rest the store knows.
                if not handle.shows_open(batch_id):
                    batch = await self._store.get_batch(session_id, batch_id)
                    if not batch.state.is_open:
                        return batch
                if await within(self.clock, timeout, ended) and not ended.cancelled():
                    return ended.result()
                return await self._store.get_batch(session_id, batch_id)
            finally:
                ended.cancel()

    async def list_batches(self, session_id: str, *, pending_only: bool) -> tuple[Batch, ...]:
        """By sequence, the newest thousand."""
        return await self._store.list_batches(session_id, pending_only=pending_only, limit=_LIST_LIMIT)

    async def cancel_batch(self, session_id: str, batch_id: str) -> tuple[Batch, str]:
        """Cancel pending work: the batch, and the cursor that shows it. Raises BatchNotFound, BatchNotCancellable."""
        async with self.opened(session_id) as handle:
            batch = await handle.cancel_batch(batch_id)
            return batch, handle.cursor

    async def cancel_from(self, session_id: str, batch_id: str) -> tuple[tuple[Batch, ...], tuple[Batch, ...], str]:
        """Cancel a batch and every later pending one: (cancelled, kept because claimed, cursor)."""
        async with self.opened(session_id) as handle:
            cancelled, kept = await handle.write(
                self._store.cancel_from(
                    session_id,
                    batch_id,
                    now=self.clock.now_ms(),
                    then=lambda both: handle.record_queue_changed("cancelled", both[0]),
                ),
            )
            return cancelled, kept, handle.cursor

    async def cancel_turn(
        self,
        session_id: str,
        *,
        turn_id: str | None = None,
        source_key: str | None = None,
        reason: str = "",
    ) -> tuple[Cancellation, str]:
        """Ask for the end of a turn; idempotent, durable, also before the work has arrived. With the cursor that shows
        it.
        """
        async with self.opened(session_id) as handle:

            def requested(answer: Cancellation) -> None:
                handle.record_queue_changed("cancelled", answer.batches)
                if answer.state == "cancel_requested" and answer.turn_id is not None:
                    if self._driver is not None:
                        self._driver.request_cancel(session_id, answer.turn_id, reason)
                    if self._runner is not None:
                        self._runner.poke_session(session_id, "cancel requested")

            answer = await handle.write(
                self._store.request_cancel(
                    session_id,
                    turn_id=turn_id,
                    source_key=source_key,
                    reason=reason or "cancelled",
                    now=self.clock.now_ms(),
                    then=requested,
                ),
            )
            return answer, handle.cursor

    async def answer(self, session_id: str, request_id: str, answer: Any) -> tuple[Request, str]:
        """Answer what a turn asks: the request, and the cursor that shows that it is not open any more. Durable when
        this returns, and the turn goes on, wherever it runs.

        Raises InvalidInput for what JSON cannot hold, or an approval does not offer, RequestNotFound, AlreadyAnswered,
        SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        try:
            said = msgspec.json.encode(answer).decode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput("answer", f"must be JSON: {error}") from None
        async with self.opened(session_id) as handle:

            def answered(asked: Asked) -> None:
                handle.record_request_answered(request_id)
                if self._driver is not None:
                    self._driver.answered(request_id, said)

            asked = await handle.write(self._store.answer_request(session_id, request_id, said, then=answered))
            return asked.request, handle.cursor

    async def count_child(self, session_id: str, child_id: str, turn_id: str, key: str) -> None:
        """See `sightline.turn.children.count_child`."""
        await count_child(
            self._store, self._handles, self.clock, session_id, child_id=child_id, turn_id=turn_id, key=key
        )

    def _poke_session(self, session_id: str, reason: str) -> None:
        if self._runner is not None:
            self._runner.poke_session(session_id, reason)

    def _mend(self, session_id: str) -> None:
        """See to it that a view which may have lost touch with the store begins anew."""
        if self._runner is not None:
            self._runner.poke_session(session_id, "its view is stale")
        elif (handle := self._handles.get(session_id)) is not None:
            self._handles.refresh_soon(handle)

    # Observation

    def opened(self, session_id: str) -> contextlib.AbstractAsyncContextManager[RuntimeHandle]:
        """See `Handles.opened`."""
        return self._handles.opened(session_id)

    async def subscribe(
        self, session_id: str, cursor: Cursor | None, wake: Callable[[], None], *, at_tail: bool = False
    ) -> tuple[RuntimeHandle, Opening]:
        """Begin to watch: fresh, from a cursor of this session, or from the tail without a snapshot.

        The caller closes the opening's subscription. Raises SessionNotFound, SessionDeleted, StoreUnavailable.
        """
        async with self.opened(session_id) as handle:
            if handle.closed_reason is not None:
                raise SessionDeleted(session_id)
            return handle, handle.open_at_tail(wake) if at_tail else handle.open(cursor, wake)

    async def watch(
        self, session_id: str, cursor: str | Cursor | None = None
    ) -> AsyncGenerator[Snapshot | GapAnswer | Event]:
        """Watch a session from inside the process: `async for item in kernel.watch(session_id, cursor)`.

        See `RuntimeHandle.watch`: a snapshot first, or what was missed since the cursor; then every event, and a gap
        with the view of now wherever continuity cannot be had. Raises MalformedCursor, WrongSessionCursor before the
        session is looked up, then SessionNotFound, SessionDeleted (also when it is deleted later), StoreUnavailable.
        """
        place = None if cursor is None else parse_for_session(str(cursor), session_id)
        async with self.opened(session_id) as handle, contextlib.aclosing(watch(handle, place)) as items:
            async for item in items:
                yield item

    async def widen(self, view: Observation, messages: int | None) -> Observation:
        """The view with its newest `messages`: cut, or extended by older ones from the store. History does not change,
        so the cursor holds.
        """
        return await widened(view, messages, self._store)

    async def next_due(self) -> int | None:
        """When the earliest delayed work comes due, in wall milliseconds. Raises StoreUnavailable."""
        return await self._store.next_due(self.clock.now_ms())

    async def sweep(self) -> None:
        """One round of housekeeping, which otherwise comes by itself. Raises StoreUnavailable."""
        await self._housekeeping.sweep()

    def _begin_draining(self) -> None:
        self._draining = True
        if self._host is not None:
            self._host.draining = True

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise Draining
