"""A model that says what the test wrote down for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

from sightline.agents.standard.model import Finish, ModelEvent, ModelRequest, Reasoning, Text, Used
from sightline.session.model import UsageFigures
from sightline.turn.conversation import ReasoningPart, TextPart, ToolCallPart

__all__ = ["Line", "ScriptedModel", "calling", "saying"]

Line = ModelEvent | Exception | Callable[[], Awaitable[object]]
"""An event to say, an error to raise, or something to wait for."""


class ScriptedModel:
    """See `sightline.agents.standard.model.ModelClient`. The n-th request plays the n-th script.

    `requests` are those that were made. One beyond the last script is an AssertionError: a loop that goes round once
    too often shows.
    """

    def __init__(self, *scripts: Iterable[Line]) -> None:
        self.scripts = [list(script) for script in scripts]
        self.requests: list[ModelRequest] = []
        self.open = 0
        """How many requests are under way."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.requests.append(request)
        if len(self.requests) > len(self.scripts):
            raise AssertionError(f"request {len(self.requests)} has no script: {request.messages[-1]}")
        self.open += 1
        try:
            for line in self.scripts[len(self.requests) - 1]:
                if isinstance(line, Exception):
                    raise line
                if callable(line):
                    await line()
                else:
                    yield line
                await asyncio.sleep(0)
        finally:
            self.open -= 1


def saying(*texts: str, used: int = 0) -> list[Line]:
    """The script of an answer in so many pieces; `used`: the tokens that went in, and as many out."""
    pieces: list[Line] = [Text(text) for text in texts]
    return [*pieces, *_used(used), Finish(parts=(TextPart(text="".join(texts)),))]


def calling(*calls: tuple[str, Any], text: str = "", reasoning: str = "", used: int = 0) -> list[Line]:
    """The script of a request for tools: (name, arguments), called under the ids `call-1`, `call-2` and so on."""
    thought = (ReasoningPart(text=reasoning),) if reasoning else ()
    said = (TextPart(text=text),) if text else ()
    parts = tuple(
        ToolCallPart(call_id=f"call-{index}", name=name, args=args) for index, (name, args) in enumerate(calls, 1)
    )
    return [
        *(Reasoning(part.text) for part in thought),
        *(Text(part.text) for part in said),
        *_used(used),
        Finish(parts=(*thought, *said, *parts)),
    ]


def _used(tokens: int) -> list[Line]:
    return [Used(UsageFigures(input_tokens=tokens, output_tokens=tokens, requests=1))] if tokens else []
