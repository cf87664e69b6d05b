"""Defects of tasks to plant: see `defects`. They are looked for in worlds that have tasks, and only there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from msgspec import structs

from sightline.observation.tasks import TaskNews
from sightline.stores.memory import tasks
from sightline.stores.memory.state import State
from sightline.tasks import rules, telling
from sightline.tasks.model import ChangedTask, RegisteredTask, TaskChange, TaskEvent, TaskRecord, Transferred
from tests.sim import defects_of_processes  # noqa: F401 - to be imported is to be listed
from tests.sim.defects import DEFECTS, defect
from tests.sim.ledger import Law

__all__ = ["ALL_DEFECTS"]


@defect(Law.ENDED, within=1_000, of_tasks=True)
def the_second_of_two_ends_is_heard() -> AbstractContextManager[Any]:
    real = rules.changed

    def changed(record: TaskRecord, change: TaskChange, now: int) -> ChangedTask:
        return real(structs.replace(record, state="running") if record.is_terminal else record, change, now)

    return patch.object(tasks, "changed", changed)


@defect(Law.READS, within=2_000, of_tasks=True)
def a_wish_for_the_end_of_a_task_is_taken_back() -> AbstractContextManager[Any]:
    real = rules.changed

    def changed(record: TaskRecord, change: TaskChange, now: int) -> ChangedTask:
        wanted = record.state == "cancel_requested"
        return real(structs.replace(record, state="waiting") if wanted else record, change, now)

    return patch.object(tasks, "changed", changed)


@defect(Law.GROWS, within=500, of_tasks=True)
def generations_of_tasks_are_used_again() -> AbstractContextManager[Any]:
    real = tasks.register_task

    def register(state: State, *rest: Any) -> RegisteredTask:
        state.generations = 0
        return real(state, *rest)

    return patch.object(tasks, "register_task", register)


@defect(Law.READS, within=2_000, of_tasks=True)
def a_task_that_is_handed_over_stays_where_it_was() -> AbstractContextManager[Any]:
    real = tasks.transfer_tasks

    def transfer(state: State, *rest: Any) -> tuple[Transferred, ...]:
        moved = real(state, *rest)
        for each in moved:
            state.sessions[each.before.session_id].tasks[each.before.task_id] = each.before
        return moved

    return patch.object(tasks, "transfer_tasks", transfer)


@defect(Law.FOLD, within=1_000, of_tasks=True)
def the_end_of_a_task_is_not_told() -> AbstractContextManager[Any]:
    real = TaskNews.tell

    def tell(self: TaskNews, event: TaskEvent) -> None:
        if not event.record.is_terminal:
            real(self, event)

    return patch.object(TaskNews, "tell", tell)


@defect(Law.OWNS, within=500, of_tasks=True)
def a_reader_is_told_of_every_sessions_tasks() -> AbstractContextManager[Any]:
    return patch.object(telling, "passes", lambda event, wanted: True)


ALL_DEFECTS = (*DEFECTS,)
"""Those of `defects`, of `defects_of_processes`, and these."""
