"""A session's runtime handle: its current view, and the one place from which its events leave.

The view and the door through which its events leave are `LiveView`. On top of them the handle has what a session's
users share: the observation of its runtime, its writer lock, its queue, and who waits or watches.

There are two ways to publish. `publish` is told what happened and costs the same however large the session is; a kernel
uses it. `publish_from` is shown a runtime and finds out what changed; it is for those who bring a runtime of their own.
Reading is the same for both: the view is what the events add up to, and the observation of it is made when somebody
looks and swapped whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from sightline.errors import BatchNotCancellable, BatchNotFound, InvalidInput, StoreCommitFailed, StoreUnavailable
from sightline.observation.activities import Outcome
from sightline.observation.changes import (
    Change,
    changes_between,
    process_change,
    queue_change,
    request_change,
    task_change,
)
from sightline.observation.cursor import Cursor, parse_for_session
from sightline.observation.events import Event, TurnActivity, from_wire
from sightline.observation.live import LiveView
from sightline.observation.model import SessionState, shown_request
from sightline.observation.opening import Gap, GapAnswer, Opening, Replayed
from sightline.observation.replay import LiveReplayStore
from sightline.observation.runtime import (
    Resident,
    Runtime,
    RuntimeObservation,
    SessionObservation,
    capture,
    tools_shown,
)
from sightline.observation.surroundings import BatchWaiters, LoadedRuntime, Surroundings, Writer, loaded_state
from sightline.observation.watching import SessionSubscription, Snapshot, watch
from sightline.process.model import HandleSummary
from sightline.queue.model import (
    Batch,
    DeliveryPolicy,
    Draft,
    Enqueued,
    SlotPolicy,
    TurnInput,
    TurnInputPayload,
)
from sightline.queue.rules import check_durable
from sightline.session.model import Request
from sightline.tasks.model import TaskNewsKind, TaskRecord

__all__ = ["Change", "Gap", "Opening", "RuntimeHandle"]

_log = logging.getLogger("sightline.observation")
_T = TypeVar("_T")


class RuntimeHandle(LiveView):
    """One per loaded session, shared by all who use it, on the event loop's thread. Reading never waits for a writer.

    Made of a session as its store has it. `over` makes one of a runtime that its host brings.
    """

    def __init__(
        self,
        state: SessionState,
        replay: LiveReplayStore,
        *,
        keep: int,
        around: Surroundings | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__(state, replay, keep=keep)
        self._around = around or Surroundings.alone()
        self._lock = asyncio.Lock()
        self._runtime: Runtime = runtime or LoadedRuntime(lambda: self._fold, self._around)
        self._resident = None if runtime is None else capture(runtime, runtime.export_state(), None)
        self._observed: RuntimeObservation | None = None
        self._closers: set[Callable[[str], None]] = set()
        self._waiters = BatchWaiters()
        self.pins = 0
        self.stale = False
        """Whether the session is known to have moved on without this view; then it waits for a `refresh`."""
        self.reading = 0
        """Which of all readings of sessions it shows: see `Handles.readings`."""
        self._generation = state.generation

    @classmethod
    def over(
        cls, runtime: Runtime, replay: LiveReplayStore, *, keep: int = 200, around: Surroundings | None = None
    ) -> RuntimeHandle:
        """The handle of a runtime that its host brings. Nothing is published by that.

        The host changes the runtime while it holds `writer()`, and calls `publish_from` after it has.
        """
        return cls(loaded_state(runtime), replay, keep=keep, around=around, runtime=runtime)

    # Reading

    def observe(self) -> RuntimeObservation:
        """The session as it was installed last; the same object until something happens. Never waits for a writer."""
        view, seen = self._fold.observation(), self._observed
        if seen is None or seen.view is not view:
            resident = self._resident or capture(self._runtime, self._runtime.export_state(), seen)
            seen = self._observed = RuntimeObservation.of(view, resident)
        return seen

    def shows_open(self, batch_id: str) -> bool:
        """Whether the view has this batch as pending or claimed."""
        return self._fold.has_open(batch_id)

    @property
    def is_idle(self) -> bool:
        """Nobody looks, nothing runs, nothing is retained: the handle may be let go."""
        return (
            not self.pins
            and not self._closers
            and not self._waiters
            and not self._lock.locked()
            and self._fold.is_quiet
            and self._replay.is_empty(self.session_id)
        )

    @property
    def has_open_work(self) -> bool:
        """Whether the view shows work that has not ended, also such as is delayed or held."""
        return self._fold.has_open_work

    # The writer

    def writer(self) -> Writer:
        """The session's one place for a writer: `async with handle.writer() as runtime:`. See `Writer`."""
        return Writer(self._lock, self._runtime)

    def try_into_runtime(self) -> Runtime | RuntimeHandle:
        """The runtime, for its only owner; to anybody else this handle, unchanged.

        Its only owner is whoever holds it with nobody else having it open, watching, waiting or writing. The handle is
        closed by that: what is still published through it is told to nobody.
        """
        if self.pins > 1 or self._closers or self._waiters or self._lock.locked():
            return self
        if self.closed_reason is not None or self._replay.subscribers(self.session_id):
            return self
        self.close("taken apart")
        return self._runtime

    def unpin(self) -> None:
        self.pins -= 1

    def begins(self, generation: int) -> bool:
        """The session is driven from here under a lease of this generation: whether the view has all that was done
        under earlier ones. If it does not, it waits for a `refresh`.
        """
        if generation != self._generation + 1:
            self.stale = True
        self._generation = generation
        return not self.stale

    def refresh(self, state: SessionState) -> None:
        """Begin again from what is stored, because the view lost touch with it. Observers get a gap."""
        self.stale = False
        self._generation = max(self._generation, state.generation)
        if self.closed_reason is None:
            self.begin_again(state)

    # Publishing

    def publish_from(
        self,
        runtime: Runtime,
        *,
        turn_id: str | UnsetType = UNSET,
        outcome: Outcome | UnsetType = UNSET,
    ) -> str:
        """Install what the runtime is now, and tell observers what changed. Returns the cursor of the observation.

        Called by whoever holds the writer. A frame switch is told first, then the commit, if the revision advanced,
        then what else changed; where nothing did nothing is told. `outcome` ends the running turn. Trouble with tools
        or the live log is logged and in the observation; it never fails the publication.
        """
        before = self._resident
        resident = capture(runtime, runtime.export_state(), self.observe())
        changes = changes_between(
            self.view, resident.persisted_state, tools_shown(resident), turn_id=turn_id, outcome=outcome
        )
        if self._resident is not None:
            self._resident = resident
        try:
            cursor = self.publish(self._around.clock.now_ms(), changes)
        except Exception:
            self._resident = before
            raise
        self._observed = RuntimeObservation.of(self.view, resident)
        return cursor

    def record_turn_activity(self, activity: TurnActivity, *, turn_id: str | UnsetType = UNSET) -> None:
        """Tell of something that happens in a turn, at the installed revision. Never raises: a turn does not fail
        because nobody could be told of it.
        """
        self._record(Change(activity, turn_id))

    def record_queue_changed(self, kind: str, batches: Sequence[Batch]) -> None:
        """Tell of batches that changed their state, and whoever waits for the end of one. Never raises."""
        if batches:
            self._record(queue_change(kind, batches))
            self.settle_batches(batches)

    def record_process_changed(self, kind: str, processes: Sequence[HandleSummary]) -> None:
        """Tell of processes of the session that changed. Never raises."""
        if processes:
            self._record(process_change(kind, processes))

    def record_task_changed(self, kind: TaskNewsKind, record: TaskRecord) -> None:
        """Tell of a task of the session. Never raises."""
        self._record(task_change(kind, record))

    def record_request_opened(self, request: Request) -> None:
        """Tell that a turn asks something, unless that was told before. Never raises."""
        if self._fold.request(request.request_id) is None:
            self._record(request_change("opened", (shown_request(request),), request.turn_id))

    def record_request_answered(self, request_id: str) -> None:
        """Tell that somebody answered, unless that was told before. Never raises."""
        request = self._fold.request(request_id)
        if request is not None:
            self._record(request_change("answered", (request,), request["turn_id"]))

    def requests_of(self, turn_id: str) -> tuple[dict[str, Any], ...]:
        """What the view shows of the turn's requests."""
        return self._fold.requests_of(turn_id)

    def shown_process(self, process_id: str) -> dict[str, Any] | None:
        """What the view shows of a process, if it shows it."""
        return self._fold.process(process_id)

    def _record(self, change: Change) -> None:
        try:
            self.publish(self._around.clock.now_ms(), (change,))
        except Exception:
            _log.exception("session %s: an event could not be told", self.session_id)

    # Beginning to watch

    def current_session_observation(self) -> SessionObservation:
        """The transcript now and the cursor that was taken with it: whoever goes on behind it misses nothing."""
        return self.observe().session_observation

    def resume_session_observation(self, cursor: str | Cursor) -> Replayed | GapAnswer:
        """What happened behind a cursor, or a gap with the session as it is now. Never waits.

        Raises MalformedCursor or WrongSessionCursor, before the live log is asked anything.
        """
        place = parse_for_session(str(cursor), self.session_id)
        entries = self.replay_after(place)
        if isinstance(entries, str):
            return GapAnswer(*self.gap(str(cursor), entries))
        return Replayed(tuple(from_wire(msgspec.json.decode(entry.payload)) for entry in entries))

    def subscribe_session_observation(self, cursor: str | Cursor) -> SessionSubscription | GapAnswer:
        """What happened behind a cursor and what comes, or a gap with the session as it is now, and no subscription.

        After a gap subscribe again from `gap.latest_cursor`; `watch` does. Raises as `resume_session_observation`, and
        SubscriptionClosed from the subscription when the session has ended.
        """
        place = parse_for_session(str(cursor), self.session_id)
        subscription = SessionSubscription(self, place)
        opening = subscription.opening
        if opening is not None and opening.gap is not None and opening.observation is not None:
            subscription.close()
            return GapAnswer(opening.gap, opening.observation)
        return subscription

    def watch(self, cursor: str | Cursor | None = None) -> AsyncGenerator[Snapshot | GapAnswer | Event]:
        """Watch the session until it is deleted, whatever happens in between: async for what it yields.

        Without a cursor a `Snapshot` comes first. Then every `Event`, once and in order, those missed since the cursor
        first. A `GapAnswer` wherever that cannot be had: replace what you have by its `view`, and go on. Falling behind
        is seen to here. Keep the cursor of the last item after you have dealt with it, and come back with it.

        Raises MalformedCursor, WrongSessionCursor at once; SessionDeleted at the end. May be cancelled or left at any
        time, at once with `contextlib.aclosing`; nothing that runs is stopped by that.
        """
        place = None if cursor is None else parse_for_session(str(cursor), self.session_id)
        return watch(self, place)

    def attach(self, closer: Callable[[str], None]) -> None:
        """Be called with a reason when the session ends under its observers (`session_deleted`)."""
        self._closers.add(closer)

    def detach(self, closer: Callable[[str], None]) -> None:
        self._closers.discard(closer)

    def close(self, reason: str) -> None:
        """The session is gone: tell its observers and waiters. Idempotent."""
        if self.closed_reason is None:
            self.closed_reason = reason
            for closer in list(self._closers):
                closer(reason)
            self._waiters.let_go()

    # The queue

    async def enqueue_turn_input(
        self,
        input: TurnInput,
        delivery_policy: DeliveryPolicy = DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT,
        slot_policy: SlotPolicy = SlotPolicy.EXCLUSIVE,
        source_key: str | None = None,
    ) -> Batch:
        """Queue input for a turn, also while one runs: durable when this returns, told, and the runner poked.

        Raises StoreCommitFailed in a session without a store, InvalidInput for what cannot be made durable,
        IdempotencyKeyReused, QueueFull, SessionNotFound, SessionDeleted, Draining, StoreUnavailable. When cancelled the
        input may be queued all the same; with a source key, sending it again is safe.
        """
        draft = Draft(
            session_id=self.session_id,
            payloads=(TurnInputPayload(input),),
            source_key=source_key,
            delivery_policy=delivery_policy,
            slot_policy=slot_policy,
        )
        return (await self.enqueue(draft, reason="queued_turn_input")).batch

    async def enqueue(self, draft: Draft, *, batch_id: str | None = None, reason: str = "enqueued") -> Enqueued:
        """Queue any work of the session. Raises as `enqueue_turn_input`."""
        means = self._means
        store, poke = means.queue_store, means.queued_work_poke
        if store is None:
            raise StoreCommitFailed(self.session_id)
        check_durable(draft)
        self._around.admit()

        def stored(result: Enqueued) -> None:
            if not result.replayed:
                kind = "enqueued" if result.batch.state.is_open else "cancelled"
                self.record_queue_changed(kind, (result.batch,))
            if poke is not None:
                poke.poke_session(self.session_id, reason)
                if result.batch.available_at_ms > self._around.clock.now_ms():
                    poke.poke("enqueued for later")

        return await self.write(
            store.enqueue(
                draft,
                batch_id=batch_id or self._around.ids.new(),
                now=self._around.clock.now_ms(),
                max_open=self._around.max_open,
                then=stored,
            )
        )

    async def cancel_queued_work_batch(self, session_id: str, batch_id: str) -> Batch | None:
        """Take pending work out of the queue: the batch as it is then, none when there was nothing to cancel.

        What is claimed, has ended or was never there is not cancelled. `session_id` has to be this session's. Raises
        InvalidInput for another one, StoreCommitFailed in a session without a store, SessionNotFound, SessionDeleted,
        StoreUnavailable. When cancelled itself it may be done all the same; it is safe to repeat.
        """
        if session_id != self.session_id:
            raise InvalidInput("session_id", f"this is the handle of session {self.session_id!r}")
        try:
            return await self.cancel_batch(batch_id)
        except (BatchNotFound, BatchNotCancellable):
            return None

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Likewise, but raises BatchNotFound or BatchNotCancellable where there is nothing to cancel."""
        store = self._means.queue_store
        if store is None:
            raise StoreCommitFailed(self.session_id)
        return await self.write(
            store.cancel_batch(
                self.session_id,
                batch_id,
                now=self._around.clock.now_ms(),
                then=lambda batch: self.record_queue_changed("cancelled", (batch,)),
            )
        )

    @property
    def _means(self) -> Runtime | Resident:
        """Where queue and poke are found, as the observation has them, without making one."""
        return self._resident or self._runtime

    async def write(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do a write that publishes through this handle, which is kept until then, also when the caller has left."""
        task = asyncio.ensure_future(work)
        self.pins += 1

        def written(_: object) -> None:
            self.unpin()
            if not task.cancelled() and isinstance(task.exception(), StoreUnavailable):
                self.stale = True  # it may have been done without a word
                self._around.mend(self.session_id)

        task.add_done_callback(written)
        return await asyncio.shield(task)

    def settle_batches(self, batches: Sequence[Batch]) -> None:
        """Answer whoever waits for the end of these batches."""
        self._waiters.settle(batches)

    def ending_of(self, batch_id: str) -> asyncio.Future[Batch]:
        """A future of the batch once it has ended. Get it before asking the store whether it has; cancel it after."""
        return self._waiters.ending_of(batch_id)
