"""Tasks of sessions."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from sightline.errors import TaskConflict, TaskNotFound
from sightline.observation.model import SessionState
from sightline.stores.memory.state import State
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
from sightline.tasks.rules import changed, checked, described, found_again, lost, new_record, transferred

__all__ = [
    "change_task",
    "get_task",
    "list_monitors",
    "list_tasks",
    "live_tasks_of_kind",
    "lose_tasks",
    "purge_tasks",
    "put_monitor",
    "register_task",
    "remove_task",
    "transfer_tasks",
    "with_tasks",
]


def register_task(
    state: State, session_id: str, new: NewTask, flavour: Flavour, incarnation: int, max_live: int, now: int
) -> RegisteredTask:
    checked(new)
    tasks = state.session(session_id).tasks
    live = sum(1 for record in tasks.values() if not record.is_terminal)
    before = tasks.get(new.task_id)
    if found_again(session_id, new, before, live, max_live):
        assert before is not None
        return RegisteredTask(before, created=False)
    _forget(state, TaskName(session_id, new.task_id))
    state.generations += 1
    record = new_record(
        session_id, new, flavour=flavour, generation=state.generations, incarnation=incarnation, now=now
    )
    _put(state, record)
    return RegisteredTask(record, created=True)


def change_task(state: State, task: TaskName | int, change: TaskChange, now: int) -> ChangedTask | None:
    record = _find(state, task)
    if record is None:
        return None
    result = changed(record, change, now)
    _put(state, result.record)
    return result


def get_task(state: State, task: TaskName | int) -> TaskRecord:
    if isinstance(task, TaskName):
        state.session(task.session_id)
    record = _find(state, task)
    if record is None:
        raise TaskNotFound(described(task))
    return record


def list_tasks(state: State, session_id: str, live: bool, limit: int) -> tuple[TaskRecord, ...]:
    tasks = state.session(session_id).tasks.values()
    listed = [record for record in tasks if not (live and record.is_terminal)]
    return tuple(listed[max(0, len(listed) - limit) :])


def live_tasks_of_kind(state: State, kind: TaskKind) -> tuple[TaskRecord, ...]:
    return tuple(record for record in _all(state) if record.kind == kind and not record.is_terminal)


def transfer_tasks(
    state: State, source: str, target: str, task_ids: Sequence[str], now: int
) -> tuple[Transferred, ...]:
    given, taken = state.session(source).tasks, state.session(target).tasks
    if source == target:
        return ()
    moved = []
    for task_id in dict.fromkeys(task_ids):
        record, before = given.get(task_id), taken.get(task_id)
        if record is None or record.is_terminal:
            continue
        if before is not None and not before.is_terminal:
            raise TaskConflict(target, task_id)
        moved.append(transferred(record, target, now))
    for each in moved:
        _forget(state, each.before.name)
        _forget(state, each.after.name)
        _put(state, each.after)
    return tuple(moved)


def remove_task(state: State, task: TaskName) -> TaskRecord | None:
    record = _find(state, task)
    if record is not None:
        _forget(state, task)
    return record


def lose_tasks(state: State, incarnation: int, now: int) -> tuple[TaskRecord, ...]:
    results = [lost(record, incarnation, now) for record in _all(state)]
    ended = tuple(result.record for result in results if result.kind is not None)
    for record in ended:
        _put(state, record)
    return ended


def purge_tasks(state: State, before: int, limit: int) -> int:
    old = [record for record in _all(state) if record.is_terminal and _ended_at(record) < before][:limit]
    for record in old:
        _forget(state, record.name)
    return len(old)


def put_monitor(state: State, record: MonitorRecord) -> None:
    state.session(record.session_id).monitors[record.monitor_id] = record


def list_monitors(state: State, session_id: str, incarnation: int) -> tuple[MonitorRecord, ...]:
    session = state.sessions.get(session_id)
    monitors = {} if session is None else session.monitors
    return tuple(restored(record, incarnation) for _, record in sorted(monitors.items()))


def with_tasks(state: State, session: SessionState) -> SessionState:
    """The session with its live tasks."""
    tasks = state.sessions[session.record.session_id].tasks.values()
    return structs.replace(session, tasks=tuple(record for record in tasks if not record.is_terminal))


def _find(state: State, task: TaskName | int) -> TaskRecord | None:
    name = state.homes.get(task) if isinstance(task, int) else task
    session = None if name is None else state.sessions.get(name.session_id)
    return None if name is None or session is None else session.tasks.get(name.task_id)


def _put(state: State, record: TaskRecord) -> None:
    state.sessions[record.session_id].tasks[record.task_id] = record
    state.homes[record.generation] = record.name


def _forget(state: State, name: TaskName) -> None:
    record = state.sessions[name.session_id].tasks.pop(name.task_id, None)
    if record is not None:
        del state.homes[record.generation]


def _all(state: State) -> list[TaskRecord]:
    """By generation."""
    return [record for generation in sorted(state.homes) if (record := _find(state, generation)) is not None]


def _ended_at(record: TaskRecord) -> int:
    return record.completed_at_ms if isinstance(record.completed_at_ms, int) else record.updated_at_ms
