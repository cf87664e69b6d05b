"""An agent in one function: it looks back, calls a tool, and answers in pieces.

`sightline serve --agent my_agent:agent`, then `sightline send desk "the draft of the report" --wait 10`
"""

from __future__ import annotations

from sightline import Turn


async def agent(turn: Turn) -> None:
    wish = turn.input[0].content
    earlier = await turn.messages(newest=20)
    turn.text(f"This session holds {len(earlier)} messages. ")

    async def count() -> dict[str, int]:
        await turn.sleep(0.2)  # stands for a slow service
        return {"words": len(wish.split()), "letters": len(wish)}

    found = await turn.tool_call("count", {"text": wish}, count)
    for word in f"Your input has {found['words']} words and {found['letters']} letters.".split():
        turn.text(word + " ")
        await turn.sleep(0.05)
