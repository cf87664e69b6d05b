"""The laws about what outlives an attempt: the turn's journal, and what it asks of people.

As in `laws_of_work`, each function is told of one effect that has just taken place, says whether that could be so, and
writes it down. `performed` and `heard` are told by the agent: what it is about to do to the world, and what it got for
an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sightline.errors import AlreadyAnswered, LeaseLost, RequestNotFound
from sightline.session.model import Request, SessionLease
from sightline.turn.requests import Asked
from tests.sim.ledger import Book, Came, Law, Ledger, Question, Violation

__all__ = [
    "answered",
    "answers_read",
    "ended",
    "heard",
    "opened",
    "performed",
    "purged_requests",
    "recalled",
    "remembered",
]


def remembered(
    ledger: Ledger,
    came: Came,
    session_id: str,
    turn_id: str,
    key: str,
    value: str,
    *,
    lease: SessionLease,
    replace: bool,
) -> None:
    book = ledger.books[session_id]
    if _is_stale(book, came, lease, f"a note of {turn_id}"):
        ledger.count("stale note")
        return
    journal = book.journals.setdefault(turn_id, {})
    kept = value if replace else journal.get(key, value)
    if came.error is not None or came.result != kept:
        raise Violation(Law.RECORDED, f"{turn_id} writes {value} under {key}, has {kept}, gets {came}")
    ledger.count("noted again" if key in journal else "noted")
    journal[key] = kept


def recalled(ledger: Ledger, came: Came, session_id: str, turn_id: str) -> None:
    journal = ledger.books[session_id].journals.get(turn_id, {})
    if came.error is not None or came.result != journal:
        raise Violation(Law.RECORDED, f"{turn_id} has written {journal}, and reads {came.result}")
    ledger.count("recalled" if journal else "nothing to recall")


def opened(ledger: Ledger, came: Came, session_id: str, request: Request, key: str, *, lease: SessionLease) -> None:
    book = ledger.books[session_id]
    if _is_stale(book, came, lease, f"a request of {request.turn_id}"):
        ledger.count("stale request")
        return
    question = _question(book, request.turn_id, key)
    expected = Asked(request) if question is None else Asked(question.request, question.answer)
    if came.error is not None or came.result != expected:
        raise Violation(Law.ASKED, f"{request.turn_id} asks under {key}, which is {expected}, and gets {came}")
    ledger.count("asked anew" if question is None else "asked once more")
    if question is None:
        book.questions[request.request_id] = Question(request, key)
    if expected.answer is None:
        for work in book.open_works():
            if work.turn_id == request.turn_id:
                work.attempts = 0


def answered(ledger: Ledger, came: Came, session_id: str, request_id: str, answer: str) -> None:
    question = ledger.books[session_id].questions.get(request_id)
    if question is None:
        if not isinstance(came.error, RequestNotFound):
            raise Violation(Law.ASKED, f"{request_id} is not asked, and is answered: {came}")
        ledger.count("answer to nothing")
        return
    if question.answer is not None:
        if not isinstance(came.error, AlreadyAnswered):
            raise Violation(Law.ASKED, f"{request_id} is answered twice: {came}")
        ledger.count("answer too late")
        return
    if came.error is not None:
        raise Violation(Law.ASKED, f"{request_id} is open, and cannot be answered: {came.error!r}")
    question.answer = answer
    ledger.count("answered")


def answers_read(ledger: Ledger, came: Came, request_ids: Sequence[str]) -> None:
    known = {
        request_id: question.answer
        for book in ledger.books.values()
        for request_id, question in book.questions.items()
        if request_id in request_ids and question.answer is not None
    }
    if came.error is not None or came.result != known:
        raise Violation(Law.ASKED, f"the answers are {known}, and are read as {came.result}")
    ledger.count("looked for answers")


def purged_requests(ledger: Ledger, came: Came, before: int, limit: int) -> None:
    old = [
        (question.ended_ms, request_id, book)
        for book in ledger.books.values()
        for request_id, question in book.questions.items()
        if question.ended_ms is not None and question.ended_ms < before
    ]
    old.sort(key=lambda entry: entry[:2])
    for _, request_id, book in old[:limit]:
        del book.questions[request_id]
    if came.result != len(old[:limit]):
        raise Violation(Law.ASKED, f"{came.result} answers were forgotten, and {len(old)} are old enough")


def ended(ledger: Ledger, book: Book, turn_id: str, now: int) -> None:
    """A turn is committed: its journal is gone, and so is what it still asks."""
    if book.journals.pop(turn_id, None):
        ledger.journaled.add((book.session_id, turn_id))
    for request_id, question in list(book.questions.items()):
        if question.request.turn_id == turn_id:
            question.ended_ms = now
            if question.answer is None:
                del book.questions[request_id]
                ledger.count("withdrawn")


def performed(ledger: Ledger, life: str, session_id: str, turn_id: str, key: str) -> None:
    """An agent is about to do something. Who was superseded may not know yet; who rules the session has to."""
    book = ledger.books.get(session_id)
    if book is None or ledger.owners.get(str(book.lane.owner_id)) != life:
        return
    ledger.count("done")
    if key in book.journals.get(turn_id, {}):
        raise Violation(Law.RECORDED, f"{life} does {key} of {turn_id}, which was done and written down")


def heard(ledger: Ledger, life: str, session_id: str, turn_id: str, key: str, answer: str) -> None:
    """An agent has got an answer."""
    book = ledger.books.get(session_id)
    question = None if book is None else _question(book, turn_id, key)
    if question is not None and question.answer != answer:
        raise Violation(Law.ASKED, f"{life} hears {answer} to {key} of {turn_id}, and {question.answer} was said")
    ledger.count("heard")


def _question(book: Book, turn_id: str, key: str) -> Question | None:
    same: Callable[[Question], bool] = lambda question: (question.request.turn_id, question.key) == (turn_id, key)  # noqa: E731
    return next(filter(same, book.questions.values()), None)


def _is_stale(book: Book, came: Came, lease: SessionLease, what: str) -> bool:
    """Whether the lease does not rule; then nothing may be written."""
    if book.lane.rules(lease):
        return False
    if not isinstance(came.error, LeaseLost):
        raise Violation(Law.ONE_WRITER, f"{what} is written under the old generation {lease.generation}")
    return True
