"""The laws about reading: what is read is what was written, and whoever looks for ready work finds all of it.

As in `laws_of_work`, each function is told of one effect that has just taken place.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from sightline.errors import BatchNotFound, ClaimExpired, LeaseLost, SessionDeleted
from sightline.observation.model import SessionState
from sightline.queue.model import Batch, BatchState, NothingClaimed
from sightline.session.model import Message, MessagePage
from tests.sim import laws_of_tasks
from tests.sim.jobs import shown_of
from tests.sim.ledger import Book, Came, Law, Ledger, Violation, Work

__all__ = [
    "as_known",
    "batch_read",
    "batches_listed",
    "due_read",
    "is_held",
    "loaded",
    "met_a_deleted_session",
    "paged",
    "peeked",
    "polled",
    "purged",
    "purged_keys",
]


def met_a_deleted_session(came: Came, method: str) -> None:
    """Nothing of it is there any more, for nobody and for good."""
    if came.error is not None:
        fair = isinstance(came.error, SessionDeleted | LeaseLost | ClaimExpired)
    else:
        fair = came.result in (None, False, {}) or isinstance(came.result, NothingClaimed)
        fair = fair and not any(came.told)
    if not fair:
        raise Violation(Law.DURABLE, f"{method} of a deleted session: {came.error!r}, {came.result}, {came.told}")


def batch_read(ledger: Ledger, came: Came, session_id: str, batch_id: str) -> None:
    work = ledger.work(session_id, batch_id)
    if isinstance(came.error, BatchNotFound) and (work is None or work.forgotten):
        return
    if came.error is not None or work is None:
        raise Violation(Law.READS, f"{batch_id} is {'unknown' if work is None else work.state}: {came.error!r}")
    as_known(work, came.result)


def batches_listed(ledger: Ledger, came: Came, session_id: str, *, pending_only: bool, limit: int) -> None:
    for batch in came.result or ():
        work = ledger.work(session_id, batch.batch_id)
        if work is None:
            raise Violation(Law.READS, f"{batch.batch_id} is listed, and nobody has posted it")
        as_known(work, batch)


def as_known(work: Work, batch: Batch) -> None:
    turn_id = None if batch.turn_id is UNSET else batch.turn_id
    shown, known = (batch.state, batch.attempts, turn_id), (work.state, work.attempts, work.turn_id)
    if shown != known:
        raise Violation(Law.READS, f"{work.batch_id} is read as {shown}, and is {known}")


def peeked(ledger: Ledger, came: Came, session_id: str, now: int) -> None:
    if came.result is not _is_ready(ledger.books[session_id], now):
        raise Violation(Law.HINT, f"{session_id} is called {'ready' if came.result else 'not ready'}, wrongly")


def polled(ledger: Ledger, came: Came, now: int, limit: int, after: str = "") -> None:
    ready = sorted(name for name, book in ledger.books.items() if name > after and _is_ready(book, now))
    if came.error is not None or list(came.result) != ready[:limit]:
        raise Violation(Law.HINT, f"{ready} are ready, and the poll finds {came.result}")


def _is_ready(book: Book, now: int) -> bool:
    lane = book.lane
    ruling = lane.generation if lane.owner_id is not None and lane.expires_ms > now else lane.generation + 1
    return any(work.is_due(now) and not is_held(work, now, ruling) for work in book.open_works())


def due_read(ledger: Ledger, came: Came, now: int) -> None:
    delayed = [
        work.batch.available_at_ms
        for book in ledger.books.values()
        for work in book.open_works()
        if work.state is BatchState.PENDING and not work.is_due(now)
        # Whose time is that of its coming was not delayed; a clock behind the one it came by calls it ready later.
        if work.batch.available_at_ms > work.batch.enqueued_at_ms
    ]
    if came.result != min(delayed, default=None):
        raise Violation(Law.HINT, f"work comes due at {min(delayed, default=None)}, and the answer is {came.result}")


def purged(ledger: Ledger, came: Came, before: int, limit: int) -> None:
    for book in ledger.books.values():
        for work in book.works.values():
            if not work.state.is_open and work.ended_ms < before and not work.forgotten:
                work.forgotten = True
                ledger.count("forgotten")


def purged_keys(ledger: Ledger, came: Came, before: int, limit: int) -> None:
    if came.result:
        raise Violation(Law.ONE_KEY, f"{came.result} keys were forgotten, and none was a month old")


def is_held(work: Work, now: int, ruling: int | None) -> bool:
    hold = work.hold
    if hold is None or hold.until_ms <= now:
        return False
    return ruling is None or hold.generation is None or hold.generation == ruling


def loaded(ledger: Ledger, came: Came, session_id: str, newest: int) -> None:
    """One consistent read: head, messages and open work belong to one moment, and that is now."""
    book = ledger.books[session_id]
    if came.error is not None:
        raise Violation(Law.READS, f"{session_id} cannot be read: {came.error!r}")
    state: SessionState = came.result
    head = (state.record.revision, state.record.turn_index, state.record.tools)
    if head != (book.revision, book.turn_index, book.tools):
        raise Violation(Law.READS, f"{session_id} is read at {head}, and is at {book.revision}")
    if list(state.messages) != book.messages[max(0, len(book.messages) - newest) :]:
        raise Violation(Law.READS, f"the transcript of {session_id} is read as {_ids(state.messages)}")
    shown = [(batch.batch_id, batch.state) for batch in state.open_batches]
    if shown != [(work.batch_id, work.state) for work in book.open_works()]:
        raise Violation(Law.READS, f"the queue of {session_id} is read as {shown}")
    seen = ledger.jobs.seen_by(session_id)
    if [shown_of(summary) for summary in state.processes] != seen:
        raise Violation(Law.READS, f"{session_id} sees {seen}, and is read as seeing {state.processes}")
    laws_of_tasks.are_these(ledger, session_id, state.tasks, live=True)
    asked = [question.request for question in book.questions.values() if question.answer is None]
    if list(state.requests) != asked:
        raise Violation(Law.ASKED, f"the requests of {session_id} are {asked}, and are read as {state.requests}")


def paged(ledger: Ledger, came: Came, session_id: str, *, before: str | None, limit: int) -> None:
    book = ledger.books[session_id]
    page: MessagePage = came.result
    if before is None and list(page.messages) != book.messages[max(0, len(book.messages) - limit) :]:
        raise Violation(Law.READS, f"the transcript of {session_id} is read as {_ids(page.messages)}")


def _ids(messages: Sequence[Message]) -> list[str]:
    return [message.message_id for message in messages]
