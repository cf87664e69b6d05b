"""What each kind of process is given, what it logs of its own, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from sightline.errors import InvalidInput
from sightline.process.kinds import COMMAND, EXTERNAL, FUNCTION, SESSION_TURN, checked_input, registration_of
from sightline.process.model import Disposition, EventType, ProcessScope
from sightline.process.rules import checked, new_record

HERE = ProcessScope("s")
GIVEN: dict[str, dict[str, Any]] = {
    FUNCTION: {"name": "work", "args": {}},
    COMMAND: {"argv": ["true"]},
    SESSION_TURN: {"input": "look"},
    EXTERNAL: {"ticket": 7},
    "mine": {"anything": 1},
}


@pytest.mark.parametrize(
    ("kind", "disposition"),
    [
        (FUNCTION, "rerunnable"),
        (COMMAND, "owner_bound"),
        (SESSION_TURN, "rerunnable"),
        (EXTERNAL, "externally_owned"),
        ("mine", "rerunnable"),
    ],
)
def test_each_kind_has_its_disposition_and_can_be_registered(kind: str, disposition: Disposition) -> None:
    registration = registration_of("p", kind, GIVEN[kind], owner=HERE)
    assert registration.disposition == disposition
    assert checked(registration).input == GIVEN[kind]


def test_a_disposition_that_was_said_counts() -> None:
    assert registration_of("p", COMMAND, {"argv": ["true"]}, disposition="rerunnable").disposition == "rerunnable"


def test_a_function_without_arguments_is_the_same_as_one_with_none() -> None:
    hashes = {
        new_record(checked(registration_of("p", FUNCTION, given)), 0).registration_hash
        for given in ({"name": "work"}, {"name": "work", "args": {}})
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        (FUNCTION, {}, "input"),
        (FUNCTION, {"name": ""}, "input/name"),
        (FUNCTION, {"name": "work", "args": []}, "input/args"),
        (FUNCTION, {"name": "work", "arg": {}}, "input/arg"),
        (COMMAND, {}, "input"),
        (COMMAND, {"argv": "ls"}, "input/argv"),
        (COMMAND, {"argv": []}, "input/argv"),
        (COMMAND, {"argv": [""]}, "input/argv/0"),
        (COMMAND, {"argv": ["ls", 1]}, "input/argv/1"),
        (COMMAND, {"argv": ["ls", "a\0b"]}, "input/argv/1"),
        (COMMAND, {"argv": ["ls"], "cwd": ""}, "input/cwd"),
        (COMMAND, {"argv": ["ls"], "cwd": "/\0"}, "input/cwd"),
        (COMMAND, {"argv": ["ls"], "env": {"A": 1}}, "input/env/A"),
        (COMMAND, {"argv": ["ls"], "env": {"A=B": "1"}}, "input/env"),
        (COMMAND, {"argv": ["ls"], "env": {"A": "\0"}}, "input/env/A"),
        (COMMAND, {"argv": ["ls"], "shell": True}, "input/shell"),
        (SESSION_TURN, {"input": ""}, "input/input"),
        (SESSION_TURN, {"input": "look", "session_id": 1}, "input/session_id"),
        (SESSION_TURN, {"input": "look", "policy": "none"}, "input/policy"),
        (SESSION_TURN, {"input": "look", "model": "m"}, "input/model"),
        (EXTERNAL, [], "input"),
    ],
)
def test_an_input_that_is_not_its_kinds_is_refused_by_its_field(kind: str, given: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        checked_input(kind, given)
    assert raised.value.field == field


def test_an_argument_may_be_empty_and_the_program_may_not() -> None:
    assert checked_input(COMMAND, {"argv": ["printf", ""]}) == {"argv": ["printf", ""]}


def test_a_function_that_belongs_to_nobody_can_wake_nobody() -> None:
    names = [known.name for known in registration_of("p", FUNCTION, GIVEN[FUNCTION]).event_types]
    assert "process.wake" not in names
    checked(registration_of("p", FUNCTION, GIVEN[FUNCTION]))
    waking = registration_of("p", FUNCTION, GIVEN[FUNCTION], wake_target=HERE)
    assert "process.wake" in [known.name for known in waking.event_types]


def test_a_declared_type_stands_for_the_kinds_own_and_keeps_its_place() -> None:
    mine = EventType(name="progress", schema={"type": "integer"})
    types = registration_of("p", FUNCTION, GIVEN[FUNCTION], event_types=(mine,)).event_types
    assert types[0] is mine
    assert [known.name for known in types].count("progress") == 1
    assert registration_of("p", FUNCTION, GIVEN[FUNCTION]).wake_target is UNSET
