"""One request to a language model, as the standard agent makes it: a conversation in, a stream of events out.

Nothing here belongs to a provider. What one of them wants to have back word for word rides along in the parts' own
`details`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from sightline.session.model import UsageFigures
from sightline.turn.conversation import AssistantPart, ConversationMessage

__all__ = [
    "ContextOverflow",
    "Finish",
    "FinishReason",
    "ModelClient",
    "ModelError",
    "ModelEvent",
    "ModelRequest",
    "ModelTrouble",
    "Reasoning",
    "Text",
    "ToolSpec",
    "Used",
]

FinishReason = Literal["completed", "output_limit", "content_filter"]
"""`completed` also when the answer is tool calls; `output_limit`: cut off; `content_filter`: the provider would not."""


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A tool as the model, and the session's tool surface, know it."""

    name: str
    description: str
    input_schema: dict[str, Any]


class ModelRequest(Struct, frozen=True, kw_only=True):
    """`temperature` none: the provider's own. `pictures`: the bytes of those the conversation refers to, by id."""

    model: str
    instructions: str
    messages: tuple[ConversationMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    temperature: float | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)


class Text(Struct, frozen=True):
    """Some more of the answer."""

    text: str


class Reasoning(Struct, frozen=True):
    """Some more of what the model thinks aloud."""

    text: str


class Used(Struct, frozen=True):
    """What the request has cost; reported once."""

    figures: UsageFigures


class Finish(Struct, frozen=True, kw_only=True):
    """The last event of every stream that came to its end. `parts` are the whole message, tool calls among them."""

    parts: tuple[AssistantPart, ...]
    reason: FinishReason = "completed"


ModelEvent = Text | Reasoning | Used | Finish


class ModelClient(Protocol):
    """Whoever can make requests to models."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Make the request, once: events as they come, `Finish` last.

        Raises ContextOverflow when the conversation is too long for the model; ModelTrouble for what may pass
        (overload, a connection that breaks or falls silent, a stream that stops without an end or is no stream);
        ModelError for the rest. Cancelling, or closing the generator, ends the request at once.
        """
        ...


class ModelError(Exception):
    """The provider cannot or will not do it, and will not the next time either."""


class ContextOverflow(ModelError):
    """The conversation is longer than the model can take."""


class ModelTrouble(ModelError):
    """It did not work this time. `retry_after`: for how many seconds the provider asked to be left alone, if it did."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
