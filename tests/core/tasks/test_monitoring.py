"""What monitors are, how they stand after runs and restarts, and which lines ask for a turn."""

from __future__ import annotations

import pytest
from msgspec import structs

from sightline.errors import InvalidInput
from sightline.tasks.monitoring import (
    RING,
    MonitorRecord,
    MonitorSpec,
    MonitorState,
    MonitorWatch,
    armed_by,
    checked_spec,
    ended,
    owned_by,
    restored,
    task_id_of,
)


def record(state: MonitorState = "running", *, armed: bool = True, **spec: object) -> MonitorRecord:
    made = MonitorSpec(**{"id": "m", "command": "true", **spec})  # type: ignore[arg-type]
    return MonitorRecord(session_id="s", spec=made, incarnation=1, state=state, armed=armed)


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("id", {"id": " "}),
        ("id", {"id": "x" * 193}),
        ("command", {"command": " \n"}),
        ("command", {"command": "a\0b"}),
        ("command", {"command": "x" * 16_385}),
        ("timeout_ms", {"timeout_ms": 0}),
        ("timeout_ms", {"timeout_ms": 3_600_001}),
        ("cwd", {"cwd": ""}),
        ("env", {"env": {"": "x"}}),
        ("env", {"env": {"A=B": "x"}}),
        ("env", {"env": {"A": "\0"}}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field: str, spec: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as raised:
        checked_spec(record(**spec).spec)  # type: ignore[arg-type]
    assert raised.value.field == field


def test_a_monitor_has_a_task_of_its_name_and_a_plugins_has_the_plugins_name_before_its_own() -> None:
    assert task_id_of(owned_by("plugin", "m")) == "monitor:plugin:m"
    checked_spec(record(id="x" * 192, timeout_ms=3_600_000).spec)


@pytest.mark.parametrize(
    ("arm_on", "restart", "armed"),
    [("manual", False, False), ("manual", True, True), ("session_start", False, True), ("session_start", True, True)],
)
def test_after_a_restart_nothing_runs_and_what_is_to_run_again_is_armed(
    arm_on: str, restart: bool, armed: bool
) -> None:
    running = record(arm_on=arm_on, restart_on_restore=restart)
    assert restored(running, 1) == running
    after = restored(running, 2)
    assert (after.state, after.armed, after.incarnation) == ("idle", armed, 2)
    disarmed = restored(structs.replace(running, armed=False, state="stopped"), 2)
    assert (disarmed.state, disarmed.armed) == ("stopped", False)


def test_its_own_end_disarms_it_unless_it_begins_with_the_session() -> None:
    assert not ended(record(), "exited", exit_code=0).armed
    assert ended(record(arm_on="session_start"), "failed", exit_code=3).armed
    assert ended(record(), "stopped").armed
    assert armed_by(record(arm_on="session_start").spec)
    assert ended(record(), "failed", detail="boom").detail == "boom"


# Lines


def test_lines_wait_for_a_turn_and_are_taken_together() -> None:
    watch = MonitorWatch()
    for line in ("one", "", "  ", "two"):
        watch.add("stdout", line, 7, wakes=True)
    assert watch.add("stderr", "noise", 8, wakes=True) is not None
    assert watch.wants_turn
    assert [watch.take(), watch.take()] == ["one\ntwo", ""]
    assert [(update.sequence, update.stream, update.text) for update in watch.updates] == [
        (1, "stdout", "one"),
        (2, "stdout", "two"),
        (3, "stderr", "noise"),
    ]


def test_what_only_notifies_asks_for_no_turn() -> None:
    watch = MonitorWatch()
    watch.add("stdout", "one", 7, wakes=False)
    assert not watch.wants_turn
    assert len(watch.updates) == 1


def test_a_flood_is_cut_and_said_to_be() -> None:
    watch = MonitorWatch()
    for number in range(RING + 3):
        watch.add("stdout", f"{number}", 7, wakes=True)
    assert len(watch.updates) == RING
    assert watch.updates[0].sequence == 4
    lines = watch.take().split("\n")
    assert lines[:2] == ["(3 earlier lines are left out)", "3"]
    assert len(lines) == RING + 1
    watch.add("stdout", "x" * 5_000, 7, wakes=True)
    assert watch.take() == "x" * 1_999 + "…"
