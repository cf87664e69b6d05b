"""The turns of many sessions as the runner's host sees to them: which sessions have ready work, and running the next.

The runner decides who comes next and when to ask again; the driver runs what it claims; this stands between them, and
tells the one what the other's answer means.
"""

from __future__ import annotations

import asyncio
import logging

from sightline.clock import Clock, within
from sightline.errors import ClaimExpired, SightlineError
from sightline.observation.handles import Handles
from sightline.queue.model import NothingClaimed
from sightline.queue.runner import (
    Contended,
    Idle,
    QueuedWorkRunner,
    QueuedWorkRunOutcome,
    QueuedWorkRunRequest,
    Submitted,
)
from sightline.session.model import Message
from sightline.session.rules import in_frame
from sightline.turn.agent import Agent
from sightline.turn.driver import TurnDriver, TurnStore

__all__ = ["TurnHost", "close_agent"]

_log = logging.getLogger("sightline.turn.host")

_CLOSE_SECONDS = 5.0


async def close_agent(agent: Agent | None, clock: Clock) -> None:
    """Let the agent end what it holds open, if it has a `close` for that."""
    close = getattr(agent, "close", None)
    if close is None:
        return
    closing = asyncio.ensure_future(close())
    try:
        if not await within(clock, _CLOSE_SECONDS, closing):
            _log.warning("the agent did not close within %.0f s", _CLOSE_SECONDS)
        elif not closing.cancelled() and (error := closing.exception()) is not None:
            _log.warning("the agent did not close well: %s", error, exc_info=error)
    finally:
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)


class TurnHost:
    """See `sightline.queue.port.QueuedWorkHost`. Has the runner it is the host of.

    While `draining`, no turn is begun.
    """

    def __init__(
        self,
        store: TurnStore,
        handles: Handles,
        driver: TurnDriver,
        clock: Clock,
        *,
        concurrency: int,
        poll_interval: float,
    ) -> None:
        self._store = store
        self._handles = handles
        self._driver = driver
        self._clock = clock
        self._concurrency = concurrency
        self._looked_to = ""
        self.draining = False
        self.runner = QueuedWorkRunner(
            self, clock, global_gate=False, concurrency=concurrency, poll_interval=poll_interval
        )
        driver.run_within(self.runner)

    async def run_queued_work(self, request: QueuedWorkRunRequest) -> QueuedWorkRunOutcome:
        """Run the session's next turn and see it through; with none named, poke the sessions that have ready work."""
        if request.session_id is None:
            return await self._poke_claimable(request.reason)
        found = await self._run_turn(request.session_id)
        if isinstance(found, Submitted):
            self.runner.complete_session(request.session_id, "turn ended")
        return found

    async def _poke_claimable(self, reason: str) -> Idle:
        while True:
            # One `now` for both questions: what comes due between them would be neither ready nor still to come.
            now = self._clock.now_ms()
            for session_id in await self._next_claimable(now):
                self.runner.poke_session(session_id, reason)
            due = await self._store.next_due(now)
            if due is None or due > self._clock.now_ms():
                return Idle(due)
            # It came due while the store was asked, as happens to whoever is woken for it a moment early.

    async def _next_claimable(self, now: int) -> tuple[str, ...]:
        """Sessions with ready work, more than can run: the line is then not empty before the next look.

        Each look goes on behind the last one, so that whoever comes late in the order of ids comes up as well.
        """
        limit = 4 * self._concurrency
        found = await self._store.claimable_sessions(now, limit, self._looked_to)
        self._looked_to = found[-1] if len(found) == limit else ""
        return found

    async def _run_turn(self, session_id: str) -> QueuedWorkRunOutcome:
        """Submitted means: look again. A turn ran, and there is, or may be, more work."""

        async def history(count: int) -> tuple[Message, ...]:
            page = await self._store.page_messages(session_id, before=None, limit=count)
            handle = self._handles.get(session_id)
            assert handle is not None, "its turn runs"
            return in_frame(page.messages, handle.view.read_view.agent_frame_id)

        try:
            if self._handles.get(session_id) is None and not await self._store.peek_claimable(
                session_id, self._clock.now_ms()
            ):
                return Idle()  # nothing is loaded to find that out
            async with self._handles.opened(session_id) as handle, handle.writer():
                if self.draining:
                    return Idle()
                if handle.stale:
                    await self._handles.refresh(handle)
                try:
                    found = await self._driver.run(handle, history)
                except ClaimExpired:
                    handle.stale = True
                    return Submitted(session_id)
        except SightlineError as error:
            if not error.retryable:
                _log.info("session %s: nothing to run: %s", session_id, error)
                return Idle()
            raise
        match found:
            case NothingClaimed(reason="lane_busy"):
                return Contended()
            case NothingClaimed():
                return Idle()
            case None:
                # The view has all that came through this kernel; what did not, the poll finds.
                return Submitted(session_id) if handle.has_open_work else Idle()
