"""The driver takes a turn from claim to commit. It performs; the rules decide.

Every exit settles the claim: a commit consumes it, everything else gives it back, and neither is interrupted by a
cancelled task. What observers were shown by an attempt that ends without a commit is retracted.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import structs

from sightline.clock import Clock, within
from sightline.errors import ClaimExpired, Conflict, NotFound, SessionDeleted, StoreUnavailable
from sightline.ids import Ids
from sightline.observation.activities import (
    Activity,
    Outcome,
    Retracted,
    TurnEnded,
    TurnStarted,
)
from sightline.observation.events import Committed, QueueChanged, TurnActivity
from sightline.observation.handle import Change, RuntimeHandle
from sightline.queue.materializing import InputMessage, input_messages
from sightline.queue.model import CLAIM_TTL_MS, Batch, BatchState, Boundary, Claim, NothingClaimed
from sightline.queue.port import QueueStore
from sightline.queue.rules import summary_of
from sightline.session.model import Failure, Message
from sightline.session.rules import title_from
from sightline.turn.agent import Agent, AgentError, History, Turn
from sightline.turn.commit import CommitResult, CommitStore, TurnCommit
from sightline.turn.rules import (
    assistant_message,
    early_outcome,
    ended_batches,
    error_text,
    gave_up,
    user_messages,
)

__all__ = ["TurnDriver", "TurnStore", "queue_change"]

_log = logging.getLogger("sightline.turn")
_T = TypeVar("_T")

_MAX_CLAIM = 64
_CANCEL_GRACE = 5.0
"""Seconds an agent gets to end after it was cancelled; then the turn ends without it."""
_STORE_RETRIES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)
_NO_REASON = "cancelled"


class TurnStore(QueueStore, CommitStore, Protocol):
    """One database: the commit completes claims."""


class _Running:
    """A turn under way. The first of `cancel`, `hand_back` and the agent's own end wins."""

    def __init__(self, claim: Claim, turn: Turn) -> None:
        self.claim = claim
        self.turn = turn
        self.cancel_reason: str | None = claim.cancel_requested
        self.handing_back = False
        self.lost = False
        """The claim or the head turned out to be somebody else's: the session moved on without this process's view."""
        self.stopped = asyncio.Event()

    def stop(self) -> None:
        self.stopped.set()


