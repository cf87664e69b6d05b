"""What tests of the turn machine say to it, in few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from sightline.queue.materializing import TurnCause
from sightline.turn.conversation import (
    AssistantMessage,
    ConversationMessage,
    SystemMessage,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from sightline.turn.effects import Effect, Input
from sightline.turn.machine import Step, step
from sightline.turn.saving import save
from sightline.turn.states import Ready, State


def user(text: str, *, transient: bool = False) -> UserMessage:
    return UserMessage(parts=(TextPart(text=text),), transient=transient)


def wake(cause_id: str, text: str) -> SystemMessage:
    cause = TurnCause(id=cause_id, event_type="done", origin={"type": "process"}, text=text)
    return SystemMessage(text=text, cause=cause, transient=True)


def text(said: str) -> TextPart:
    return TextPart(text=said)


def call(call_id: str, **args: Any) -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name="look", args=args)


def result(call_id: str, output: Any = "seen") -> ToolResultPart:
    return ToolResultPart(call_id=call_id, name="look", output=output)


def went(*inputs: Input, start: State | None = None) -> Step:
    """The last step of those that the inputs make, none of which is refused."""
    taken = Step(Ready() if start is None else start, ())
    for given in inputs:
        following = step(taken.state, given)
        assert isinstance(following, Step), following
        taken = following
    return taken


def through_json(state: State) -> Any:
    """What is saved of a state, as it comes back from wherever it was kept."""
    return msgspec.json.decode(msgspec.json.encode(save(state)))


def kinds(effects: Iterable[Effect]) -> list[str]:
    return [str(effect.__struct_config__.tag) for effect in effects]


def whole(messages: Iterable[ConversationMessage]) -> bool:
    """Whether each message with tool calls is followed by their answers, in order, and no answer stands alone."""
    asked: list[str] = []
    for message in messages:
        if [part.call_id for part in (message.results if isinstance(message, ToolMessage) else ())] != asked:
            return False
        asked = [part.call_id for part in message.calls] if isinstance(message, AssistantMessage) else []
    return not asked
