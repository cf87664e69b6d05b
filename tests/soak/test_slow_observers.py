"""Observers that stop reading while much goes through their session: what they cost, and who else notices.

As a part of the tests it is small; `make slow` is the real one. The server is a process of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from tests.bench.gateways import Served, serving
from tests.bench.http_load import Connection, connections
from tests.soak.witness import TRANSPORTS, Witness

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800)]

READERS = 4
DELTA_BYTES = 32_768
DELTAS = 8
TURN_BYTES = DELTA_BYTES * DELTAS
"""As little as a snapshot is to hold: each turn is followed by a reset."""
BUFFER_BYTES = 262_144
RING_BYTES = 8 * 1024 * 1024
HIGH_WATER = 65_536
"""From so many unread bytes on, a transport takes nothing more; the last write may be of `BUFFER_BYTES`."""
FORMS = 3
"""An event in the ring is there as JSON, as a WebSocket's message and as a server-sent event."""
NOISE_BYTES = 24 * 1024 * 1024
SMALL = 4096
LATE = 35.0
"""Seconds after which a sleeper has been given up, and not cut off yet."""
MOST_DELAY = 1.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Flow:
    """Turns and resets in the session `s`."""

    server: Served
    line: Connection
    keys: itertools.count[int]
    peak: int = 0

    async def run(self, megabytes: float) -> None:
        for _ in range(round(megabytes * 1e6 / TURN_BYTES)):
            await self.server.whole_turn(self.line, "s", f"stream {DELTAS} every 1 size {DELTA_BYTES}")
            key = f"Idempotency-Key: {next(self.keys)}\r\nPrefer: wait=60\r\n".encode()
            body = b'{"kind":"reset_session","reason":"enough"}'
            answer = await self.line.send("POST", "/v1/sessions/s/commands", body, key)
            assert answer.status in (200, 202), answer
            self.peak = max(self.peak, self.server.process.resident_bytes)

    async def cursor(self) -> str:
        return str(msgspec.json.decode(await self.server.revision(self.line, "s"))["cursor"])


@asynccontextmanager
async def flowing() -> AsyncIterator[Flow]:
    flags = ("--buffer-bytes", str(BUFFER_BYTES), "--replay-max-bytes", str(RING_BYTES), "--synchronous", "NORMAL")
    async with serving(*flags) as server, connections(server.port, 1) as [line]:
        await server.create(line, "s")
        yield Flow(server, line, itertools.count())
        assert "Traceback" not in server.process.log


@asynccontextmanager
async def watching(port: int, count: int, *, receive_buffer: int | None = None) -> AsyncIterator[list[Witness]]:
    """So many, half on each transport, who have caught up."""
    kinds = itertools.cycle(TRANSPORTS)
    made = [Witness(port, "s", next(kinds)) for _ in range(count)]
    try:
        await asyncio.gather(*(witness.connect(receive_buffer=receive_buffer) for witness in made))
        await asyncio.gather(*(witness.catch_up() for witness in made))
        yield made
    finally:
        for witness in made:
            witness.leave()
        await asyncio.sleep(0)


def p99(readers: list[Witness]) -> float:
    """Of what they noted since this was asked before."""
    delays = [delay for reader in readers for delay in reader.delays or ()]
    for reader in readers:
        reader.delays = []
    return statistics.quantiles(delays, n=100)[98]


async def sleep_and_wake(witness: Witness, seconds: float, over: asyncio.Event) -> None:
    """Stop reading, until so much time has passed or most of the flow has; then it is told what it has missed."""
    witness.line.stop_reading()
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        pass
    witness.line.read_on()
    await witness.gap_or_goodbye()


async def test_who_does_not_read_costs_a_buffer_and_nobody_a_moment(pytestconfig: pytest.Config) -> None:
    stalled: int = pytestconfig.getoption("--stalled")
    megabytes: int = pytestconfig.getoption("--megabytes")
    chance = random.Random(1)
    async with flowing() as flow, watching(flow.server.port, READERS) as readers:
        for reader in readers:
            reader.delays = []
        await flow.run(megabytes / 3)
        alone, flow.peak = p99(readers), 0
        before = flow.server.process.resident_bytes
        async with watching(flow.server.port, stalled, receive_buffer=SMALL) as sleepers:
            most_is_over = asyncio.Event()
            # The later ones are only late if the flow lasts for that long.
            seconds = [chance.uniform(8, 25) if number % 4 < 2 else LATE for number in range(stalled)]
            sleeping = [
                asyncio.create_task(sleep_and_wake(*each, most_is_over)) for each in zip(sleepers, seconds, strict=True)
            ]
            began = asyncio.get_running_loop().time()
            await flow.run(megabytes * 2 / 3)
            most_is_over.set()
            lasted = asyncio.get_running_loop().time() - began
            await flow.run(megabytes / 3)
            beside = p99(readers)
            await asyncio.gather(*sleeping)
            given_up = [witness for witness in sleepers if witness.goodbye]
            for witness, wait in zip(sleepers, seconds, strict=True):
                if min(wait, lasted) < 28:
                    # Who comes back with so small a window may fall behind once more.
                    assert (witness.goodbye, set(witness.follower.gaps)) == ("", {"lagged"})
                elif wait < lasted:
                    assert (witness.goodbye, witness.follower.gaps) == ("slow_consumer", [])
            await asyncio.gather(*(witness.connect() for witness in given_up))
            last = await flow.cursor()
            async with asyncio.timeout(30):
                await asyncio.gather(*(witness.reach(last) for witness in [*readers, *sleepers]))
    assert [reader.follower.gaps for reader in readers] == [[]] * READERS
    grown = flow.peak - before
    facts = {
        "stalled": stalled,
        "megabytes": megabytes,
        "megabytes/s": round(megabytes * 2 / 3 / lasted, 1),
        "given up": len(given_up),
        "p99 delay alone, ms": round(alone * 1e3, 2),
        "p99 delay beside the stalled, ms": round(beside * 1e3, 2),
        "resident before, MB": round(before / 1e6, 1),
        "grown by, MB": round(grown / 1e6, 1),
    }
    print(facts)
    assert grown <= stalled * (BUFFER_BYTES + HIGH_WATER) + RING_BYTES * FORMS + NOISE_BYTES, facts
    assert beside < MOST_DELAY, facts
