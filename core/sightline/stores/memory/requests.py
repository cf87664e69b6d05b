"""What turns ask of people."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from sightline.errors import AlreadyAnswered, LeaseLost, RequestNotFound
from sightline.session.leasing import is_lost
from sightline.session.model import Request, SessionLease
from sightline.stores.memory.state import Question, Session, State
from sightline.turn.requests import Asked
from sightline.turn.rules import check_answer

__all__ = ["answer_request", "answers_to", "end_requests", "open_request", "purge_requests"]


def open_request(state: State, session_id: str, request: Request, key: str, lease: SessionLease) -> Asked:
    session = state.sessions.get(session_id)
    if session is None or is_lost(session.lane, lease):
        raise LeaseLost(session_id, lease.generation)
    same = (
        question
        for question in session.questions.values()
        if (question.request.turn_id, question.key) == (request.turn_id, key)
    )
    question = next(same, None)
    if question is None:
        question = session.questions[request.request_id] = Question(request, key)
    if question.answer is None:
        for row in session.open_rows():
            if row.batch.turn_id == request.turn_id:
                row.batch = structs.replace(row.batch, attempts=0)
    return Asked(question.request, question.answer)


def answer_request(state: State, session_id: str, request_id: str, answer: str) -> Asked:
    question = state.session(session_id).questions.get(request_id)
    if question is None:
        raise RequestNotFound(session_id, request_id)
    if question.answer is not None:
        raise AlreadyAnswered(session_id, request_id, question.answer)
    check_answer(question.request, answer)
    question.answer = answer
    return Asked(question.request, answer)


def answers_to(state: State, request_ids: Sequence[str]) -> dict[str, str]:
    wanted = set(request_ids)
    return {
        request_id: question.answer
        for session in state.sessions.values()
        for request_id, question in session.questions.items()
        if request_id in wanted and question.answer is not None
    }


def end_requests(session: Session, turn_id: str, now: int) -> None:
    """The turn is committed: what it still asks is withdrawn, what was answered is kept for a while."""
    for request_id, question in list(session.questions.items()):
        if question.request.turn_id == turn_id:
            question.ended_at_ms = now
            if question.answer is None:
                del session.questions[request_id]


def purge_requests(state: State, before: int, limit: int) -> int:
    old = [
        (question.ended_at_ms, request_id, session)
        for session in state.sessions.values()
        for request_id, question in session.questions.items()
        if question.ended_at_ms is not None and question.ended_at_ms < before
    ]
    old.sort(key=lambda entry: entry[:2])
    for _, request_id, session in old[:limit]:
        del session.questions[request_id]
    return len(old[:limit])
