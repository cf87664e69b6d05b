"""Finding an agent by its name, `module:attribute`."""

from __future__ import annotations

import importlib
import inspect
from typing import cast

from sightline.agents.demo import demo, demo_tools
from sightline.agents.forms import as_agent
from sightline.startup_errors import (
    AgentNotLoadable,
)
from sightline.turn.agent import Agent
from sightline.turn.commands import ToolSource

__all__ = ["load_agent", "tools_of"]


def load_agent(target: str | None) -> Agent:
    """The agent that `target` names; the demo agent without one. Raises AgentNotLoadable, saying what is wrong."""
    if target is None:
        return demo
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise AgentNotLoadable(target, "it is not of the form MODULE:ATTRIBUTE")
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does while it is imported is its own
        raise AgentNotLoadable(target, f"{type(error).__name__}: {error}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise AgentNotLoadable(target, f"{module_name} has no attribute {attribute}")
        found = getattr(found, name)
    try:
        return as_agent(found)
    except TypeError as error:
        raise AgentNotLoadable(target, str(error)) from None


def tools_of(agent: Agent | None) -> ToolSource | None:
    """How the agent's tools are read: its own async `tools(session_id, policy)`, if it has one."""
    if agent is demo:
        return demo_tools
    found = getattr(agent, "tools", None)
    return cast(ToolSource, found) if inspect.iscoroutinefunction(found) else None
