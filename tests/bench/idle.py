"""What sessions cost that nobody uses: memory once they are let go, and how often a gateway wakes up for them."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import time
import tracemalloc
from functools import partial

import uvloop

from sightline.agents.demo import demo
from sightline.clock import SystemClock
from sightline.kernel import Kernel
from sightline.queue.model import Draft, TextItem, TurnInput, TurnInputPayload
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.stores.sqlite import SqliteStore
from tests.bench.gateways import serving
from tests.bench.http_load import Connection, connections
from tests.bench.measuring import Options, Sample, Subject, collect_seldom
from tests.bench.page import Column, Section, Target
from tests.bench.processes import folder, json_of

__all__ = ["MEMORY_SECTION", "WAKING_SECTION", "memory", "wake_ups"]

GOAL_KIB = 4
SAME = 1.25
"""Times as often as without any session, at most: what is not a matter of their number."""
_AT_ONCE = 200
_CLIENTS = 50
_WAVES = 10
_YEAR = 365 * 86_400.0


class _Ahead(SystemClock):
    """A clock that can be set forward, so that what is kept for a time is old at once."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def memory(sessions: int, *, waves: int, traced: bool) -> Sample:
    """A kernel on disk that ran a turn in each of so many sessions: KiB for each, at the most and when all are let go.

    In several waves, what one wave leaves behind is used again by the next. With `traced`, as Python's allocator counts
    it; without, as the system sees the process.
    """
    with folder() as place:
        clock = _Ahead()
        store = SqliteStore.open(place / "bench.db", "NORMAL")
        kernel = Kernel(store=store, replay=MemoryReplayStore(clock, store.incarnation), agent=demo, clock=clock)
        await kernel.start()
        # What every process needs once is there before the first figure is taken.
        await _a_turn_in_each(kernel, "early", _AT_ONCE)
        await _let_go(kernel, clock)
        if traced:
            tracemalloc.start()
        before = loaded = _bytes(traced)
        for wave in range(waves):
            await _a_turn_in_each(kernel, f"s{wave}-", sessions // waves)
            gc.collect()
            loaded = max(loaded, _bytes(traced))
            await _let_go(kernel, clock)
        released = _bytes(traced)
        if traced:
            tracemalloc.stop()
        await kernel.stop()
        await store.close()
    return {"loaded": (loaded - before) / sessions / 1024, "released": (released - before) / sessions / 1024}


async def _a_turn_in_each(kernel: Kernel, prefix: str, sessions: int) -> None:
    async def turn(session_id: str) -> None:
        await kernel.create_session(session_id)
        work = TurnInputPayload(TurnInput((TextItem("echo hello"),)))
        written = await kernel.enqueue(Draft(session_id=session_id, payloads=(work,)))
        batch = await kernel.wait_for_batch(session_id, written.batch.batch_id, 60.0)
        assert batch.state == "completed", batch

    names = [f"{prefix}{number}" for number in range(sessions)]
    for start in range(0, sessions, _AT_ONCE):
        await asyncio.gather(*map(turn, names[start : start + _AT_ONCE]))


async def _let_go(kernel: Kernel, clock: _Ahead) -> None:
    """Do the housekeeping of a time when everything that is kept for a while is old."""
    clock.ahead += _YEAR
    async with asyncio.timeout(10):
        await kernel.sweep()
        while kernel._handles:  # one is in use until its turn's last step, a moment after the turn has ended
            await asyncio.sleep(0.05)
            await kernel.sweep()
    gc.collect()


def _bytes(traced: bool) -> int:
    if traced:
        return tracemalloc.get_traced_memory()[0]
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def wake_ups(sessions: int, *, settle: float, seconds: float) -> Sample:
    """A gateway that ran a turn in each of so many sessions, let them go, and is left alone."""
    async with serving("--synchronous", "NORMAL", "--replay-max-age", "1") as gateway:
        names = iter([f"s{number}" for number in range(sessions)])

        async def turns(line: Connection) -> None:
            for session_id in names:
                await gateway.create(line, session_id)
                await gateway.whole_turn(line, session_id, "echo hello")

        async with connections(gateway.port, _CLIENTS) as lines:
            await asyncio.gather(*map(turns, lines))
        await asyncio.sleep(settle)
        process = gateway.process
        began, switches, cpu = time.perf_counter(), process.switches, process.cpu_seconds
        await asyncio.sleep(seconds)
        taken = time.perf_counter() - began
        return {
            "switches": (process.switches - switches) / taken,
            "cpu": (process.cpu_seconds - cpu) / taken * 100,
            "resident": process.resident_bytes / 1024**2,
        }


AT_ONCE = "resident, all loaded at once"
IN_WAVES = "resident, a tenth loaded at a time"
TRACED = "held by Python, all loaded at once"


def subjects(options: Options) -> list[Subject]:
    def kept(name: str, *flags: str) -> Subject:
        async def measure() -> Sample:
            found: Sample = await json_of("tests.bench.idle", "--sessions", str(options.idle), *flags)
            return found

        return Subject(name, measure)

    return [kept(AT_ONCE), kept(IN_WAVES, "--waves", str(_WAVES)), kept(TRACED, "--traced")]


def gateways(options: Options) -> list[Subject]:
    return [
        Subject(
            gateway_with(sessions),
            partial(wake_ups, sessions, settle=options.settle_seconds, seconds=options.idle_seconds),
        )
        for sessions in (0, options.idle)
    ]


def gateway_with(sessions: int) -> str:
    return f"{sessions:,} sessions" if sessions else "no session"


MEMORY_SECTION = Section(
    name="memory",
    title="Memory of a session that is let go",
    method="""\
A kernel with the demo agent on a SQLite file runs one turn (`echo hello`) in each session. The first column is the
most that was in use while they were in memory with their live logs; the second is what is left when they were let
go, by one round of the kernel's housekeeping at a time when those logs are past their age. Both are what the process
has more than before, shared out among all sessions. *Resident* is the memory the system sees. It does not shrink with
what Python holds, because the allocators keep freed memory for later; how much they keep depends on how many sessions
were loaded at one time, which the second row shows. *Held* is what `tracemalloc` counts, in a process of its own.

Which one counts? *Held* says whether anything is forgotten: it is what a session costs for as long as nobody uses it.
*Resident* at once is the most that was ever needed, kept for the next session that is loaded; ten thousand more need
no more of it. Who sizes a machine looks at the resident one.""",
    subjects=subjects,
    heading="memory",
    columns=(Column("loaded", "at the most, KiB for a session"), Column("released", "let go, KiB for a session")),
    amount=lambda options: f"{options.idle:,} sessions each",
    targets=(
        Target(
            f"memory of a session that is let go, held by Python: below {GOAL_KIB} KiB",
            lambda rows: rows.median(TRACED, "released"),
            below=GOAL_KIB,
            unit="KiB",
        ),
        Target(
            f"the same, resident, after all were loaded at once: below {GOAL_KIB} KiB",
            lambda rows: rows.median(AT_ONCE, "released"),
            below=GOAL_KIB,
            unit="KiB",
        ),
    ),
)

WAKING_SECTION = Section(
    name="idle",
    title="A gateway that is left alone",
    method="""\
A gateway ran a turn in each session, let the sessions go, and gets no more requests. Counted are the context switches
of all its threads, which is how often it woke up or was interrupted, and its processor time. What wakes it is the
runner's poll every 0.4 s, the server's own ticks, and a round of housekeeping every 15 s.""",
    subjects=gateways,
    heading="in the store",
    columns=(
        Column("switches", "context switches/s"),
        Column("cpu", "CPU, % of a core"),
        Column("resident", "resident MiB"),
    ),
    amount=lambda options: f"{options.idle_seconds:g} s each, {options.settle_seconds:g} s after the last turn",
    targets=(
        Target(
            f"wake-ups with 10,000 sessions: at most {SAME} × those without any",
            lambda rows: rows.ratio(gateway_with(10_000), gateway_with(0), "switches"),
            at_most=SAME,
            unit="×",
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--waves", type=int, default=1)
    parser.add_argument("--traced", action="store_true")
    given = parser.parse_args()
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(memory(given.sessions, waves=given.waves, traced=given.traced))))


if __name__ == "__main__":
    main()
