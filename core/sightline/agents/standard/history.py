"""The transcript as a conversation that a model can go on with.

Of earlier turns a model is told what was said and done, not what it thought: providers want their reasoning back only
within a turn. Calls get new ids, because those of the transcript are not what providers take for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import UNSET

from sightline.queue.materializing import InputMessage
from sightline.session.model import Message
from sightline.turn.conversation import (
    AssistantMessage,
    ConversationMessage,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    from_inputs,
)

__all__ = ["conversation"]


def conversation(messages: Iterable[Message]) -> tuple[ConversationMessage, ...]:
    """The messages, oldest first. What comes in front of the first one of a user is left out: it was cut off from what
    it answers.
    """
    told: list[ConversationMessage] = []
    for message in messages:
        if message.role == "assistant":
            if told:
                told.extend(_said(message, f"h{len(told)}"))
        else:
            heard = InputMessage(role=message.role, content=message.content, parts=message.parts)
            told.extend(from_inputs((heard,)))
    return tuple(told)


def _said(message: Message, prefix: str) -> Iterator[AssistantMessage | ToolMessage]:
    """What the message was made of, request by request: a call begins to be answered when something else follows."""
    texts: list[TextPart] = []
    calls: list[ToolCallPart] = []
    results: list[ToolResultPart] = []
    parts: list[dict[str, Any]] = (
        [{"type": "text", "text": message.content}] if message.parts is UNSET else message.parts
    )
    for index, part in enumerate(parts):
        if part["type"] == "tool_call":
            call_id = f"{prefix}-{index}"
            failed = part.get("state") == "failed"
            calls.append(ToolCallPart(call_id=call_id, name=part["name"], args=part["args"]))
            results.append(ToolResultPart(call_id=call_id, name=part["name"], output=part.get("output"), failed=failed))
            continue
        if part["type"] != "text" or not part["text"]:
            continue
        if calls:
            yield from _request(texts, calls, results)
            texts, calls, results = [], [], []
        texts.append(TextPart(text=part["text"]))
    yield from _request(texts, calls, results)


def _request(
    texts: list[TextPart], calls: list[ToolCallPart], results: list[ToolResultPart]
) -> Iterator[AssistantMessage | ToolMessage]:
    if texts or calls:
        yield AssistantMessage(parts=(*texts, *calls))
    if results:
        yield ToolMessage(results=tuple(results))
