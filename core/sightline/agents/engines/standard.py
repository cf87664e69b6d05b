"""The engines that a kernel has unless told otherwise."""

from __future__ import annotations

from sightline.agents.engines.command import CommandEngine
from sightline.agents.engines.session_turn import Sessions, SessionTurnEngine
from sightline.process.engine import Engine
from sightline.process.functions import FunctionEngine
from sightline.process.kinds import COMMAND, FUNCTION, SESSION_TURN

__all__ = ["standard_engines"]


def standard_engines(sessions: Sessions, *, command_output: int) -> dict[str, Engine]:
    """By kind. `sessions`: where turns have theirs; `command_output`: how many bytes a command writes that are kept."""
    return {
        FUNCTION: FunctionEngine(),
        COMMAND: CommandEngine(most_output=command_output),
        SESSION_TURN: SessionTurnEngine(sessions),
    }
