"""Processes that live and die: a worker's place in the world, and each of its lives there.

A `Slot` is what the plan calls a worker. A `Life` is one run of its process: a kernel with its own clock, ids and live
log, over the store that everybody shares. A life ends by request (`stop`), with its work handed back, or it is killed:
then its tasks are cancelled, and everything through which they could still act raises `Killed` instead. Cleaning up
reaches nobody. Memory dies with it; the next life in the slot begins anew under another name.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from sightline.kernel import Kernel, Limits
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.tasks.telling import TaskReader
from sightline.testing.ids import CountingIds
from tests.sim.effects import FaultPlan, store_for
from tests.sim.ledger import Law, Violation
from tests.sim.loop import EPOCH_MS, OWNER, Killed, SimClock, until
from tests.sim.plan import Plan, WorkerPlan
from tests.sim.watching import Watcher

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Gone", "Life", "Slot", "acting", "limits_of"]

_T = TypeVar("_T")


def limits_of(plan: Plan) -> Limits:
    """The limits of every kernel in this world."""
    return Limits(
        concurrency=plan.permits,
        process_lease=plan.lease,
        poll_interval=plan.poll,
        session_lease=plan.lease,
        retention=plan.retention,
        turn_timeout=plan.turn_timeout,
        flush_window=plan.flush_window,
    )


def acting() -> str:
    """The life in which this happens."""
    return str(getattr(OWNER.get(), "name", ""))


class Gone(Exception):
    """The process that was asked is not there any more, or has dropped the connection: it may have done what it was
    asked to.
    """


class Life:
    """One run of a worker's process."""

    def __init__(self, slot: Slot, number: int) -> None:
        self.slot = slot
        self.world = slot.world
        self.number = number
        self.name = f"w{slot.index}.{number}"
        self.incarnation = EPOCH_MS + number
        self.tasks: list[asyncio.Task[Any]] = []
        self.requests: set[asyncio.Task[Any]] = set()
        self.dead = False
        self.in_flight = 0
        self.stopping = False
        self.starting: asyncio.Task[None] | None = None
        self.hands_back_at = math.inf
        self.watchers: list[Watcher] = []
        self.readers: list[tuple[str, TaskReader]] = []
        plan, world = slot.plan, slot.world
        self.clock = SimClock(world.loop, offset_ms=plan.offset_ms + slot.stepped_ms, rate=plan.rate)
        self.kernel = Kernel(
            store=store_for(self),
            replay=MemoryReplayStore(self.clock, self.incarnation),
            agent=world.agent if plan.runs_work else None,
            tools=world.agent.tools,
            engines=world.scripts.engines,
            clock=self.clock,
            ids=CountingIds(f"{self.name}-"),
            limits=limits_of(world.plan),
        )
        self.context: Context = copy_context()
        self.context.run(OWNER.set, self)

    def run(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin something inside the process."""
        return self.world.loop.create_task(work, context=self.context)

    async def ask(self, request: Callable[[Kernel], Coroutine[Any, Any, _T]], patience: float) -> _T:
        """What a connected client does: send a request, wait for the answer, drop the connection after `patience`.

        Raises what the kernel raises, and Gone.
        """
        if self.dead:
            raise Gone
        task = self.run(request(self.kernel))
        self.requests.add(task)
        timer = self.world.loop.call_later(patience, task.cancel)
        try:
            return await task
        except Killed:
            raise Gone from None
        except asyncio.CancelledError:
            if self.world.closing:
                raise
            raise Gone from None
        finally:
            timer.cancel()
            self.requests.discard(task)

    def kill(self, back_after: float) -> None:
        """SIGKILL, here and now. Another life follows after so many seconds; never, when negative."""
        if self.dead:
            return
        self._end("killed")
        if back_after >= 0:
            self.world.loop.call_later(back_after, self.slot.begin)

    async def stop(self, grace: float, back_after: float) -> None:
        """SIGTERM: give turns `grace` seconds, hand back what still runs, and end."""
        if self.dead or self.stopping:
            return
        self.stopping = True
        self.world.note(self.name, "asked to end")
        self.world.ledger.count("stopped")
        try:
            await self.run(self._stop(grace))
        except Killed:
            return
        except asyncio.CancelledError:
            if self.world.closing:
                raise
            return  # killed before it had ended
        # Writes whose clients have left: the store has them, and answers.
        await until(lambda: self.slot.life is not self or not self.in_flight, 0.01)
        if self.slot.life is not self:
            return
        self._check_left_nothing()
        self.world.ended_well.add(self.name)
        self._end("ended")
        if back_after >= 0:
            self.world.loop.call_later(back_after, self.slot.begin)

    async def _stop(self, grace: float) -> None:
        # When the grace is over the kernel hands back what runs, and may charge nobody for it.
        if self.starting is not None:
            await self.starting  # a host ends what has begun
        self.hands_back_at = self.world.loop.time() + grace / self.slot.plan.rate
        await self.kernel.drain(grace)
        self.hands_back_at = min(self.hands_back_at, self.world.loop.time())
        await self.kernel.stop()

    def _end(self, how: str) -> None:
        self.world.note(self.name, how)
        self.world.trouble_now()
        self.world.ledger.count(how)
        self.dead = self.clock.halted = True
        self.slot.life = None
        for task in self.tasks:
            task.cancel()
        self.world.rescue()

    @property
    def left_over(self) -> list[asyncio.Task[Any]]:
        return [task for task in self.tasks if not task.done()]

    def forget(self) -> None:
        """Let go of everything. What refers to itself is found by the garbage collector alone, which takes longer than
        all else that is done for a world.
        """
        vars(self.kernel).clear()
        vars(self).clear()
        self.dead = True

    def _check_left_nothing(self) -> None:
        """After an orderly end nothing runs any more, but for what ignores its cancellation."""
        left = [task for task in self.left_over if not task.get_name().startswith(("agent ", "engine of "))]
        if left and not self.requests:
            self.world.violated(Violation(Law.EXPECTED, f"{self.name} has ended, and left {left}"))


class Slot:
    """A worker's place. `life` is none while nobody lives there."""

    def __init__(self, world: World, index: int, plan: WorkerPlan) -> None:
        self.world = world
        self.index = index
        self.plan = plan
        self.faults = FaultPlan(tuple(fault for fault in world.plan.faults if fault.worker == index))
        self.lives: list[Life] = []
        self.life: Life | None = None
        self.stepped_ms = 0

    def begin(self) -> None:
        """Start a life, if nobody lives here and the world goes on."""
        if self.life is not None or self.world.closing:
            return
        life = Life(self, len(self.lives) + 1)
        self.lives.append(life)
        self.life = life
        self.world.note(life.name, "begins")
        self.world.trouble_now()
        life.starting = life.run(life.kernel.start())

    def step_clock(self, by_ms: int) -> None:
        """Somebody sets the machine's wall clock."""
        self.stepped_ms += by_ms
        self.world.ledger.count("clock stepped")
        self.world.trouble_now()
        if self.life is not None:
            self.life.clock.offset_ms += by_ms
