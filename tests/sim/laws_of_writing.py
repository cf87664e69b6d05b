"""The laws about writing to a session: who may, what a commit leaves behind, and what is read of it.

As in `laws_of_work`, each function is told of one effect that has just taken place, says whether that could be so, and
writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from sightline.errors import ClaimExpired, HeadConflict, LeaseLost, TurnCommitConflict
from sightline.queue.model import (
    BatchState,
    CommandPayload,
    RefreshToolSurface,
    ResetSession,
    SessionCommand,
    TextItem,
    TurnInputPayload,
    WakePayload,
)
from sightline.session.model import LaneBusy, SessionLease
from sightline.turn.commit import CommitResult, TurnCommit
from sightline.turn.rules import gave_up
from tests.sim import laws_of_processes, laws_of_requests, laws_of_tasks
from tests.sim.ledger import Book, Came, Law, Ledger, Stamp, Violation, Work

__all__ = [
    "acquired",
    "committed",
    "deleted",
    "released",
    "renewed_lease",
    "timed_out",
]

_ENDS = {"completed": BatchState.COMPLETED, "cancelled": BatchState.CANCELLED, "failed": BatchState.FAILED}

Answers = Callable[[Sequence[str]], str]
"""What the agent says in all to these texts, when nothing disturbs it."""


def committed(ledger: Ledger, came: Came, commit: TurnCommit, *, answers: Answers, timeout: float) -> None:
    """`timeout`: how long a turn may take, 0 for any time."""
    book = ledger.books[commit.session_id]
    ledger.settles(came.life, commit.session_id, *(completion.claim_id for completion in commit.completions))
    stamp = book.stamps.get(commit.turn_id)
    if stamp is not None:
        _repeated(ledger, came, commit, stamp)
        return
    works = _proved(book, commit)
    if came.error is not None:
        _refused(ledger, came, book, commit, works)
        return
    lane = book.lane
    if commit.lease is not None and not lane.rules(commit.lease):
        raise Violation(
            Law.ONE_WRITER,
            f"{commit.turn_id} is committed under generation {commit.lease.generation}, and {lane.generation} rules",
        )
    if works is None:
        raise Violation(Law.ONE_WRITER, f"{commit.turn_id} is committed by a claim that does not hold any more")
    if commit.expected_revision != book.revision:
        raise Violation(
            Law.ONE_WRITER, f"{commit.turn_id} is committed on {commit.expected_revision}, not {book.revision}"
        )
    _content(book, commit, works, answers)
    if timed_out(commit):
        _took_long(came.at, commit, works, timeout)
        ledger.count("timed out")
    _counted(came.result, commit, book)
    for work in works:
        if work.cancel_asked and commit.outcome.status != "cancelled" and _knew(work):
            raise Violation(Law.OWNS, f"{commit.turn_id} was to be cancelled before it began, and {commit.outcome}")
        work.attempts = max(1, work.attempts) - (0 if commit.charge else 1)
        work.end(_ENDS[commit.outcome.status], commit.now)
    for left in book.open_works():
        if left.turn_id == commit.turn_id:
            left.forget_turn()
            ledger.count("taken unknowingly")
    laws_of_requests.ended(ledger, book, commit.turn_id, commit.now)
    if commit.reset:
        book.messages.clear()
    book.messages += commit.messages
    book.history += commit.messages
    book.revision, book.turn_index = came.result.revision, came.result.turn_index
    book.tools = book.tools if commit.tools is None else commit.tools
    book.stamps[commit.turn_id] = Stamp(commit, came.result)
    book.free_at = came.at
    if commit.lease is not None:
        lane.release()
    ledger.count("gave up" if gave_up(commit.outcome) else f"turn {commit.outcome.status}")


def _repeated(ledger: Ledger, came: Came, commit: TurnCommit, stamp: Stamp) -> None:
    if _substance(commit) == _substance(stamp.commit):
        if came.error is not None:
            raise Violation(Law.ONE_EFFECT, f"{commit.turn_id} is committed, and its retry gets {came.error!r}")
        if came.result != stamp.result:
            raise Violation(Law.ONE_EFFECT, f"{commit.turn_id} got {stamp.result} and now {came.result}")
        ledger.count("commit repeated")
    else:
        if not isinstance(came.error, TurnCommitConflict):
            raise Violation(Law.ONE_EFFECT, f"{commit.turn_id} is committed twice, by two owners or with two contents")
        ledger.count("commit in conflict")


def _substance(commit: TurnCommit) -> list[Any]:
    return [
        commit.outcome,
        [(message.role, message.content, message.parts) for message in commit.messages],
        commit.usage,
        [completion.batch_ids for completion in commit.completions],
        (commit.advances, commit.reset, commit.tools),
        None if commit.lease is None else commit.lease.generation,
    ]


def _proved(book: Book, commit: TurnCommit) -> list[Work] | None:
    """What the commit completes, none unless it holds all of it."""
    works: list[Work] = []
    for completion in commit.completions:
        held = book.held(completion.claim_id, completion.lease_token)
        if not held or [work.batch_id for work in held] != list(completion.batch_ids):
            return None
        works += held
    return works


def _refused(ledger: Ledger, came: Came, book: Book, commit: TurnCommit, works: list[Work] | None) -> None:
    """A refusal needs its reason."""
    match came.error:
        case HeadConflict():
            fair = commit.expected_revision != book.revision
        case LeaseLost():
            fair = commit.lease is not None and not book.lane.rules(commit.lease)
        case ClaimExpired():
            fair = works is None
        case _:
            fair = False
    if not fair:
        raise Violation(Law.EXPECTED, f"the commit of {commit.turn_id} is refused: {came.error!r}")
    ledger.count(f"refused: {type(came.error).__name__}")


def _knew(work: Work) -> bool:
    return work.hold is not None and work.hold.claim.cancel_requested is not None


def _content(book: Book, commit: TurnCommit, works: list[Work], answers: Answers) -> None:
    """The transcript gets what was posted, once and in order, and what the agent said to it."""
    command = _command_of(works)
    if command is not None:
        if commit.messages or commit.reset is not (isinstance(command, ResetSession) and _ended_well(commit)):
            raise Violation(Law.ONE_EFFECT, f"{command} leaves {commit}")
        if isinstance(command, RefreshToolSurface):
            _refreshed(book, commit, command)
        return
    texts = [text for work in works for text in texts_of(work)]
    users = [message.content for message in commit.messages if message.role != "assistant"]
    if users != texts:
        raise Violation(Law.ONE_EFFECT, f"{texts} were posted, and {users} are in the transcript")
    said = "".join(message.content for message in commit.messages if message.role == "assistant")
    expected = answers(texts)
    if not expected.startswith(said) or (commit.outcome.status == "completed" and said != expected):
        raise Violation(Law.ONE_EFFECT, f"{commit.turn_id} ({commit.outcome.status}) says {said!r}, not {expected!r}")


def timed_out(commit: TurnCommit) -> bool:
    return not isinstance(commit.outcome.error, UnsetType) and commit.outcome.error.code == "turn_timeout"


def _took_long(at: float, commit: TurnCommit, works: list[Work], timeout: float) -> None:
    """By any worker's clock, of which the fastest runs by a tenth too fast."""
    since = min(work.hold.taken_at for work in works if work.hold is not None)
    if not timeout or (at - since) * 1.1 + 0.001 < timeout:
        raise Violation(Law.EXPECTED, f"{commit.turn_id} was stopped after {at - since:.3f} s, and may take {timeout}")


