"""A worker of processes in a world that a test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sightline.kernel import KernelStore
from sightline.process.awaiting import ProcessWaits
from sightline.process.engine import Engine, ProcessWork
from sightline.process.functions import FunctionEngine, Functions
from sightline.process.model import (
    Appended,
    AwaitOutput,
    CancelledOutput,
    FailureOutput,
    ProcessRecord,
    SuccessOutput,
)
from sightline.process.worker import ProcessWorker, WorkerLimits
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock
from sightline.testing.faults import Faults, faulty
from sightline.testing.ids import CountingIds

Work = Callable[[ProcessWork], Awaitable[object]]


async def at_once(work: ProcessWork) -> object:
    return "done"


async def for_ever(work: ProcessWork) -> object:
    await asyncio.Event().wait()
    return None


@dataclass
class Engines:
    """Runs what was planned for a process's id, or comes to "done" at once. Remembers what was begun and cancelled."""

    begun: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    at_work: int = 0
    most: int = 0
    unknown: set[str] = field(default_factory=set)
    works: dict[str, ProcessWork] = field(default_factory=dict)
    _plans: dict[str, Work] = field(default_factory=dict)
    _has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    def plan(self, process_id: str, work: Work) -> None:
        self._plans[process_id] = work

    async def wait_begun(self, process_id: str, times: int = 1) -> None:
        while self.begun.count(process_id) < times:
            self._has_begun.clear()
            await self._has_begun.wait()

    def knows(self, record: ProcessRecord) -> bool:
        return record.process_id not in self.unknown

    async def run(self, work: ProcessWork) -> SuccessOutput | FailureOutput | CancelledOutput:
        self.begun.append(work.process_id)
        self.works[work.process_id] = work
        self._has_begun.set()
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            return SuccessOutput(value=await self._plans.get(work.process_id, at_once)(work))
        except asyncio.CancelledError:
            self.cancelled.append(work.process_id)
            raise
        finally:
            self.at_work -= 1


@dataclass
class Place:
    """`store` is the store itself, past the faults that the worker meets."""

    store: KernelStore
    clock: ManualClock
    faults: Faults
    engines: Engines
    worker: ProcessWorker
    waits: ProcessWaits
    logged: list[Appended]
    limits: WorkerLimits

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    async def look(self) -> None:
        async with asyncio.timeout(20):
            await self.worker.claim_and_run_pending()

    async def end_of(self, process_id: str = "p") -> AwaitOutput:
        async with asyncio.timeout(20):
            return await self.waits.end_of(process_id)

    async def begun(self, process_id: str = "p", times: int = 1) -> None:
        async with asyncio.timeout(20):
            await self.engines.wait_begun(process_id, times)

    async def idle(self) -> None:
        """Return when nothing runs."""
        async with asyncio.timeout(20):
            await self.worker.wait_idle()

    def another(self, engine: Engine, prefix: str = "other ") -> ProcessWorker:
        """A second worker on the same store; the test starts and stops it."""
        return ProcessWorker(
            self.store,
            {"function": engine},
            waits=self.waits,
            clock=self.clock,
            ids=CountingIds(prefix),
            limits=self.limits,
        )


def memory(_: Path, clock: ManualClock) -> KernelStore:
    return MemoryStore(clock)


def sqlite(folder: Path, clock: ManualClock) -> KernelStore:
    return SqliteStore.open(folder / "store.db", "NORMAL")


MakeStore = Callable[[Path, ManualClock], KernelStore]
both_stores = pytest.mark.parametrize("make", [memory, sqlite], ids=lambda make: make.__name__)


@asynccontextmanager
async def working(
    make: MakeStore = memory,
    folder: Path = Path(),
    *,
    functions: Functions | None = None,
    limits: WorkerLimits | None = None,
) -> AsyncIterator[Place]:
    """A started worker that looks when it is told to, of what was planned or of these functions. On the way out it is
    stopped, and no task may be left.
    """
    before = asyncio.all_tasks()
    clock, faults, engines = ManualClock(), Faults(), Engines()
    store = make(folder, clock)
    met = faulty(store, faults)
    waits = ProcessWaits(met, clock)
    logged: list[Appended] = []
    engine: Engine = engines if functions is None else FunctionEngine(functions)
    limits = limits or WorkerLimits()
    worker = ProcessWorker(
        met,
        {"function": engine},
        waits=waits,
        clock=clock,
        ids=CountingIds(),
        limits=limits,
        logged=logged.append,
    )
    worker.start()
    try:
        yield Place(store, clock, faults, engines, worker, waits, logged, limits)
    finally:
        faults.heal()
        await worker.stop()
        await store.close()
    left = asyncio.all_tasks() - before
    assert not left, left
