"""The driver takes work from claim to commit. It performs; the rules decide.

A claim comes with the session's lease, and both are kept while the turn runs; when either is lost the agent is stopped
and nothing is written. Session commands on the way are carried out in queue order, and the turn behind them is run by
the same drive.

Every exit settles the claim: a commit consumes it, everything else gives it back, and neither is interrupted by a
cancelled task. What observers were shown by an attempt that ends without a commit is retracted.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct, structs

from sightline.clock import Clock
from sightline.errors import ClaimExpired, Conflict, NotFound, SessionDeleted, StoreUnavailable
from sightline.ids import Ids
from sightline.observation.activities import Activity, Outcome
from sightline.observation.changes import Change, queue_change
from sightline.observation.events import TurnActivity
from sightline.observation.handle import RuntimeHandle
from sightline.persevering import STORE_RETRIES, finish, persistently
from sightline.queue.materializing import (
    InputMessage,
    TurnWork,
    for_turn,
    input_messages,
    pictures_of,
)
from sightline.queue.model import CLAIM_TTL_MS, MAX_CLAIM, Batch, Boundary, Claim, NothingClaimed
from sightline.queue.port import QueueStore
from sightline.session.model import Attachment, LeaseRequest
from sightline.session.port import AttachmentStore, SessionStore
from sightline.turn.agent import Agent, History, Turn
from sightline.turn.asking import Asking, Places
from sightline.turn.background import TurnTasks
from sightline.turn.commands import CommandEffect, ToolSource, carry_out
from sightline.turn.commit import CommitResult, CommitStore, TurnCommit
from sightline.turn.composing import Said, command_commit, frame_switch, turn_commit
from sightline.turn.intake import Intake
from sightline.turn.journal import JournalStore
from sightline.turn.keeping import LeaseKeeper
from sightline.turn.performing import Performing, cancelled
from sightline.turn.processes import ProcessHost, TurnProcesses
from sightline.turn.recording import journal_of
from sightline.turn.requests import RequestStore
from sightline.turn.rules import early_outcome, ended_batches
from sightline.turn.running import Running
from sightline.turn.telling import (
    claimed,
    command_ended,
    retracted,
    turn_ended,
    turn_started,
)
from sightline.turn.window import FlushWindow

__all__ = ["DriverLimits", "TurnDriver", "TurnStore"]

_log = logging.getLogger("sightline.turn")

_NO_REASON = "cancelled"


class TurnStore(SessionStore, QueueStore, CommitStore, JournalStore, RequestStore, Protocol):
    """One database: the commit completes claims and proves the session lease."""


class DriverLimits(Struct, frozen=True, kw_only=True):
    """Bounds of one driver. `lease_ms`: how long a sign of life is good for, in milliseconds; `poll_interval`: seconds
    between looks for answers that no poke told of.

    `turn_timeout`: how many seconds an attempt may be at work, 0 for any number. `flush_window`: text that is said
    within so many seconds is one event, 0 for none.
    """

    max_attempts: int
    lease_ms: int
    poll_interval: float
    turn_timeout: float = 0.0
    flush_window: float = 0.0


class TurnDriver:
    """Runs turns of many sessions side by side, at most one per session; the caller sees to that."""

    def __init__(
        self,
        *,
        store: TurnStore,
        attachments: AttachmentStore,
        agent: Agent,
        tools: ToolSource | None,
        clock: Clock,
        ids: Ids,
        owner_id: str,
        limits: DriverLimits,
        refresh: Callable[[RuntimeHandle], Awaitable[None]],
        processes: ProcessHost | None = None,
        tasks: Callable[[str, str], TurnTasks] | None = None,
    ) -> None:
        self._store = store
        self._attachments = attachments
        self._tools = tools
        self._clock = clock
        self._ids = ids
        self._owner_id = owner_id
        self._limits = limits
        self._refresh = refresh
        self._processes = processes
        self._tasks = tasks
        self._performing = Performing(agent, clock, turn_timeout=limits.turn_timeout)
        self._intake = Intake(store, attachments, clock, ids, owner_id=owner_id)
        self._keeper = LeaseKeeper(store, clock, lease_ms=limits.lease_ms, claim_ms=CLAIM_TTL_MS)
        self._asking = Asking(store, clock, ids, poll_interval=limits.poll_interval)
        self._running: dict[str, Running] = {}
        self._ending = False

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def timed_out(self) -> int:
        """How many turns were stopped because they took too long."""
        return self._performing.timed_out

    @property
    def left_behind(self) -> int:
        """How many agents did not end when they were cancelled."""
        return self._performing.left_behind

    def run_within(self, places: Places) -> None:
        """Let these say how many turns run at one time: one that waits for an answer gives its place back meanwhile."""
        self._asking.places = places

    def answered(self, request_id: str, answer: str) -> None:
        """Tell an answer to the turn that waits for it, if it runs here. The store has it already."""
        self._asking.answered(request_id, answer)

    def request_cancel(self, session_id: str, turn_id: str, reason: str) -> None:
        """Stop the agent of that turn, if it runs here and nobody stopped it before. The store knows of it already."""
        running = self._running.get(session_id)
        if running is not None and running.claim.turn_id == turn_id and not running.stopped.done():
            running.cancel_reason = reason or _NO_REASON
            running.stop()

    def hand_back(self) -> None:
        """Stop every agent and give its work back, uncharged, also what is claimed later: this process will end."""
        self._ending = True
        for running in self._running.values():
            if not running.stopped.done():
                running.handing_back = True
                running.stop()

    def hand_back_waiting(self) -> None:
        """The same for turns that wait for an answer, now or later; the others go on."""
        self._asking.hand_back()

    def session_deleted(self, session_id: str) -> None:
        """Stop the session's agent; there is nothing left to commit to."""
        running = self._running.get(session_id)
        if running is not None:
            running.stop()

    def start(self) -> None:
        """Begin to keep what turns hold, and to look for answers."""
        self._keeper.start()
        self._asking.start()

    async def stop(self) -> None:
        """Renew nothing more. Called when no turn runs; returns when no task of the driver is left."""
        await self._keeper.stop()
        await self._asking.stop()

    async def run(self, handle: RuntimeHandle, history: History) -> NothingClaimed | None:
        """Claim the session's next turn and see it through, carrying out the session commands in front of it.

        Returns why there was nothing, or none when a turn ran. Raises StoreUnavailable after having tried for several
        seconds, when the work was given back; ClaimExpired when the session moved on without the handle, whose view is
        not to be trusted then. When cancelled, the work is given back uncharged before CancelledError leaves.
        """
        while True:
            found = await self._run_next(handle, history)
            if not isinstance(found, Running):
                return found
            if found.command is None or found.handing_back:
                return None

    async def _run_next(self, handle: RuntimeHandle, history: History) -> NothingClaimed | Running:
        taken: list[Running] = []

        def begin(claim: Claim) -> None:
            running = Running(claim, self._clock)
            taken.append(running)
            self._running[handle.session_id] = running
            if self._ending:
                running.handing_back = True
                running.stop()
            running.behind = claim.lease is not None and not handle.begins(claim.lease.generation)
            if not running.behind and running.command is None and not pictures_of(claim.batches):
                self._show_turn(handle, running, history, {}, also=(claimed(claim),))
            else:
                handle.publish(self._clock.now_ms(), (claimed(claim),))

        settled = False
        try:
            claim = await finish(
                self._store.claim(
                    handle.session_id,
                    Boundary.IDLE,
                    owner_id=self._owner_id,
                    turn_id=self._ids.new(),
                    lease_token=self._ids.token(),
                    now=self._clock.now_ms(),
                    ttl_ms=CLAIM_TTL_MS,
                    max_batches=MAX_CLAIM,
                    lease=LeaseRequest(
                        owner_id=self._owner_id, lease_token=self._ids.token(), ttl_ms=self._limits.lease_ms
                    ),
                    then=begin,
                )
            )
            if isinstance(claim, NothingClaimed):
                return claim
            taken[0].held = self._keeper.hold(claim, taken[0].lose)
            settled = await self._see_through(handle, taken[0], history)
        except asyncio.CancelledError:
            for running in taken:
                running.handing_back = True
            raise
        finally:
            for running in taken:
                running.over = True
                if running.held is not None:
                    self._keeper.drop(running.held)
                if running.turn is not None:
                    running.turn.end()
                if running.window is not None:
                    running.window.close()
                del self._running[handle.session_id]
                if not settled:
                    await finish(self._give_back(handle, running))
                running.release()
                if running.lost and not settled and not running.handing_back:
                    raise ClaimExpired(handle.session_id, running.claim.claim_id)
        return taken[0]

    async def _see_through(self, handle: RuntimeHandle, running: Running, history: History) -> bool:
        """Run what was claimed and commit it; false when it was not committed and the claim is still to be settled."""
        claim = running.claim
        started_ms = self._clock.now_ms()
        if running.behind:
            # Nobody else can write now: what is read here is what the turn will be committed on.
            await self._refresh(handle)
        if running.command is not None:
            effect = await self._carry_out(handle, running)
            commit = None if effect is None else self._command_commit(handle, claim, effect)
        else:
            running.begun = True
            turn = running.turn or self._show_turn(handle, running, history, await self._intake.store_pictures(claim))
            outcome = early_outcome(claim, self._limits.max_attempts) or await self._performing.perform(running, turn)
            running.over = True
            commit = None if outcome is None else self._turn_commit(handle, running, turn, outcome, started_ms)
        if commit is None or running.lost:
            return False
        try:
            await finish(self._commit(handle, running, commit))
        except (Conflict, NotFound, SessionDeleted) as error:
            # Somebody else owns the work, or the session is gone: what was done here has no place any more.
            _log.warning("session %s: turn %s is not committed: %s", handle.session_id, claim.turn_id, error)
            running.lost = True
            return False
        return True

    def _show_turn(
        self,
        handle: RuntimeHandle,
        running: Running,
        history: History,
        pictures: dict[tuple[str, str], Attachment],
        also: tuple[Change, ...] = (),
    ) -> Turn:
        """Make the turn and tell observers that it begins. `also`: what they are told in front of that."""
        claim = running.claim
        inputs = input_messages(claim.batches, pictures)
        running.inputs += inputs
        running.turn = self._turn(handle, running, inputs, for_turn(claim.batches), history)
        started = turn_started(claim, inputs)
        handle.publish(self._clock.now_ms(), (*also, started))
        return running.turn

    def _turn(
        self,
        handle: RuntimeHandle,
        running: Running,
        inputs: tuple[InputMessage, ...],
        work: TurnWork,
        history: History,
    ) -> Turn:
        claim = running.claim
        count = 0

        def emit(activity: Activity, correlation_id: str) -> None:
            nonlocal count
            count += 1
            identity = f"{claim.turn_id}.{claim.attempt}-{count}"
            data = TurnActivity(id=identity, correlation_id=correlation_id, event=activity)
            handle.publish(self._clock.now_ms(), (Change(data, claim.turn_id),))

        if self._limits.flush_window:
            running.window = FlushWindow(emit, self._clock, self._limits.flush_window)

        async def attachment(attachment_id: str) -> bytes:
            return (await self._attachments.get(claim.session_id, attachment_id))[1]

        return Turn(
            session_id=handle.session_id,
            turn_id=claim.turn_id,
            attempt=claim.attempt,
            input=inputs,
            policy=copy.deepcopy(handle.view.policy),
            clock=self._clock,
            emit=emit if running.window is None else running.window.show,
            flush=None if running.window is None else running.window.flush,
            history=history,
            checkpoint=lambda: self._intake.take_in(handle, running),
            attachment=attachment,
            journal=journal_of(self._store, self._clock, claim, running.lose),
            ask=lambda question: self._asking.ask(handle, running, question),
            processes=None
            if self._processes is None
            else TurnProcesses(
                self._processes, claim, self._clock, aside=lambda work: self._asking.aside(running, work)
            ),
            tasks=None if self._tasks is None else self._tasks(claim.session_id, claim.turn_id),
            causes=work.turn_causes,
            options=work.input.protocol_turn_options,
        )

    async def _carry_out(self, handle: RuntimeHandle, running: Running) -> CommandEffect | None:
        """What the claimed command comes to; none when it is to be handed back."""
        assert running.command is not None, "only commands are carried out"
        running.begun = True
        early = early_outcome(running.claim, self._limits.max_attempts)
        if early is not None:
            return CommandEffect(outcome=early)
        if running.stopped.done():
            return None if running.cancel_reason is None else CommandEffect(outcome=cancelled(running.cancel_reason))
        view = handle.view
        work = asyncio.create_task(
            carry_out(
                running.command[1],
                handle.session_id,
                policy=copy.deepcopy(view.policy),
                tools=view.tools,
                source=self._tools,
                clock=self._clock,
            )
        )
        try:
            await asyncio.wait((work, running.stopped), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return None if running.cancel_reason is None else CommandEffect(outcome=cancelled(running.cancel_reason))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _turn_commit(
        self, handle: RuntimeHandle, running: Running, turn: Turn, outcome: Outcome, started_ms: int
    ) -> TurnCommit:
        if not running.lost:
            turn.flush()
        turn.end()
        now = self._clock.now_ms()
        switch = None
        if turn.new_frame is not None:
            ids = [self._ids.new() for _ in turn.new_frame.messages]
            switch = frame_switch(
                turn.new_frame,
                running.claim,
                frame_id=self._ids.new(),
                message_ids=ids,
                batch_id=self._ids.new(),
                now=now,
            )
        return turn_commit(
            running.claims,
            running.inputs,
            Said(content=turn.answer, parts=turn.parts, used=turn.used),
            outcome,
            revision=handle.revision,
            message_ids=[self._ids.new() for _ in range(len(running.inputs) + 1)],
            started_ms=started_ms,
            now=now,
            frame_id=handle.view.read_view.agent_frame_id,
            switch=switch,
        )

    def _command_commit(self, handle: RuntimeHandle, claim: Claim, effect: CommandEffect) -> TurnCommit:
        return command_commit(
            claim,
            effect.outcome,
            reset=effect.reset,
            tools=effect.tools,
            revision=handle.revision,
            now=self._clock.now_ms(),
        )

    async def _commit(self, handle: RuntimeHandle, running: Running, commit: TurnCommit) -> None:
        batches = ended_batches(running.claims, commit.outcome, charge=commit.charge, waited=running.waited)
        told = False

        def committed(result: CommitResult) -> None:
            nonlocal told
            if told:
                return  # a repeated commit, whose first answer was lost after it had been told here
            told = True
            if running.held is not None:
                self._keeper.drop(running.held)  # the lease is given back: a renewal under way would call it lost
            if running.command is None:
                changes = turn_ended(commit, batches, result, handle.requests_of(commit.turn_id))
            else:
                changes = command_ended(commit, batches, result)
            handle.publish(self._clock.now_ms(), changes)
            handle.settle_batches(batches)
            if self._processes is not None and (commit.frame is not None or commit.reset):
                self._processes.frame_switched(handle)

        # After an unknown outcome the stamp makes it safe to try again.
        where = f"session {handle.session_id}: commit of turn {commit.turn_id}"
        await persistently(self._clock, where, lambda: self._store.commit(commit, committed))

    async def _give_back(self, handle: RuntimeHandle, running: Running) -> None:
        """Give everything back; the session lease goes with the claim the turn began with, the last of them."""
        for claim in reversed(running.claims):
            await self._give_back_one(handle, running, claim)

    async def _give_back_one(self, handle: RuntimeHandle, running: Running, claim: Claim) -> None:
        first = claim is running.claim

        def abandoned(batches: tuple[Batch, ...]) -> None:
            if not batches:
                running.lost = True
                return
            shown = () if running.turn is None or not first else running.turn.correlations
            handle.publish(self._clock.now_ms(), (*retracted(claim, shown), queue_change("abandoned", batches)))

        # The lane goes with the last of them: nobody may come in between.
        settled = claim if first else structs.replace(claim, lease=None)
        for delay in itertools.chain(STORE_RETRIES, itertools.repeat(STORE_RETRIES[-1])):
            charge = running.begun and not running.handing_back
            try:
                await self._store.abandon(settled, charge=charge, then=abandoned)
                return
            except StoreUnavailable as error:
                _log.warning("session %s: giving back %s: %s", handle.session_id, claim.claim_id, error)
            if self._ending:
                return  # the claim is void when the next owner opens the store
            await self._clock.sleep(delay)
