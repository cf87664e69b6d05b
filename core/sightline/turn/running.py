"""Claimed work under way: what it holds, what it runs on, and how its end was decided."""

from __future__ import annotations

import asyncio
from typing import Any

from sightline.clock import Clock
from sightline.queue.materializing import InputMessage, exclusive_command
from sightline.queue.model import Claim
from sightline.turn.agent import Turn
from sightline.turn.keeping import Held
from sightline.turn.stopwatch import Stopwatch
from sightline.turn.window import FlushWindow

__all__ = ["Running"]


class Running:
    """Claimed work under way. The first of `cancel`, `hand_back`, `lose`, `time_out` and the agent's own end wins.

    `turn` is there once the turn has been shown; a session command never has one. `claims` are the one it began with
    and those of its checkpoints, all settled together; `inputs` is what it runs on, as it stands.
    """

    def __init__(self, claim: Claim, clock: Clock) -> None:
        self.claim = claim
        self.claims = [claim]
        self.inputs: list[InputMessage] = []
        self.held: Held | None = None
        self.over = False
        """Whether it is being settled: what is claimed for it from now on comes too late."""
        self.command = exclusive_command(claim.batches)
        self.turn: Turn | None = None
        self.cancel_reason: str | None = claim.cancel_requested
        self.handing_back = False
        self.behind = False
        """Whether others drove the session since its view was made; then that is read anew before the work begins."""
        self.begun = False
        """Whether the agent, or the command, has been set going; an attempt that never was is not charged."""
        self.lost = False
        """Claim, lease or head turned out to be somebody else's: the session moved on without this process's view."""
        self.timed_out = False
        self.stopwatch = Stopwatch(clock)
        """Paused while the turn waits for people."""
        self.window: FlushWindow | None = None
        self.waiting = 0
        """How many answers, and ends of processes, it waits for."""
        self.waited = False
        """Whether it has come to an open request: then no attempt of it is counted any more."""
        self.stopped: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        """Done once its end was decided. A future: every turn waits for it, and needs no task for that."""

    def stop(self) -> None:
        if not self.stopped.done():
            self.stopped.set_result(None)

    def time_out(self) -> None:
        """It took longer than a turn may; unless its end is decided already."""
        if not self.stopped.done():
            self.timed_out = True
            self.stop()

    def lose(self) -> None:
        self.lost = True
        self.stop()

    def release(self) -> None:
        """It is settled: let go of what leads back here, or all that was said stays until cycles are looked for."""
        self.turn = self.held = self.window = None
