"""A model that begins long work, goes on talking, and is woken when there is something to tell.

`OPENAI_API_KEY=… sightline serve --agent background_agent:agent`, then ask in the console for a backup.
"""

from __future__ import annotations

from sightline.agents.standard import StandardAgent, background_tools
from sightline.process.functions import RunningProcess, process


@process("backup")
async def backup(process: RunningProcess, folder: str) -> str:
    """Back up a folder, which takes an hour."""
    for percent in range(0, 100, 25):
        await process.progress({"percent": percent})
        await process.sleep(900)
    await process.wake(f"{folder} is backed up")
    return "done"


agent = StandardAgent(
    model="openai-chat:gpt-5-mini",
    tools=background_tools(functions=["backup"], monitors=True, subagents=True, approval={"monitor"}),
    instructions="You look after a server.",
)