class TurnDriver:
    """Runs turns of many sessions side by side, at most one per session; the caller sees to that."""

    def __init__(
        self, *, store: TurnStore, agent: Agent, clock: Clock, ids: Ids, owner_id: str, max_attempts: int
    ) -> None:
        self._store = store
        self._agent = agent
        self._clock = clock
        self._ids = ids
        self._owner_id = owner_id
        self._max_attempts = max_attempts
        self._running: dict[str, _Running] = {}
        self._agents: set[asyncio.Task[None]] = set()
        self._ending = False

    @property
    def running(self) -> int:
        return len(self._running)

    def request_cancel(self, session_id: str, turn_id: str, reason: str) -> None:
        """Stop the agent of that turn, if it runs here and nobody stopped it before. The store knows of it already."""
        running = self._running.get(session_id)
        if running is not None and running.claim.turn_id == turn_id and not running.stopped.is_set():
            running.cancel_reason = reason or _NO_REASON
            running.stop()

    def hand_back(self) -> None:
        """Stop every agent and give its work back, uncharged, also what is claimed later: this process will end."""
        self._ending = True
        for running in self._running.values():
            if not running.stopped.is_set():
                running.handing_back = True
                running.stop()

    def session_deleted(self, session_id: str) -> None:
        """Stop the session's agent; there is nothing left to commit to."""
        running = self._running.get(session_id)
        if running is not None:
            running.stop()

    async def run(self, handle: RuntimeHandle, history: History) -> NothingClaimed | None:
        """Claim the session's next work and see it through. Returns why there was nothing, or none when a turn ran.

        Raises StoreUnavailable after having tried for several seconds, when the work was given back; ClaimExpired when
        the session moved on without the handle, whose view is not to be trusted then. When cancelled, the work is
        given back uncharged before CancelledError leaves.
        """
        taken: list[_Running] = []

        def claimed(claim: Claim) -> None:
            running = _Running(claim, self._turn(handle, claim, history))
            taken.append(running)
            self._running[handle.session_id] = running
            if self._ending:
                running.handing_back = True
                running.stop()
            handle.publish(self._clock.now_ms(), _start_changes(claim, running.turn.input))

        settled = False
        try:
            claim = await _finish(
                self._store.claim(
                    handle.session_id,
                    Boundary.IDLE,
                    owner_id=self._owner_id,
                    turn_id=self._ids.new(),
                    lease_token=self._ids.token(),
                    now=self._clock.now_ms(),
                    ttl_ms=CLAIM_TTL_MS,
                    max_batches=_MAX_CLAIM,
                    then=claimed,
                )
            )
            if isinstance(claim, NothingClaimed):
                return claim
            settled = await self._see_through(handle, taken[0])
        except asyncio.CancelledError:
            for running in taken:
                running.handing_back = True
            raise
        finally:
            for running in taken:
                running.turn.end()
                del self._running[handle.session_id]
                if not settled:
                    await _finish(self._give_back(handle, running))
                if running.lost and not running.handing_back:
                    raise ClaimExpired(handle.session_id, running.claim.claim_id)
        return None

    async def _see_through(self, handle: RuntimeHandle, running: _Running) -> bool:
        """Run the claimed turn and commit it; false when it was not committed and the claim is still to be settled."""
        claim = running.claim
        started_ms = self._clock.now_ms()
        outcome = early_outcome(claim, self._max_attempts) or await self._perform(running)
        if outcome is None:
            return False
        try:
            await _finish(self._commit(handle, claim, self._commit_of(handle, running, outcome, started_ms)))
        except (Conflict, NotFound, SessionDeleted) as error:
            # Somebody else owns the work, or the session is gone: what was done here has no place any more.
            _log.warning("session %s: turn %s is not committed: %s", handle.session_id, claim.turn_id, error)
            running.lost = True
            return False
        return True

    def _turn(self, handle: RuntimeHandle, claim: Claim, history: History) -> Turn:
        count = 0

        def emit(activity: Activity, correlation_id: str) -> None:
            nonlocal count
            count += 1
            identity = f"{claim.turn_id}.{claim.attempt}-{count}"
            data = TurnActivity(id=identity, correlation_id=correlation_id, event=activity)
            handle.publish(self._clock.now_ms(), (Change(data, claim.turn_id),))

        return Turn(
            session_id=handle.session_id,
            turn_id=claim.turn_id,
            attempt=claim.attempt,
            input=input_messages(claim.batches, {}),
            policy=copy.deepcopy(handle.observe().policy),
            clock=self._clock,
            emit=emit,
            history=history,
        )

    async def _perform(self, running: _Running) -> Outcome | None:
        """Run the agent to its end, or to a cancellation; none when the work is to be handed back."""
        if not running.stopped.is_set():
            agent = asyncio.create_task(_call(self._agent, running.turn), name=f"agent {running.claim.turn_id}")
            self._agents.add(agent)
            agent.add_done_callback(self._agent_ended)
            stopped = asyncio.create_task(running.stopped.wait())
            try:
                await asyncio.wait({agent, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if agent.done() and not running.stopped.is_set():
                    running.stop()  # the agent was first: a cancel that comes now has lost the race
                    return _outcome_of(agent)
            finally:
                stopped.cancel()
                await _finish(self._end_agent(agent))
        if running.cancel_reason is None:
            return None
        return Outcome(status="cancelled", reason=running.cancel_reason)

    async def _end_agent(self, agent: asyncio.Task[None]) -> None:
        """Cancel the agent, if it has not ended, and wait a while for it to clean up."""
        if not agent.done():
            agent.cancel()
            if not await within(self._clock, _CANCEL_GRACE, agent):
                _log.warning("%s ignores its cancellation", agent.get_name())

    def _agent_ended(self, agent: asyncio.Task[None]) -> None:
        self._agents.discard(agent)
        _retrieve(agent)

    def _commit_of(self, handle: RuntimeHandle, running: _Running, outcome: Outcome, started_ms: int) -> TurnCommit:
        claim, turn = running.claim, running.turn
        turn.end()
        now = self._clock.now_ms()
        messages: list[Message] = list(
            user_messages(claim, turn.input, [self._ids.new() for _ in turn.input], started_ms)
        )
        answer = assistant_message(
            outcome,
            content=turn.answer,
            parts=turn.parts,
            message_id=self._ids.new(),
            turn_id=claim.turn_id,
            at_ms=now,
        )
        if answer is not None:
            messages.append(answer)
        return TurnCommit(
            session_id=handle.session_id,
            turn_id=claim.turn_id,
            expected_revision=handle.revision,
            outcome=outcome,
            messages=tuple(messages),
            usage=turn.used,
            completions=(claim.completion(),),
            title=title_from(turn.input[0].content) if turn.input else "",
            now=now,
            charge=not gave_up(outcome),
        )

    async def _commit(self, handle: RuntimeHandle, claim: Claim, commit: TurnCommit) -> None:
        batches = ended_batches(claim, commit.outcome, charge=commit.charge)

        told = False

        def committed(result: CommitResult) -> None:
            nonlocal told
            if told:
                return  # a repeated commit, whose first answer was lost after it had been told here
            told = True
            handle.publish(self._clock.now_ms(), _end_changes(commit, batches, result))
            handle.settle_batches(batches)

        for delay in _STORE_RETRIES:
            try:
                await self._store.commit(commit, committed)
                return
            except StoreUnavailable as error:
                # The outcome is unknown; the stamp makes it safe to try again.
                _log.warning("session %s: commit of turn %s: %s", handle.session_id, claim.turn_id, error)
            await self._clock.sleep(delay)
        await self._store.commit(commit, committed)

    async def _give_back(self, handle: RuntimeHandle, running: _Running) -> None:
        claim = running.claim

        def abandoned(batches: tuple[Batch, ...]) -> None:
            if not batches:
                running.lost = True
                return
            retracted = [
                Change(
                    TurnActivity(
                        id=f"{correlation}-retracted",
                        correlation_id=correlation,
                        event=Retracted(correlation_id=correlation),
                    ),
                    claim.turn_id,
                )
                for correlation in running.turn.correlations
            ]
            handle.publish(self._clock.now_ms(), (*retracted, queue_change("abandoned", batches)))

        for delay in itertools.chain(_STORE_RETRIES, itertools.repeat(_STORE_RETRIES[-1])):
            try:
                await self._store.abandon(claim, charge=not running.handing_back, then=abandoned)
                return
            except StoreUnavailable as error:
                _log.warning("session %s: giving back %s: %s", handle.session_id, claim.claim_id, error)
            if self._ending:
                return  # the claim is void when the next owner opens the store
            await self._clock.sleep(delay)


def queue_change(kind: str, batches: Sequence[Batch]) -> Change:
    """The event that tells of batches that changed their state."""
    return Change(
        QueueChanged(
            kind=kind,
            batch_ids=tuple(batch.batch_id for batch in batches),
            batches=tuple(summary_of(batch) for batch in batches),
        )
    )


def _start_changes(claim: Claim, inputs: Sequence[InputMessage]) -> tuple[Change, ...]:
    started = TurnStarted(
        turn_id=claim.turn_id, attempt=claim.attempt, boundary=str(Boundary.IDLE), input=tuple(inputs)
    )
    identity = f"{claim.turn_id}.{claim.attempt}-started"
    return (
        structs.replace(queue_change("claimed", claim.batches), turn_id=claim.turn_id),
        Change(TurnActivity(id=identity, correlation_id=identity, event=started), claim.turn_id),
    )


_QUEUE_KINDS = {
    BatchState.COMPLETED: "completed",
    BatchState.CANCELLED: "cancelled",
    BatchState.FAILED: "failed",
}


def _end_changes(commit: TurnCommit, batches: Sequence[Batch], result: CommitResult) -> tuple[Change, ...]:
    turn_id = commit.turn_id
    ended = TurnActivity(
        id=f"{turn_id}-ended", correlation_id=f"{turn_id}-ended", event=TurnEnded(outcome=commit.outcome)
    )
    committed = Committed(
        turn_id=turn_id,
        outcome=commit.outcome,
        messages=commit.messages,
        usage_delta=commit.usage,
        agent_frame_id=result.agent_frame_id,
        turn_index=result.turn_index,
    )
    return (
        structs.replace(queue_change(_QUEUE_KINDS[batches[0].state], batches), turn_id=turn_id),
        Change(ended, turn_id),
        Change(committed, turn_id, result.revision),
    )


def _outcome_of(agent: asyncio.Task[None]) -> Outcome:
    if agent.cancelled():
        return Outcome(status="failed", error=Failure("agent_error", "the agent cancelled itself"))
    error = agent.exception()
    if error is None:
        return Outcome(status="completed")
    if isinstance(error, AgentError):
        return Outcome(status="failed", error=Failure("agent_error", error_text(error)))
    _log.error("agent failed", exc_info=error)
    return Outcome(status="failed", error=Failure("agent_error", f"{type(error).__name__}: {error_text(error)}"))


async def _call(agent: Agent, turn: Turn) -> None:
    try:
        await agent(turn)
    except SystemExit as error:
        # asyncio would let it end the whole process, and every other turn with it.
        raise AgentError(f"the agent called exit({error.code})") from error


async def _finish(work: Coroutine[Any, Any, _T]) -> _T:
    """See the work through even when this task is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except Exception:
            break
    if cancelled:
        _retrieve(task)
        raise asyncio.CancelledError
    return task.result()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of a task's exception that nobody else will look at."""
    if not task.cancelled():
        task.exception()
