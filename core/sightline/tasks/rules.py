"""Decisions about tasks: what may be registered, and what each change does to a task.

    pending ──┐
              ├─> running <─> waiting ──> completed | failed | cancelled
              └──────┴───────────┴──> cancel_requested ──> the same ends

**An end is an end.** A task that has ended stays as it ended, whatever is said of it later: to cancel what is completed
does nothing, and the second of two ends is not heard.

**A wish is not taken back.** Once its end is wanted, a task may say how far it is and how it ends, but not that it runs
or waits: it would look as if nobody had asked.

**An end belongs to a registration.** The id of a task that has ended may come again, and a task may be handed to
another session while its work goes on. So the work does not say "task x of session s has ended" but names the
generation of its registration, which is found wherever it is, and which never means a later task of the same id.

**Owners die.** The work of a managed task is in the program's memory. In a later life of the store nobody does it any
more, and it has failed as `owner_lost`. What somebody else does is not touched by that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, UnsetType, structs, to_builtins

from sightline.errors import InvalidInput, TaskConflict, TaskNotVisible, TooManyTasks
from sightline.tasks.model import (
    TASK_ID_LENGTH,
    TASK_KINDS,
    CancelRequest,
    ChangedTask,
    Ending,
    Flavour,
    NewTask,
    Progress,
    TaskChange,
    TaskEvent,
    TaskFailure,
    TaskFilter,
    TaskName,
    TaskRecord,
    TaskResult,
    TaskSummary,
    Transferred,
    Unfolding,
)

__all__ = [
    "MONITOR_PREFIX",
    "OWNER_LOST",
    "TEXT_LENGTH",
    "bounded",
    "changed",
    "check_visible",
    "checked",
    "described",
    "error_text",
    "found_again",
    "lost",
    "new_record",
    "passes",
    "shown_task",
    "summary_of",
    "transferred",
]

OWNER_LOST = "owner_lost"
MONITOR_PREFIX = "monitor:"
"""How the ids of monitors' tasks begin."""
TEXT_LENGTH = 2_000
"""Characters of a progress, a reason, a result or a failure that are kept."""
_NAME_LENGTH = 256


def checked(new: NewTask) -> NewTask:
    """Raises InvalidInput for a task that no store should hold."""
    for field, value, longest in (
        ("task_id", new.task_id, TASK_ID_LENGTH),
        ("producer", new.producer, _NAME_LENGTH),
        ("parent_task_id", new.parent_task_id, TASK_ID_LENGTH),
        ("child_session_id", new.child_session_id, _NAME_LENGTH),
        ("attempt.idempotency_key", new.attempt.idempotency_key, _NAME_LENGTH),
    ):
        if value is not UNSET and not value.strip():
            raise InvalidInput(field, "must not be blank")
        if value is not UNSET and len(value) > longest:
            raise InvalidInput(field, f"must have at most {longest} characters")
    if new.kind not in TASK_KINDS:
        raise InvalidInput("kind", f"must be one of {', '.join(TASK_KINDS)}")
    if new.parent_task_id == new.task_id:
        raise InvalidInput("parent_task_id", "must be another task")
    if new.attempt.attempt < 1:
        raise InvalidInput("attempt.attempt", "counts from 1")
    return new


def described(task: TaskName | int) -> str:
    """A task in words, for errors."""
    if isinstance(task, int):
        return f"task of generation {task}"
    return f"task {task.task_id!r} of session {task.session_id!r}"


