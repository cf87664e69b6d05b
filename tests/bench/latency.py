"""How long it takes from asking for a turn to the first sign of it at somebody who watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.bench.gateways import serving, turn, turns_of
from tests.bench.http_load import Connection, connections
from tests.bench.loops import open_loop
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.observers import FirstFrames, Transport, observing
from tests.bench.page import Column, Section, Target
from tests.bench.peers.langgraph_runs import WORKERS, development_server, new_thread, prepare, run_of

__all__ = ["SECTION", "first_frames"]

TRANSPORTS: tuple[Transport, ...] = ("WebSocket", "SSE")
MEDIAN_GOAL_MS = 5
P99_GOAL_MS = 20
_LAST_SECONDS = 30.0
_WARM_UP_TURNS = 2
_FRESH_SECONDS = 2.0


class _Lines:
    """Connections for requests that overlap: the one that was in use last, or a new one.

    One that is idle for long is not used again: the server may be about to close it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[float, Connection]] = []
        self._all: list[Connection] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        since, line = self._free.pop() if self._free else (0.0, None)
        if line is None or time.perf_counter() - since > _FRESH_SECONDS:
            line = await Connection.to(self._port)
            self._all.append(line)
        yield line
        self._free.append((time.perf_counter(), line))

    def close(self) -> None:
        for line in self._all:
            line.close()


class _Waits:
    """Of all turns of a round, in seconds from the moment the request was written."""

    def __init__(self) -> None:
        self.answered: list[float] = []
        self.seen: list[float] = []

    def sample(self, late: float) -> Sample:
        return {
            "seen_p50": _part(self.seen, 0.50),
            "seen_p99": _part(self.seen, 0.99),
            "answered_p50": _part(self.answered, 0.50),
            "answered_p99": _part(self.answered, 0.99),
            "late": late * 1000,
        }


def _part(values: Sequence[float], part: float) -> float:
    """The value below which this part of them lies, in milliseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(part * len(ordered)))] * 1000


async def first_frames(transport: Transport, sessions: int, *, rate: float, seconds: float) -> Sample:
    """Turns of our gateway. Raises TimeoutError when a frame never comes."""
    seen, waits = FirstFrames(), _Waits()
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving())
        lines = _Lines(gateway.port)
        stack.callback(lines.close)
        async with connections(gateway.port, 1) as [line]:
            for index in range(sessions):
                await gateway.create(line, f"s{index}")
        for index in range(sessions):
            await stack.enter_async_context(observing(gateway.port, f"s{index}", transport, seen))

        async def once(index: int, count: _Waits) -> None:
            session_id = f"s{index % sessions}"
            async with lines.one() as line:
                sent = time.perf_counter()
                answer = await line.send("POST", turns_of(session_id), turn(f"echo {index}"))
                count.answered.append(time.perf_counter() - sent)
            assert answer.status == 202, answer
            async with asyncio.timeout(_LAST_SECONDS):
                count.seen.append(await seen.of(index) - sent)

        await open_loop(lambda index: once(-1 - index, _Waits()), rate=rate, seconds=_WARM_UP_TURNS * sessions / rate)
        late = await open_loop(lambda index: once(index, waits), rate=rate, seconds=seconds)
    return waits.sample(late)


async def first_frames_of_runs(jobs: int | None, threads: int, *, rate: float, seconds: float) -> Sample:
    """Runs of the peer, whose stream is the answer to the request: its head answers, its first event is seen."""
    waits = _Waits()
    async with development_server(jobs) as (_, port), connections(port, threads) as made:
        names = [await new_thread(line) for line in made]
        lines = _Lines(port)

        async def once(index: int) -> None:
            sent = time.perf_counter()
            first: list[float] = []

            def head() -> None:
                waits.answered.append(time.perf_counter() - sent)

            def piece(data: bytes) -> None:
                if not first and b"event: " in data:
                    first.append(time.perf_counter() - sent)

            async with lines.one() as line, asyncio.timeout(_LAST_SECONDS + seconds):
                path = f"/threads/{names[index % threads]}/runs/stream"
                answer = await line.send("POST", path, run_of(str(index)), on_head=head, on_piece=piece)
            assert answer.status == 200, answer
            waits.seen += first

        try:
            late = await open_loop(once, rate=rate, seconds=seconds)
        finally:
            lines.close()
    return waits.sample(late)


def subjects(options: Options) -> list[Subject]:
    def ours(transport: Transport) -> Subject:
        return Subject(
            name(transport),
            lambda: first_frames(transport, options.observed, rate=options.rate, seconds=options.watch_seconds),
        )

    def theirs(text: str, jobs: int | None) -> Subject:
        return Subject(
            f"LangGraph's development server, {text}",
            lambda: first_frames_of_runs(jobs, options.observed, rate=options.peer_rate, seconds=options.watch_seconds),
            prepare,
        )

    return [*map(ours, TRANSPORTS), theirs("as it comes", None), theirs(f"{WORKERS} jobs at a time", WORKERS)]


def name(transport: Transport) -> str:
    return f"Sightline, {transport}"


def _amount(options: Options) -> str:
    return (
        f"{options.watch_seconds:g} s each; {options.rate} turns/s of ours and {options.peer_rate} runs/s of the "
        f"peer's, over {options.observed} sessions or threads"
    )


def _targets() -> tuple[Target, ...]:
    found = []
    for transport in TRANSPORTS:
        for metric, text, goal in (
            ("seen_p50", "median", MEDIAN_GOAL_MS),
            ("seen_p99", "99th percentile", P99_GOAL_MS),
        ):
            found.append(
                Target(
                    f"POST to first frame, {transport}, 100 turns/s: {text} below {goal} ms",
                    lambda rows, transport=transport, metric=metric: rows.median(name(transport), metric),  # type: ignore[misc]
                    below=goal,
                    unit="ms",
                )
            )
    return tuple(found)


SECTION = Section(
    name="latency",
    title="The first frame",
    method="""\
Every session has one observer. Turns (`echo N`) are asked for at fixed times, evenly, whatever has become of those
before. *Answered* is the time from writing the POST to its 202, that is, until the work is in the store and the
disk has confirmed it. *Seen* is the time from writing the POST to the first `turn_activity` frame of that turn at
the observer; between the two lie the claim, which is a durable write too, and the start of the agent. The gateway
has one core; the other has the client, all observers included. Each figure is a percentile of one round.

For LangGraph's development server the stream is the answer to `POST …/runs/stream`: *answered* is its head, *seen*
its first event. It cannot follow our rate, so it is asked for less.""",
    subjects=subjects,
    heading="",
    columns=(
        Column("seen_p50", "seen, median ms"),
        Column("seen_p99", "seen, p99 ms"),
        Column("answered_p50", "answered, median ms"),
        Column("answered_p99", "answered, p99 ms"),
        Column("late", "client at most late, ms"),
    ),
    amount=_amount,
    targets=_targets(),
)
