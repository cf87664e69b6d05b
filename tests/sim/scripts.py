"""The code of all processes: it reads in the plan what it is to do.

Everything it does and finds is told to the laws at that moment, in the life in which it runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sightline.process import kinds
from sightline.process.engine import Engine
from sightline.process.functions import FunctionEngine, Functions, ProcessError, RunningProcess
from sightline.process.kinds import EXTERNAL, FUNCTION
from sightline.process.model import ProcessScope, Registration
from tests.sim import laws_of_leases
from tests.sim.ledger import Ledger
from tests.sim.lives import acting
from tests.sim.plan import Act, Await, Do, Hear, Nap, ProcessPlan, Say, Toil, Wake

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["NAME", "AsPlanned", "Scripts", "id_of", "input_of", "registration_of"]

NAME = "scripted"
"""Of the one function that there is."""


def id_of(name: str) -> str:
    """The id of a process that a client begins."""
    return f"p-{name}"


def input_of(plan: ProcessPlan, ids: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Its kind, and what it gets. `ids`: of the processes whose end it awaits."""
    given = {"name": plan.name, "awaits": list(ids)}
    if plan.disposition == "externally_owned":
        return EXTERNAL, {"args": given}
    return FUNCTION, {"name": NAME, "args": given}


def registration_of(plan: ProcessPlan) -> Registration:
    """The process as a client begins it."""
    kind, given = input_of(plan, [id_of(act.of) for act in plan.acts if isinstance(act, Await)])
    owner = ProcessScope(f"s{plan.session}")
    return kinds.registration_of(id_of(plan.name), kind, given, owner=owner, disposition=plan.disposition)


class Scripts:
    """`engines` run the processes of this world, in every life."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plans = {plan.name: plan for plan in world.plan.processes}
        functions = Functions()
        functions.process(NAME)(self._run)
        self.engines: dict[str, Engine] = {FUNCTION: FunctionEngine(functions)} if self._plans else {}

    async def _run(self, process: RunningProcess, name: str, awaits: list[str]) -> int:
        plan, script = self._plans[name], _Script(self._world, process, awaits)
        script.begin()
        try:
            for act in plan.acts:
                await script.perform(act)
            script.return_()
        except asyncio.CancelledError:
            script.leave()
            if plan.stubborn:
                await process.clock.sleep(plan.stubborn)
            raise
        finally:
            script.leave()
        if plan.ends == "fails":
            raise ProcessError("as planned")
        if plan.ends == "crashes":
            raise AsPlanned
        return script.done


class AsPlanned(Exception):
    """A process raises something that nobody in the product knows."""


class _Script:
    """One attempt. `done`: how many things it did to the world, or found done."""

    def __init__(self, world: World, process: RunningProcess, awaits: list[str]) -> None:
        self._world = world
        self._process = process
        self._awaits = list(awaits)
        self._life = acting()
        self._counts: Counter[type[Act]] = Counter()
        self.done = 0

    def begin(self) -> None:
        self._tell(lambda ledger, at: laws_of_leases.begun(ledger, self._life, at, self._id, self))

    def return_(self) -> None:
        calm = self._world.referee.calm
        self._tell(lambda ledger, at: laws_of_leases.returned(ledger, self._life, at, self._id, self, calm))

    def leave(self) -> None:
        self._tell(lambda ledger, at: laws_of_leases.left(ledger, self._id, self))

    async def perform(self, act: Act) -> None:
        self._counts[type(act)] += 1
        number = self._counts[type(act)]
        process = self._process
        match act:
            case Say():
                await process.progress({"number": number})
            case Nap(seconds=seconds):
                await process.sleep(seconds)
                now = process.clock.now_ms()
                self._tell(lambda ledger, at: laws_of_leases.slept(ledger, self._id, number, now))
            case Toil(seconds=seconds):
                await process.clock.sleep(seconds)
            case Hear():
                payload = await process.signal()
                self._tell(lambda ledger, at: laws_of_leases.signalled(ledger, self._id, number, payload))
            case Do():
                await self._do(f"{number}")
            case Wake():
                await process.wake(f"turn {number}")
                self._tell(lambda ledger, at: laws_of_leases.woke(ledger, self._id, number))
            case Await():
                child = self._awaits[number - 1]
                output = await process.end_of(child)
                self._tell(lambda ledger, at: laws_of_leases.awaited(ledger, child, output))

    async def _do(self, key: str) -> None:
        async def effect() -> str:
            self._tell(lambda ledger, at: laws_of_leases.did(ledger, self._life, self._id, key))
            await self._process.clock.sleep(0.01)
            return key

        if await self._process.idempotent(key, effect) != key:
            raise AssertionError(f"{key} came to something else")
        self.done += 1

    @property
    def _id(self) -> str:
        return self._process.process_id

    def _tell(self, law: Callable[[Ledger, float], None]) -> None:
        self._world.lawful(lambda: law(self._world.ledger, self._world.loop.time()))
