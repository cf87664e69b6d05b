"""The kinds of processes that everybody knows, and what each is given.

| kind | its input | what runs it |
|---|---|---|
| `function` | `name`, `args` | a Python function that the host registered under that name |
| `command` | `argv`, `cwd`, `env` | an OS command on the worker's machine |
| `session_turn` | `input`, `session_id`, `policy`, `metadata` | a turn of a session of its own: a sub-agent |
| `external` | anything | somebody else, who reports |

A host may have engines for kinds of its own; of those nothing is known here, and any input will do.

**Disposition.** Unless told otherwise a process that somebody else does is theirs; a command is bound to its owner,
because nobody knows what a second run of it would do to the world; everything else can be run again.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from msgspec import UNSET, UnsetType

from sightline.errors import InvalidInput, InvalidPayload
from sightline.process.model import (
    Disposition,
    EventSemantics,
    EventType,
    PointerSelector,
    ProcessScope,
    Provenance,
    Registration,
    WakeRule,
)
from sightline.process.schemas import check_payload

__all__ = [
    "COMMAND",
    "EXTERNAL",
    "FUNCTION",
    "KINDS",
    "NOTED",
    "OUTPUT",
    "OUTPUT_DROPPED",
    "PROGRESS",
    "SESSION_TURN",
    "SPAWNED",
    "WAKE",
    "checked_input",
    "child_session_of",
    "default_disposition",
    "descriptor_of",
    "registration_of",
]

FUNCTION = "function"
COMMAND = "command"
SESSION_TURN = "session_turn"
EXTERNAL = "external"

PROGRESS = EventType(name="progress")
"""How far a process has come, in whatever way it tells that."""
NOTED = EventType(name="process.noted", schema={"type": "object", "required": ["key", "value"]})
"""What a function wrote down for its later attempts."""
WAKE = EventType(
    name="process.wake",
    schema={"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
    semantics=EventSemantics(wake=WakeRule(input=PointerSelector("/text"))),
)
SPAWNED = EventType(name="process.spawned")
"""The command runs: `{pid}`, which is its process group as well."""
OUTPUT = EventType(
    name="output",
    schema={
        "type": "object",
        "required": ["stream", "text"],
        "properties": {"stream": {"enum": ["stdout", "stderr"]}, "text": {"type": "string"}},
    },
)
"""Lines of a command's output. The texts of one stream, joined, are what it wrote to it."""
OUTPUT_DROPPED = EventType(name="output_dropped")
"""The command wrote more than `{limit}` bytes; what comes now is read and not kept."""

_SESSION_ID = re.compile(r"[A-Za-z0-9._~:@-]{1,128}")
_TEXT = {"type": "string", "minLength": 1}

_INPUTS: dict[str, dict[str, Any]] = {
    FUNCTION: {
        "type": "object",
        "required": ["name"],
        "properties": {"name": _TEXT, "args": {"type": "object"}},
        "additionalProperties": False,
    },
    COMMAND: {
        "type": "object",
        "required": ["argv"],
        "properties": {
            "argv": {"type": "array", "minItems": 1, "prefixItems": [_TEXT], "items": {"type": "string"}},
            "cwd": _TEXT,
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "additionalProperties": False,
    },
    SESSION_TURN: {
        "type": "object",
        "required": ["input"],
        "properties": {
            "input": _TEXT,
            "session_id": _TEXT,
            "policy": {"type": "object"},
            "metadata": {"type": "object"},
        },
        "additionalProperties": False,
    },
    EXTERNAL: {"type": "object"},
}
KINDS = tuple(_INPUTS)


def default_disposition(kind: str) -> Disposition:
    """What becomes of a process of that kind whose owner died, unless it was said."""
    match kind:
        case "external":
            return "externally_owned"
        case "command":
            return "owner_bound"
        case _:
            return "rerunnable"


def checked_input(kind: str, given: Any) -> dict[str, Any]:
    """What a process of that kind gets, in the one way it is written. Raises InvalidInput, which names the field."""
    try:
        check_payload(given, _INPUTS.get(kind, _INPUTS[EXTERNAL]))
    except InvalidPayload as error:
        raise InvalidInput(f"input{error.pointer}", error.detail) from None
    checked: dict[str, Any] = given
    match kind:
        case "function":
            return {"name": checked["name"], "args": checked.get("args", {})}
        case "command":
            _check_words(checked)
    return checked


def child_session_of(process_id: str, given: dict[str, Any]) -> str:
    """The session in which a `session_turn` has its turn: the one that was named, or one of its own, always the same.
    It is called after the process, if that makes an id that every part of the system takes.
    """
    named: str | None = given.get("session_id")
    if named is not None:
        return named
    name = f"child:{process_id}"
    if _SESSION_ID.fullmatch(name):
        return name
    return f"child:{hashlib.sha256(process_id.encode()).hexdigest()[:32]}"


def descriptor_of(process_id: str, kind: str, given: dict[str, Any], label: str | None = None) -> dict[str, Any]:
    """How whoever sees a process has it called, unless it is called otherwise."""
    descriptor: dict[str, Any] = {"kind": kind}
    if label is not None:
        descriptor["label"] = label
    if kind == SESSION_TURN:
        descriptor["child_session_id"] = child_session_of(process_id, given)
    return descriptor


def registration_of(
    process_id: str,
    kind: str,
    given: Any,
    *,
    owner: ProcessScope | UnsetType = UNSET,
    wake_target: ProcessScope | UnsetType = UNSET,
    disposition: Disposition | UnsetType = UNSET,
    event_types: tuple[EventType, ...] = (),
    host_profile_id: str = "default",
    caused_by: dict[str, Any] | UnsetType = UNSET,
) -> Registration:
    """A process of that kind, which gets what is given and may log what is declared, and what its kind does.

    A type that is declared stands for the one that its kind has by that name. It wakes its target, or its owner; one
    with neither can wake nobody. Raises InvalidInput, which names the field.
    """
    declared = {known.name for known in event_types}
    wakes = owner is not UNSET or wake_target is not UNSET
    own = tuple(known for known in _own_event_types(kind, wakes) if known.name not in declared)
    return Registration(
        process_id=process_id,
        kind=kind,
        input=checked_input(kind, given),
        disposition=default_disposition(kind) if disposition is UNSET else disposition,
        provenance=Provenance(owner_scope=owner, host_profile_id=host_profile_id, caused_by=caused_by),
        event_types=(*event_types, *own),
        wake_target=wake_target,
    )


def _own_event_types(kind: str, wakes: bool) -> tuple[EventType, ...]:
    match kind:
        case "external":
            return (PROGRESS, WAKE) if wakes else (PROGRESS,)
        case "function":
            return (PROGRESS, NOTED, WAKE) if wakes else (PROGRESS, NOTED)
        case "command":
            return (SPAWNED, OUTPUT, OUTPUT_DROPPED)
        case _:
            return ()


def _check_words(command: dict[str, Any]) -> None:
    """No system takes a word with a null in it, nor a name with an equals sign."""
    env: dict[str, str] = command.get("env", {})
    for name in env:
        if not name or "=" in name or "\0" in name:
            raise InvalidInput("input/env", f"{name!r} is no name of a variable")
    words = [(f"argv/{index}", word) for index, word in enumerate(command["argv"])]
    words += [("cwd", command.get("cwd", "")), *((f"env/{name}", value) for name, value in env.items())]
    for field, word in words:
        if "\0" in word:
            raise InvalidInput(f"input/{field}", "must not have a null character")
