"""Who watches: every effect is held against the laws at the moment at which it takes place.

Two laws are about time and need the world's, so they are here. *A poke is a hint*: work that is ready, in a session
that nobody drives, is taken within a poll. Not counted is the time in which something went wrong, nor that of a lease
whose owner left without settling. And a cancel that a process has answered stops a turn that runs in that process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import UNSET

from sightline.errors import StoreUnavailable
from sightline.process.model import Appended, GrantsEnded, Registered, WakeDelivery
from sightline.queue.model import Boundary, Cancellation, Claim, Enqueued
from sightline.tasks.model import ChangedTask, RegisteredTask, TaskRecord, Transferred
from tests.sim import (
    laws_of_cancelling,
    laws_of_leases,
    laws_of_processes,
    laws_of_reading,
    laws_of_requests,
    laws_of_tasks,
    laws_of_wakes,
    laws_of_work,
    laws_of_writing,
)
from tests.sim.jobs import CANCEL
from tests.sim.ledger import Book, Calm, Came, Law, Ledger, Violation
from tests.sim.loop import EPOCH_MS

if TYPE_CHECKING:
    from tests.sim.effects import Effect
    from tests.sim.world import World

__all__ = ["Referee"]

_SLACK = 1.5
"""Seconds for the journeys of a drive's calls, and for a pause after one that failed."""

_LAWS: dict[str, Callable[..., None]] = {
    "enqueue": laws_of_work.enqueued,
    "claim": laws_of_work.claimed,
    "renew": laws_of_work.renewed,
    "abandon": laws_of_work.abandoned,
    "cancel_batch": laws_of_cancelling.cancelled,
    "cancel_from": laws_of_cancelling.cancelled_from,
    "request_cancel": laws_of_cancelling.end_asked,
    "get_batch": laws_of_reading.batch_read,
    "list_batches": laws_of_reading.batches_listed,
    "peek_claimable": laws_of_reading.peeked,
    "claimable_sessions": laws_of_reading.polled,
    "next_due": laws_of_reading.due_read,
    "purge_ended": laws_of_reading.purged,
    "purge_keys": laws_of_reading.purged_keys,
    "remember": laws_of_requests.remembered,
    "recall": laws_of_requests.recalled,
    "open_request": laws_of_requests.opened,
    "answer_request": laws_of_requests.answered,
    "answers_to": laws_of_requests.answers_read,
    "purge_requests": laws_of_requests.purged_requests,
    "delete_session": laws_of_writing.deleted,
    "commit": laws_of_writing.committed,
    "acquire_lease": laws_of_writing.acquired,
    "renew_lease": laws_of_writing.renewed_lease,
    "release_lease": laws_of_writing.released,
    "load_session": laws_of_reading.loaded,
    "page_messages": laws_of_reading.paged,
    "register_process": laws_of_processes.registered,
    "append_event": laws_of_processes.appended,
    "pending_wakes": laws_of_wakes.wakes_read,
    "deliver_wake": laws_of_wakes.delivered,
    "grant_process": laws_of_processes.granted,
    "revoke_process": laws_of_processes.revoked,
    "transfer_grants": laws_of_processes.transferred,
    "get_process": laws_of_processes.process_read,
    "list_process_events": laws_of_processes.events_listed,
    "runnable_processes": laws_of_processes.runnable_read,
    "grants_of_process": laws_of_processes.holders_read,
    "acquire_process_lease": laws_of_leases.acquired,
    "renew_process_lease": laws_of_leases.renewed,
    "release_process_lease": laws_of_leases.released,
    "abandon_process": laws_of_leases.abandoned,
    "register_task": laws_of_tasks.registered,
    "change_task": laws_of_tasks.changed,
    "transfer_tasks": laws_of_tasks.transferred,
    "remove_task": laws_of_tasks.removed,
    "lose_tasks": laws_of_tasks.lost,
    "purge_tasks": laws_of_tasks.purged,
    "get_task": laws_of_tasks.task_read,
    "list_tasks": laws_of_tasks.listed,
}
_ABOUT_TIME = frozenset({"deliver_wake", "acquire_process_lease", "abandon_process"})
"""The laws that have to know how calm the world is."""


def _changes(effect: Effect) -> bool:
    """Whether a view of the session is another one after this."""
    if effect.error is not None or not effect.told:
        return False
    match effect.told[0]:
        case Enqueued(replayed=replayed):
            return not replayed
        case Cancellation(batches=batches) | (batches, _):
            return bool(batches)
        case tuple() as batches:
            return bool(batches)
        case _:
            return True


