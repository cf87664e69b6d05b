"""An agent on pydantic-ai: its tools get the turn, so that everybody who watches sees what they are called with.

`OPENAI_API_KEY=… sightline serve --agent pydantic_ai_agent:agent`
"""

from __future__ import annotations

import os

from pydantic_ai import Agent, RunContext

from sightline import Turn

assistant = Agent(
    os.environ.get("MODEL", "openai-chat:gpt-4.1-mini"),
    deps_type=Turn,
    instructions="Look the stock up before you answer.",
)


@assistant.tool
async def stock(context: RunContext[Turn], item: str) -> int:
    """How many of an item there are."""

    async def look_up() -> int:
        return len(item)  # stands for a database

    return await context.deps.tool_call("stock", {"item": item}, look_up)


async def agent(turn: Turn) -> None:
    question = "\n".join(message.content for message in turn.input)
    async with assistant.run_stream(question, deps=turn) as result:
        async for piece in result.stream_text(delta=True, debounce_by=None):
            turn.text(piece)
