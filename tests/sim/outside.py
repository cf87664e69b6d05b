"""What goes on outside: programs that do the work of external processes, and people who send the signals that others
wait for.

They report at whatever worker there is, again and again until it is acknowledged. What was acknowledged must be in the
store; and an external process ends when its program says so, or never.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sightline.errors import NotFound, ProcessTerminal
from sightline.process.appending import ending
from sightline.process.model import CancelledOutput, FailureOutput, NewEvent, ProcessRecord, SuccessOutput
from tests.sim.effects import delay_of
from tests.sim.jobs import PROGRESS, WAKE, Job
from tests.sim.ledger import Law, Violation
from tests.sim.people import insist
from tests.sim.plan import Hear, Nap, ProcessPlan, Say, Toil, Wake

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Outside"]

_LONGEST = 4.0
"""Seconds until somebody sends a signal."""


class Outside:
    def __init__(self, world: World) -> None:
        self._world = world
        self._plans = {plan.name: plan for plan in world.plan.processes}
        self._known: set[str] = set()
        self.at_work = 0
        """How many programs have not said all that they have to say."""

    def registered(self, record: ProcessRecord) -> None:
        """A process is in the store."""
        process_id = record.process_id
        if process_id in self._known:
            return
        self._known.add(process_id)
        plan = self._plans[record.input["args"]["name"]]
        if plan.disposition == "externally_owned":
            self._job(process_id).is_left_alone = plan.ends == "never"
            self._world.spawn(self._work(process_id, plan))
        for number in range(sum(isinstance(act, Hear) for act in plan.acts)):
            self._world.spawn(self._signal(process_id, f"wanted-{number}"))

    def acknowledged(self, process_id: str) -> None:
        """Somebody was told that this process is there, and that is true."""
        if process_id not in self._world.ledger.jobs.by_id:
            raise Violation(Law.DURABLE, f"{process_id} is said to be registered, and is not")

    async def _signal(self, process_id: str, signal_id: str) -> None:
        draw = delay_of(self._world.plan.seed, "signal", process_id, signal_id)
        await asyncio.sleep(draw * draw * _LONGEST)
        try:
            await insist(
                self._world,
                lambda kernel: kernel.processes.signal(process_id, signal_id, {"said": signal_id}),
                process_id,
                signal_id,
            )
        except ProcessTerminal:
            return
        if f"process:{process_id}:signal:{signal_id}" not in self._job(process_id).keys:
            raise Violation(Law.DURABLE, f"{signal_id} to {process_id} is acknowledged, and is not in its log")

    async def _work(self, process_id: str, plan: ProcessPlan) -> None:
        self.at_work += 1
        await self._act(process_id, plan)
        self.at_work -= 1

    async def _act(self, process_id: str, plan: ProcessPlan) -> None:
        for number, act in enumerate(plan.acts):
            if self._job(process_id).cancelled_at is not None and plan.ends != "never":
                await self._report(process_id, ending(process_id, CancelledOutput(message="as was wanted")))
                return
            match act:
                case Nap(seconds=seconds) | Toil(seconds=seconds):
                    await asyncio.sleep(seconds)
                case Say():
                    await self._report(
                        process_id, NewEvent(event_type=PROGRESS, payload=number, replay_key=f"says-{number}")
                    )
                case Wake():
                    payload = {"text": f"turn {number}"}
                    await self._report(
                        process_id, NewEvent(event_type=WAKE, payload=payload, replay_key=f"wakes-{number}")
                    )
                case _:
                    pass
        if plan.ends == "well":
            await self._report(process_id, ending(process_id, SuccessOutput(value="done elsewhere")))
        elif plan.ends != "never":
            await self._report(process_id, ending(process_id, FailureOutput(code="elsewhere", message="as planned")))

    async def _report(self, process_id: str, event: NewEvent) -> None:
        key = str(event.replay_key)
        try:
            await insist(self._world, lambda kernel: kernel.processes.append(process_id, event), process_id, key)
        except NotFound as error:
            raise Violation(Law.DURABLE, f"{process_id} was registered, and is not there: {error}") from None
        if key not in self._job(process_id).keys:
            raise Violation(Law.DURABLE, f"{key} of {process_id} is acknowledged, and is not in its log")

    def _job(self, process_id: str) -> Job:
        return self._world.ledger.jobs.by_id[process_id]
