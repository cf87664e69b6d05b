"""What may be registered, and what makes two registrations the same."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from sightline.errors import InvalidInput, ProcessConflict
from sightline.process.model import (
    ConstSelector,
    EventSemantics,
    EventType,
    ExternalRef,
    PayloadSelector,
    ProcessScope,
    Provenance,
    Registration,
    TerminalRule,
    WakeRule,
)
from sightline.process.rules import (
    CORE_TYPES,
    MAX_EVENT_TYPES,
    MAX_REGISTRATION,
    as_stored,
    check_same,
    checked,
    checked_ref,
    definition_of,
    new_record,
)

PLAIN = Registration(
    process_id="p",
    kind="function",
    input={"name": "count", "args": {"a": 1, "b": [None, 1.0]}},
    disposition="rerunnable",
    provenance=Provenance(owner_scope=ProcessScope("s")),
)
WAKES = EventType(name="e", semantics=EventSemantics(wake=WakeRule(input=PayloadSelector())))


def test_the_core_types_are_added_behind_the_declared_ones() -> None:
    note = EventType(name="note")
    assert checked(structs.replace(PLAIN, event_types=(note,))).event_types == (note, *CORE_TYPES)
    assert [core.name for core in CORE_TYPES] == [
        "process.cancel_requested",
        "process.completed",
        "process.failed",
        "process.cancelled",
        "process.signal",
    ]


def test_a_core_type_that_is_declared_stays_as_declared() -> None:
    [completed] = [core for core in CORE_TYPES if core.name == "process.completed"]
    mine = structs.replace(completed, schema={"required": ["await_output", "more"]})
    assert [known for known in checked(structs.replace(PLAIN, event_types=(mine,))).event_types if known == mine]


def test_what_is_checked_is_checked_already() -> None:
    assert checked(checked(PLAIN)) == checked(PLAIN)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"process_id": ""}, "process_id"),
        ({"process_id": " \n"}, "process_id"),
        ({"process_id": "p" * 257}, "process_id"),
        ({"kind": " "}, "kind"),
        ({"disposition": "externally_owned"}, "disposition"),
        ({"kind": "external"}, "disposition"),
        ({"provenance": Provenance(host_profile_id=" ")}, "host_profile_id"),
        ({"provenance": Provenance(owner_scope=ProcessScope(" ", "f"))}, "session_id"),
        ({"wake_target": ProcessScope("")}, "wake"),
        ({"event_types": (EventType(name=""),)}, "event_types/0/name"),
        ({"event_types": (EventType(name="e"), EventType(name="e"))}, "event_types/1/name"),
        ({"event_types": (EventType(name="process.abandoned"),)}, "event_types/0/name"),
        ({"event_types": (EventType(name="e", schema={"type": "text"}),)}, "event_types/0/schema/type"),
        ({"event_types": (EventType(name="process.completed"),)}, "event_types"),
        (
            {
                "event_types": (
                    EventType(
                        name="process.cancel_requested",
                        semantics=EventSemantics(
                            terminal=TerminalRule(state="cancelled", output=ConstSelector("at once"))
                        ),
                    ),
                )
            },
            "event_types",
        ),
        ({"event_types": tuple(EventType(name=f"e{n}") for n in range(MAX_EVENT_TYPES + 1))}, "event_types"),
        ({"event_types": (WAKES,), "provenance": Provenance()}, "wake"),
        ({"input": {"bytes": object()}}, "input"),
        ({"input": {"text": "\ud800"}}, "input"),
        ({"input": {"text": "x" * MAX_REGISTRATION}}, "input"),
    ],
)
def test_what_no_registry_should_hold_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        checked(structs.replace(PLAIN, **changes))
    assert refusal.value.field == field


def test_a_process_that_wakes_needs_somebody_to_wake() -> None:
    checked(structs.replace(PLAIN, event_types=(WAKES,)))
    checked(structs.replace(PLAIN, event_types=(WAKES,), provenance=Provenance(), wake_target=ProcessScope("s")))


def same(other: Registration) -> bool:
    try:
        check_same(new_record(checked(PLAIN), 1), new_record(checked(other), 2))
    except ProcessConflict:
        return False
    return True


def test_two_registrations_are_the_same_when_their_author_chose_the_same() -> None:
    reordered = {"args": {"b": [None, 1.0], "a": 1}, "name": "count"}
    assert same(structs.replace(PLAIN, input=reordered))
    assert same(checked(PLAIN))
    assert same(structs.replace(PLAIN, provenance=structs.replace(PLAIN.provenance, caused_by={"turn_id": "t"})))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "command"},
        {"input": {"name": "count", "args": {"a": 1.0, "b": [None, 1.0]}}},
        {"input": {"name": "count", "args": {"a": True, "b": [None, 1.0]}}},
        {"disposition": "owner_bound"},
        {"event_types": (EventType(name="note"),)},
        {"wake_target": ProcessScope("s")},
        {"provenance": Provenance(owner_scope=ProcessScope("s", "f"))},
        {"provenance": Provenance(owner_scope=ProcessScope("s"), host_profile_id="big machine")},
    ],
)
def test_a_change_of_anything_its_author_chose_is_another_registration(changes: dict[str, Any]) -> None:
    assert not same(structs.replace(PLAIN, **changes))


def test_the_hash_of_a_registration_is_the_same_in_every_release() -> None:
    assert (
        new_record(checked(PLAIN), 1).registration_hash
        == "1:381f78e0b18194df9be7f5a56793fb8e6fe87fcf7fc0f44f810b23f6aaee0b77"
    )


def test_a_handle_tells_what_kind_of_process_it_is_and_its_name() -> None:
    assert definition_of("function", {"name": "count"}) == {"kind": "function", "name": "count"}
    assert definition_of("command", {"argv": ["ls"]}) == {"kind": "command"}
    assert definition_of("function", {"name": 7}) == {"kind": "function"}


def test_what_is_kept_is_what_json_makes_of_it() -> None:
    given: dict[str, Any] = {"a": (1, 2)}
    kept = as_stored("f", given)
    assert kept == {"a": [1, 2]}
    for value in (object(), "\ud800", "x" * 100_000):
        with pytest.raises(InvalidInput) as refusal:
            as_stored("f", value)
        assert refusal.value.field == "f"


def test_a_reference_names_a_place_and_a_thing() -> None:
    ref = ExternalRef(backend="farm", id="job", metadata={"a": 1})
    assert checked_ref(ref) == ref
    for changes, field in (
        ({"backend": " "}, "backend"),
        ({"id": ""}, "id"),
        ({"metadata": {"a": object()}}, "metadata"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            checked_ref(structs.replace(ref, **changes))
        assert refusal.value.field == f"external_ref/{field}"
