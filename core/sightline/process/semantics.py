"""What an event means: a value taken from its payload, the process's end, a wish for a turn.

A selector takes a value from a payload. `when` asks whether that value is something: null, false, "", [] and {} are
nothing, and every number is something, zero too: a count of zero was counted.

The text of a value is the value if it is text, and its JSON otherwise. Templates are filled in one pass: what a value
brings along is not looked at again, or a payload could name fields it was not given.

The end's output is what its selector finds. A value that is an output already stays what it is, if it says the same as
the event: a process that completed into a failure would be read as the one here and as the other there, so that is
refused. Any other value is put into an output of the declared kind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from sightline.errors import InvalidInput, InvalidPayload
from sightline.process.model import (
    AwaitOutput,
    CancelledOutput,
    ConstSelector,
    EventType,
    FailureOutput,
    PayloadSelector,
    PointerSelector,
    PresentSelector,
    ProcessScope,
    Selector,
    SuccessOutput,
    TemplateSelector,
    TerminalRule,
    TerminalState,
    WakeRule,
)
from sightline.process.schemas import check_schema
from sightline.queue.model import ProcessWake

__all__ = ["check_event_type", "is_something", "output_of", "scope_text", "select", "text_of_value", "wake_of"]

_CANONICAL = msgspec.json.Encoder(order="sorted")
_PLACE = re.compile(r"\{([^{}]*)\}")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_MAX_NESTING = 16
_ABSENT = object()

_OUTPUTS: Mapping[str, type[SuccessOutput | FailureOutput | CancelledOutput]] = {
    "success": SuccessOutput,
    "failure": FailureOutput,
    "cancelled": CancelledOutput,
}
_OUTPUT_OF_STATE: Mapping[TerminalState, str] = {
    "completed": "success",
    "failed": "failure",
    "cancelled": "cancelled",
}


# Values


def select(selector: Selector, payload: Any) -> Any:
    """The value that the selector takes. Raises InvalidPayload when a pointer finds nothing."""
    match selector:
        case PayloadSelector():
            return payload
        case PointerSelector(pointer=pointer):
            found = _resolve(pointer, payload)
            if found is _ABSENT:
                raise InvalidPayload(pointer, "is missing, and what the event means depends on it")
            return found
        case ConstSelector(value=value):
            return value
        case TemplateSelector(template=template, fields=fields):
            values = {name: text_of_value(select(field, payload)) for name, field in fields.items()}
            return _PLACE.sub(lambda place: values.get(place[1], place[0]), template)
        case PresentSelector(pointer=pointer):
            return _resolve(pointer, payload) is not _ABSENT


def text_of_value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def is_something(value: Any) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return True
    return bool(value)


def _resolve(pointer: str, payload: Any) -> Any:
    value = payload
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, _ABSENT)
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return _ABSENT
        if value is _ABSENT:
            return _ABSENT
    return value


# The end


def output_of(rule: TerminalRule, payload: Any) -> AwaitOutput:
    """What a process came to by this event. Raises InvalidPayload when the payload says another end than the event."""
    value = payload if rule.output is UNSET else select(rule.output, payload)
    tag = value.get("type") if isinstance(value, dict) else None
    if rule.output is not UNSET and isinstance(tag, str) and tag in _OUTPUTS:
        at = rule.output.pointer if isinstance(rule.output, PointerSelector) else ""
        if tag != _OUTPUT_OF_STATE[rule.state]:
            raise InvalidPayload(at, f"is a {tag}, and the event says that the process {rule.state}")
        try:
            return msgspec.convert(value, _OUTPUTS[tag])
        except msgspec.ValidationError as error:
            raise InvalidPayload(at, f"is no output: {error}") from None
    match rule.state:
        case "completed":
            return SuccessOutput(value=value)
        case "failed":
            return FailureOutput(code="process_failed", message=text_of_value(value))
        case "cancelled":
            return CancelledOutput(message=text_of_value(value))


# The wake


def wake_of(
    rule: WakeRule,
    payload: Any,
    *,
    process_id: str,
    sequence: int,
    event_type: str,
    target: ProcessScope,
    invocation: dict[str, Any] | UnsetType,
    caused_by: dict[str, Any] | UnsetType,
    now: int,
) -> ProcessWake | None:
    """The wake that this event asks for, none when its `when` says no. The same event always asks for the same.

    Raises InvalidPayload when a pointer finds nothing.
    """
    if rule.when is not UNSET and not is_something(select(rule.when, payload)):
        return None
    own = f"{process_id}:{sequence}"
    key = own if rule.dedupe_key is UNSET else text_of_value(select(rule.dedupe_key, payload))
    return ProcessWake(
        wake_id=_wake_id(target, key),
        target_session_id=target.session_id,
        target_scope_id=scope_text(target),
        process_id=process_id,
        sequence=sequence,
        event_type=event_type,
        dedupe_key=key,
        input=text_of_value(select(rule.input, payload)),
        created_at_ms=now,
        event_invocation=invocation,
        process_caused_by=caused_by,
    )


def scope_text(scope: ProcessScope) -> str:
    """A scope for people to read. Two scopes may have the same text: nothing is looked up by it."""
    frame = f"/frame:{scope.agent_frame_id}" if scope.agent_frame_id else ""
    return f"session:{scope.session_id}{frame}"


def _wake_id(target: ProcessScope, key: str) -> str:
    parts = [target.session_id, target.agent_frame_id, key]
    return f"wake:{hashlib.sha256(_CANONICAL.encode(parts)).hexdigest()}"


# Declarations


def check_event_type(declared: EventType, field: str) -> None:
    """Refuse a declaration that could not be followed. Raises InvalidInput."""
    if not declared.name.strip():
        raise InvalidInput(f"{field}/name", "must not be blank")
    if declared.schema is not UNSET:
        check_schema(declared.schema, f"{field}/schema")
    if declared.semantics is UNSET:
        return
    terminal, wake = declared.semantics.terminal, declared.semantics.wake
    if terminal is not UNSET:
        place = f"{field}/semantics/terminal/output"
        if terminal.output is not UNSET:
            _check_selector(terminal.output, place, 0)
        elif terminal.state != "completed":
            raise InvalidInput(place, f"must say what a {terminal.state} process came to")
    if wake is not UNSET:
        for name, selector in (("input", wake.input), ("when", wake.when), ("dedupe_key", wake.dedupe_key)):
            if selector is not UNSET:
                _check_selector(selector, f"{field}/semantics/wake/{name}", 0)


def _check_selector(selector: Selector, field: str, nesting: int) -> None:
    if nesting > _MAX_NESTING:
        raise InvalidInput(field, "is nested too deeply")
    match selector:
        case PointerSelector(pointer=pointer) | PresentSelector(pointer=pointer):
            if pointer and not pointer.startswith("/"):
                raise InvalidInput(f"{field}/pointer", "must be empty or begin with a slash")
            if re.search("~(?![01])", pointer):
                raise InvalidInput(f"{field}/pointer", "has a tilde that is neither ~0 nor ~1")
        case TemplateSelector(fields=fields):
            for name, inner in fields.items():
                _check_selector(inner, f"{field}/fields/{name}", nesting + 1)
        case _:
            pass
