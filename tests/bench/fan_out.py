"""Streams with many observers: how many deliveries a second, and with what delay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tests.bench.generator import EVENT_BYTES, generate
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.page import Column, Section, Target
from tests.bench.peers import centrifuge, durable_streams, nats, nchan, socket_io
from tests.bench.sides import RAW, Side, name_of, raw_broadcaster, sightline

__all__ = ["CHANNELS_SECTION", "DELAYS_SECTION", "FAN_OUT_SECTION", "PEERS", "side_subject", "timing"]

PENDING = 32
IN_MANY = 256

PEERS = f"""\
{nchan.METHOD}
{nats.METHOD}
{centrifuge.METHOD}
{socket_io.METHOD}
{durable_streams.METHOD}
- The *raw C broadcaster* (`tests/bench/load/rawcast.c`) is no peer but the limit: it frames an event once and calls
  `send()` once for each observer, and does nothing else. The last row is the same program, which sends what it read
  together in one; events 32 at a time show there how much the load generator can take."""

SOCKET, EVENTS = name_of("WebSocket"), name_of("SSE")
NCHAN_SOCKET, NCHAN_EVENTS = nchan.name_of("WebSocket"), nchan.name_of("SSE")


def all_sides() -> tuple[Side, ...]:
    return (
        sightline("WebSocket"),
        sightline("SSE"),
        raw_broadcaster(),
        nchan.nchan("WebSocket"),
        nchan.nchan("SSE"),
        nats.nats(),
        centrifuge.centrifuge(),
        socket_io.socket_io(),
        durable_streams.durable_streams(),
    )


def side_subject(side: Side, measure: Callable[[Side], Awaitable[Sample]]) -> Subject:
    return Subject(side.name, lambda: measure(side), side.prepare)


def timing(options: Options) -> tuple[str, ...]:
    return ("--warm-up", str(options.warm_up), "--seconds", str(options.seconds))


# One stream, many observers


async def fan_out(side: Side, options: Options) -> Sample:
    """The same server does both, one after the other, with new observers."""
    async with side.stand(1) as stand:
        flags = (
            *(*stand.watch, *stand.publish, *timing(options)),
            *("--observers", str(options.observers), "--first", "0"),
        )
        single = await generate("fan", stand.process, *flags, "--window", "1")
        burst = await generate("fan", stand.process, *flags, "--window", str(PENDING))
    return {
        "single": single["deliveries"],
        "single_us": single["us_per_delivery"],
        "burst": burst["deliveries"],
        "burst_us": burst["us_per_delivery"],
        "client": max(single["busy"], burst["busy"]),
        "bytes": single["megabytes"] * 1e6 / single["deliveries"],
    }


def fan_out_subjects(options: Options) -> Sequence[Subject]:
    sides = (*all_sides(), raw_broadcaster(together=True))
    return [side_subject(side, lambda side: fan_out(side, options)) for side in sides]


def at_least(text: str, ours: str, theirs: str, metric: str, goal: float, called: str | None = None) -> Target:
    """Ours is so many times theirs, in the same round; `called` is theirs in the text."""
    return Target(
        f"{text}: at least {goal:g} × {called or theirs}",
        lambda rows: rows.ratio(ours, theirs, metric),
        at_least=goal,
        unit="×",
    )


FAN_OUT_SECTION = Section(
    name="fan-out",
    title="Streams to many observers",
    method=f"""\
One stream has 1,000 observers. Every event is {EVENT_BYTES} bytes of text with its number and the time, and every
observer checks the numbers: a round in which an event was lost or came twice has no figures. *One at a time*: the
next event is published when the last has come to all observers, on average, so each is written to each connection
by itself. *{PENDING} at a time*: so many are on their way, and a server may write several together. Whoever watches
begins at the newest event.

Ours come out of a turn that runs in a session of the gateway, as an agent's words do: an agent that says what it
reads from a socket (`tests/bench/agent.py`). They have our envelope, cursors and checks; the others' have what they
put around them. *Bytes* is what one delivery is on the wire, frames included.

{PEERS}

The server has one core, the load generator (C, `tests/bench/load/`) the other. How busy the generator is shows that
it is not the one that is measured.