def _refreshed(book: Book, commit: TurnCommit, command: RefreshToolSurface) -> None:
    """The tools are read anew only from the generation that was asked for, and every reading is a generation."""
    now = book.tools.generation
    fits = command.expected_generation in (UNSET, now)
    if commit.tools is not None and commit.tools.generation != now + 1:
        raise Violation(Law.GROWS, f"tools of generation {commit.tools.generation} follow on generation {now}")
    if _ended_well(commit) is not fits and commit.outcome.status != "cancelled" and not gave_up(commit.outcome):
        raise Violation(Law.ONE_EFFECT, f"{command} meets generation {now}, and is {commit.outcome}")


def _ended_well(commit: TurnCommit) -> bool:
    return commit.outcome.status == "completed"


def _command_of(works: list[Work]) -> SessionCommand | None:
    payloads = [payload for work in works for payload in work.draft.payloads if isinstance(payload, CommandPayload)]
    return payloads[0].command if payloads else None


def texts_of(work: Work) -> list[str]:
    """What the messages of this work say: a user's, and those of processes that asked for the turn."""
    texts: list[str] = []
    for payload in work.draft.payloads:
        if isinstance(payload, WakePayload):
            wake = payload.wake
            texts.append(f"Process {wake.process_id} reported {wake.event_type} (event {wake.sequence}): {wake.input}")
        elif isinstance(payload, TurnInputPayload):
            texts += [part.text for part in payload.input.items if isinstance(part, TextItem)]
    return texts


def _counted(result: CommitResult, commit: TurnCommit, book: Book) -> None:
    step = 1 if commit.advances else 0
    expected = (book.revision + step, 0 if commit.reset else book.turn_index + step)
    if (result.revision, result.turn_index) != expected:
        raise Violation(Law.ONE_EFFECT, f"{commit.turn_id} leads to {result}, not to {expected}")


def deleted(ledger: Ledger, came: Came, session_id: str, now: int) -> None:
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{session_id} could not be deleted: {came.error!r}")
    laws_of_processes.session_ended(ledger, came, session_id)
    laws_of_tasks.session_ended(ledger, session_id)
    del ledger.books[session_id]
    ledger.deleted.add(session_id)
    ledger.count("deleted")


def acquired(
    ledger: Ledger, came: Came, session_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> None:
    lane = ledger.books[session_id].lane
    busy = lane.owner_id not in (None, owner_id) and lane.expires_ms > now
    if came.error is not None or isinstance(came.result, LaneBusy) is not busy:
        raise Violation(Law.ONE_WRITER, f"{owner_id} asks for {session_id}: {came.error or came.result}")
    if busy:
        return
    lease: SessionLease = came.result
    if lease.generation <= lane.generation:
        raise Violation(Law.GROWS, f"generation {lease.generation} of {session_id} after {lane.generation}")
    lane.given(lease, came.at)


def renewed_lease(ledger: Ledger, came: Came, lease: SessionLease, *, now: int, ttl_ms: int) -> None:
    lane = ledger.books[lease.session_id].lane
    if (came.error is None) is not lane.rules(lease):
        raise Violation(
            Law.ONE_WRITER,
            f"renewal of generation {lease.generation} of {lease.session_id}: {came.error or 'granted'}, "
            f"and {lane.generation} rules",
        )
    if came.error is None:
        lane.given(came.result, came.at)
        ledger.count("lease renewed")
    else:
        ledger.count("lease lost")


def released(ledger: Ledger, came: Came, lease: SessionLease) -> None:
    lane = ledger.books[lease.session_id].lane
    if lane.rules(lease):
        lane.release()
