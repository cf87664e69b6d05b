"""A conversation with a model, as plain data: what any provider's client can map to its own wire and back.

Four kinds of message, by who speaks. What they hold are parts, and only an adapter knows how a provider calls them.
`details` on a part is the provider's own word about it (a signature, an id): opaque here, and handed back untouched
with the next request, because some providers want their reasoning back as they gave it.

A conversation is *whole* when every tool call is answered by the message after it. Providers refuse one that is not,
so whoever breaks off answers the calls that are open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.queue.materializing import InputMessage, TurnCause
from sightline.session.model import Attachment

__all__ = [
    "AssistantMessage",
    "AssistantPart",
    "ConversationMessage",
    "ImagePart",
    "ReasoningPart",
    "SystemMessage",
    "TextPart",
    "ToolCallPart",
    "ToolMessage",
    "ToolResultPart",
    "UserMessage",
    "from_inputs",
]


class TextPart(Struct, frozen=True, kw_only=True, tag="text", tag_field="type"):
    text: str
    details: dict[str, Any] | UnsetType = UNSET


class ImagePart(Struct, frozen=True, kw_only=True, tag="image", tag_field="type"):
    """A picture by reference. Its bytes are fetched when a request is made, and never kept here."""

    attachment: Attachment


class ReasoningPart(Struct, frozen=True, kw_only=True, tag="reasoning", tag_field="type"):
    text: str
    details: dict[str, Any] | UnsetType = UNSET


class ToolCallPart(Struct, frozen=True, kw_only=True, tag="tool_call", tag_field="type"):
    """What the model wants done. `args` are as the model gave them: JSON, or its raw text where that was none."""

    call_id: str
    name: str
    args: Any
    details: dict[str, Any] | UnsetType = UNSET


class ToolResultPart(Struct, frozen=True, kw_only=True, tag="tool_result", tag_field="type"):
    """The answer to the call of the same id. `output` is JSON; when the call `failed`, what the model is told of it."""

    call_id: str
    name: str
    output: Any
    images: tuple[ImagePart, ...] = ()
    failed: bool = False


AssistantPart = TextPart | ReasoningPart | ToolCallPart


class SystemMessage(Struct, frozen=True, kw_only=True, tag="system", tag_field="role"):
    """Said by neither side. `cause` is what happened, when the message tells of a reason for the turn.

    A `transient` message is for this turn's model alone: whatever writes history has it from elsewhere, or not at all.
    """

    text: str
    cause: TurnCause | UnsetType = UNSET
    transient: bool = False


class UserMessage(Struct, frozen=True, kw_only=True, tag="user", tag_field="role"):
    parts: tuple[TextPart | ImagePart, ...]
    transient: bool = False


class AssistantMessage(Struct, frozen=True, kw_only=True, tag="assistant", tag_field="role"):
    parts: tuple[AssistantPart, ...]

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """What it wants done, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    @property
    def text(self) -> str:
        """What it says aloud."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class ToolMessage(Struct, frozen=True, kw_only=True, tag="tool", tag_field="role"):
    """The answers to all calls of the message before, in the order of the calls."""

    results: tuple[ToolResultPart, ...]


ConversationMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage


def from_inputs(inputs: Iterable[InputMessage], *, transient: bool = False) -> tuple[SystemMessage | UserMessage, ...]:
    """What a turn runs on, or takes in at a checkpoint, as a model is told of it. Inputs taken in are `transient`: the
    turn's commit writes them as the user's own messages.
    """
    return tuple(_from_input(message, transient) for message in inputs)


def _from_input(message: InputMessage, transient: bool) -> SystemMessage | UserMessage:
    if message.role == "system":
        return SystemMessage(text=message.content, cause=_cause(message), transient=transient)
    if isinstance(message.parts, UnsetType):
        parts: tuple[TextPart | ImagePart, ...] = (TextPart(text=message.content),)
    else:
        parts = msgspec.convert(message.parts, tuple[TextPart | ImagePart, ...])
    return UserMessage(parts=parts, transient=transient)


def _cause(message: InputMessage) -> TurnCause | UnsetType:
    """The cause that a message was made of: a wake is known by its id."""
    origin: dict[str, Any] = {} if isinstance(message.origin, UnsetType) else message.origin
    if "wake_id" not in origin:
        return UNSET
    return TurnCause(id=origin["wake_id"], event_type=origin.get("event_type", ""), origin=origin, text=message.content)
