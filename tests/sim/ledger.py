"""What happened, as somebody who saw every effect would have written it down.

The ledger is a second, much simpler store: it holds what each effect must have left behind. It learns of effects when
they take place, before any fault keeps the news from their caller, so it knows what a client that got no answer does
not. It decides nothing. `laws_of_work` and `laws_of_writing` hold every new effect against it and then write the effect
down; `audit` holds the store against it at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sightline.queue.model import Batch, BatchState, Claim, Draft
from sightline.session.model import Message, Request, SessionLease, Tools
from sightline.turn.commit import CommitResult, TurnCommit
from tests.sim.chores import Chores
from tests.sim.jobs import Jobs

__all__ = [
    "Book",
    "Calm",
    "Came",
    "Hold",
    "KeyEntry",
    "Lane",
    "Law",
    "Ledger",
    "Question",
    "Stamp",
    "Violation",
    "Work",
    "must_be",
]


class Law(StrEnum):
    """What must hold in every world, whatever goes wrong in it."""

    DURABLE = "accepted is durable"
    ONE_EFFECT = "one effect"
    ONE_WRITER = "one writer"
    LEASE = "liveness comes from the lease"
    HINT = "a poke is a hint"
    OWNS = "the session owns the work"
    ONE_KEY = "one key, one piece of work"
    GROWS = "fences and sequences grow"
    ORDER = "work is taken in its order"
    SETTLED = "every claim is settled"
    CHARGED = "attempts are counted as they were made"
    RECORDED = "what is written down is not done again"
    ASKED = "a question is asked once"
    ENDED = "an end is an end"
    EVIDENCE = "abandoned only with evidence"
    WAKES = "a wake arrives once"
    READS = "what is read is what was written"
    FOLD = "fold"
    ENDS = "everything ends"
    EXPECTED = "nothing unexpected happens"


class Violation(Exception):
    """A law was broken."""

    def __init__(self, law: Law, what: str) -> None:
        super().__init__(law, what)
        self.law = law
        self.what = what

    def __str__(self) -> str:
        return f"{self.law}: {self.what}"


@dataclass(slots=True)
class Hold:
    """A claim that was made, by which life, and under which generation."""

    claim: Claim
    life: str
    generation: int | None
    until_ms: int
    taken_at: float


@dataclass(slots=True)
class Work:
    """A batch. `hold` is there while it is claimed; `cancel_asked` once its turn's end was asked for."""

    batch: Batch
    draft: Draft
    state: BatchState
    enqueued_at: float
    attempts: int = 0
    turn_id: str | None = None
    fencing: int = 0
    hold: Hold | None = None
    cancel_asked: bool = False
    ended_ms: int = 0
    forgotten: bool = False
    """It may have been purged."""

    @property
    def batch_id(self) -> str:
        return self.batch.batch_id

    @property
    def seq(self) -> int:
        return self.batch.enqueue_seq

    def is_due(self, now: int) -> bool:
        """Whether its time has come; once a turn has taken it, it has."""
        return self.turn_id is not None or self.batch.available_at_ms <= now

    def forget_turn(self) -> None:
        """Its turn ended without it."""
        self.attempts = max(0, self.attempts - (1 if self.hold is not None else 0))
        self.state, self.hold, self.turn_id = BatchState.PENDING, None, None

    def end(self, state: BatchState, now: int) -> None:
        self.state = state
        self.hold = None
        self.ended_ms = now


@dataclass(slots=True)
class KeyEntry:
    """`work` none: its cancellation came first."""

    work: Work | None
    used_ms: int


@dataclass(slots=True)
class Question:
    """A request under its key. `ended_ms`: when its turn was committed."""

    request: Request
    key: str
    answer: str | None = None
    ended_ms: int | None = None


@dataclass(slots=True)
class Lane:
    """Who may write. `owner_id` none: nobody has to be waited for. `alive_at`: its last sign of life, in virtual
    seconds.
    """

    generation: int = 0
    owner_id: str | None = None
    token: str | None = None
    expires_ms: int = 0
    alive_at: float = 0.0

    def given(self, lease: SessionLease, at: float) -> None:
        self.generation, self.owner_id = lease.generation, lease.owner_id
        self.token, self.expires_ms, self.alive_at = lease.lease_token, lease.expires_at_ms, at

    def rules(self, lease: SessionLease) -> bool:
        return (self.generation, self.token) == (lease.generation, lease.lease_token)

    def release(self) -> None:
        self.owner_id = self.token = None
        self.expires_ms = 0


