"""A graph of one node that answers with what it was told; served by LangGraph's development server."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: str
    answer: str


async def echo(state: State) -> dict[str, str]:
    return {"answer": state["text"]}


graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").add_edge("echo", END).compile()
