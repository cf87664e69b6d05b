"""Carrying out session commands: what a command changes, or why it cannot be done.

A command is applied exactly once, by the commit that also takes it out of the queue. Whatever goes wrong before is
settled with it as failed: a command that failed for a reason would fail for it again, and would hold up all work behind
it for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from sightline.clock import Clock, within
from sightline.errors import CommandFailed
from sightline.observation.activities import Outcome
from sightline.queue.model import RefreshToolSurface, ResetSession, SessionCommand
from sightline.session.model import Failure, Policy, Tools

__all__ = ["CommandEffect", "ToolSource", "carry_out"]

_log = logging.getLogger("sightline.turn.commands")

_READ_SECONDS = 30.0

ToolSource = Callable[[str, Policy], Awaitable[Sequence[dict[str, Any]]]]
"""Reads the tools an agent offers in a session: (session id, policy) → entries with `name`, `description` and
`input_schema`.
"""


class CommandEffect(Struct, frozen=True, kw_only=True):
    """How a command ended and what it changes. `tools` none: they stay as they are."""

    outcome: Outcome
    reset: bool = False
    tools: Tools | None = None


async def carry_out(
    command: SessionCommand,
    session_id: str,
    *,
    policy: Policy,
    tools: Tools,
    source: ToolSource | None,
    clock: Clock,
) -> CommandEffect:
    """Find out what the command changes. Never raises for what is the command's own trouble; cancellable."""
    try:
        match command:
            case ResetSession():
                return CommandEffect(outcome=Outcome(status="completed"), reset=True)
            case RefreshToolSurface(expected_generation=expected):
                if expected is not UNSET and expected != tools.generation:
                    raise CommandFailed(
                        "session_command_generation_mismatch",
                        f"the tool surface is of generation {tools.generation}, not {expected}",
                    )
                fresh = await _refreshed(session_id, policy, tools, source, clock)
                return CommandEffect(outcome=Outcome(status="completed"), tools=fresh)
    except CommandFailed as error:
        return CommandEffect(outcome=Outcome(status="failed", error=Failure(error.reason, error.detail)))


async def _refreshed(
    session_id: str, policy: Policy, tools: Tools, source: ToolSource | None, clock: Clock
) -> Tools | None:
    """The tools read anew under the next generation, none when they are what they were. Raises CommandFailed."""
    catalog: tuple[dict[str, Any], ...] = ()
    if source is not None:
        reading = asyncio.ensure_future(source(session_id, policy))
        try:
            if not await within(clock, _READ_SECONDS, reading):
                raise CommandFailed(
                    "session_command_refresh_tools", f"the tools could not be read within {_READ_SECONDS:.0f} s"
                )
            if reading.cancelled():
                raise CommandFailed("session_command_refresh_tools", "reading the tools cancelled itself")
            # A copy, as readers of its JSON have it: what the agent keeps may change under it later.
            catalog = msgspec.json.decode(msgspec.json.encode(reading.result()), type=tuple[dict[str, Any], ...])
        except CommandFailed:
            raise
        except Exception as error:
            _log.warning("session %s: the tools could not be read", session_id, exc_info=error)
            raise CommandFailed("session_command_refresh_tools", f"{type(error).__name__}: {error}") from error
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    if catalog == tools.catalog and tools.error is None:
        return None
    return Tools(generation=tools.generation + 1, catalog=catalog)
