"""An agent on LangGraph: what the nodes of a graph write is said while they run.

`OPENAI_API_KEY=… sightline serve --agent langgraph_agent:agent`
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from openai import AsyncOpenAI

from sightline import Turn


class State(TypedDict):
    prompt: str


async def plan(state: State) -> State:
    return {"prompt": f"Answer in one paragraph: {state['prompt']}"}


async def answer(state: State) -> None:
    write, asked = get_stream_writer(), [{"role": "user", "content": state["prompt"]}]
    chat = AsyncOpenAI().chat.completions
    async with await chat.create(model="gpt-4.1-mini", messages=asked, stream=True) as stream:
        async for chunk in stream:
            write(chunk.choices[0].delta.content or "" if chunk.choices else "")


graph = StateGraph(State).add_sequence([plan, answer]).add_edge(START, "plan").compile()


async def agent(turn: Turn) -> AsyncIterator[str]:
    async for piece in graph.astream({"prompt": turn.input[0].content}, stream_mode="custom"):
        yield piece
