"""What happened to background tasks, as somebody who saw every effect would have written it down: a part of the ledger.

A `Chore` is a task as its changes must have left it. Nothing in here decides anything: `laws_of_tasks` holds every new
effect against it and then writes the effect down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, UnsetType

from sightline.tasks.model import ENDS, TaskName, TaskRecord

__all__ = ["Chore", "Chores", "shown_of"]


@dataclass(slots=True)
class Chore:
    """One registration. `said`: the last of its progress; `reason`: why its end was first wanted; `came_to`: what it is
    said to have come to, or why it failed.
    """

    generation: int
    session_id: str
    task_id: str
    key: str | UnsetType
    state: str = "running"
    said: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    came_to: str | UnsetType = UNSET

    @property
    def name(self) -> TaskName:
        return TaskName(self.session_id, self.task_id)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDS

    @property
    def shown(self) -> tuple[Any, ...]:
        """What readers see of it that changes."""
        return self.session_id, self.task_id, self.state, self.said, self.reason, self.came_to


@dataclass(slots=True)
class Chores:
    """All that are listed, by generation. `generations`: all that ever were."""

    by_generation: dict[int, Chore] = field(default_factory=dict)
    generations: list[int] = field(default_factory=list)

    def find(self, task: TaskName | int) -> Chore | None:
        if isinstance(task, int):
            return self.by_generation.get(task)
        return next((chore for chore in self.by_generation.values() if chore.name == task), None)

    def of(self, session_id: str) -> Iterator[Chore]:
        return (chore for chore in self.by_generation.values() if chore.session_id == session_id)

    def live(self, session_id: str) -> list[tuple[Any, ...]]:
        """What a session sees of those that have not ended."""
        return sorted((chore.shown for chore in self.of(session_id) if not chore.has_ended), key=str)

    def drop(self, generation: int) -> None:
        del self.by_generation[generation]


def shown_of(record: TaskRecord) -> tuple[Any, ...]:
    """What readers see of a task that changes: see `Chore.shown`."""
    came_to = record.result if record.result is not UNSET else record.failure
    summary = UNSET if came_to is UNSET else came_to.summary
    return record.session_id, record.task_id, record.state, record.progress, record.cancel_reason, summary
