"""A model, and two functions that it may call. Ordering needs somebody's word, however long that takes.

`OPENAI_API_KEY=… sightline serve --agent standard_agent:agent`, then say in the console what you need. With
`OPENAI_BASE_URL` any server will do that speaks OpenAI's wire.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from sightline import Turn
from sightline.agents.standard import StandardAgent, tool

SHELF = {"lamp": 2, "chair": 11}


@tool
def stock(item: str) -> int:
    """How many of an item are on the shelf."""
    return SHELF.get(item, 0)


@tool(approval=True)
async def order(turn: Turn, item: str, count: Annotated[int, Meta(ge=1, le=100)]) -> str:
    """Order so many of an item."""
    # After a crash a tool may run again; what is recorded under its key does not.
    return await turn.idempotent(f"order {item}", lambda: f"{count} × {item} ordered")


agent = StandardAgent(
    model="openai-chat:gpt-5-mini",
    tools=[stock, order],
    instructions="You look after a shelf. Order what runs low.",
)
