"""The place of every effect: between a life and the store that all lives share.

A call travels to the store for a while, takes place there in one step, and its answer travels back. Each journey takes
its own time, so calls of different lives, and of one life, interleave in every way that time allows. `then` is called
when the answer arrives: for the calls of one life in the order in which they took place, and before the caller
resumes. So between the moment at which something is true and the moment at which its owner hears of it, others act.
That is the worst the ports permit, and what a networked store would do.

On the way things go wrong, as the plan says (`plan.Fault`). A killed life sends nothing more, and hears nothing more;
what it had sent already arrives, or does not. Whatever takes place is shown to the referee at once, in the order of the
store, before anybody else can hear of it.
"""

from __future__ import annotations

import asyncio
import functools
import math
import struct
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from sightline.errors import StoreUnavailable
from sightline.kernel import KernelStore
from tests.sim.loop import Killed, VirtualLoop
from tests.sim.plan import Fault

if TYPE_CHECKING:
    from tests.sim.lives import Life

__all__ = ["Effect", "FaultPlan", "SharedStore", "delay_of", "delays_of", "store_for"]

_THEN = {"commit": 1, "create_session": 2, "delete_session": 2}
"""Where `then` stands in the calls that pass it by position."""
_TWO = struct.Struct(">II")
_LATE = 0.05
"""An answer that takes longer is trouble of its own."""


class Effect:
    """One call of the store by a life, on its way there, done, or on its way back."""

    __slots__ = (
        "answer",
        "args",
        "back",
        "called_at",
        "done_at",
        "error",
        "kwargs",
        "life",
        "method",
        "result",
        "session_id",
        "then",
        "told",
    )

    def __init__(
        self, life: Life, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], answer: asyncio.Future[Any]
    ) -> None:
        self.life = life
        self.method = method
        self.then: Callable[[Any], None] | None = kwargs.pop("then", None)
        place = _THEN.get(method)
        if place is not None and self.then is None:
            self.then = args[place]
            args = args[:place]
        self.args = args
        self.kwargs = kwargs
        first = args[0] if args else ""
        self.session_id: str = first if isinstance(first, str) else getattr(first, "session_id", "")
        """What it is about, empty when it is about no single session."""
        self.answer = answer
        self.called_at = life.world.loop.time()
        self.result: Any = None
        self.error: Exception | None = None
        self.told: list[Any] = []
        self.done_at = math.inf
        self.back = 0.0

    def call(self, store: KernelStore) -> Coroutine[Any, Any, Any]:
        method = getattr(store, self.method)
        if self.then is None:
            return cast(Coroutine[Any, Any, Any], method(*self.args, **self.kwargs))
        if self.method in _THEN:
            return cast(Coroutine[Any, Any, Any], method(*self.args, self.told.append, **self.kwargs))
        return cast(Coroutine[Any, Any, Any], method(*self.args, then=self.told.append, **self.kwargs))