class Referee:
    """Raises Violation. Keeps the ledger."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ledger = Ledger()
        self._stopped: dict[tuple[str, str], float] = {}
        """When a life heard that this turn is to end."""
        self._first_call: dict[tuple[str, str, str], float] = {}
        """When a life first asked for the commit of this claim: its agent had ended then."""

    def asked(self, effect: Effect) -> None:
        """A call sets out."""
        if effect.method == "commit":
            commit = effect.args[0]
            for completion in commit.completions:
                self._first_call.setdefault((effect.life.name, commit.turn_id, completion.claim_id), effect.called_at)

    def happened(self, effect: Effect) -> None:
        """A call has taken place: with what result, its caller may never hear."""
        now = self._world.loop.time()
        life = effect.life
        came = Came(
            life.name,
            now,
            effect.result,
            effect.error,
            tuple(effect.told),
            handing_back=effect.called_at > life.hands_back_at,
        )
        if effect.then is not None and len(effect.told) != (1 if effect.error is None else 0):
            nothing = effect.method == "claim" and not isinstance(effect.result, Claim)
            if not nothing or effect.told:
                raise Violation(Law.EXPECTED, f"{effect.method} told {len(effect.told)} times, {effect.error!r}")
        gone = effect.session_id in self.ledger.deleted
        if effect.method == "claim" and isinstance(effect.result, Claim) and not gone:
            if effect.args[1] is Boundary.IDLE:
                self._waited(effect.result, now)
            self._outlived(effect.result, now)
        self._in_touch(effect)
        touched = self._touched(effect)
        if effect.session_id in self.ledger.deleted and effect.method != "transfer_grants":
            self.tried(effect)
            laws_of_reading.met_a_deleted_session(came, effect.method)
            return
        law = _LAWS.get(effect.method)
        if law is laws_of_writing.committed:
            if effect.error is None:
                self._obeyed(effect)
            law(
                self.ledger,
                came,
                *effect.args,
                **effect.kwargs,
                answers=self._world.agent.answers,
                timeout=self._world.plan.turn_timeout,
            )
        elif effect.method in _ABOUT_TIME and law is not None:
            law(self.ledger, came, *effect.args, **effect.kwargs, calm=self.calm)
        elif law is not None:
            law(self.ledger, came, *effect.args, **effect.kwargs)
        self._knows_jobs(effect)
        for session_id in touched:
            if session_id in self.ledger.books:
                self.ledger.books[session_id].knows_chores &= {life.name}

    def _in_touch(self, effect: Effect) -> None:
        """Note who has read a session since others wrote to it: what that life shows must be true."""
        delivery = effect.result if effect.method == "deliver_wake" else None
        session_id = effect.session_id
        if isinstance(delivery, WakeDelivery) and delivery.enqueued is not UNSET:
            session_id = delivery.enqueued.batch.session_id
        book = self.ledger.books.get(session_id)
        if book is not None and effect.method == "load_session":
            book.in_touch.add(effect.life.name)
            book.knows_jobs.add(effect.life.name)
            book.knows_chores.add(effect.life.name)
        elif book is not None and _changes(effect):
            book.in_touch &= {effect.life.name}

    def _knows_jobs(self, effect: Effect) -> None:
        """Note who may not know any more how the processes are that a session sees."""
        if effect.error is not None or not effect.told:
            return
        match effect.told[0]:
            case Registered(created=True, record=record):
                self._only(effect.life.name, record.process_id)
            case Appended(replayed=False, record=record):
                self._only(effect.life.name, record.process_id)
            case _ if effect.method == "transfer_grants":
                for scope in effect.args[:2]:
                    if scope.session_id in self.ledger.books:
                        self.ledger.books[scope.session_id].knows_jobs &= {effect.life.name}
            case _:
                pass

    def _touched(self, effect: Effect) -> tuple[str, ...]:
        """The sessions whose tasks are not what they were, after this."""
        match effect.result:
            case RegisteredTask(created=True, record=record):
                return (record.session_id,)
            case TaskRecord(session_id=session_id) if effect.method == "remove_task":
                return (session_id,)
            case ChangedTask(record=record, kind=kind) if kind is not None:
                return (record.session_id,)
            case (Transferred(before=before, after=after), *_):
                return before.session_id, after.session_id
            case _:
                return ()

    def _only(self, life: str, process_id: str) -> None:
        job = self.ledger.jobs.by_id[process_id]
        for book in self.ledger.books.values():
            if job.is_seen_by(book.session_id):
                book.knows_jobs &= {life}

    def answered(self, effect: Effect) -> None:
        """An answer has arrived, `then` has been called."""
        name = effect.life.name
        if effect.method == "claim" and effect.told and effect.then is not None:
            self.ledger.unsettled.setdefault((name, effect.session_id), set()).add(effect.told[0].claim_id)
        elif effect.method == "commit" and isinstance(effect.error, StoreUnavailable):
            self.ledger.failed_commits.add(effect.args[0].turn_id)
        elif effect.method == "request_cancel" and effect.told and effect.then is not None:
            answer = effect.told[0]
            if answer.state == "cancel_requested" and answer.turn_id is not None:
                self._stopped.setdefault((name, answer.turn_id), self._world.loop.time())
        elif effect.method in ("append_event", "delete_session") and effect.told and effect.then is not None:
            told = effect.told[0]
            for appended in told.cancelled if isinstance(told, GrantsEnded) else (told,):
                if appended.event is not None and appended.event.event_type == CANCEL:
                    self.ledger.jobs.by_id[appended.record.process_id].heard.setdefault(name, self._world.loop.time())

    def tried(self, effect: Effect) -> None:
        """A call was refused, or came too late; it is an attempt to settle all the same."""
        if effect.method == "abandon":
            self.ledger.settles(effect.life.name, effect.session_id, effect.args[0].claim_id)
        elif effect.method == "commit":
            tried = [completion.claim_id for completion in effect.args[0].completions]
            self.ledger.settles(effect.life.name, effect.session_id, *tried)
        elif effect.method == "acquire_process_lease":
            self.ledger.jobs.by_id[effect.args[0]].tries += 1
        elif effect.method == "deliver_wake":
            self.ledger.jobs.tried.add(effect.args[0])

    def _obeyed(self, effect: Effect) -> None:
        commit, name = effect.args[0], effect.life.name
        heard = self._stopped.get((name, commit.turn_id))
        book = self.ledger.books[commit.session_id]
        if heard is None or commit.outcome.status == "cancelled" or commit.turn_id in book.stamps:
            return
        if laws_of_writing.timed_out(commit):
            return  # its end was decided when its time had passed, and its agent may have ended only now
        for completion in commit.completions:
            ended = self._first_call.get((name, commit.turn_id, completion.claim_id), heard)
            if ended > heard and self._claimed_before(completion.batch_ids, commit.session_id, heard):
                raise Violation(
                    Law.OWNS,
                    f"{name} heard at {heard:.3f} that {commit.turn_id} is to end, and it is {commit.outcome.status}",
                )

    def _claimed_before(self, batch_ids: tuple[str, ...], session_id: str, at: float) -> bool:
        work = self.ledger.work(session_id, batch_ids[0])
        return work is not None and work.hold is not None and work.hold.taken_at <= at

    def _waited(self, claim: Claim, now: float) -> None:
        book = self.ledger.books[claim.session_id]
        first = book.works.get(claim.batches[0].batch_id)
        if first is None:
            return
        settled = book.lane.owner_id is None
        since = max(self.ready_at(book, first.batch.available_at_ms), first.enqueued_at, self._world.last_trouble)
        waited, patience = now - max(since, 0.0 if settled else book.lane.alive_at), self.patience(settled=settled)
        if waited > patience:
            raise Violation(
                Law.HINT, f"{first.batch_id} was ready for {waited:.3f} s, and a poll takes {patience:.3f} s at most"
            )

    def _outlived(self, claim: Claim, now: float) -> None:
        """A lane may be taken from an owner that is gone, or cut off; not from one that is alive and well."""
        lane = self.ledger.books[claim.session_id].lane
        if claim.lease is None or lane.owner_id in (None, claim.lease.owner_id):
            return
        owner = self.ledger.owners.get(str(lane.owner_id), "")
        if self._is_undisturbed(owner):
            raise Violation(
                Law.LEASE, f"{claim.session_id} is taken from {owner}, which is alive and was not disturbed"
            )

    def _is_undisturbed(self, life: str) -> bool:
        now, lease = self._world.loop.time(), self._world.plan.lease
        well = self._world.is_alive(life) and now - self._world.last_trouble > 2 * lease
        return well and self._apart_ms(now) < lease * 1000 / 4

    @property
    def calm(self) -> Calm:
        """How calm the world is."""
        plan = self._world.plan
        return Calm(
            since=self._world.last_trouble,
            undisturbed=self._is_undisturbed,
            has_room=plan.permits >= len(plan.processes),
            poll=self.patience(settled=True),
            slowest=min(worker.rate for worker in plan.workers),
            slack=_SLACK,
        )

    def _apart_ms(self, now: float) -> float:
        """How far the workers' wall clocks are apart, at most."""
        clocks = [worker.offset_ms + worker.rate * now * 1000 for worker in self._world.plan.workers]
        return max(clocks) - min(clocks) + self._world.stepped_ms

    def ready_at(self, book: Book, available_at_ms: int) -> float:
        """From when on every worker's clock calls the work ready, and nobody has other work of the session."""
        behind = max(0, *(-plan.offset_ms for plan in self._world.plan.workers), self._world.stepped_back_ms)
        slowest = min(plan.rate for plan in self._world.plan.workers)
        return max((available_at_ms - EPOCH_MS + behind) / 1000 / slowest, book.free_at)

    def patience(self, *, settled: bool) -> float:
        """How long ready work may wait when nothing goes wrong."""
        plan = self._world.plan
        slowest = min(worker.rate for worker in plan.workers)
        patience = plan.poll / slowest + _SLACK
        if not settled:
            clocks = [worker.offset_ms for worker in plan.workers]
            patience += plan.lease / slowest + (max(clocks) - min(clocks) + self._world.stepped_ms) / 1000
        return patience
