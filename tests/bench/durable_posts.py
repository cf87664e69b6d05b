"""From a POST that is on disk before it is answered to a frame at an observer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from signal import SIGKILL

from tests.bench.fan_out import side_subject, timing
from tests.bench.gateways import serving
from tests.bench.generator import generate
from tests.bench.http_load import connections
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.page import Column, Section, Target
from tests.bench.peers import durable_streams, nchan
from tests.bench.sides import AT_TAIL, Side, Stand, stream_flags

__all__ = ["SECTION"]

PUBLISHERS = 64


def accepting(synchronous: str) -> Side:
    """The gateway as it accepts turns that nobody runs: `--role web`."""

    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        flags = ("--role", "web", "--synchronous", synchronous, "--max-queue", "1000000")
        async with serving(*flags, stop=SIGKILL) as gateway, connections(gateway.port, 1) as [line]:
            for number in range(channels):
                await gateway.create(line, f"s{number}")
            publish = (
                *("--publish", "http", "--publish-port", str(gateway.port), "--publish-path", "/v1/sessions/s{}/turns"),
                *("--publish-type", "application/json", "--publish-body", '{"input":"{}"}'),
            )
            watch = (*stream_flags(gateway.port, "WebSocket", '"preview":"seq='), "--path", AT_TAIL)
            yield Stand(gateway.process, watch, publish)

    return Side(ours(synchronous), stand)


def ours(synchronous: str) -> str:
    return f"Sightline, WebSocket, `{synchronous}`"


async def posts(side: Side, options: Options) -> Sample:
    # Of two POSTs to the same session on two connections the second may come first: no more of these than of those.
    publishers = str(min(PUBLISHERS, options.observers))
    async with side.stand(options.observers) as stand:
        found = await generate(
            "fan",
            stand.process,
            *stand.watch,
            *stand.publish,
            *timing(options),
            *("--first", "0"),
            *("--observers", str(options.observers), "--channels", str(options.observers)),
            *("--publish-connections", publishers, "--publish-depth", "1", "--window", publishers),
        )
    return {
        "rate": found["deliveries"],
        "us": found["us_per_delivery"],
        "delay_p50": found["delay_p50"],
        "delay_p99": found["delay_p99"],
        "client": found["busy"],
    }


def subjects(options: Options) -> Sequence[Subject]:
    sides = (accepting("FULL"), accepting("NORMAL"), durable_streams.durable_streams(), nchan.nchan("WebSocket"))
    return [side_subject(side, lambda side: posts(side, options)) for side in sides]


SECTION = Section(
    name="durable-posts",
    title="From a durable POST to the observer",
    method=f"""\
1,000 sessions have one observer each; {PUBLISHERS} publishers on connections that are kept post turns to them in a
closed loop. Counted are the `queue_changed` frames at the observers, which say that the turn was enqueued; a 2xx is
answered, and the frame sent, when the turn is in the store. So that only this is measured the gateway runs no turns
(`--role web`). The Durable Streams server and Nchan keep everything in memory.

Where the time goes, by `perf` and a profiler (November 2026, on the machine above): of 230 µs for a POST 68 % are
Python's, 16 % the system's, 5 % SQLite's. Three quarters of what the event loop does for it is HTTP: parsing, routes,
checks, headers.""",
    subjects=subjects,
    heading="",
    columns=(
        Column("rate", "POSTs to frames/s"),
        Column("us", "CPU µs for one"),
        Column("rate", "÷ Durable Streams", to=durable_streams.NAME),
        Column("delay_p50", "delay, median ms"),
        Column("delay_p99", "delay, p99 ms"),
        Column("client", "generator busy, %"),
    ),
    targets=(
        Target(
            f"durable POST to WebSocket frame, 1,000 sessions: at least 1 × {durable_streams.NAME}, in memory",
            lambda rows: rows.ratio(ours("FULL"), durable_streams.NAME, "rate"),
            at_least=1.0,
            unit="×",
        ),
    ),
)
