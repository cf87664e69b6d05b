"""A graph of one node that answers with what it was told; served by LangGraph's development server.

Told `stream N size BYTES` it streams so many pieces first, as Sightline's demo agent does.
"""

from __future__ import annotations

import asyncio
import time
from typing import TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: str
    answer: str


async def echo(state: State) -> dict[str, str]:
    word, *rest = state["text"].split()
    if word == "stream":
        write = get_stream_writer()
        for number in range(int(rest[0])):
            if number % 32 == 31:
                await asyncio.sleep(0)
            write(f"seq={number} t={time.time_ns()} ".ljust(int(rest[2]), "."))
    return {"answer": state["text"]}


graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").add_edge("echo", END).compile()
