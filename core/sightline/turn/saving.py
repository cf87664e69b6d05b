"""How a turn machine outlives its process: its state as JSON, and back again with what was out.

The number of the version is there for the day on which a new server finds what an old one left. A state of another
version is refused and never guessed at; the turn can still be run again from its beginning.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from sightline.turn.conversation import ConversationMessage
from sightline.turn.machine import Step
from sightline.turn.states import State, outstanding

__all__ = ["VERSION", "NotRestorable", "restore", "save"]

VERSION = 1
"""Of saved states. Another number means another machine."""


class NotRestorable(ValueError):
    """What was saved is no state of this machine: written by another version of it, or not by it at all."""


def save(state: State, *, kept: int = 0) -> dict[str, Any]:
    """The state as JSON holds it, without the first `kept` messages: those are kept elsewhere, and do not change."""
    if kept:
        state = _with_messages(state, state.course.messages[kept:])
    return {"version": VERSION, "state": msgspec.to_builtins(state)}


def restore(saved: Any, kept: tuple[ConversationMessage, ...] = ()) -> Step:
    """The saved state behind the messages that were kept elsewhere, with what is out from it once more; a finished one
    tells its Done. Raises NotRestorable.
    """
    version = saved.get("version") if isinstance(saved, dict) else None
    if version != VERSION:
        raise NotRestorable(f"a turn saved by version {version!r} of the machine; this is version {VERSION}")
    try:
        state: State = msgspec.convert(saved.get("state"), State)
    except msgspec.ValidationError as error:
        raise NotRestorable(f"not the state of a turn: {error}") from error
    if kept:
        state = _with_messages(state, kept + state.course.messages)
    return Step(state, outstanding(state))


def _with_messages(state: State, messages: tuple[ConversationMessage, ...]) -> State:
    return structs.replace(state, course=structs.replace(state.course, messages=messages))
