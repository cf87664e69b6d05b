"""Defects to plant, so that the simulation proves that it can fail.

Each is a mistake that somebody could make on a bad day: a guard left out, a step forgotten, two steps in the wrong
order. It is planted into the very code that runs in the worlds, by patching it for as long as the defect is looked for.
A defect names the laws of which it must break one; which of them depends on the world that comes upon it first.

The laws overlap, and so do the guards in the code: a commit is fenced by the session's lease and, once more, by the
claim's token. Where one guard is enough, leaving out the other breaks nothing but in rare worlds, and both are in the
list together as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from msgspec import UNSET, structs

from sightline.errors import StoreUnavailable
from sightline.kernel import Kernel, Limits, Written
from sightline.observation.events import Committed
from sightline.observation.handle import Change, RuntimeHandle
from sightline.queue import claiming
from sightline.queue.model import Batch, BatchState, Claim, Draft
from sightline.queue.rules import new_batch
from sightline.session.leasing import Lane, acquired
from sightline.session.model import LaneBusy, Request, SessionLease
from sightline.stores.memory import batches, cancelling, claims, commits, journals, requests
from sightline.stores.memory.state import Row, Session, State
from sightline.turn.asking import Asking
from sightline.turn.commit import CommitResult, TurnCommit, stamp_hash
from sightline.turn.driver import TurnDriver
from sightline.turn.intake import Intake
from sightline.turn.keeping import LeaseKeeper
from sightline.turn.recording import Journal, journal_of
from sightline.turn.requests import Asked
from sightline.turn.running import Running
from tests.sim import lives
from tests.sim.ledger import Law
from tests.sim.plan import Plan

__all__ = ["DEFECTS", "Defect", "all_of", "defect"]

Plant = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Defect:
    """`within`: the number of seeds by which it has to be caught. `of_processes`, `of_tasks`: only in worlds that have
    some.
    `begin`: the seed to begin with, where those before it are known to be too quiet.
    """

    name: str
    breaks: frozenset[Law]
    within: int
    of_processes: bool
    of_tasks: bool
    begin: int
    plant: Plant


DEFECTS: list[Defect] = []


def defect(
    *breaks: Law, within: int, of_processes: bool = False, of_tasks: bool = False, begin: int = 0
) -> Callable[[Plant], Plant]:
    """Keep what is planted in the list."""

    def keep(plant: Plant) -> Plant:
        DEFECTS.append(Defect(plant.__name__, frozenset(breaks), within, of_processes, of_tasks, begin, plant))
        return plant

    return keep


@contextlib.contextmanager
def all_of(*plants: AbstractContextManager[Any]) -> Iterator[None]:
    """Several at a time."""
    with contextlib.ExitStack() as stack:
        for plant in plants:
            stack.enter_context(plant)
        yield


# Who may write


@defect(Law.ONE_WRITER, within=5_000)
def the_lease_is_not_checked_at_commit() -> AbstractContextManager[Any]:
    return patch.object(commits, "is_lost", lambda lane, lease: False)


@defect(Law.ONE_WRITER, within=2_000)
def neither_lease_nor_claim_is_checked_at_commit() -> AbstractContextManager[Any]:
    return all_of(patch.object(commits, "is_lost", lambda lane, lease: False), _any_claim_will_do())


def _any_claim_will_do() -> AbstractContextManager[Any]:
    def held(session: Session, commit: TurnCommit) -> list[Row]:
        return [session.rows[name] for completion in commit.completions for name in completion.batch_ids]

    return patch.object(commits, "_held", held)


@defect(Law.ONE_WRITER, Law.LEASE, within=300)
def leases_are_never_renewed() -> AbstractContextManager[Any]:
    async def renew(self: LeaseKeeper, *_: object) -> None:
        pass

    return patch.object(LeaseKeeper, "_renew", renew)


@defect(Law.ONE_WRITER, within=200)
def a_lease_is_given_to_whoever_asks() -> AbstractContextManager[Any]:

    def grant(lane: Lane, session_id: str, **asked: Any) -> SessionLease | LaneBusy:
        return acquired(structs.replace(lane, expires_at_ms=0), session_id, **asked)

    return patch.object(claims, "acquired", grant)


@defect(Law.GROWS, within=50)
def generations_are_used_again() -> AbstractContextManager[Any]:

    def grant(lane: Lane, session_id: str, **asked: Any) -> SessionLease | LaneBusy:
        return acquired(structs.replace(lane, generation=0), session_id, **asked)

    return patch.object(claims, "acquired", grant)


@defect(Law.ONE_WRITER, within=1_000)
def a_stale_owner_gives_back_what_is_not_its_own() -> AbstractContextManager[Any]:
    real = claims.abandon

    def abandon(state: State, claim: Claim, charge: bool) -> tuple[Batch, ...]:
        session = state.sessions.get(claim.session_id)
        for batch in claim.batches:
            row = None if session is None else session.rows.get(batch.batch_id)
            if row is not None and row.batch.state is BatchState.CLAIMED:
                row.claim_id, row.lease_token = claim.claim_id, claim.lease_token
        return real(state, claim, charge)

    return patch.object(claims, "abandon", abandon)


# What a turn leaves behind


@defect(Law.ONE_EFFECT, Law.READS, within=100)
def a_commit_does_not_consume_its_claim() -> AbstractContextManager[Any]:
    real = commits.commit_turn

    def commit_turn(state: State, commit: TurnCommit) -> CommitResult:
        return real(state, structs.replace(commit, completions=()))

    return patch.object(commits, "commit_turn", commit_turn)


@defect(Law.ONE_EFFECT, within=1_000)
def the_stamp_is_not_looked_at_first() -> AbstractContextManager[Any]:
    real = commits.commit_turn

    def commit_turn(state: State, commit: TurnCommit) -> CommitResult:
        state.session(commit.session_id).stamps.pop(commit.turn_id, None)
        return real(state, commit)

    return patch.object(commits, "commit_turn", commit_turn)


@defect(Law.ONE_EFFECT, within=5_000)
def whoever_was_superseded_takes_the_others_commit_for_its_own() -> AbstractContextManager[Any]:
    return patch.object(commits, "stamp_hash", lambda commit: stamp_hash(structs.replace(commit, lease=None)))


@defect(Law.ONE_EFFECT, within=5_000)
def a_stamp_is_good_for_any_content() -> AbstractContextManager[Any]:
    return patch.object(commits, "stamp_hash", lambda commit: "the same")


@defect(Law.ONE_EFFECT, within=500)
def what_a_checkpoint_takes_in_is_settled_and_not_kept() -> AbstractContextManager[Any]:
    real = Intake._adopt

    def adopt(self: Intake, handle: RuntimeHandle, running: Running, *rest: Any) -> Any:
        before = list(running.inputs)
        inputs = real(self, handle, running, *rest)
        running.inputs[:] = before
        return inputs

    return patch.object(Intake, "_adopt", adopt)


@defect(Law.READS, Law.CHARGED, Law.ENDS, Law.HINT, within=5_000)
def what_a_turn_took_without_knowing_stays_its_own() -> AbstractContextManager[Any]:
    return patch.object(Row, "forget_turn", lambda self: None)


@defect(Law.ONE_EFFECT, Law.READS, within=300)
def work_that_is_given_back_is_there_twice() -> AbstractContextManager[Any]:
    real = claims.abandon

    def abandon(state: State, claim: Claim, charge: bool) -> tuple[Batch, ...]:
        given = real(state, claim, charge)
        for batch in given:
            again = structs.replace(batch, batch_id=f"{batch.batch_id}-again")
            state.sessions[claim.session_id].rows[again.batch_id] = Row(again)
        return given

    return patch.object(claims, "abandon", abandon)


# How work is settled and counted


@defect(Law.SETTLED, within=300)
def work_is_not_given_back_after_an_error() -> AbstractContextManager[Any]:
    async def give_back(self: TurnDriver, *_: object) -> None:
        pass

    return patch.object(TurnDriver, "_give_back", give_back)


@defect(Law.CHARGED, within=300)
def a_hand_back_is_charged() -> AbstractContextManager[Any]:
    real = claims.abandon
    return patch.object(claims, "abandon", lambda state, claim, charge: real(state, claim, True))


@defect(Law.ONE_EFFECT, Law.ORDER, Law.ENDS, within=50)
def the_order_is_last_in_first_out() -> AbstractContextManager[Any]:
    def last(candidates: Sequence[claiming.Candidate], *rest: Any, **asked: Any) -> Any:
        return claiming.select([*reversed(candidates)], *rest, **asked)

    return patch.object(claims, "select", last)


@defect(Law.ORDER, within=300)
def work_joins_across_never() -> AbstractContextManager[Any]:
    return patch.object(claiming, "_joins", lambda head, batch: batch.turn_id is UNSET)


@defect(Law.ORDER, Law.ONE_EFFECT, Law.HINT, within=5_000)
def a_turn_is_retried_without_its_delayed_members() -> AbstractContextManager[Any]:
    def is_eligible(self: claiming.Candidate, now: int, generation: int | None = None) -> bool:
        return self.batch.available_at_ms <= now and not self.is_held(now, generation)

    return patch.object(claiming.Candidate, "is_eligible", is_eligible)


@defect(Law.ORDER, Law.HINT, within=100)
def delayed_work_is_taken_at_once() -> AbstractContextManager[Any]:
    def is_eligible(self: claiming.Candidate, now: int, generation: int | None = None) -> bool:
        return not self.is_held(now, generation)

    return patch.object(claiming.Candidate, "is_eligible", is_eligible)


# What outlives an attempt


@defect(Law.RECORDED, within=2_000)
def a_retry_does_not_read_its_journal() -> AbstractContextManager[Any]:
    def anew(store: Any, clock: Any, claim: Claim, lost: Callable[[], None]) -> Journal:
        return journal_of(store, clock, structs.replace(claim, fencing_token=1), lost)

    return patch("sightline.turn.driver.journal_of", anew)


@defect(Law.RECORDED, within=300)
def a_note_is_handed_out_before_it_is_written() -> AbstractContextManager[Any]:
    return patch.object(journals, "remember", lambda state, session_id, turn_id, key, value, *rest: value)


@defect(Law.RECORDED, within=300)
def a_commit_leaves_its_journal() -> AbstractContextManager[Any]:
    real = commits.commit_turn

    def commit_turn(state: State, commit: TurnCommit) -> CommitResult:
        kept = dict(state.session(commit.session_id).journals)
        result = real(state, commit)
        state.session(commit.session_id).journals.update(kept)
        return result

    return patch.object(commits, "commit_turn", commit_turn)


@defect(Law.ONE_WRITER, within=3_000)
def whoever_was_superseded_writes_into_the_journal() -> AbstractContextManager[Any]:
    return all_of(
        patch.object(journals, "is_lost", lambda lane, lease: False),
        patch.object(requests, "is_lost", lambda lane, lease: False),
    )


@defect(Law.ASKED, within=1_000)
def every_attempt_asks_anew() -> AbstractContextManager[Any]:
    real = requests.open_request

    def open_request(state: State, session_id: str, request: Request, key: str, lease: SessionLease) -> Asked:
        return real(state, session_id, request, f"{key} {request.request_id}", lease)

    return patch.object(requests, "open_request", open_request)


@defect(Law.ASKED, within=300)
def the_last_answer_counts() -> AbstractContextManager[Any]:
    real = requests.answer_request

    def answer_request(state: State, session_id: str, request_id: str, answer: str) -> Asked:
        question = state.session(session_id).questions.get(request_id)
        if question is not None:
            question.answer = None
        return real(state, session_id, request_id, answer)

    return patch.object(requests, "answer_request", answer_request)


@defect(Law.ASKED, within=1_000)
def a_turn_that_ends_goes_on_asking() -> AbstractContextManager[Any]:
    return patch.object(commits, "end_requests", lambda session, turn_id, now: None)


@defect(Law.CHARGED, Law.READS, within=1_000)
def who_waits_is_charged_for_it() -> AbstractContextManager[Any]:
    real = requests.open_request

    def open_request(state: State, session_id: str, *rest: Any) -> Asked:
        rows = state.sessions[session_id].rows if session_id in state.sessions else {}
        before = {name: row.batch.attempts for name, row in rows.items()}
        asked = real(state, session_id, *rest)
        for name, row in rows.items():
            row.batch = structs.replace(row.batch, attempts=before[name])
        return asked

    return patch.object(requests, "open_request", open_request)


@defect(Law.ENDS, within=300)
def answers_are_heard_by_pokes_alone() -> AbstractContextManager[Any]:
    async def look(self: Asking) -> None:
        pass

    return patch.object(Asking, "_look_for_answers", look)


# Keys, sequences, fences


@defect(Law.ONE_KEY, Law.OWNS, within=100)
def a_key_is_forgotten_when_its_work_ends() -> AbstractContextManager[Any]:
    real = commits.commit_turn

    def commit_turn(state: State, commit: TurnCommit) -> CommitResult:
        result = real(state, commit)
        session = state.session(commit.session_id)
        for key, entry in list(session.keys.items()):
            if entry.batch_id in {name for completion in commit.completions for name in completion.batch_ids}:
                del session.keys[key]
        return result

    return patch.object(commits, "commit_turn", commit_turn)


@defect(Law.ONE_KEY, within=300)
def a_key_brings_other_content() -> AbstractContextManager[Any]:
    return patch.object(batches, "content_hash", lambda draft: "the same")


@defect(Law.ONE_KEY, Law.OWNS, within=3_000)
def a_purge_takes_the_key_with_the_work() -> AbstractContextManager[Any]:
    real = batches.purge_ended

    def purge_ended(state: State, before: int, limit: int) -> int:
        purged = real(state, before, limit)
        for session in state.sessions.values():
            for key in [name for name, entry in session.keys.items() if entry.end is not None]:
                del session.keys[key]
        return purged

    return patch.object(batches, "purge_ended", purge_ended)


@defect(Law.GROWS, within=50)
def a_sequence_is_used_again() -> AbstractContextManager[Any]:
    real = batches.enqueue

    def enqueue(state: State, draft: Draft, *rest: Any) -> Any:
        rows = [row.batch.enqueue_seq for session in state.sessions.values() for row in session.open_rows()]
        state.sequence = max(rows, default=0)
        return real(state, draft, *rest)

    return patch.object(batches, "enqueue", enqueue)


@defect(Law.GROWS, within=500)
def fences_begin_anew_when_work_is_given_back() -> AbstractContextManager[Any]:
    def release(self: Row) -> None:
        self.claim_id = self.lease_token = self.held_until_ms = self.generation = None
        self.fencing = 0

    return patch.object(Row, "release", release)


# What clients are promised


@defect(Law.DURABLE, within=200)
def work_is_accepted_before_it_is_stored() -> AbstractContextManager[Any]:
    real = Kernel.enqueue

    async def enqueue(self: Kernel, draft: Draft) -> Written:
        try:
            return await real(self, draft)
        except StoreUnavailable:
            batch = new_batch(draft, batch_id=self.ids.new(), enqueue_seq=0, now=self.clock.now_ms(), cancelled=False)
            return Written(batch, False, "")

    return patch.object(Kernel, "enqueue", enqueue)


@defect(Law.OWNS, within=200)
def a_cancel_that_comes_before_its_work_is_ignored() -> AbstractContextManager[Any]:
    return patch.object(batches, "new_batch", lambda draft, **facts: new_batch(draft, **{**facts, "cancelled": False}))


@defect(Law.OWNS, within=1_000)
def a_request_to_cancel_dies_with_the_attempt() -> AbstractContextManager[Any]:
    real = claims.claim

    def claim(state: State, session_id: str, *rest: Any, **asked: Any) -> Any:
        if session_id in state.sessions:
            for row in state.sessions[session_id].open_rows():
                row.cancel_requested = None
        return real(state, session_id, *rest, **asked)

    return patch.object(claims, "claim", claim)


@defect(Law.OWNS, within=200)
def work_that_runs_is_dropped_by_a_cancel() -> AbstractContextManager[Any]:
    return patch.object(cancelling, "may_drop", lambda batch: batch.state.is_open)


@defect(Law.OWNS, within=200)
def a_running_turn_does_not_hear_of_its_cancel() -> AbstractContextManager[Any]:
    return patch.object(TurnDriver, "request_cancel", lambda self, session_id, turn_id, reason: None)


@defect(Law.HINT, Law.ENDS, within=200)
def work_is_found_by_pokes_alone() -> AbstractContextManager[Any]:
    def limits_of(plan: Plan) -> Limits:
        return Limits(poll_interval=1e6, session_lease=plan.lease, retention=plan.retention)

    return patch.object(lives, "limits_of", limits_of)


@defect(Law.FOLD, Law.CHARGED, within=50)
def a_commit_is_not_told() -> AbstractContextManager[Any]:
    real = RuntimeHandle.publish

    def publish(self: RuntimeHandle, now: int, changes: Any) -> str:
        kept: list[Change] = [change for change in changes if not isinstance(change.data, Committed)]
        return real(self, now, kept) if kept else self.cursor

    return patch.object(RuntimeHandle, "publish", publish)


@defect(Law.READS, Law.FOLD, Law.CHARGED, within=300)
def a_view_is_trusted_after_others_drove_the_session() -> AbstractContextManager[Any]:
    return patch.object(RuntimeHandle, "begins", lambda self, generation: True)


@defect(Law.FOLD, within=5_000)
def a_write_without_an_answer_leaves_the_view_as_it_is() -> AbstractContextManager[Any]:
    def leave(self: Kernel, session_id: str) -> None:
        handle = self._handles.get(session_id)
        if handle is not None:
            handle.stale = False

    return patch.object(Kernel, "_mend", leave)
