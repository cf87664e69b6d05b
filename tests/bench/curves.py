"""What a claim costs when much waits: in one session, or in many."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import uvloop

from sightline.stores.sqlite import SqliteStore
from sightline.testing.conformance.steps import NOW, abandon, claim, commit, commit_of, draft, new_session, offer
from tests.bench.measuring import Options, Sample, Subject, collect_seldom
from tests.bench.page import Column, Section, Target
from tests.bench.processes import folder, json_of

__all__ = ["SECTION", "costs"]

_T = TypeVar("_T")

FLAT = 1.5
_AT_ONCE = 500
_POLLED = 256


async def costs(sessions: int, batches: int, repeats: int) -> Sample:
    """With so many sessions that have so many pending batches each: medians in microseconds."""
    with folder() as place:
        store = SqliteStore.open(place / "bench.db", "NORMAL")
        try:
            await _all_of([partial(new_session, store, f"s{number}") for number in range(sessions)])
            waiting = itertools.product(range(batches), range(sessions))
            await _all_of([partial(_enqueue, store, number, str(work)) for work, number in waiting])
            claims: list[float] = []
            again: list[float] = []
            enqueues: list[float] = []
            polls: list[float] = []
            dues: list[float] = []
            revisions = [0] * sessions
            for turn in range(repeats):
                # Spread over all of them, not one after the other: neighbours would share what was just read.
                number = turn * 7919 % sessions
                session_id = f"s{number}"
                held = await _timed(claims, claim(store, session_id=session_id, turn=f"t{turn}"))
                await abandon(store, held, charge=False)
                held = await _timed(again, claim(store, session_id=session_id))
                await commit(store, commit_of(held, revision=revisions[number]))
                revisions[number] += 1
                await _timed(enqueues, _enqueue(store, number, f"more {turn}"))
                if turn % 4 == 0:
                    found = await _timed(polls, store.claimable_sessions(NOW, _POLLED))
                    assert len(found) == min(sessions, _POLLED)
                    assert await _timed(dues, store.next_due(NOW)) is None
        finally:
            await store.close()
    return {
        "claim": statistics.median(claims) * 1e6,
        "again": statistics.median(again) * 1e6,
        "enqueue": statistics.median(enqueues) * 1e6,
        "poll": statistics.median(polls) * 1e6,
        "due": statistics.median(dues) * 1e6,
    }


async def _timed(taken: list[float], work: Awaitable[_T]) -> _T:
    began = time.perf_counter()
    result = await work
    taken.append(time.perf_counter() - began)
    return result


async def _enqueue(store: SqliteStore, number: int, text: str) -> None:
    await offer(store, draft(text, session_id=f"s{number}"), max_open=1_000_000)


async def _all_of(work: Sequence[Callable[[], Awaitable[object]]]) -> None:
    for start in range(0, len(work), _AT_ONCE):
        await asyncio.gather(*(one() for one in work[start : start + _AT_ONCE]))


def subjects(options: Options) -> list[Subject]:
    def subject(name: str, sessions: int, batches: int) -> Subject:
        async def measure() -> Sample:
            found: Sample = await json_of(
                "tests.bench.curves",
                *("--sessions", str(sessions), "--batches", str(batches), "--repeats", str(options.repeats)),
            )
            return found

        return Subject(name, measure)

    return [
        *(subject(depth(batches), 1, batches) for batches in options.depths),
        *(subject(breadth(sessions), sessions, 1) for sessions in options.breadths),
    ]


def depth(batches: int) -> str:
    return f"one session, {batches:,} pending"


def breadth(sessions: int) -> str:
    return f"{sessions:,} sessions, 1 pending each"


SECTION = Section(
    name="curves",
    title="What a claim costs when much waits",
    method="""\
One caller at the port of the SQLite store, `synchronous=NORMAL`, so that the disk is not what is measured. Each
figure is the median of one round. What was claimed is committed and as much is enqueued anew, so that the number
that waits stays. *Again* is the claim of a turn that was begun before and given back, as after a crash. *Poll* is
the runner's question for up to 256 sessions with work, which it asks when it starts and every 0.4 s; *due* its
question when delayed work becomes ready. That claiming looks batches up by an index is a test:
`tests/core/stores/test_sqlite_plans.py` reads SQLite's plan of every statement on the way.""",
    subjects=subjects,
    heading="what waits",
    columns=(
        Column("claim", "claim µs"),
        Column("again", "again µs"),
        Column("enqueue", "enqueue µs"),
        Column("poll", "poll µs"),
        Column("due", "due µs"),
    ),
    amount=lambda options: f"{options.repeats} claims each",
    targets=(
        Target(
            f"a claim with 10,000 pending in a session costs at most {FLAT} × one with 1",
            lambda rows: rows.ratio(depth(10_000), depth(1), "claim"),
            at_most=FLAT,
            unit="×",
        ),
        Target(
            f"a claim with 10,000 sessions that have work costs at most {FLAT} × one with 10",
            lambda rows: rows.ratio(breadth(10_000), breadth(10), "claim"),
            at_most=FLAT,
            unit="×",
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--sessions", "--batches", "--repeats"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(costs(given.sessions, given.batches, given.repeats))))


if __name__ == "__main__":
    main()
