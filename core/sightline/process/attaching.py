"""What is too large to stand in a log: kept beside it, once, and named where it was.

Records, and pages of a log, are read whole, shown to whoever looks, and told to observers. So a payload beyond 64 KiB,
and a value that a process came to beyond that, stand there as `{"$attachment": {attachment_id, media_type, size}}`.
The value itself is kept as JSON, named by its content, and read when somebody wants it. What a payload means, an end or
a wake, is found before. Of a message that is too long the beginning stays; the whole of it is the output's `raw` then,
if that has nothing else.

Whoever awaits a process, and whoever reads its log to run it, is given the values themselves. A value that looks like
such a name is refused: it would be taken for one.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, structs

from sightline.errors import InvalidInput
from sightline.process.model import Appended, AwaitOutput, CancelledOutput, FailureOutput, KeptValue
from sightline.session.model import Attachment
from sightline.session.rules import attachment_of

__all__ = ["MAX_INLINE", "MAX_MESSAGE", "attached", "attachment_in", "check_no_name", "parts_of_end", "payload_without"]

MAX_INLINE = 1 << 16
"""Bytes of the JSON of a value that stands where it is."""
MAX_MESSAGE = 10_000
"""Characters of a message that stands where it is."""

_NAME = "$attachment"
_END = "await_output"
_MEMBERS = ("value", "raw")
"""Where an output holds what the process came to."""
_WITH_MESSAGE = ("failure", "cancelled")
_CANONICAL = msgspec.json.Encoder(order="sorted")


def check_no_name(field: str, payload: Any) -> None:
    """Raises InvalidInput for what would be taken for the name of a value that is kept elsewhere."""
    end = _end_of(payload)
    found = [payload] if end is None else [end.get(member) for member in _MEMBERS]
    if any(isinstance(value, dict) and _NAME in value for value in found):
        raise InvalidInput(field, f"must not have a member {_NAME!r} there: that names what is kept elsewhere")


def parts_of_end(payload: Any) -> dict[str, Any]:
    """The values in a payload that is an end, by where they are; none in another."""
    end = _end_of(payload) or {}
    return {member: end[member] for member in _MEMBERS if member in end}


def attachment_in(value: Any) -> Attachment | None:
    """Which value is meant, if it is kept elsewhere."""
    if not isinstance(value, dict) or value.keys() != {_NAME}:
        return None
    return msgspec.convert(value[_NAME], Attachment)


def payload_without(payload: Any) -> tuple[Any, tuple[KeptValue, ...]]:
    """A payload as it stands in the log, and what has to be kept for that. In an end it is the value that is named, so
    that the record, which has it as well, names the same.
    """
    end = _end_of(payload)
    if end is None:
        return _without(payload)
    kept: list[KeptValue] = []
    message = end.get("message")
    if end.get("type") in _WITH_MESSAGE and isinstance(message, str) and len(message) > MAX_MESSAGE:
        end = {"raw": message, **end, "message": _beginning(message)}
    for member in _MEMBERS:
        if member in end:
            value, more = _without(end[member])
            end, kept = {**end, member: value}, [*kept, *more]
    return {_END: end}, tuple(kept)


def attached(result: Appended) -> Appended:
    """The result as it is stored and told: what is too large in it is among its `kept`."""
    event = result.event
    if event is None:
        return result
    payload, kept = payload_without(event.payload)
    record = result.record
    event = structs.replace(event, payload=payload)
    if event.output is not UNSET:
        output, more = _output_without(event.output)
        record, event = structs.replace(record, output=output), structs.replace(event, output=output)
        kept = (*kept, *more)
    once = {one.attachment.attachment_id: one for one in kept}
    return structs.replace(result, record=record, event=event, kept=tuple(once.values()))


def _output_without(output: AwaitOutput) -> tuple[AwaitOutput, tuple[KeptValue, ...]]:
    kept: tuple[KeptValue, ...] = ()
    if isinstance(output, FailureOutput | CancelledOutput) and len(output.message) > MAX_MESSAGE:
        raw = output.message if output.raw is UNSET else output.raw
        output = structs.replace(output, message=_beginning(output.message), raw=raw)
    for member in _MEMBERS:
        if (value := getattr(output, member, UNSET)) is not UNSET:
            named, more = _without(value)
            output, kept = structs.replace(output, **{member: named}), (*kept, *more)
    return output, kept


def _beginning(message: str) -> str:
    return f"{message[: MAX_MESSAGE - 1]}…"


def _without(value: Any) -> tuple[Any, tuple[KeptValue, ...]]:
    data = _CANONICAL.encode(value)
    if len(data) <= MAX_INLINE:
        return value, ()
    attachment = attachment_of(data, "application/json")
    return {_NAME: structs.asdict(attachment)}, (KeptValue(attachment=attachment, data=data),)


def _end_of(payload: Any) -> dict[str, Any] | None:
    """The output in a payload that is an end, as JSON."""
    if not isinstance(payload, dict) or payload.keys() != {_END}:
        return None
    end = payload[_END]
    return end if isinstance(end, dict) else None