Where the time goes when events come 32 at a time, by `perf` (November 2026, on the machine above): 88 % of the
server's is the system's, which copies 17 kB to each observer at every pass, 8 % Python's, 3 % the event loop's. What is
left to gain is bytes: an event of ours is 541, of which 200 are text.""",
    subjects=fan_out_subjects,
    heading="",
    columns=(
        Column("single", "one at a time, deliveries/s"),
        Column("single_us", "CPU µs for one"),
        Column("burst", f"{PENDING} at a time, deliveries/s"),
        Column("burst_us", "CPU µs for one"),
        Column("single", "one at a time ÷ Nchan, WebSocket", to=NCHAN_SOCKET),
        Column("burst", f"{PENDING} at a time ÷ Nchan, WebSocket", to=NCHAN_SOCKET),
        Column("bytes", "bytes"),
        Column("client", "generator busy, %"),
    ),
    targets=(
        at_least("WebSocket, 1,000 observers, one event at a time", SOCKET, RAW, "single", 0.9),
        at_least("WebSocket, 1,000 observers, one event at a time", SOCKET, NCHAN_SOCKET, "single", 1.0),
        at_least(f"WebSocket, 1,000 observers, {PENDING} events at a time", SOCKET, NCHAN_SOCKET, "burst", 15),
        at_least(f"WebSocket, 1,000 observers, {PENDING} events at a time", SOCKET, nats.NAME, "burst", 2.3),
        at_least("SSE, 1,000 observers, one event at a time", EVENTS, NCHAN_EVENTS, "single", 1.0),
        at_least(f"SSE, 1,000 observers, {PENDING} events at a time", EVENTS, NCHAN_EVENTS, "burst", 15),
    ),
)


# Many streams, one observer each


async def channels(side: Side, options: Options) -> Sample:
    async with side.stand(options.observers) as stand:
        found = await generate(
            "fan",
            stand.process,
            *stand.watch,
            *stand.publish,
            *timing(options),
            *("--first", "0"),
            *("--observers", str(options.observers), "--channels", str(options.observers)),
            *("--window", str(IN_MANY)),
        )
    return {
        "rate": found["deliveries"],
        "us": found["us_per_delivery"],
        "delay_p50": found["delay_p50"],
        "delay_p99": found["delay_p99"],
        "client": found["busy"],
    }


def channels_subjects(options: Options) -> Sequence[Subject]:
    return [side_subject(side, lambda side: channels(side, options)) for side in all_sides()]


CHANNELS_SECTION = Section(
    name="channels",
    title="Many sessions with one observer each",
    method=f"""\
1,000 streams have one observer each; the next event goes to the next stream, and {IN_MANY} are on their way in all.
Of ours each is a session in which a turn runs. Here how events come in counts as much as how they go out: ours, the
raw broadcaster's and Socket.IO's are lines on one TCP connection, NATS reads its own protocol, Nchan and the
Durable Streams server a POST each.

Where the time goes, by `perf` and a profiler (November 2026, on the machine above): 28 to 32 µs for an event, 66 % of
them in Python and 28 % in the system, for one write. Half of Python's is making the event, encoding it, keeping it and
folding it into the session's state; a quarter is framing and handing it out; the rest is the agent and the loop.
Nothing stands out: an event goes through some fifty calls.""",
    subjects=channels_subjects,
    heading="",
    columns=(
        Column("rate", "events/s"),
        Column("us", "CPU µs for one"),
        Column("rate", "events/s ÷ Nchan, WebSocket", to=NCHAN_SOCKET),
        Column("delay_p50", "delay, median ms"),
        Column("delay_p99", "delay, p99 ms"),
        Column("client", "generator busy, %"),
    ),
    targets=(at_least("1,000 sessions with one observer each", SOCKET, NCHAN_SOCKET, "rate", 2.2),),
)


# Delays


async def delays(side: Side, options: Options) -> Sample:
    async with side.stand(1) as stand:
        found = await generate(
            "fan",
            stand.process,
            *stand.watch,
            *stand.publish,
            *timing(options),
            *("--first", "0"),
            *("--observers", str(options.observers), "--rate", str(options.deliveries / options.observers)),
        )
    return {name: found[name] for name in ("delay_p50", "delay_p99", "delay_p999", "us_per_delivery", "late_ms")}


def delays_subjects(options: Options) -> Sequence[Subject]:
    return [side_subject(side, lambda side: delays(side, options)) for side in all_sides()]


DELAYS_SECTION = Section(
    name="delays",
    title="Delay from the event to the observer",
    method="""\
One stream with 1,000 observers; events are published at fixed times, evenly, whatever has become of those before:
40 a second, which is 40,000 deliveries a second. The delay is the time from the event's stamp, taken by the load
generator before it writes it to the server, to the read that brought it to an observer.""",
    subjects=delays_subjects,
    heading="",
    columns=(
        Column("delay_p50", "delay, median ms"),
        Column("delay_p99", "delay, p99 ms"),
        Column("delay_p999", "delay, p99.9 ms"),
        Column("delay_p99", "p99 ÷ Nchan, WebSocket", to=NCHAN_SOCKET),
        Column("us_per_delivery", "CPU µs for one delivery"),
        Column("late_ms", "generator at most late, ms"),
    ),
    targets=(
        Target(
            f"99th percentile of the delay at 40,000 deliveries/s: at most 1 × {NCHAN_SOCKET}",
            lambda rows: rows.ratio(SOCKET, NCHAN_SOCKET, "delay_p99"),
            at_most=1.0,
            unit="×",
        ),
    ),
)
