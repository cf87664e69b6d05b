"""Observers that come back for what they missed: one after the other, and all at the same moment."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.fan_out import EVENTS, NCHAN_EVENTS, NCHAN_SOCKET, SOCKET, at_least, side_subject, timing
from tests.bench.generator import generate
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.page import Column, Section, Target
from tests.bench.peers import durable_streams, nats, nchan
from tests.bench.sides import Side, raw_broadcaster, sightline

__all__ = ["RESUME_SECTION", "STORM_SECTION"]

CLIENTS = 32
STORM_STREAMS = 50
WATCHERS = 10
WATCHED_RATE = 50
STORM_SECONDS = 3.0
STORM_DELAY_MS = 100.0
_PATIENCE = 60


async def resumes(side: Side, options: Options) -> Sample:
    async with side.stand(1) as stand:
        assert stand.missed is not None
        found = await generate(
            "resume",
            stand.process,
            *await stand.missed(options.missed),
            *timing(options),
            *("--first", "1"),
            *("--observers", str(CLIENTS), "--missed", str(options.missed)),
        )
    return {
        "rate": found["finished"],
        "us": found["us_per_finished"],
        "done_p50": found["finishing_p50"],
        "done_p99": found["finishing_p99"],
        "client": found["busy"],
    }


def resume_subjects(options: Options) -> Sequence[Subject]:
    sides = (
        sightline("WebSocket"),
        sightline("SSE"),
        raw_broadcaster(),
        nchan.nchan("WebSocket"),
        nchan.nchan("SSE"),
        nats.nats(),
        durable_streams.durable_streams(),
    )
    return [side_subject(side, lambda side: resumes(side, options)) for side in sides]


RESUME_SECTION = Section(
    name="resumes",
    title="Coming back after 500 missed events",
    method=f"""\
{CLIENTS} clients in a loop: each connects, says where it left, reads the 500 events it missed, and closes. A round
counts only if the first was the right one, none was missing and none came twice. Ours resume with a cursor while
the turn that said the events still runs. Nchan keeps exactly 500 and is asked for all it has. NATS makes a
JetStream consumer for each client, on a stream in memory. The Durable Streams server is asked for everything from
the beginning of a stream that has these 500 events. Socket.IO is left out: it keeps nothing as it comes.

Where the time goes, by `perf` (November 2026, on the machine above): of 430 µs for one of ours 51 % are Python's, most
of it for the connection and the opening and not for the events, which are made into bytes once for all who missed
them; 38 % are the system's, for 270 kB and a connection.""",
    subjects=resume_subjects,
    heading="",
    columns=(
        Column("rate", "reconnects/s"),
        Column("us", "CPU µs for one"),
        Column("rate", "÷ Nchan, WebSocket", to=NCHAN_SOCKET),
        Column("rate", "÷ NATS JetStream", to=nats.NAME),
        Column("done_p50", "until all is read, median ms"),
        Column("done_p99", "p99 ms"),
        Column("client", "generator busy, %"),
    ),
    targets=(
        at_least("resume with 500 missed events, WebSocket", SOCKET, NCHAN_SOCKET, "rate", 18),
        at_least("resume with 500 missed events, WebSocket", SOCKET, nats.NAME, "rate", 6, "NATS JetStream"),
        at_least("resume with 500 missed events, SSE", EVENTS, NCHAN_EVENTS, "rate", 18),
    ),
)


async def storm(side: Side, options: Options) -> Sample:
    """The last of the streams is the one that runs while the observers of the others come back."""
    async with side.stand(STORM_STREAMS + 1) as stand:
        assert stand.missed is not None
        found = await generate(
            "storm",
            stand.process,
            *await stand.missed(options.missed),
            *stand.publish,
            *timing(options),
            *("--observers", str(options.storm), "--inflight", str(options.storm), "--missed", str(options.missed)),
            *("--channels", str(STORM_STREAMS), "--first", "1", "--patience", str(_PATIENCE)),
            *("--watchers", str(WATCHERS), "--watch-path", stand.path, "--rate", str(WATCHED_RATE)),
        )
    return {
        "over": _PATIENCE if found["unfinished"] else found["finishing_max"] / 1000,
        "done_p50": found["finishing_p50"] / 1000,
        "calm_p99": found["calm_p99"],
        "storm_p50": found["storm_p50"],
        "storm_p99": found["storm_p99"],
        "storm_max": found["storm_max"],
        "again": found["again"],
        "us": found["us_per_finished"],
    }


def storm_subjects(options: Options) -> Sequence[Subject]:
    sides = (sightline("WebSocket"), sightline("SSE"), nchan.nchan("WebSocket"))
    return [side_subject(side, lambda side: storm(side, options)) for side in sides]


def _storm_targets() -> tuple[Target, ...]:
    found = []
    for ours in (SOCKET, EVENTS):
        found += [
            Target(
                f"5,000 observers come back at once for 500 events each, {ours}: over within {STORM_SECONDS:g} s",
                lambda rows, ours=ours: rows.median(ours, "over"),  # type: ignore[misc]
                at_most=STORM_SECONDS,
                unit="s",
            ),
            Target(
                f"meanwhile the delay of a running turn, {ours}: 99th percentile below {STORM_DELAY_MS:g} ms",
                lambda rows, ours=ours: rows.median(ours, "storm_p99"),  # type: ignore[misc]
                below=STORM_DELAY_MS,
                unit="ms",
            ),
        ]
    return tuple(found)


STORM_SECTION = Section(
    name="storm",
    title="All come back at once",
    method=f"""\
5,000 observers of {STORM_STREAMS} streams connect at the same moment, each for the 500 events it missed. Meanwhile
another stream goes on, {WATCHED_RATE} events a second, which {WATCHERS} observers see; the generator looks after
them between any two of the others. A connection that is not accepted, because the system's queue before the server
is full, is tried again after 250 ms. *Over* is the time from the first connection attempt to the last missed event
of the last observer; {_PATIENCE} s mean that it was not over by then. The delay is that of the stream that goes on,
first in peace, then until the storm is over.""",
    subjects=storm_subjects,
    heading="",
    columns=(
        Column("over", "over, s"),
        Column("done_p50", "half are done, s"),
        Column("calm_p99", "delay before, p99 ms"),
        Column("storm_p50", "delay meanwhile, median ms"),
        Column("storm_p99", "delay meanwhile, p99 ms"),
        Column("storm_max", "delay meanwhile, at most ms"),
        Column("again", "connections tried again"),
        Column("us", "CPU µs for one observer"),
    ),
    amount=lambda options: f"{options.storm:,} observers each, after {options.seconds:g} s in peace",
    targets=_storm_targets(),
)
