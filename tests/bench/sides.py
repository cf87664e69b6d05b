"""Who streams: every server as the load generator needs to know it. Peers have modules of their own in `peers/`.

A *side* is a kind of server; a *stand* is one that runs, and says in the generator's own flags how it is watched,
published to, and resumed from. All get the same events, of `EVENT_BYTES`; what they put around them is their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import Protocol

import msgspec

from tests.bench.agent import READY
from tests.bench.gateways import Served, serving, turns_of
from tests.bench.generator import EVENT_BYTES, compiler_version, program
from tests.bench.http_load import Connection, connections
from tests.bench.observers import Transport
from tests.bench.processes import Process, folder, free_port, running

__all__ = [
    "AT_TAIL",
    "RAW",
    "Missed",
    "Side",
    "Stand",
    "event",
    "lines",
    "name_of",
    "raw_broadcaster",
    "sightline",
    "stream_flags",
]

Missed = Callable[[int], Awaitable[tuple[str, ...]]]

RAW = "raw C broadcaster"
TOGETHER = "raw C broadcaster, what comes together in one"

_SETTLE_SECONDS = 60.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Stand:
    """A server that runs, with all its channels. The flags are the generator's.

    `missed(count)` publishes `count` events on every channel that nobody sees, and returns the flags with which an
    observer gets all of them: the first has the number 1.
    """

    process: Process
    watch: tuple[str, ...]
    publish: tuple[str, ...] = ()
    missed: Missed | None = None

    @property
    def path(self) -> str:
        """Where a channel is watched from its newest event on."""
        return self.watch[self.watch.index("--path") + 1]


class Opens(Protocol):
    def __call__(self, channels: int, /) -> AbstractAsyncContextManager[Stand]: ...


@dataclass(frozen=True)
class Side:
    """A kind of server, under the name it has on the page."""

    name: str
    stand: Opens
    prepare: Callable[[], Awaitable[dict[str, str]]] = field(default=compiler_version)


def event(number: int) -> str:
    """As the generator's, and the demo agent's `stream`, are."""
    return f"seq={number} t={time.time_ns()} ".ljust(EVENT_BYTES, ".")


async def _tell_lines(port: int, channels: Iterable[int], numbers: Iterable[int]) -> None:
    """Write events as lines, as the relay and others read them."""
    numbers = list(numbers)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for channel in channels:
            writer.write("".join(f"{channel} {event(number)}\n" for number in numbers).encode())
            await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


def lines(port: int) -> tuple[str, ...]:
    return ("--publish", "lines", "--publish-port", str(port))


# The raw broadcaster


def raw_broadcaster(*, together: bool = False) -> Side:
    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        built = await program("rawcast")
        flags = ("--together",) if together else ()
        port = free_port(neighbours=1)
        with folder() as place:
            async with running(built, str(port), *flags, cwd=place, speaks=True) as process:
                await process.line()

                async def missed(count: int) -> tuple[str, ...]:
                    await _tell_lines(port + 1, range(channels), range(count + 1))
                    await asyncio.sleep(0.5)
                    return ("--port", str(port), "--path", "/{}?after=0")

                yield Stand(process, ("--port", str(port), "--path", "/{}"), lines(port + 1), missed)

    return Side(TOGETHER if together else RAW, stand)


# Sightline

AT_TAIL = "/v1/sessions/s{}/events?cursor=now"
"""The path of session s0, s1, …, beginning at its newest event without a snapshot."""


def sightline(transport: Transport) -> Side:
    """The gateway with one session a channel, in each of which the relay runs."""

    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        ingest = free_port()
        async with _relaying(channels, ingest) as gateway:

            async def missed(count: int) -> tuple[str, ...]:
                paths = await _behind_the_first(gateway, ingest, channels, count)
                file = gateway.folder / "paths"
                await asyncio.to_thread(file.write_text, "".join(f"{path}\n" for path in paths))
                return (*stream_flags(gateway.port, transport), "--path", f"@{file}")

            watch = (*stream_flags(gateway.port, transport), "--path", AT_TAIL)
            yield Stand(gateway.process, watch, lines(ingest), missed)

    return Side(name_of(transport), stand)


def name_of(transport: Transport) -> str:
    return f"Sightline, {transport}"


def stream_flags(port: int, transport: Transport, marker: str = '"text":"seq=') -> tuple[str, ...]:
    """How our streams are read: an observer is one once it has caught up."""
    return (
        *("--port", str(port), "--begins", '{"type":"event"', "--marker", marker, "--await", '"type":"caught_up"'),
        *(("--sse",) if transport == "SSE" else ()),
    )


@asynccontextmanager
async def _relaying(channels: int, ingest: int) -> AsyncIterator[Served]:
    """A gateway with sessions s0, s1, … and in each a turn that relays what is written to the port."""
    flags = (
        *("--agent", "tests.bench.agent:agent", "--concurrency", str(channels + 100)),
        *("--max-connections", "100000", "--replay-max-age", "3600"),
    )
    async with serving(*flags, stop=SIGKILL) as gateway, connections(gateway.port, 8) as made:

        async def begin(line: Connection, numbers: Iterable[int]) -> None:
            for number in numbers:
                await gateway.create(line, f"s{number}")
                body = msgspec.json.encode({"input": f"relay {ingest} {number}"})
                answer = await line.send("POST", turns_of(f"s{number}"), body)
                assert answer.status == 202, answer

        await asyncio.gather(*(begin(line, range(index, channels, len(made))) for index, line in enumerate(made)))
        for number in range(channels):
            await _said(gateway, made[0], number, READY)
        yield gateway


async def _said(gateway: Served, line: Connection, number: int, text: str) -> str:
    """The session's cursor once its turn has said that."""
    async with asyncio.timeout(_SETTLE_SECONDS):
        while True:
            view = msgspec.json.decode(await gateway.revision(line, f"s{number}"))
            if view["live"] is not None and text in view["live"]["text"]:
                return str(view["cursor"])
            await asyncio.sleep(_POLL_SECONDS)


async def _behind_the_first(gateway: Served, ingest: int, channels: int, count: int) -> list[str]:
    """Where to resume so that event 1 is the next, when so many have come behind it."""
    everywhere = range(channels)
    await _tell_lines(ingest, everywhere, [0])
    async with connections(gateway.port, 1) as [line]:
        cursors = [await _said(gateway, line, number, "seq=0 ") for number in everywhere]
        await _tell_lines(ingest, everywhere, range(1, count + 1))
        for number in everywhere:
            await _said(gateway, line, number, f"seq={count} ")
    return [f"/v1/sessions/s{number}/events?cursor={cursor}" for number, cursor in enumerate(cursors)]
