"""The agent of a turn: set going, timed, stopped, and what its end means.

Whatever ends first decides: the agent, a request to cancel, the turn's time, or the loss of its lease. An agent that is
stopped is cancelled and gets a while to clean up; then its turn goes on without it.
"""

from __future__ import annotations

import asyncio
import logging

from sightline.clock import Clock, within
from sightline.observation.activities import Outcome
from sightline.persevering import finish, retrieve
from sightline.session.model import Failure
from sightline.turn.agent import Agent, AgentError, Turn
from sightline.turn.rules import error_text, failure_text
from sightline.turn.running import Running

__all__ = ["Performing", "cancelled"]

_log = logging.getLogger("sightline.turn")

_CANCEL_GRACE = 5.0
"""Seconds an agent gets to end after it was cancelled."""


class Performing:
    """For all turns of one driver. `turn_timeout`: how many seconds an attempt may be at work, 0 for any number."""

    def __init__(self, agent: Agent, clock: Clock, *, turn_timeout: float) -> None:
        self._agent = agent
        self._clock = clock
        self._turn_timeout = turn_timeout
        self._agents: set[asyncio.Task[None]] = set()
        self.timed_out = 0
        """How many turns were stopped because they took too long."""
        self.left_behind = 0
        """How many agents did not end when they were cancelled."""

    async def perform(self, running: Running, turn: Turn) -> Outcome | None:
        """Run the agent to its end, or to a cancellation; none when the work is to be handed back."""
        if not running.stopped.done():
            agent = asyncio.create_task(_call(self._agent, turn), name=f"agent {running.claim.turn_id}")
            self._agents.add(agent)
            agent.add_done_callback(self._ended)
            timing = asyncio.create_task(self._time(running)) if self._turn_timeout else None
            try:
                await asyncio.wait((agent, running.stopped), return_when=asyncio.FIRST_COMPLETED)
                if agent.done() and not running.stopped.done():
                    running.stop()  # the agent was first: a cancel that comes now has lost the race
                    return _outcome_of(agent)
            finally:
                if timing is not None:
                    timing.cancel()
                if not agent.done():
                    await finish(self._end(agent, turn))
        if running.timed_out:
            message = f"stopped after {self._turn_timeout:g} seconds"
            return Outcome(status="failed", error=Failure("turn_timeout", message))
        return None if running.cancel_reason is None else cancelled(running.cancel_reason)

    async def _time(self, running: Running) -> None:
        await running.stopwatch.reaches(self._turn_timeout)
        running.time_out()
        if running.timed_out:
            self.timed_out += 1
            _log.warning("turn %s is stopped after %g s", running.claim.turn_id, self._turn_timeout)

    async def _end(self, agent: asyncio.Task[None], turn: Turn) -> None:
        """Cancel the agent, and wait a while for it to clean up."""
        turn.cancel()
        agent.cancel()
        if not await within(self._clock, _CANCEL_GRACE, agent):
            self.left_behind += 1
            _log.warning("%s ignores its cancellation", agent.get_name())

    def _ended(self, agent: asyncio.Task[None]) -> None:
        self._agents.discard(agent)
        retrieve(agent)


def cancelled(reason: str) -> Outcome:
    """How a turn ends that somebody wanted to end."""
    return Outcome(status="cancelled", reason=reason)


def _outcome_of(agent: asyncio.Task[None]) -> Outcome:
    if agent.cancelled():
        return Outcome(status="failed", error=Failure("agent_error", "the agent cancelled itself"))
    error = agent.exception()
    if error is None:
        return Outcome(status="completed")
    if isinstance(error, AgentError):
        return Outcome(status="failed", error=Failure(error.code, error_text(error)))
    _log.error("agent failed", exc_info=error)
    return Outcome(status="failed", error=Failure("agent_error", failure_text(error)))


async def _call(agent: Agent, turn: Turn) -> None:
    """The agent's end, as something that is safe to be a task's: some exceptions would end the process with it."""
    try:
        await agent(turn)
    except SystemExit as error:
        raise AgentError(f"the agent called exit({error.code})") from error
    except KeyboardInterrupt as error:
        raise AgentError(f"the agent raised {failure_text(error)}") from error
