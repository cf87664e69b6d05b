"""One turn that speaks as fast as it can, to one observer."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from signal import SIGKILL

import msgspec

from tests.bench.gateways import serving, turns_of
from tests.bench.generator import EVENT_BYTES, compiler_version, generate
from tests.bench.http_load import connections
from tests.bench.measuring import Options, Sample, Subject, Wrong
from tests.bench.observers import Transport
from tests.bench.page import Column, Section, Target
from tests.bench.peers.langgraph_runs import development_server, new_thread, prepare, run_of
from tests.bench.sides import AT_TAIL, name_of, stream_flags

__all__ = ["SECTION"]

TRANSPORTS: tuple[Transport, ...] = ("WebSocket", "SSE")
GOAL = 30_000
JOINED_GOAL = 100_000
FLUSH_WINDOW = "0.02"
"""Seconds, of the rows whose text is joined."""
_OBSERVERS = 1
_BEFORE_MS = 1_500
"""Between the POST and the turn, so that its observer is there."""
_PATIENCE = 120
_TIMES_FEWER = 20
"""Are the peer's deltas, which come more slowly."""
_DELTA = re.compile(rb"seq=(\d+) t=(\d+)")


async def one_turn(transport: Transport, deltas: int, *flags: str) -> Sample:
    async with serving(*flags, stop=SIGKILL) as gateway, connections(gateway.port, 1) as [line]:
        await gateway.create(line, "s0")
        wish = {
            "input": f"stream {deltas} size {EVENT_BYTES}",
            "available_at_ms": round(time.time() * 1000) + _BEFORE_MS,
        }
        answer = await line.send("POST", turns_of("s0"), msgspec.json.encode(wish))
        assert answer.status == 202, answer
        found = await generate(
            "finish",
            gateway.process,
            *stream_flags(gateway.port, transport),
            *("--path", AT_TAIL, "--first", "0"),
            *("--observers", str(_OBSERVERS), "--missed", str(deltas), "--patience", str(_PATIENCE), "--settle", "0"),
        )
    return {
        "rate": found["slowest"],
        "us": found["us_per_delivery"],
        "delay_p50": found["delay_p50"],
        "delay_p99": found["delay_p99"],
    }


async def one_run(deltas: int) -> Sample:
    """The peer's stream is the answer to the request. Raises Wrong."""
    arrivals: list[tuple[int, int, int]] = []
    rest = b""

    def piece(data: bytes) -> None:
        nonlocal rest
        now = time.time_ns()
        # The last line may not be complete; what is left of it comes with the next piece.
        whole, _, rest = (rest + data).rpartition(b"\n")
        arrivals.extend((int(number), int(made), now) for number, made in _DELTA.findall(whole))

    async with development_server(None) as (process, port), connections(port, 1) as [line]:
        path = f"/threads/{await new_thread(line)}/runs/stream"
        before = process.cpu_seconds
        wish = run_of(f"stream {deltas} size {EVENT_BYTES}", stream_mode=["custom"])
        answer = await line.send("POST", path, wish, on_piece=piece)
        assert answer.status == 200, answer
        cpu = process.cpu_seconds - before
    if [number for number, _, _ in arrivals] != list(range(deltas)):
        raise Wrong(f"{len(arrivals)} of {deltas} came, or not in order")
    delays = sorted(now - made for _, made, now in arrivals)
    return {
        "rate": (deltas - 1) / ((arrivals[-1][2] - arrivals[0][2]) / 1e9),
        "us": cpu / deltas * 1e6,
        "delay_p50": delays[len(delays) // 2] / 1e6,
        "delay_p99": delays[len(delays) * 99 // 100] / 1e6,
    }


def subjects(options: Options) -> Sequence[Subject]:
    def subject(transport: Transport) -> Subject:
        return Subject(name_of(transport), lambda: one_turn(transport, options.deltas), compiler_version)

    def joined(transport: Transport) -> Subject:
        flags = ("--flush-window", FLUSH_WINDOW)
        return Subject(name_of_joined(transport), lambda: one_turn(transport, options.deltas, *flags), compiler_version)

    theirs = max(1, options.deltas // _TIMES_FEWER)
    peer = Subject("LangGraph's development server", lambda: one_run(theirs), prepare)
    return [*map(subject, TRANSPORTS), *map(joined, TRANSPORTS), peer]


def name_of_joined(transport: Transport) -> str:
    return f"{name_of(transport)}, joined"


SECTION = Section(
    name="one-turn",
    title="One turn, one observer",
    method=f"""\
The demo agent's `stream N size {EVENT_BYTES}` in a session with one observer, who begins at the newest event.
Nothing paces the agent; it lets others run after every 32 deltas. The rate is that of what the observer received,
from the first delta to the last; the delay is from the delta's stamp, taken by the agent, to the read that brought
it. CPU is all that the gateway uses for a delta: making it, keeping it, folding it into the session's state, and
sending it. In the rows that say so the gateway joins what is said within {FLUSH_WINDOW} s (`--flush-window`); all
deltas are counted there as well, by their numbers in the joined text.

LangGraph's local development server streams as many pieces as large from the node of a graph (`stream_mode`
`custom`), a twentieth of the number, over the answer to the request.""",
    subjects=subjects,
    heading="",
    columns=(
        Column("rate", "deltas/s"),
        Column("us", "CPU µs for one"),
        Column("delay_p50", "delay, median ms"),
        Column("delay_p99", "delay, p99 ms"),
    ),
    amount=lambda options: f"{options.deltas:,} deltas each",
    targets=tuple(
        Target(
            f"one turn's stream, agent to observer, {transport}: at least {GOAL:,} events/s",
            lambda rows, transport=transport: rows.median(name_of(transport), "rate"),  # type: ignore[misc]
            at_least=GOAL,
            unit="events/s",
        )
        for transport in TRANSPORTS
    )
    + tuple(
        Target(
            f"the same, joined, {transport}: at least {JOINED_GOAL:,} deltas/s",
            lambda rows, transport=transport: rows.median(name_of_joined(transport), "rate"),  # type: ignore[misc]
            at_least=JOINED_GOAL,
            unit="deltas/s",
        )
        for transport in TRANSPORTS
    ),
)
