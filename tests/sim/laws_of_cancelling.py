"""The laws about the end of work: what nobody has begun is dropped, and what somebody has is asked to end.

As in `laws_of_work`, each function is told of one effect that has just taken place.
"""

from __future__ import annotations

from sightline.errors import BatchNotCancellable, BatchNotFound
from sightline.queue.model import Batch, BatchState, Cancellation
from tests.sim.ledger import Book, Came, KeyEntry, Law, Ledger, Violation, Work

__all__ = ["cancelled", "cancelled_from", "end_asked"]


def cancelled(ledger: Ledger, came: Came, session_id: str, batch_id: str, *, now: int) -> None:
    work = ledger.work(session_id, batch_id)
    if came.error is not None:
        if work is None or (work.forgotten and isinstance(came.error, BatchNotFound)):
            return
        if not isinstance(came.error, BatchNotCancellable) or _may_drop(work):
            raise Violation(Law.OWNS, f"cancel of {batch_id}, which is {work.state}: {came.error!r}")
        ledger.count("cancel came too late")
        return
    if work is None or not _may_drop(work):
        raise Violation(Law.OWNS, f"{batch_id} was dropped, though it is {None if work is None else work.state}")
    work.end(BatchState.CANCELLED, now)
    ledger.count("cancelled")


def cancelled_from(ledger: Ledger, came: Came, session_id: str, batch_id: str, *, now: int) -> None:
    book = ledger.books[session_id]
    first = book.works.get(batch_id)
    if came.error is not None:
        if first is not None and not first.forgotten:
            raise Violation(Law.OWNS, f"cancel from {batch_id}: {came.error!r}")
        return
    if first is None:
        raise Violation(Law.OWNS, f"cancelled from {batch_id}, which nobody has posted")
    later = [work for work in book.open_works() if work.seq >= first.seq]
    dropped = [work for work in later if _may_drop(work)]
    kept = [work.batch_id for work in later if not _may_drop(work)]
    both: tuple[tuple[Batch, ...], tuple[Batch, ...]] = came.result
    if [batch.batch_id for batch in both[0]] != [work.batch_id for work in dropped]:
        raise Violation(Law.OWNS, f"cancel from {batch_id} dropped {both[0]}")
    if [batch.batch_id for batch in both[1]] != kept:
        raise Violation(Law.OWNS, f"cancel from {batch_id} kept {both[1]}, not {kept}")
    for work in dropped:
        work.end(BatchState.CANCELLED, now)
    ledger.count("cancelled from")


def end_asked(
    ledger: Ledger,
    came: Came,
    session_id: str,
    *,
    turn_id: str | None,
    source_key: str | None,
    reason: str,
    now: int,
) -> None:
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"request to cancel in {session_id} failed: {came.error!r}")
    book = ledger.books[session_id]
    answer: Cancellation = came.result
    expected, work = _asked_for(book, turn_id, source_key, now)
    if answer.state != expected:
        raise Violation(Law.OWNS, f"cancel of {turn_id or source_key or 'what runs'}: {answer}, not {expected}")
    ledger.count(f"asked: {answer.state}")
    if work is None:
        return
    if expected == "cancel_requested":
        for member in book.open_works():
            if member.turn_id == work.turn_id:
                member.cancel_asked = True
    elif expected == "cancelled" and work.state is BatchState.PENDING:
        work.end(BatchState.CANCELLED, now)


def _asked_for(book: Book, turn_id: str | None, source_key: str | None, now: int) -> tuple[str, Work | None]:
    """What a request to cancel should answer, and the work that it meets."""
    if source_key is not None:
        entry = book.keys.setdefault(source_key, KeyEntry(None, now))
        if entry.work is None:
            return "will_cancel", None
        return _outcome(entry.work), entry.work
    for work in book.open_works():
        if work.state is BatchState.CLAIMED if turn_id is None else work.turn_id == turn_id:
            return _outcome(work), work
    stamp = None if turn_id is None else book.stamps.get(turn_id)
    if stamp is None:
        return "none", None
    return ("cancelled" if stamp.commit.outcome.status == "cancelled" else "ended"), None


def _outcome(work: Work) -> str:
    if work.state.is_open:
        return "cancelled" if _may_drop(work) else "cancel_requested"
    return "cancelled" if work.state is BatchState.CANCELLED else "ended"


def _may_drop(work: Work) -> bool:
    return work.state is BatchState.PENDING and work.turn_id is None
