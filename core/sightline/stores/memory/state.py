"""What the store in memory holds, and how its operations find it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET, Struct, field, structs

from sightline.errors import BatchNotFound, SessionDeleted, SessionNotFound
from sightline.queue.claiming import Candidate
from sightline.queue.model import Batch, BatchState
from sightline.queue.rules import End
from sightline.session.leasing import Lane
from sightline.session.model import Message, Request, SessionRecord, Usage
from sightline.stores.memory.processes import Processes
from sightline.tasks.model import TaskName, TaskRecord
from sightline.tasks.monitoring import MonitorRecord
from sightline.turn.commit import CommitResult

__all__ = ["Key", "Question", "Row", "Session", "Stamp", "State"]


class Row(Struct):
    """A batch with what only the store knows of it. `claim_size`: how many rows its claim took; `generation`: of the
    session lease it was claimed under.
    """

    batch: Batch
    fencing: int = 0
    claim_id: str | None = None
    lease_token: str | None = None
    claim_size: int | None = None
    held_until_ms: int | None = None
    generation: int | None = None
    cancel_requested: str | None = None
    ended_at_ms: int | None = None

    def release(self) -> None:
        self.claim_id = self.lease_token = self.claim_size = self.held_until_ms = self.generation = None

    def forget_turn(self) -> None:
        """The turn that had taken it is over and has nothing of it: as if it had not been taken."""
        taken = self.batch.state is BatchState.CLAIMED
        self.release()
        self.batch = structs.replace(
            self.batch,
            state=BatchState.PENDING,
            turn_id=UNSET,
            attempts=max(0, self.batch.attempts - (1 if taken else 0)),
        )

    def end(self, state: BatchState, now: int) -> Batch:
        self.release()
        self.ended_at_ms = now
        self.batch = structs.replace(self.batch, state=state)
        return self.batch

    def candidate(self) -> Candidate:
        return Candidate(self.batch, self.held_until_ms, self.generation)


class Key(Struct):
    """A source key: the work it brought, or (no hash) the wish to cancel what it will bring.

    `end` is there once the batch has been forgotten.
    """

    used_at_ms: int
    content_hash: str | None = None
    batch_id: str | None = None
    end: End | None = None


class Stamp(Struct, frozen=True):
    """The proof that a turn was committed."""

    hash: str
    status: str
    result: CommitResult
    usage: Usage = Usage()


class Question(Struct):
    """A request. `ended_at_ms` is there once its turn was committed."""

    request: Request
    key: str
    answer: str | None = None
    ended_at_ms: int | None = None


class Session(Struct):
    record: SessionRecord
    touched: int
    messages: list[Message] = field(default_factory=list)
    frame_start: int = 0
    """How many messages are those of earlier agent frames."""
    frames: list[tuple[str, str, int]] = field(default_factory=list)
    """Agent frames behind the initial one: id, reason, when they began."""
    rows: dict[str, Row] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    journals: dict[str, dict[str, str]] = field(default_factory=dict)
    """By turn: its journal, once it has one."""
    questions: dict[str, Question] = field(default_factory=dict)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    """In the order in which they came to the session."""
    monitors: dict[str, MonitorRecord] = field(default_factory=dict)
    lane: Lane = Lane()

    def open_requests(self) -> tuple[Request, ...]:
        """In the order in which they came."""
        return tuple(question.request for question in self.questions.values() if question.answer is None)

    def open_rows(self) -> Iterable[Row]:
        """By sequence."""
        return (row for row in self.rows.values() if row.batch.state.is_open)

    def held(self, claim_id: str, lease_token: str) -> list[Row]:
        """The open rows that this claim holds with this token, by sequence."""
        return [row for row in self.open_rows() if row.claim_id == claim_id and row.lease_token == lease_token]


class State:
    """All sessions, the ids that are fenced, the counters, all processes, and where which task is."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.deleted: set[str] = set()
        self.sequence = 0
        self.touches = 0
        self.processes = Processes()
        self.generations = 0
        self.homes: dict[int, TaskName] = {}
        """Of each task that is listed: by its generation, where it is."""

    def session(self, session_id: str) -> Session:
        """Raises SessionNotFound, SessionDeleted."""
        if session_id in self.deleted:
            raise SessionDeleted(session_id)
        session = self.sessions.get(session_id)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    def row(self, session_id: str, batch_id: str) -> Row:
        """Raises BatchNotFound besides."""
        row = self.session(session_id).rows.get(batch_id)
        if row is None:
            raise BatchNotFound(session_id, batch_id)
        return row

    def touch(self) -> int:
        """The next number of the order in which sessions were active."""
        self.touches += 1
        return self.touches
