"""What changes do to tasks, whatever comes in whatever order; and who is told of it."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from sightline.errors import TaskNotVisible
from sightline.tasks.model import (
    ENDS,
    CancelRequest,
    Ending,
    NewTask,
    Progress,
    TaskChange,
    TaskEvent,
    TaskFilter,
    TaskNewsKind,
    TaskRecord,
    TaskState,
    Unfolding,
)
from sightline.tasks.rules import (
    OWNER_LOST,
    changed,
    check_visible,
    lost,
    new_record,
    passes,
    shown_task,
    transferred,
)

CHANGES: tuple[TaskChange, ...] = (
    Unfolding("running"),
    Unfolding("waiting"),
    Progress("half"),
    CancelRequest("enough"),
    Ending(state="completed", summary="done"),
    Ending(state="failed", summary="boom"),
    Ending(state="cancelled", summary="stopped"),
)
STATES: tuple[TaskState, ...] = get_args(TaskState)


def record(state: TaskState = "running", **facts: object) -> TaskRecord:
    new = NewTask(task_id="t", producer="test")
    made = new_record("s", new, flavour="managed", generation=1, incarnation=1, now=10)
    return structs.replace(made, state=state, **facts)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_every_change_in_every_state_changes_nothing_or_is_told(state: TaskState, change: TaskChange) -> None:
    before = record(state)
    after = changed(before, change, 20)
    assert (after.kind is None) == (after.record == before)
    if before.is_terminal:
        assert after.kind is None
    if after.kind is not None:
        assert after.record.updated_at_ms == 20
        assert (after.record.completed_at_ms == 20) == after.record.is_terminal
    if state == "cancel_requested":
        assert after.record.state in ENDS | {"cancel_requested"}


@given(st.lists(st.sampled_from(CHANGES), max_size=12))
def test_a_task_ends_once_and_a_wish_is_never_taken_back(changes: list[TaskChange]) -> None:
    told: list[str] = []
    task = record("pending")
    for change in changes:
        after = changed(task, change, 20)
        task = after.record
        if after.kind is not None:
            told.append(after.kind)
    ends = [kind for kind in told if kind in ENDS]
    assert len(ends) <= 1
    assert told[len(told) - len(ends) :] == ends
    assert told.count("cancel_requested") <= 1
    if "cancel_requested" in told:
        assert not {"waiting", "resumed"} & set(told[told.index("cancel_requested") :])


@pytest.mark.parametrize("state", STATES)
def test_a_managed_task_of_an_earlier_life_has_lost_its_owner_unless_it_had_ended(state: TaskState) -> None:
    task = record(state)
    assert lost(task, 1, 20).kind is None
    assert lost(structs.replace(task, flavour="external"), 2, 20).kind is None
    after = lost(task, 2, 20)
    if task.is_terminal:
        assert after.record == task
    else:
        assert after.record.failure is not UNSET
        assert (after.record.state, after.record.failure.code) == ("failed", OWNER_LOST)


def test_what_was_cancelled_says_why() -> None:
    asked = changed(record(), CancelRequest("enough"), 20).record
    assert changed(asked, Ending(state="cancelled", summary="aborted"), 30).record.cancel_reason == "enough"
    assert changed(record(), Ending(state="cancelled", summary="aborted"), 30).record.cancel_reason == "aborted"
    assert changed(record(), Ending(state="cancelled"), 30).record.cancel_reason is UNSET


def test_readers_are_shown_no_more_than_there_is() -> None:
    assert shown_task(record()) == {
        "task_id": "t",
        "kind": "other",
        "producer": "test",
        "state": "running",
        "created_at_ms": 10,
        "updated_at_ms": 10,
    }


# Filters


def event(kind: TaskNewsKind, state: TaskState = "running", session_id: str = "s") -> TaskEvent:
    return TaskEvent(kind=kind, record=record(state, session_id=session_id))


@pytest.mark.parametrize("kind", get_args(TaskNewsKind))
def test_no_event_passes_by_a_filter_of_another_session_or_kind(kind: TaskNewsKind) -> None:
    assert passes(event(kind), TaskFilter())
    assert passes(event(kind), TaskFilter(session_id="s", kind="other"))
    assert not passes(event(kind, session_id="other"), TaskFilter(session_id="s"))
    assert not passes(event(kind), TaskFilter(kind="monitor"))


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_the_end_of_a_task_is_told_also_to_those_who_want_live_ones_only(end: TaskNewsKind) -> None:
    ended = {"completed": "completed", "failed": "failed", "cancelled": "cancelled"}[end]
    wanted = TaskFilter(include_terminal=False)
    assert passes(event(end, ended), wanted)  # type: ignore[arg-type]
    assert not passes(event("revoked", ended), wanted)  # type: ignore[arg-type]
    assert passes(event("revoked", ended), TaskFilter())  # type: ignore[arg-type]
    assert passes(event("revoked", "running"), wanted)


def test_a_task_that_is_handed_over_is_told_to_each_of_the_two_as_its_own() -> None:
    moved = transferred(record(), "other", 20)
    left, came = TaskEvent(kind="revoked", record=moved.before), TaskEvent(kind="granted", record=moved.after)
    assert [passes(each, TaskFilter(session_id="s")) for each in (left, came)] == [True, False]
    assert [passes(each, TaskFilter(session_id="other")) for each in (left, came)] == [False, True]
    assert moved.after.generation == moved.before.generation


def test_the_first_id_that_is_not_visible_is_named() -> None:
    check_visible("s", [], [])
    check_visible("s", ["a", "b"], ["b", "a", "c"])
    with pytest.raises(TaskNotVisible) as raised:
        check_visible("s", ["a", "x", "y"], ["a"])
    assert raised.value.process_id == "x"
