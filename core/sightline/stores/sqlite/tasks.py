"""The transactions about tasks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import UNSET, structs

from sightline.errors import TaskConflict, TaskNotFound
from sightline.observation.model import SessionState
from sightline.stores.sqlite import granting
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.rows import decode, text
from sightline.stores.sqlite.sessions import require_session
from sightline.stores.sqlite.statements import first, run
from sightline.tasks.model import (
    ChangedTask,
    Flavour,
    NewTask,
    RegisteredTask,
    TaskChange,
    TaskKind,
    TaskName,
    TaskRecord,
    Transferred,
)
from sightline.tasks.monitoring import MonitorRecord, restored
from sightline.tasks.rules import (
    changed,
    checked,
    described,
    found_again,
    lost,
    new_record,
    transferred,
)

__all__ = [
    "change_task",
    "get_task",
    "list_monitors",
    "list_tasks",
    "live_tasks_of_kind",
    "load_session",
    "lose_tasks",
    "monitored_sessions",
    "purge_tasks",
    "put_monitor",
    "register_task",
    "remove_task",
    "transfer_tasks",
]


def register_task(
    db: Connection, session_id: str, new: NewTask, flavour: Flavour, incarnation: int, max_live: int, now: int
) -> RegisteredTask:
    checked(new)
    require_session(db, session_id)
    before = _find(db, TaskName(session_id, new.task_id))
    live = first(db, "count_live_tasks", session_id=session_id)[0]
    if found_again(session_id, new, before, live, max_live):
        assert before is not None
        return RegisteredTask(before, created=False)
    if before is not None:
        run(db, "delete_task", generation=before.generation)
    inserted = run(
        db,
        "insert_task",
        session_id=session_id,
        task_id=new.task_id,
        flavour=flavour,
        kind=new.kind,
        incarnation=incarnation,
    )
    assert inserted.lastrowid is not None
    record = new_record(
        session_id, new, flavour=flavour, generation=inserted.lastrowid, incarnation=incarnation, now=now
    )
    _update(db, record)
    return RegisteredTask(record, created=True)


def change_task(db: Connection, task: TaskName | int, change: TaskChange, now: int) -> ChangedTask | None:
    record = _find(db, task)
    if record is None:
        return None
    result = changed(record, change, now)
    if result.kind is not None:
        _update(db, result.record)
    return result


def get_task(db: Connection, task: TaskName | int) -> TaskRecord:
    if isinstance(task, TaskName):
        require_session(db, task.session_id)
    record = _find(db, task)
    if record is None:
        raise TaskNotFound(described(task))
    return record


def list_tasks(db: Connection, session_id: str, live: bool, limit: int) -> tuple[TaskRecord, ...]:
    require_session(db, session_id)
    rows = run(db, "list_live_tasks" if live else "list_tasks", session_id=session_id, limit=limit).fetchall()
    return _records(reversed(rows))


def live_tasks_of_kind(db: Connection, kind: TaskKind) -> tuple[TaskRecord, ...]:
    return _records(run(db, "live_tasks_of_kind", kind=kind))


def transfer_tasks(
    db: Connection, source: str, target: str, task_ids: Sequence[str], now: int
) -> tuple[Transferred, ...]:
    require_session(db, source)
    require_session(db, target)
    if source == target:
        return ()
    moved, replaced = [], []
    for task_id in dict.fromkeys(task_ids):
        record, before = _find(db, TaskName(source, task_id)), _find(db, TaskName(target, task_id))
        if record is None or record.is_terminal:
            continue
        if before is not None and not before.is_terminal:
            raise TaskConflict(target, task_id)
        if before is not None:
            replaced.append(before)
        moved.append(transferred(record, target, now))
    for old in replaced:
        run(db, "delete_task", generation=old.generation)
    for each in moved:
        run(db, "move_task", generation=each.after.generation, session_id=target, record=text(each.after))
    return tuple(moved)


def remove_task(db: Connection, task: TaskName) -> TaskRecord | None:
    record = _find(db, task)
    if record is not None:
        run(db, "delete_task", generation=record.generation)
    return record


def lose_tasks(db: Connection, incarnation: int, now: int) -> tuple[TaskRecord, ...]:
    former = _records(run(db, "tasks_of_former_lives", incarnation=incarnation).fetchall())
    ended = tuple(lost(record, incarnation, now).record for record in former)
    for record in ended:
        _update(db, record)
    return ended


def purge_tasks(db: Connection, before: int, limit: int) -> int:
    return run(db, "purge_tasks", before=before, limit=limit).rowcount


def put_monitor(db: Connection, record: MonitorRecord) -> None:
    require_session(db, record.session_id)
    run(db, "put_monitor", session_id=record.session_id, monitor_id=record.monitor_id, record=text(record))


def monitored_sessions(db: Connection) -> tuple[str, ...]:
    return tuple(row["session_id"] for row in run(db, "monitored_sessions"))


def list_monitors(db: Connection, session_id: str, incarnation: int) -> tuple[MonitorRecord, ...]:
    rows = run(db, "list_monitors", session_id=session_id)
    return tuple(restored(decode(row["record"], MonitorRecord), incarnation) for row in rows)


def load_session(db: Connection, session_id: str, newest: int) -> SessionState:
    """The session with the live processes that it sees, and its live tasks."""
    session = granting.load_session(db, session_id, newest)
    rows = run(db, "list_live_tasks", session_id=session_id, limit=-1).fetchall()
    return structs.replace(session, tasks=_records(reversed(rows)))


def _find(db: Connection, task: TaskName | int) -> TaskRecord | None:
    if isinstance(task, int):
        row = first(db, "task_by_generation", generation=task)
    else:
        row = first(db, "task_by_name", session_id=task.session_id, task_id=task.task_id)
    return None if row is None else _record(row)


def _records(rows: Iterable[sqlite3.Row]) -> tuple[TaskRecord, ...]:
    return tuple(_record(row) for row in rows)


def _record(row: sqlite3.Row) -> TaskRecord:
    record: TaskRecord = decode(row["record"], TaskRecord)
    return record


def _update(db: Connection, record: TaskRecord) -> None:
    completed = None if record.completed_at_ms is UNSET else record.completed_at_ms
    run(db, "update_task", generation=record.generation, completed=completed, record=text(record))
