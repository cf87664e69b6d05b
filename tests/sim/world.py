"""One world, from its first moment to the verdict.

`run(plan)` lets the plan happen: workers begin, clients take their steps, things go wrong. When all clients are done
nothing goes wrong any more: the faults heal, somebody works again, and everything that was accepted must come to an
end, within a time that is generous and bounded. Then the world stands still and is audited.

The first violation ends the world. A `Verdict` says what it was, how often what kind of thing happened, and, if asked
to, everything that did.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.kernel import KernelStore
from sightline.process.model import Registered
from sightline.session.model import NewSession
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.turn.agent import AgentError
from sightline.turn.requests import Asked
from tests.sim import laws_of_requests
from tests.sim.agent import ScriptedAgent
from tests.sim.audit import audit, audit_claims, audit_views
from tests.sim.clients import Client, Sent
from tests.sim.effects import Effect, SharedStore
from tests.sim.ledger import Book, Law, Ledger, Violation
from tests.sim.lives import Life, Slot, acting
from tests.sim.loop import Killed, SimClock, Standstill, VirtualLoop
from tests.sim.outside import Outside
from tests.sim.people import People
from tests.sim.plan import Command, Outage, Plan, Post, StepClock, Stop
from tests.sim.referee import Referee
from tests.sim.scripts import AsPlanned, Scripts
from tests.sim.trace import Trace

__all__ = ["Verdict", "World", "run"]

_END_BASE = 60.0
_END_EACH = 15.0
_QUIET = 0.1


@dataclass
class Verdict:
    """`violation` none: all laws held."""

    violation: Violation | None
    counts: dict[str, int] = field(default_factory=dict)
    trace: Trace | None = None
    ended_at: float = 0.0


class World:
    """A plan, happening."""

    def __init__(self, plan: Plan, loop: VirtualLoop, store: KernelStore, *, threaded: bool, traced: bool) -> None:
        self.plan = plan
        self.loop = loop
        self.shared = SharedStore(store, loop, threaded=threaded)
        self.agent = ScriptedAgent(plan, self.performed, self.heard, self.began)
        self.people = People(self)
        self.outside = Outside(self)
        self.scripts = Scripts(self)
        self.referee = Referee(self)
        self.trace = Trace() if traced else None
        self.sent: dict[str, Sent] = {}
        self.accepted: dict[str, str] = {}
        self.started: dict[str, str] = {}
        """The ids of processes, by the names that their plans have."""
        self.posts = {
            step.name: step for client in plan.clients for step in client.steps if isinstance(step, Post | Command)
        }
        self.slots = [Slot(self, index, worker) for index, worker in enumerate(plan.workers)]
        self.closing = False
        self.ended_well: set[str] = set()
        self.last_trouble = 0.0
        self.stepped_ms = 0
        self.stepped_back_ms = 0
        self.travelling = 0
        """Calls that have set out and not taken place yet."""
        self._healed = False
        self._outages: list[Outage] = []
        self._ended: asyncio.Future[None] | None = None
        self._verdict: asyncio.Future[Violation | None] = loop.create_future()
        self._context = copy_context()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ledger(self) -> Ledger:
        return self.referee.ledger

    # What others tell the world

    def note(self, who: str, what: str) -> None:
        if self.trace is not None:
            self.trace.add(self.loop.time(), who, what)

    def noted(self, effect: Effect, how: str) -> None:
        """A call that did not take place."""
        self.referee.tried(effect)
        if self.trace is not None:
            self.trace.effect(self.loop.time(), effect, f"{how}: ")

    def asked(self, effect: Effect) -> None:
        self.referee.asked(effect)

    def happened(self, effect: Effect) -> None:
        if self.trace is not None:
            self.trace.effect(self.loop.time(), effect, "landed: " if effect.life.dead else "")
        self.lawful(lambda: self.referee.happened(effect))
        if isinstance(effect.result, Asked) and effect.result.answer is None:
            self.people.asked(effect.session_id, effect.result.request)
        elif isinstance(effect.result, Registered):
            self.outside.registered(effect.result.record)
        if self._ended is not None and not self._ended.done() and not self.ledger.has_open_work:
            self._ended.set_result(None)

    def performed(self, session_id: str, turn_id: str, key: str) -> None:
        """An agent is about to do something."""
        self.lawful(lambda: laws_of_requests.performed(self.ledger, acting(), session_id, turn_id, key))

    def heard(self, session_id: str, turn_id: str, key: str, answer: str) -> None:
        """An agent has got an answer."""
        self.lawful(lambda: laws_of_requests.heard(self.ledger, acting(), session_id, turn_id, key, answer))

    def began(self, name: str, process_id: str) -> None:
        """Somebody was told that a process is registered."""
        self.lawful(lambda: self.outside.acknowledged(process_id))
        self.started[name] = process_id

    def lawful(self, check: Callable[[], None]) -> None:
        """Hold what somebody does against the laws."""
        try:
            check()
        except Violation as violation:
            self.violated(violation)

    def answered(self, effect: Effect) -> None:
        self.referee.answered(effect)

    def trouble(self, kind: str, effect: Effect) -> None:
        self.trouble_now()
        self.ledger.count(kind)
        self.ledger.count(f"{kind} {effect.method}")
        self.note(effect.life.name, f"{kind}: {effect.method}")

    def trouble_now(self, until: float = 0.0) -> None:
        """Something goes wrong, up to that time if it is in the future."""
        self.last_trouble = max(self.last_trouble, self.loop.time(), until)

    @property
    def living(self) -> list[Life]:
        return [slot.life for slot in self.slots if slot.life is not None and not slot.life.stopping]

    def is_alive(self, name: str) -> bool:
        return any(life.name == name for life in self.living)

    def is_out(self, worker: int) -> bool:
        now = self.loop.time()
        return any(
            outage.worker in (None, worker) and outage.at <= now < outage.at + outage.seconds
            for outage in self._outages
        )

    def violated(self, violation: Violation) -> None:
        if not self._verdict.done():
            self.note("", f"VIOLATION: {violation}")
            self._verdict.set_result(violation)

    # Its course

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something that belongs to no process."""
        task = self.loop.create_task(work, context=self._context)
        self._tasks.append(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Violation):
            self.violated(error)
        elif error is not None:
            self.violated(Violation(Law.EXPECTED, f"{type(error).__name__}: {error}"))

    def surprised(self, message: str) -> None:
        """The kernel logged an error that is none of its own."""
        self.violated(Violation(Law.EXPECTED, message))

    def unseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop found an error that nobody looked at. Of the dead it is to be expected."""
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.surprised(f"{context['message']}: {error!r}")

    async def happen(self) -> Violation | None:
        self.spawn(self._story())
        return await self._verdict

    async def _story(self) -> None:
        for number in range(self.plan.sessions):
            await self._create(f"s{number}")
        for slot in self.slots:
            self.loop.call_at(slot.plan.starts_at, slot.begin)
        for event in self.plan.events:
            self._schedule(event)
        clients = [
            self.loop.create_task(Client(self, index, client).run(), context=copy_context())
            for index, client in enumerate(self.plan.clients)
        ]
        for client in clients:
            self._tasks.append(client)
        await asyncio.gather(*clients)
        await self._come_to_an_end()
        await asyncio.sleep(_QUIET)
        await audit(self)
        await audit_views(self)
        for life in self.living:
            await life.stop(0.0, -1.0)
        audit_claims(self)
        if not self._verdict.done():
            self._verdict.set_result(None)

    async def _create(self, session_id: str) -> None:
        new = NewSession(session_id=session_id)
        self.loop.enter_thread()
        try:
            await self.shared.store.create_session(new, SimClock(self.loop).now_ms(), lambda _: None)
        finally:
            self.loop.leave_thread()
        self.ledger.books[session_id] = Book(session_id)

    def _schedule(self, event: Stop | StepClock | Outage) -> None:
        match event:
            case Stop(worker=worker, at=at, grace=grace, back_after=back_after):
                self.loop.call_at(at, self._stop, worker, grace, back_after)
            case StepClock(worker=worker, at=at, by_ms=by_ms):
                self.loop.call_at(at, self._step, worker, by_ms)
            case Outage():
                self._outages.append(event)
                self.loop.call_at(event.at + event.seconds, self.trouble_now)

    def _stop(self, worker: int, grace: float, back_after: float) -> None:
        life = self.slots[worker].life
        if life is not None and not self._healed:
            self.spawn(life.stop(grace, back_after))

    def _step(self, worker: int, by_ms: int) -> None:
        if not self._healed:
            self.stepped_ms += abs(by_ms)
            self.stepped_back_ms += max(0, -by_ms)
            self.slots[worker].step_clock(by_ms)

    async def _come_to_an_end(self) -> None:
        """Nothing goes wrong any more, and what is open ends."""
        self.note("", "all clients are done, everything heals")
        self._healed = True
        self._outages.clear()
        for slot in self.slots:
            slot.faults.heal()
        self.trouble_now()
        self.rescue()
        while self.travelling or self.ledger.has_open_work or self.outside.at_work:
            if self.ledger.has_open_work:
                await self._all_ends()
            else:
                await asyncio.sleep(0.01)  # what is still on its way may bring work

    async def _all_ends(self) -> None:
        self._ended = self.loop.create_future()
        patience = _END_BASE + _END_EACH * len(self.ledger.open_work)
        await asyncio.wait([self._ended], timeout=patience)
        if not self._ended.done():
            left = self.ledger.open_work
            raise Violation(Law.ENDS, f"{left} has not ended within {patience:.0f} s after everything healed")

    def rescue(self) -> None:
        """See to it that somebody works, once everything has healed."""
        if self._healed and not self.closing and not any(life.slot.plan.runs_work for life in self.living):
            self.loop.call_later(0.1, self.slots[0].begin)

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        self.closing = True
        await self._end_all_tasks()
        await self.shared.close()
        for slot in self.slots:
            for life in slot.lives:
                life.forget()
            vars(slot).clear()

    async def _end_all_tasks(self) -> None:
        lives = [life for slot in self.slots for life in slot.lives]
        for _ in range(50):
            running: list[asyncio.Task[Any]] = [task for task in self._tasks if not task.done()]
            for life in lives:
                life.dead = life.clock.halted = True
                running += life.left_over
            if not running:
                return
            for task in running:
                task.cancel()
            await asyncio.sleep(0)
        raise AssertionError(f"these go on for ever: {running}")


def run(plan: Plan, *, traced: bool = False, database: Path | None = None) -> Verdict:
    """Let the plan happen, over the store in memory, or over a new SQLite file."""
    loop = VirtualLoop()
    try:
        store = MemoryStore(SimClock(loop)) if database is None else SqliteStore.open(database, "NORMAL")
        world = World(plan, loop, store, threaded=database is not None, traced=traced)
        loop.set_exception_handler(world.unseen)
        happening = loop.create_task(world.happen())
        with _listening(world):
            try:
                violation = loop.run_until_complete(happening)
            except Standstill as error:
                violation = Violation(Law.ENDS, str(error))
                happening.cancel()
            loop.run_until_complete(world.close())
        return Verdict(violation, world.ledger.counts, world.trace, loop.time())
    finally:
        loop.close()


@contextlib.contextmanager
def _listening(world: World) -> Iterator[None]:
    """Keep the kernel's log from everybody else, and look through it for errors that nobody planned."""
    log = logging.getLogger("sightline")
    listener, propagated = _Listener(world), log.propagate
    log.addHandler(listener)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(listener)
        log.propagate = propagated


class _Listener(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        told = record.args if isinstance(record.args, tuple) else ()
        errors = [part for part in told if isinstance(part, BaseException)]
        if record.exc_info and record.exc_info[1] is not None:
            errors.append(record.exc_info[1])
        for error in errors:
            if not isinstance(error, SightlineError | AgentError | AsPlanned | Killed):
                self._world.surprised(f"{record.getMessage()}: {error!r}")
