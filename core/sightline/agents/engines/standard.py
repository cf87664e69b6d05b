"""The engines that a kernel has unless told otherwise."""

from __future__ import annotations

from sightline.agents.engines.command import CommandEngine
from sightline.process.engine import Engine
from sightline.process.functions import FunctionEngine
from sightline.process.kinds import COMMAND, FUNCTION

__all__ = ["standard_engines"]


def standard_engines(command_output: int) -> dict[str, Engine]:
    """By kind. `command_output`: how many bytes of what a command writes are kept."""
    return {FUNCTION: FunctionEngine(), COMMAND: CommandEngine(most_output=command_output)}
