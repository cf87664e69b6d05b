"""The standard agent: a model, some tools, and the loop between them."""

from sightline.agents.standard.agent import StandardAgent
from sightline.agents.standard.asking import Patience
from sightline.agents.standard.background import background_tools
from sightline.agents.standard.tools import Tool, ToolFailed, tool

__all__ = ["Patience", "StandardAgent", "Tool", "ToolFailed", "background_tools", "tool"]
