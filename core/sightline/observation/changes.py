"""What a publication has to tell: the events that lead from what observers have to what there is now.

A frame switch is told before the commit it comes with, and brings the new frame's transcript. A commit is told when the
revision advanced, and brings what was appended. Whatever else readers can see and is kept with the session, policy,
metadata and tools, is told as a resident change. Where nothing changed nothing is told: an event is not a sign of life.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from sightline.observation.activities import Outcome
from sightline.observation.events import (
    AgentFrameSwitched,
    Committed,
    Data,
    ProcessChanged,
    QueueChanged,
    RequestChanged,
    ResidentChanged,
    TaskChanged,
)
from sightline.observation.model import Observation, shown_process
from sightline.process.model import HandleSummary
from sightline.queue.model import Batch
from sightline.queue.rules import summary_of
from sightline.session.model import Message, PersistedState, ReadView, Tools, Usage
from sightline.session.rules import revision_of, usage_since
from sightline.tasks.model import TaskNewsKind, TaskRecord
from sightline.tasks.rules import shown_task

__all__ = [
    "Change",
    "changes_between",
    "process_change",
    "queue_change",
    "request_change",
    "task_change",
    "usage_change",
]


class Change(Struct, frozen=True):
    """One event to be: its data, and the revision it leads to (the one before it unless told)."""

    data: Data
    turn_id: str | UnsetType = UNSET
    revision: int | None = None


def queue_change(kind: str, batches: Sequence[Batch]) -> Change:
    """The event that tells of batches that changed their state."""
    return Change(
        QueueChanged(
            kind=kind,
            batch_ids=tuple(batch.batch_id for batch in batches),
            batches=tuple(summary_of(batch) for batch in batches),
        )
    )


def process_change(kind: str, processes: Sequence[HandleSummary]) -> Change:
    """The event that tells of processes that changed. Readers have them as JSON has them."""
    return Change(
        ProcessChanged(
            kind=kind,
            process_ids=tuple(summary.process_id for summary in processes),
            processes=tuple(shown_process(summary) for summary in processes),
        )
    )


def task_change(kind: TaskNewsKind, record: TaskRecord) -> Change:
    """The event that tells what became of a task."""
    return Change(TaskChanged(kind=kind, task_ids=(record.task_id,), tasks=(shown_task(record),)))


def request_change(kind: str, requests: Sequence[dict[str, Any]], turn_id: str) -> Change:
    """The event that tells what became of requests of a turn."""
    return Change(RequestChanged(kind=kind, requests=tuple(requests)), turn_id)


def usage_change(shown: ReadView, used: Usage) -> Change:
    """The event that tells of usage that came from elsewhere, at the revision and the place where the session is."""
    data = Committed(messages=(), usage_delta=used, agent_frame_id=shown.agent_frame_id, turn_index=shown.turn_index)
    return Change(data)


def changes_between(
    view: Observation,
    state: PersistedState,
    tools: Tools,
    *,
    turn_id: str | UnsetType = UNSET,
    outcome: Outcome | UnsetType = UNSET,
) -> tuple[Change, ...]:
    """The events after which `view` shows `state` and `tools`. An outcome is the end of the running turn.

    The revision never falls for observers: where the state's does, because a session got a store in mid-life, what
    happens is told at the revision they have. A transcript that changed is told whatever the revision says, or the view
    would not be what there is.
    """
    shown = view.read_view
    revision = max(view.revision, revision_of(state))
    changes: list[Change] = []
    messages, replaced = _appended(shown.messages, state.messages)
    if state.agent_frame_id and state.agent_frame_id != shown.agent_frame_id:
        changes.append(
            Change(AgentFrameSwitched(frame_id=state.agent_frame_id, messages=state.messages), turn_id, revision)
        )
        messages, replaced = (), False
    used = usage_since(view.usage, state.usage)
    moved = bool(messages) or replaced or state.turn_index != shown.turn_index or state.usage != view.usage
    if revision > view.revision or moved or outcome is not UNSET:
        data = Committed(
            messages=messages,
            usage_delta=used,
            agent_frame_id=state.agent_frame_id or shown.agent_frame_id,
            turn_index=state.turn_index,
            turn_id=turn_id,
            outcome=outcome,
            reset=True if replaced else UNSET,
        )
        changes.append(Change(data, turn_id, revision))
    resident = ResidentChanged(
        policy=state.policy if state.policy != view.policy else UNSET,
        tools=tools if tools != view.tools else UNSET,
        metadata=state.metadata if state.metadata != view.metadata else UNSET,
    )
    if resident != ResidentChanged():
        changes.append(Change(resident, turn_id, revision))
    return tuple(changes)


def _appended(before: tuple[Message, ...], after: tuple[Message, ...]) -> tuple[tuple[Message, ...], bool]:
    """What was added behind `before`, or all of `after` and that it replaces the transcript.

    Either may reach back less far than the other, so they are matched by the newest message of `before`.
    """
    if not before:
        return after, False
    for index in range(len(after) - 1, -1, -1):
        if after[index].message_id == before[-1].message_id:
            return after[index + 1 :], False
    return after, True