class SharedStore:
    """The one store of a world, and how a call of it takes place: at once, or in a thread while time stands still."""

    def __init__(self, store: KernelStore, loop: VirtualLoop, *, threaded: bool) -> None:
        self.store = store
        self._loop = loop
        self._threaded = threaded
        self._context = copy_context()
        """Nobody's: a call that has reached the store does not die with its sender."""
        self._tasks: set[asyncio.Task[None]] = set()

    def perform(self, effect: Effect, done: Callable[[Effect], None]) -> None:
        if self._threaded:
            self._loop.enter_thread()
            task = self._loop.create_task(self._in_thread(effect, done), context=self._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        try:
            effect.call(self.store).send(None)
            raise AssertionError("the store in memory waits for nothing")
        except StopIteration as stop:
            effect.result = stop.value
        except Exception as error:
            effect.error = error
        done(effect)

    async def close(self) -> None:
        self._loop.enter_thread()
        try:
            await self.store.close()
            await self._loop.shutdown_default_executor()
        finally:
            self._loop.leave_thread()

    async def _in_thread(self, effect: Effect, done: Callable[[Effect], None]) -> None:
        try:
            effect.result = await effect.call(self.store)
        except Exception as error:
            effect.error = error
        finally:
            self._loop.leave_thread()
        effect.life.context.run(done, effect)


class FaultPlan:
    """The faults of one worker, found by the number of its call of a method. Counts over all its lives."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._faults: dict[tuple[str, int], Fault] = {}
        for fault in faults:
            for nth in range(fault.nth, fault.nth + fault.times):
                self._faults.setdefault((fault.method, nth), fault)
        self._calls: dict[str, int] = dict.fromkeys((fault.method for fault in faults), 0)

    def next(self, method: str) -> Fault | None:
        count = self._calls.get(method)
        if count is None:
            return None
        self._calls[method] = count + 1
        return self._faults.get((method, count + 1))

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self._calls.clear()


def delays_of(seed: int, *what: object) -> tuple[float, float]:
    """Two numbers in [0, 1) that follow from the seed and from what they are for, and from nothing else."""
    there, back = _TWO.unpack(blake2b(f"{seed} {what}".encode(), digest_size=8).digest())
    return there / (1 << 32), back / (1 << 32)


def delay_of(seed: int, *what: object) -> float:
    """One such number."""
    return delays_of(seed, *what)[0]


def store_for(life: Life) -> KernelStore:
    """The shared store, as this life reaches it."""
    return cast(KernelStore, _Connection(life))


class _Connection:
    def __init__(self, life: Life) -> None:
        self._life = life
        self._counts: dict[tuple[str, str], int] = {}
        self._last_answer = 0.0

    @property
    def incarnation(self) -> int:
        return self._life.incarnation

    async def close(self) -> None:
        pass

    def __getattr__(self, method: str) -> Any:
        call = functools.partial(self._call, method)
        self.__dict__[method] = call
        return call

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        life = self._life
        if life.dead:
            raise Killed
        if method == "pending_wakes" and not life.world.plan.processes:
            return ()
        loop = life.world.loop
        effect = Effect(life, method, args, kwargs, loop.create_future())
        life.in_flight += 1
        life.world.travelling += 1
        life.world.asked(effect)
        loop.call_later(self._journey(effect), self._arrive, effect)
        return await effect.answer

    def _journey(self, effect: Effect) -> float:
        """How long the way there takes: a millisecond or two, now and then much longer."""
        subject = (effect.method, effect.session_id)
        count = self._counts[subject] = self._counts.get(subject, 0) + 1
        draw, effect.back = delays_of(self._life.world.plan.seed, self._life.name, *subject, count)
        if draw < 0.04:
            return 0.02 + draw * 10
        return 0.0005 + draw * 0.002

    def _arrive(self, effect: Effect) -> None:
        life, world = effect.life, effect.life.world
        world.travelling -= 1
        if life.dead:
            # It was on its way when its sender died.
            if delay_of(world.plan.seed, life.name, "lands", effect.method, effect.called_at) < world.plan.landing:
                world.ledger.count("landed after death")
                world.shared.perform(effect, functools.partial(self._done, None))
            return
        fault = life.slot.faults.next(effect.method)
        if fault is not None:
            world.trouble(fault.kind, effect)
            if fault.kind == "kill_before":
                life.kill(fault.seconds)
                return
            if fault.kind == "stall":
                world.travelling += 1
                world.trouble_now(until=world.loop.time() + fault.seconds)
                world.loop.call_later(fault.seconds, self._late, effect)
                return
            if fault.kind == "refuse":
                effect.error = StoreUnavailable(f"{effect.method} failed before it was done")
        elif world.is_out(life.slot.index):
            world.trouble("outage", effect)
            effect.error = StoreUnavailable("the store is out")
        if effect.error is not None:
            world.noted(effect, "refused")
            self._send(effect, 0.0)
        else:
            world.shared.perform(effect, functools.partial(self._done, fault))

    def _late(self, effect: Effect) -> None:
        world = effect.life.world
        world.travelling -= 1
        world.trouble("stalled", effect)
        world.shared.perform(effect, functools.partial(self._done, None))

    def _done(self, fault: Fault | None, effect: Effect) -> None:
        """It has taken place. Show it, and send the answer back."""
        life, world = effect.life, effect.life.world
        world.happened(effect)
        if life.dead:
            return
        kind = None if fault is None else fault.kind
        if fault is not None and kind == "kill_after":
            life.kill(fault.seconds)
            return
        if kind == "lose_all":
            effect.then = None
        if kind in ("lose_all", "lose_answer"):
            effect.error = StoreUnavailable(f"{effect.method} failed after it was done")
        back = fault.seconds if fault is not None and kind == "slow_answer" else 0.0
        if not back:
            back = 0.0 if effect.back < 0.6 else (effect.back - 0.6) * 0.005
        self._send(effect, back)

    def _send(self, effect: Effect, back: float) -> None:
        """Answers of one life arrive in the order in which they were given."""
        loop = effect.life.world.loop
        effect.done_at = loop.time()
        at = effect.done_at + back
        if back > _LATE:
            effect.life.world.trouble_now(until=at)
        if at > self._last_answer:
            self._last_answer = at
            if not back:
                self._deliver(effect)
                return
        else:
            at = self._last_answer = self._last_answer + 1e-7
        loop.call_at(at, self._deliver, effect)

    def _deliver(self, effect: Effect) -> None:
        life = effect.life
        if life.dead:
            return
        life.in_flight -= 1
        if life.world.loop.time() - effect.done_at > _LATE:
            life.world.trouble_now()
        if effect.then is not None:
            for value in effect.told:
                effect.then(value)
        life.world.answered(effect)
        if effect.answer.done():
            return  # nobody waits any more
        if effect.error is not None:
            effect.answer.set_exception(effect.error)
        else:
            effect.answer.set_result(effect.result)
