"""Which processes a session sees."""

from __future__ import annotations

import msgspec
import pytest

from sightline.errors import HandleNotVisible
from sightline.process.model import (
    AbandonedOutput,
    CancelledOutput,
    FailureOutput,
    HandleGrant,
    ProcessEvent,
    ProcessScope,
    SuccessOutput,
)
from sightline.process.rules import check_visible, scopes_of, told_as, visible


def test_a_session_is_read_before_its_frame_and_alone_when_it_has_none() -> None:
    assert scopes_of("s", "f") == (ProcessScope("s"), ProcessScope("s", "f"))
    assert scopes_of("s", "") == (ProcessScope("s"),)


def test_scopes_are_told_apart_by_their_parts() -> None:
    assert ProcessScope("s/frame:f") != ProcessScope("s", "f")


def test_of_several_grants_of_one_process_the_first_is_shown_and_all_are_in_order() -> None:
    grants = [
        HandleGrant(process_id="b", status="running", descriptor={"label": "first"}),
        HandleGrant(process_id="b", status="running", descriptor={"label": "second"}),
        HandleGrant(process_id="a", status="completed"),
    ]
    shown = visible(grants)
    assert [(summary.process_id, summary.descriptor) for summary in shown] == [("a", {}), ("b", {"label": "first"})]


def test_a_summary_is_a_handle_of_a_process_in_json() -> None:
    grant = HandleGrant(
        process_id="p", status="running", definition={"name": "countdown"}, kind="function", created_at_ms=7
    )
    [shown] = visible([grant])
    assert msgspec.json.decode(msgspec.json.encode(shown)) == {
        "__handle__": "process",
        "process_id": "p",
        "id": "p",
        "kind": "function",
        "label": "countdown",
        "status": "running",
        "created_at_ms": 7,
        "cancel_requested": False,
        "descriptor": {},
        "definition": {"name": "countdown"},
    }


def test_of_handles_that_are_named_the_first_that_does_not_show_is_told() -> None:
    grants = [HandleGrant(process_id="a", status="running"), HandleGrant(process_id="b", status="completed")]
    check_visible("s", [], [])
    check_visible("s", ["b", "a"], grants)
    with pytest.raises(HandleNotVisible) as refusal:
        check_visible("s", ["a", "y", "x"], grants)
    assert (refusal.value.session_id, refusal.value.process_id) == ("s", "y")


@pytest.mark.parametrize(
    ("event_type", "word"),
    [
        ("page", "progress"),
        ("process.cancel_requested", "cancel_requested"),
        ("process.signal", None),
        ("process.noted", None),
        ("process.wake", None),
    ],
)
def test_of_what_a_process_logs_for_itself_observers_are_not_told(event_type: str, word: str | None) -> None:
    event = ProcessEvent(process_id="p", sequence=1, event_type=event_type, payload=None, occurred_at_ms=0)
    assert told_as(event) == word


@pytest.mark.parametrize(
    ("output", "word"),
    [
        (SuccessOutput(), "completed"),
        (FailureOutput(code="c", message="m"), "failed"),
        (CancelledOutput(message="m"), "cancelled"),
        (
            AbandonedOutput(message="m", owner_id="o", fencing_token=1, expired_at_ms=0, found_by="w"),
            "abandoned",
        ),
    ],
)
def test_an_end_is_told_by_its_name_whatever_its_event_is_called(
    output: SuccessOutput | FailureOutput | CancelledOutput | AbandonedOutput, word: str
) -> None:
    event = ProcessEvent(
        process_id="p", sequence=1, event_type="finished", payload=None, occurred_at_ms=0, output=output
    )
    assert told_as(event) == word
