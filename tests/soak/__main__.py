"""`python -m tests.soak [--minutes 30] [--observers 2000] [--sessions 50] [--seed N]`

A server under observers that come and go while turns run: does it grow, and does any of them lose or double an event?
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence

import uvloop

from tests.bench.gateways import serving
from tests.bench.machine import LOAD_CORE
from tests.bench.measuring import collect_seldom
from tests.bench.processes import Process
from tests.soak.players import Player, Stage
from tests.soak.visitors import Visitor
from tests.soak.vitals import Vitals, growth, look, sampling, table

MOST_GROWTH = 0.1
SAMPLE_EVERY = 10.0
LOUD, PASSING_EVERY = 2, 10
"""How many sessions are loud; of the others, every tenth does not last."""
AT_ONCE = 100
FILES_OF_ITS_OWN = 10
"""A server may open so many more for itself: of its data, of its workers."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--observers", type=int, default=2_000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    os.sched_setaffinity(0, {LOAD_CORE})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(soak(given.minutes * 60, given.observers, given.sessions, given.seed))


async def soak(seconds: float, observers: int, sessions: int, seed: int) -> int:
    counts: Counter[str] = Counter()
    samples: list[Vitals] = []
    flags = ("--max-connections", str(observers * 2), "--concurrency", str(sessions + 10), "--synchronous", "NORMAL")
    async with serving(*flags) as server:
        _, files_before, _ = look(server.process)
        stage = Stage(server)
        players = [
            Player(stage, random.Random(f"{seed} player {number}"), loud=number < LOUD, passing=_is_passing(number))
            for number in range(sessions)
        ]
        playing = [asyncio.create_task(player.play()) for player in players]
        await stage.ready(sessions)
        visitors = [Visitor(stage, random.Random(f"{seed} {number}"), counts) for number in range(observers)]
        visiting = [asyncio.create_task(visitor.visit()) for visitor in visitors]
        watching = asyncio.create_task(sampling(server.process, SAMPLE_EVERY, lambda: counts["events"], samples))
        await asyncio.wait(playing, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        watching.cancel()
        for player in players:
            player.over = True
        wrong = _wrong(await asyncio.gather(*playing, return_exceptions=True))
        for visitor in visitors:
            visitor.stop()
        wrong += _wrong(await asyncio.gather(*visiting, return_exceptions=True))
        lasts = await stage.last_cursors()
        wrong += _wrong(await _a_few_at_once(visitor.see_through(lasts) for visitor in visitors))
        files_after = await _files_once_quiet(server.process, files_before + FILES_OF_ITS_OWN)
        if files_after > files_before + FILES_OF_ITS_OWN:
            wrong.append(f"{files_after} files are open once everybody has left; it began with {files_before}")
        if counts["gap unavailable"]:
            wrong.append("gaps because something could not be proved, on a server that neither restarted nor failed")
        if "Traceback" in server.process.log:
            wrong.append(f"the server complained: {server.process.log[-2000:]}")
    grown = growth(samples) if len(samples) >= 6 else 0.0
    print(table(samples))
    print(f"turns: {stage.turns:,}; " + "; ".join(f"{name}: {count:,}" for name, count in sorted(counts.items())))
    print(f"files open before: {files_before}, after: {files_after}")
    flat = grown <= MOST_GROWTH
    print(f"memory is {'flat' if flat else 'NOT flat'}: its last third lies {grown:+.1%} above the second")
    print(f"lost, doubled or otherwise wrong: {len(wrong)}")
    for what in wrong[:10]:
        print(f"  {what}")
    return 0 if flat and not wrong else 1


def _is_passing(number: int) -> bool:
    return number >= LOUD and number % PASSING_EVERY == 0


def _wrong(outcomes: Iterable[object]) -> list[str]:
    return [f"{type(outcome).__name__}: {outcome}" for outcome in outcomes if isinstance(outcome, BaseException)]


async def _a_few_at_once(works: Iterable[Awaitable[None]]) -> list[object]:
    free = asyncio.Semaphore(AT_ONCE)

    async def one(work: Awaitable[None]) -> None:
        async with free:
            await work

    return list(await asyncio.gather(*(one(work) for work in works), return_exceptions=True))


async def _files_once_quiet(process: Process, few: int, seconds: float = 60) -> int:
    """How many are open when it has let go of everybody, or after so long."""
    for _ in range(int(seconds)):
        if look(process)[1] <= few:
            break
        await asyncio.sleep(1)
    return look(process)[1]


if __name__ == "__main__":
    sys.exit(main())