@dataclass(slots=True)
class Stamp:
    commit: TurnCommit
    result: CommitResult


@dataclass(slots=True)
class Book:
    """One session. `history` keeps the messages that a reset took out of `messages`. `free_at`: when the last claim was
    settled, in virtual seconds. `in_touch`: the lives that have read the session, and since when nobody else wrote;
    `knows_jobs`, `knows_chores`: the same for the processes that it sees, and for its tasks.
    """

    session_id: str
    works: dict[str, Work] = field(default_factory=dict)
    keys: dict[str, KeyEntry] = field(default_factory=dict)
    lane: Lane = field(default_factory=Lane)
    revision: int = 0
    turn_index: int = 0
    messages: list[Message] = field(default_factory=list)
    history: list[Message] = field(default_factory=list)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    tools: Tools = field(default_factory=Tools)
    journals: dict[str, dict[str, str]] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    claim_ids: set[str] = field(default_factory=set)
    free_at: float = 0.0
    in_touch: set[str] = field(default_factory=set)
    knows_jobs: set[str] = field(default_factory=set)
    knows_chores: set[str] = field(default_factory=set)

    def open_works(self) -> Iterator[Work]:
        """By sequence, as they came."""
        return (work for work in self.works.values() if work.state.is_open)

    def held(self, claim_id: str, token: str) -> list[Work]:
        return [
            work
            for work in self.open_works()
            if work.hold is not None and (work.hold.claim.claim_id, work.hold.claim.lease_token) == (claim_id, token)
        ]


@dataclass(slots=True)
class Came:
    """What came of an effect, when and for whom. `life` names one run of one worker, `handing_back` says that it is
    ending by request.
    """

    life: str
    at: float
    result: Any = None
    error: Exception | None = None
    told: tuple[Any, ...] = ()
    handing_back: bool = False


def must_be(came: Came, error: type[Exception] | tuple[type[Exception], ...], law: Law, what: str) -> None:
    """It has to have been refused, and so."""
    if not isinstance(came.error, error):
        raise Violation(law, f"{what}: {came.error or came.result!r}")


@dataclass(frozen=True, slots=True)
class Calm:
    """What laws about time have to know of the world: since when nothing has gone wrong, which lives were not disturbed
    long enough for their leases, whether there are permits for all processes. `poll`: how long what is ready may wait
    then; `slowest`: the rate of the slowest clock; `slack`: seconds for a few journeys.
    """

    since: float
    undisturbed: Callable[[str], bool]
    has_room: bool
    poll: float
    slowest: float
    slack: float


@dataclass(slots=True)
class Ledger:
    """All sessions; of those that were deleted only the ids are left. `counts`: how often what kind of thing happened,
    so that a run cannot pass by nothing happening.
    """

    books: dict[str, Book] = field(default_factory=dict)
    jobs: Jobs = field(default_factory=Jobs)
    chores: Chores = field(default_factory=Chores)
    deleted: set[str] = field(default_factory=set)
    sequence: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    unsettled: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """By life and session: the claims it was told of and has neither committed nor given back yet."""
    failed_commits: set[str] = field(default_factory=set)
    """Turns of which a commit got no answer from the store."""
    journaled: set[tuple[str, str]] = field(default_factory=set)
    """Turns that were committed and had a journal, by session."""
    owners: dict[str, str] = field(default_factory=dict)
    """Which life each owner of a lane is."""

    def settles(self, life: str, session_id: str, *claim_ids: str) -> None:
        """That life has tried to commit these claims, or to give them back."""
        self.unsettled.get((life, session_id), set()).difference_update(claim_ids)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def work(self, session_id: str, batch_id: str) -> Work | None:
        book = self.books.get(session_id)
        return None if book is None else book.works.get(batch_id)

    @property
    def has_open_work(self) -> bool:
        """Whether there is anything left that has to come to an end."""
        return bool(self.open_work)

    @property
    def open_work(self) -> list[str]:
        works = [work.batch_id for book in self.books.values() for work in book.open_works()]
        return [*works, *self.jobs.open]
