"""Functions as processes, from their registration to their end; and what it costs to look for work among many."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from functools import partial

import uvloop

from sightline.kernel import Kernel
from sightline.process.functions import FunctionEngine, Functions, RunningProcess, function_registration
from sightline.process.kinds import FUNCTION
from sightline.stores.sqlite import SqliteStore, Synchronous
from sightline.testing.conformance.steps import ignored
from sightline.turn.agent import Turn
from tests.bench.loops import closed_loop
from tests.bench.measuring import Options, Sample, Subject, collect_seldom
from tests.bench.page import Column, Section, Target
from tests.bench.processes import folder, json_of

__all__ = ["LOOKING_SECTION", "SECTION", "looking", "short"]

SYNCHRONOUS: tuple[Synchronous, ...] = ("FULL", "NORMAL")
GOAL = 1_000
_AT_ONCE = 500
_LEASE_MS = 30_000


async def short(synchronous: Synchronous, callers: int, *, warm_up: float, seconds: float) -> Sample:
    """So many callers at once, each of which registers a process when the function of its last one has returned."""
    functions = Functions()
    returned: dict[int, asyncio.Future[None]] = {}
    number = 0

    @functions.process("short")
    async def work(process: RunningProcess, number: int) -> int:
        returned.pop(number).set_result(None)
        return number

    async def agent(turn: Turn) -> None:
        raise AssertionError

    async def once() -> None:
        nonlocal number
        number += 1
        mine = returned[number] = asyncio.get_running_loop().create_future()
        await kernel.processes.start_process(function_registration(f"p{number}", "short", {"number": number}))
        await mine

    with folder() as place:
        store = SqliteStore.open(place / "bench.db", synchronous)
        kernel = Kernel(store=store, agent=agent, engines={FUNCTION: FunctionEngine(functions)})
        await kernel.start()
        try:
            done = await closed_loop([once] * callers, warm_up=warm_up, seconds=seconds, cpu=time.process_time)
            await kernel.drain(60.0)
            assert (await store.list_processes(limit=1, after=None, status="running")).processes == ()
        finally:
            await kernel.stop()
            await store.close()
    return {"processes": done.rate, "cpu_us": done.cpu_us}


async def looking(rows: int, held: bool, repeats: int) -> Sample:
    """One look of a worker, with so many processes that run; `held`: somebody has them all."""
    with folder() as place:
        store = SqliteStore.open(place / "bench.db", "NORMAL")
        try:
            for start in range(0, rows, _AT_ONCE):
                names = [f"p{number:06}" for number in range(start, min(rows, start + _AT_ONCE))]
                await asyncio.gather(
                    *(
                        store.register_process(function_registration(name, "short"), now=0, then=ignored)
                        for name in names
                    )
                )
                if held:
                    await asyncio.gather(*(_hold(store, name) for name in names))
            spent: list[float] = []
            for _ in range(repeats):
                began = time.perf_counter()
                page = await store.runnable_processes(now=1, limit=256)
                spent.append(time.perf_counter() - began)
                assert len(page) == (0 if held else min(rows, 256))
        finally:
            await store.close()
    return {"ms": statistics.median(spent) * 1000}


async def _hold(store: SqliteStore, name: str) -> None:
    await store.acquire_process_lease(name, owner_id="me", lease_token="t", now=0, ttl_ms=_LEASE_MS)


def name(synchronous: Synchronous, callers: int) -> str:
    return f"{synchronous}, {callers} callers"


def subjects(options: Options) -> Sequence[Subject]:
    def subject(synchronous: Synchronous, callers: int) -> Subject:
        async def measure() -> Sample:
            found: Sample = await json_of(
                "tests.bench.short_processes",
                *("--synchronous", synchronous, "--callers", str(callers)),
                *("--warm-up", str(options.warm_up), "--seconds", str(options.seconds)),
            )
            return found

        return Subject(name(synchronous, callers), measure)

    return [subject(synchronous, callers) for synchronous in SYNCHRONOUS for callers in options.callers]


def looks(options: Options) -> Sequence[Subject]:
    return [
        Subject("that nobody has", partial(looking, options.idle, False, options.repeats)),
        Subject(HELD, partial(looking, options.idle, True, options.repeats)),
    ]


HELD = "that somebody has"

SECTION = Section(
    name="processes",
    title="Short processes",
    method="""\
A Python function that returns at once, as a process: it is registered, found, acquired under a lease, run, and its end
written with its output. That is three writes, each awaited until it is durable. Callers work side by side; each
registers the next process when the function of its last one has returned. One process of the system, with uvloop, on
one core, without a gateway. The processor time is that of all of it.""",
    subjects=subjects,
    heading="setting",
    columns=(Column("processes", "processes/s"), Column("cpu_us", "µs of processor time each")),
    targets=(
        Target(
            f"short processes, `FULL`, 128 callers: at least {GOAL:,}/s",
            lambda rows: rows.median(name("FULL", 128), "processes"),
            at_least=GOAL,
            unit="processes/s",
        ),
    ),
)

LOOKING_SECTION = Section(
    name="process-looks",
    title="Looking for processes to run",
    method="""\
A worker looks every `--poll-interval` (0.4 s), and when it is poked. A look costs one query for each page of 256
processes that it finds, and none for those that somebody has: they are passed over in the index. Measured is the query
with 10,000 processes that run, without a kernel. `tests/core/stores/test_sqlite_processes.py` reads SQLite's plan of
it, and `tests/core/process/test_worker.py` counts the queries.""",
    subjects=looks,
    heading="10,000 processes that run",
    columns=(Column("ms", "ms for a page"),),
    amount=lambda options: f"{options.repeats} queries each",
    targets=(
        Target(
            "a look at 10,000 processes that somebody has: below 5 ms",
            lambda rows: rows.median(HELD, "ms"),
            below=5,
            unit="ms",
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--synchronous", choices=SYNCHRONOUS, required=True)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        work = short(given.synchronous, given.callers, warm_up=given.warm_up, seconds=given.seconds)
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main()