def error_text(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def bounded(text: str) -> str:
    """The text as far as it is kept."""
    return text if len(text) <= TEXT_LENGTH else text[: TEXT_LENGTH - 1] + "…"


def found_again(session_id: str, new: NewTask, before: TaskRecord | None, live: int, max_live: int) -> bool:
    """Whether the registration is one that was made before: by its idempotency key, and its task is live. Otherwise it
    is to be made, and a task of its id that has ended makes way.

    Raises TaskConflict when another live task has the id, TooManyTasks when `max_live` are live.
    """
    if before is not None and not before.is_terminal:
        key = new.attempt.idempotency_key
        if key is UNSET or key != before.attempt.idempotency_key:
            raise TaskConflict(session_id, new.task_id)
        return True
    if live >= max_live:
        raise TooManyTasks(session_id, max_live)
    return False


def new_record(
    session_id: str, new: NewTask, *, flavour: Flavour, generation: int, incarnation: int, now: int
) -> TaskRecord:
    """The record that a checked task becomes."""
    return TaskRecord(
        task_id=new.task_id,
        session_id=session_id,
        generation=generation,
        incarnation=incarnation,
        flavour=flavour,
        kind=new.kind,
        producer=new.producer,
        state=new.state,
        cancel_policy=new.cancel_policy,
        close_policy=new.close_policy,
        attempt=new.attempt,
        created_at_ms=now,
        updated_at_ms=now,
        parent_task_id=new.parent_task_id,
        child_session_id=new.child_session_id,
    )


def changed(record: TaskRecord, change: TaskChange, now: int) -> ChangedTask:
    """The task after the change. What does not apply any more changes nothing and is not told."""
    if record.is_terminal:
        return ChangedTask(record)
    match change:
        case Unfolding(state=state):
            if record.state in ("cancel_requested", state):
                return ChangedTask(record)
            after = structs.replace(record, state=state, updated_at_ms=now)
            return ChangedTask(after, "waiting" if state == "waiting" else "resumed")
        case Progress(message=message):
            return ChangedTask(structs.replace(record, progress=bounded(message), updated_at_ms=now), "progress")
        case CancelRequest(reason=reason):
            if record.state == "cancel_requested":
                return ChangedTask(record)
            after = structs.replace(record, state="cancel_requested", cancel_reason=bounded(reason), updated_at_ms=now)
            return ChangedTask(after, "cancel_requested")
        case Ending():
            return ChangedTask(_ended(record, change, now), change.state)


def _ended(record: TaskRecord, ending: Ending, now: int) -> TaskRecord:
    summary = bounded(ending.summary)
    result: TaskResult | UnsetType = UNSET
    failure: TaskFailure | UnsetType = UNSET
    if ending.state == "completed" and summary:
        result = TaskResult(summary=summary)
    if ending.state == "failed":
        failure = TaskFailure(code=ending.code, summary=summary)
    reason = record.cancel_reason
    if ending.state == "cancelled" and reason is UNSET and summary:
        reason = summary
    return structs.replace(
        record,
        state=ending.state,
        result=result,
        failure=failure,
        cancel_reason=reason,
        updated_at_ms=now,
        completed_at_ms=now,
    )


def lost(record: TaskRecord, incarnation: int, now: int) -> ChangedTask:
    """The task as it stands in this life of the store."""
    if record.is_terminal or record.flavour != "managed" or record.incarnation == incarnation:
        return ChangedTask(record)
    ending = Ending(state="failed", code=OWNER_LOST, summary="the program that did it has ended")
    return changed(record, ending, now)


def transferred(record: TaskRecord, session_id: str, now: int) -> Transferred:
    """The same registration in another session."""
    return Transferred(record, structs.replace(record, session_id=session_id, updated_at_ms=now))


def check_visible(session_id: str, handle_ids: Iterable[str], visible: Iterable[str]) -> None:
    """Raises TaskNotVisible for the first of the ids that is not among the visible ones."""
    seen = set(visible)
    for handle_id in handle_ids:
        if handle_id not in seen:
            raise TaskNotVisible(session_id, handle_id)


def passes(event: TaskEvent, wanted: TaskFilter) -> bool:
    """Whether a reader with this filter is told of the event."""
    if wanted.session_id is not None and wanted.session_id != event.session_id:
        return False
    if wanted.kind is not None and wanted.kind != event.record.kind:
        return False
    # What is told of a task that has ended is its end, or, later, that it is forgotten.
    return wanted.include_terminal or event.kind != "revoked" or not event.record.is_terminal


def summary_of(record: TaskRecord) -> TaskSummary:
    return TaskSummary(**{name: getattr(record, name) for name in TaskSummary.__struct_fields__})


def shown_task(record: TaskRecord) -> dict[str, Any]:
    """A task as readers have it, who have it from JSON."""
    shown: dict[str, Any] = to_builtins(summary_of(record))
    return shown
