"""The laws about background tasks: how they are listed, what may still become of them, and whose they are.

As in `laws_of_work`, each function is told of one effect that has just taken place, says whether that could be so, and
writes it down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET

from sightline.errors import SessionDeleted, SessionNotFound, TaskConflict, TaskNotFound
from sightline.tasks.model import (
    CancelRequest,
    ChangedTask,
    Ending,
    NewTask,
    Progress,
    RegisteredTask,
    TaskChange,
    TaskName,
    TaskNewsKind,
    TaskRecord,
    Transferred,
    Unfolding,
)
from tests.sim.chores import Chore, shown_of
from tests.sim.ledger import Came, Law, Ledger, Violation, must_be

__all__ = [
    "acknowledged",
    "are_these",
    "as_known",
    "changed",
    "listed",
    "lost",
    "purged",
    "registered",
    "removed",
    "session_ended",
    "task_read",
    "transferred",
]


def as_known(chore: Chore, record: TaskRecord) -> None:
    shown, known = (record.generation, *shown_of(record)), (chore.generation, *chore.shown)
    if shown != known:
        raise Violation(Law.ENDED if chore.has_ended else Law.READS, f"a task is read as {shown}, and is {known}")


def acknowledged(ledger: Ledger, record: TaskRecord) -> None:
    """Somebody was told that this task is listed."""
    if record.generation not in ledger.chores.generations:
        raise Violation(Law.DURABLE, f"{record.name} is said to be listed, and never was")


def registered(
    ledger: Ledger, came: Came, session_id: str, new: NewTask, *, flavour: str, max_live: int, now: int
) -> None:
    before = ledger.chores.find(TaskName(session_id, new.task_id))
    is_live = before is not None and not before.has_ended
    if before is not None and is_live and before.key != new.attempt.idempotency_key:
        must_be(came, TaskConflict, Law.ONE_KEY, f"{new.task_id} of {session_id} is live, and comes again")
        ledger.count("task in conflict")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{new.task_id} of {session_id} cannot be listed: {came.error!r}")
    result: RegisteredTask = came.result
    if result.created is is_live:
        raise Violation(Law.ONE_KEY, f"{new.task_id} of {session_id} comes again, and created is {result.created}")
    if before is not None and is_live:
        as_known(before, result.record)
        ledger.count("task found again")
        return
    if before is not None:
        ledger.chores.drop(before.generation)
    generation = result.record.generation
    if generation <= max(ledger.chores.generations, default=0):
        raise Violation(Law.GROWS, f"generation {generation} comes after {ledger.chores.generations[-1]}")
    chore = Chore(generation, session_id, new.task_id, new.attempt.idempotency_key)
    ledger.chores.by_generation[generation] = chore
    ledger.chores.generations.append(generation)
    ledger.count("task listed")
    as_known(chore, result.record)


def changed(ledger: Ledger, came: Came, task: TaskName | int, change: TaskChange, *, now: int) -> None:
    chore = ledger.chores.find(task)
    if came.error is not None or (came.result is None) is not (chore is None):
        raise Violation(Law.READS, f"{task}, which is {chore}, is to be changed: {came.error or came.result}")
    if chore is None:
        ledger.count("task not there")
        return
    result: ChangedTask = came.result
    kind = _change(chore, change)
    if result.kind != kind:
        law = Law.ENDED if chore.has_ended else Law.READS
        raise Violation(law, f"{change} of {task} is told as {result.kind}, and is {kind}")
    as_known(chore, result.record)
    ledger.count("task not changed" if kind is None else f"task {kind}")


def _change(chore: Chore, change: TaskChange) -> TaskNewsKind | None:
    """Write it down: what is to be told of it."""
    if chore.has_ended:
        return None
    wanted = chore.state == "cancel_requested"
    match change:
        case Progress(message=message):
            chore.said = message
            return "progress"
        case Ending(state=state, summary=summary):
            chore.state = state
            if state == "cancelled":
                chore.reason = summary if chore.reason is UNSET and summary else chore.reason
            elif summary or state == "failed":
                chore.came_to = summary
            return state
        case CancelRequest(reason=reason) if not wanted:
            chore.state, chore.reason = "cancel_requested", reason
            return "cancel_requested"
        case Unfolding(state=state) if not wanted and chore.state != state:
            chore.state = state
            return "waiting" if state == "waiting" else "resumed"
        case _:
            return None


def transferred(ledger: Ledger, came: Came, source: str, target: str, task_ids: Sequence[str], *, now: int) -> None:
    what = f"{task_ids} of {source} are handed to {target}"
    if target not in ledger.books:
        must_be(came, (SessionNotFound, SessionDeleted), Law.DURABLE, what)
        return
    found = [ledger.chores.find(TaskName(source, task_id)) for task_id in task_ids]
    given = [chore for chore in found if chore is not None and not chore.has_ended and source != target]
    taken = [ledger.chores.find(TaskName(target, chore.task_id)) for chore in given]
    if any(chore is not None and not chore.has_ended for chore in taken):
        must_be(came, TaskConflict, Law.OWNS, what)
        ledger.count("task not handed over")
        return
    if came.error is not None:
        raise Violation(Law.EXPECTED, f"{what}: {came.error!r}")
    moved: tuple[Transferred, ...] = came.result
    if [each.before.generation for each in moved] != [chore.generation for chore in given]:
        raise Violation(Law.READS, f"{what}, of which {given} are live: {moved}")
    for chore, old, each in zip(given, taken, moved, strict=True):
        as_known(chore, each.before)
        if old is not None:
            ledger.chores.drop(old.generation)
        chore.session_id = target
        as_known(chore, each.after)
        ledger.count("task handed over")


def removed(ledger: Ledger, came: Came, task: TaskName) -> None:
    chore = ledger.chores.find(task)
    if came.error is not None or (came.result is None) is not (chore is None):
        raise Violation(Law.READS, f"{task}, which is {chore}, is to be forgotten: {came.error or came.result}")
    if chore is not None:
        as_known(chore, came.result)
        ledger.chores.drop(chore.generation)
        ledger.count("task forgotten")


def lost(ledger: Ledger, came: Came, *, now: int) -> None:
    if came.result:
        raise Violation(Law.ENDED, f"{came.result} are done by others, and are said to have died with a program")


def purged(ledger: Ledger, came: Came, before: int, limit: int) -> None:
    if came.result:
        raise Violation(Law.DURABLE, f"{came.result} tasks were forgotten, and none was a day old")


def session_ended(ledger: Ledger, session_id: str) -> None:
    """Its tasks are gone with it."""
    for chore in list(ledger.chores.of(session_id)):
        ledger.chores.drop(chore.generation)
        ledger.count("task gone with its session")


# Reads


def task_read(ledger: Ledger, came: Came, task: TaskName | int) -> None:
    chore = ledger.chores.find(task)
    if chore is None:
        must_be(came, TaskNotFound, Law.READS, f"{task}")
        return
    if came.error is not None:
        raise Violation(Law.READS, f"{task} cannot be read: {came.error!r}")
    as_known(chore, came.result)


def listed(ledger: Ledger, came: Came, session_id: str, *, live: bool, limit: int) -> None:
    if came.error is not None:
        raise Violation(Law.READS, f"the tasks of {session_id} cannot be read: {came.error!r}")
    are_these(ledger, session_id, came.result, live=live)


def are_these(ledger: Ledger, session_id: str, records: Iterable[TaskRecord], *, live: bool) -> None:
    """What is read as the tasks of a session is all of them, and no other's."""
    known: list[tuple[Any, ...]] = [
        (chore.generation, *chore.shown) for chore in ledger.chores.of(session_id) if not (live and chore.has_ended)
    ]
    shown = [(record.generation, *shown_of(record)) for record in records]
    if sorted(shown, key=str) != sorted(known, key=str):
        raise Violation(Law.READS, f"the tasks of {session_id} are {known}, and are read as {shown}")
