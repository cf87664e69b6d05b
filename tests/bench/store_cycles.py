"""`enqueue → claim → complete` at the port of the SQLite store, without a kernel or a gateway above it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable

import uvloop

from sightline.stores.sqlite import SqliteStore, Synchronous
from sightline.testing.conformance.steps import claim, commit, commit_of, enqueue, new_session
from tests.bench.loops import closed_loop
from tests.bench.measuring import Options, Sample, Subject, collect_seldom
from tests.bench.page import Column, Section, Target
from tests.bench.processes import folder, json_of

__all__ = ["SECTION", "cycles"]

SYNCHRONOUS: tuple[Synchronous, ...] = ("FULL", "NORMAL")
GOAL = 20_000


async def cycle(store: SqliteStore, session_id: str, number: int) -> None:
    """One piece of work from its arrival to its place in the transcript: three durable writes."""
    await enqueue(store, str(number), session_id=session_id)
    held = await claim(store, session_id=session_id, turn=f"t{number}")
    await commit(store, commit_of(held, revision=number))


async def cycles(synchronous: Synchronous, callers: int, *, warm_up: float, seconds: float) -> Sample:
    """So many callers at once, each in a session of its own."""
    with folder() as place:
        store = SqliteStore.open(place / "bench.db", synchronous)
        try:
            for number in range(callers):
                await new_session(store, f"s{number}")
            groups = store.writer.groups
            operations = store.writer.operations
            done = await closed_loop(
                [_caller(store, f"s{number}") for number in range(callers)], warm_up=warm_up, seconds=seconds
            )
            per_group = (store.writer.operations - operations) / (store.writer.groups - groups)
        finally:
            await store.close()
    return {"cycles": done.rate, "writes_per_commit": per_group}


def _caller(store: SqliteStore, session_id: str) -> Callable[[], Awaitable[None]]:
    number = 0

    async def once() -> None:
        nonlocal number
        await cycle(store, session_id, number)
        number += 1

    return once


def name(synchronous: Synchronous, callers: int) -> str:
    return f"{synchronous}, {callers} callers"


def subjects(options: Options) -> list[Subject]:
    def subject(synchronous: Synchronous, callers: int) -> Subject:
        async def measure() -> Sample:
            found: Sample = await json_of(
                "tests.bench.store_cycles",
                *("--synchronous", synchronous, "--callers", str(callers)),
                *("--warm-up", str(options.warm_up), "--seconds", str(options.seconds)),
            )
            return found

        return Subject(name(synchronous, callers), measure)

    return [subject(synchronous, callers) for synchronous in SYNCHRONOUS for callers in options.callers]


SECTION = Section(
    name="store",
    title="The queue in the store",
    method="""\
One cycle is what a piece of work costs the store: it is enqueued, claimed, and completed by the commit of its turn
with one message. That is three writes, each awaited until it is durable. Callers work side by side, each in its own
session. One process, with uvloop, on one core; nothing is above the store.

The store runs in WAL mode. What the two settings of `synchronous` lose:

- `FULL`, the default, waits for the disk at every commit. Nothing that was confirmed is lost, at a power cut
  either.
- `NORMAL` waits for the disk only at checkpoints. At a power cut, or when the operating system goes down, writes
  that were confirmed since the last sync may be lost. At a crash of the process nothing is lost. The file stays
  intact in both cases.

Where the time of a cycle goes, by `perf` and by counting statements (in November 2026, on the machine above): 148 µs
of processor time and 13 statements, of which Python and its binding to SQLite take 45 %, the C library 24 % (mostly
memory for rows and values), SQLite itself 20 %, and the system the rest. It is not the disk: at 128 callers `FULL` and
`NORMAL` are nearly equal. What is left to gain is fewer statements for the same facts.""",
    subjects=subjects,
    heading="setting",
    columns=(
        Column("cycles", "cycles/s"),
        Column("writes_per_commit", "writes per commit"),
    ),
    targets=(
        Target(
            f"`FULL`, 128 callers: at least {GOAL:,} cycles/s",
            lambda rows: rows.median(name("FULL", 128), "cycles"),
            at_least=GOAL,
            unit="cycles/s",
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
        work = cycles(given.synchronous, given.callers, warm_up=given.warm_up, seconds=given.seconds)
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main()
