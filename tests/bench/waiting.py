"""Observers to whom nothing happens: how fast they connect, and what they cost while they wait."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from signal import SIGKILL

from tests.bench.fan_out import NCHAN_SOCKET, at_least, side_subject
from tests.bench.gateways import serving
from tests.bench.generator import generate
from tests.bench.http_load import connections
from tests.bench.measuring import Options, Sample, Subject, Unavailable
from tests.bench.observers import Transport
from tests.bench.page import Column, Section, Target
from tests.bench.peers import centrifuge, durable_streams, nats, nchan, socket_io
from tests.bench.processes import Process
from tests.bench.sides import AT_TAIL, Side, Stand, name_of, raw_broadcaster, stream_flags

__all__ = ["SECTION"]

SESSIONS = 100
SOCKET_KIB, EVENTS_KIB = 8.0, 10.0
WAITING_PERCENT = 1.0
_SPARE_FILES = 200


def quiet(transport: Transport, *, fresh: bool = False) -> Side:
    """The gateway with sessions in which nothing runs. `fresh` observers begin with a snapshot."""

    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        async with (
            serving("--max-connections", "100000", stop=SIGKILL) as gateway,
            connections(gateway.port, 1) as [line],
        ):
            for number in range(channels):
                await gateway.create(line, f"s{number}")
            path = AT_TAIL.partition("?")[0] if fresh else AT_TAIL
            yield Stand(gateway.process, (*stream_flags(gateway.port, transport), "--path", path))

    return Side(name_of(transport) + (", with a snapshot" if fresh else ""), stand)


async def busy(server: Process, seconds: float) -> float:
    """How much of a core the server uses, in percent."""
    began, ran = time.perf_counter(), server.ran_seconds
    await asyncio.sleep(seconds)
    return (server.ran_seconds - ran) / (time.perf_counter() - began) * 100


async def waiting(side: Side, options: Options) -> Sample:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most < options.waiting + _SPARE_FILES:
        raise Unavailable(f"a process may open {most} files here, too few for {options.waiting:,} connections")
    async with side.stand(SESSIONS) as stand:
        alone = await busy(stand.process, options.alone_seconds)
        found = await generate(
            "idle",
            stand.process,
            *stand.watch,
            *("--seconds", str(options.waiting_seconds), "--settle", "1"),
            *("--observers", str(options.waiting), "--channels", str(SESSIONS)),
        )
    return {
        "connects": found["connects"],
        "us": found["us_per_connect"],
        "kib": found["kib_per_connection"],
        "cpu": found["server_busy"],
        "more": found["server_busy"] - alone,
    }


def subjects(options: Options) -> Sequence[Subject]:
    sides = (
        quiet("WebSocket"),
        quiet("SSE"),
        quiet("WebSocket", fresh=True),
        raw_broadcaster(),
        nchan.nchan("WebSocket"),
        nchan.nchan("SSE"),
        nats.nats(),
        centrifuge.centrifuge(),
        socket_io.socket_io(),
        durable_streams.durable_streams(),
    )
    return [side_subject(side, lambda side: waiting(side, options)) for side in sides]


def cheap_to_wait(transport: Transport) -> Target:
    return Target(
        f"10,000 observers who wait, {transport}: below {WAITING_PERCENT:g} % of a core",
        lambda rows: rows.median(name_of(transport), "more"),
        below=WAITING_PERCENT,
        unit="%",
    )


SECTION = Section(
    name="waiting",
    title="Observers who wait",
    method=f"""\
10,000 observers connect to {SESSIONS} streams, 64 at a time, and stay; nothing is published. One of ours counts as
connected when it has its first frames, up to `caught_up`; NATS when it has answered a ping behind the subscription;
Centrifuge when the subscription is confirmed; Socket.IO when the namespace is joined; the others when the handshake
is answered. Memory is what the process has more than before, as the system sees it, without the kernel's own
buffers. CPU is what the server uses while nothing happens, and what of it the observers cost: the rest it uses without
any, which is measured before they connect. Ours pings every WebSocket every 20 seconds and comments
every event stream every 15, which Nchan does not as it comes.

Where the time of a connection goes, by `perf` and a profiler (November 2026, on the machine above): of 220 µs 60 % are
Python's and 32 % the system's. Of Python's a quarter is parsing the request and making its scope, a tenth the routing,
a tenth the checks before it, and most of the rest the opening of the stream itself.""",
    subjects=subjects,
    heading="",
    columns=(
        Column("connects", "connects/s"),
        Column("connects", "÷ Nchan, WebSocket", to=NCHAN_SOCKET),
        Column("us", "CPU µs for one"),
        Column("kib", "KiB for one that waits"),
        Column("cpu", "CPU while they wait, % of a core"),
        Column("more", "more than without them"),
    ),
    amount=lambda options: f"{options.waiting:,} observers each, who wait for {options.waiting_seconds:g} s",
    targets=(
        at_least("connects/s, WebSocket", name_of("WebSocket"), NCHAN_SOCKET, "connects", 0.4),
        at_least("connects/s, WebSocket", name_of("WebSocket"), centrifuge.NAME, "connects", 1.2),
        Target(
            f"memory of a WebSocket that waits: at most {SOCKET_KIB:g} KiB",
            lambda rows: rows.median(name_of("WebSocket"), "kib"),
            at_most=SOCKET_KIB,
            unit="KiB",
        ),
        Target(
            f"memory of an event stream that waits: at most {EVENTS_KIB:g} KiB",
            lambda rows: rows.median(name_of("SSE"), "kib"),
            at_most=EVENTS_KIB,
            unit="KiB",
        ),
        cheap_to_wait("WebSocket"),
        cheap_to_wait("SSE"),
    ),
)
