"""The line breaks at random moments of a busy stream, between any two bytes, 200 times on each transport.

What a client saw is checked against a ledger of everything that was published: every event exactly once and in order,
or a gap whose view is what the events up to there add up to, by the tests' own fold. `make cuts` breaks more lines.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.stores.replay_memory import ReplayBounds
from tests.gateway.stream.serving import LEAN, PLAIN
from tests.gateway.stream.sufferers import TRANSPORTS, sufferer
from tests.gateway.stream.theatre import busy

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800)]

WATCHERS = 8
ROOMY = ReplayBounds(max_events=100_000)
TIGHT = ReplayBounds(max_events=100)
PLAIN_TOO = ("sse", "websocket", "observe", "observe sse")
"""What is sent in another way by a server whose connections cannot be taken over."""
STREAMS = (*TRANSPORTS, *(f"plain {transport}" for transport in PLAIN_TOO))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def cuts(pytestconfig: pytest.Config) -> int:
    """How many lines break in a test, of as many in all as were asked for."""
    asked: int = pytestconfig.getoption("--cuts")
    return -(-asked // (2 * len(STREAMS)))


@pytest.fixture(scope="module")
def totals() -> Iterator[Counter[str]]:
    """What all tests here add up to."""
    counted: Counter[str] = Counter()
    began = time.monotonic()
    yield counted
    print(dict(counted), f"in {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("bounds", [ROOMY, TIGHT], ids=["roomy", "tight"])
@pytest.mark.parametrize("stream", STREAMS)
async def test_cuts_cost_nobody_a_word(
    stream: str, bounds: ReplayBounds, cuts: int, totals: Counter[str], tmp_path: Path
) -> None:
    kind = PLAIN if stream.startswith("plain") else LEAN
    transport = stream.removeprefix("plain ")
    sessions = ("s", "t", "u") if transport.startswith("observe") else ("s",)
    seed = f"{transport} {bounds.max_events}"
    async with busy(tmp_path, bounds, seed, kind, sessions) as theatre:
        clients = [sufferer(theatre, transport, random.Random(f"{seed} {number}")) for number in range(WATCHERS)]
        await asyncio.gather(*(client.suffer(-(-cuts // WATCHERS)) for client in clients))
        views = await theatre.finish()
        lasts = {session: view["cursor"] for session, view in views.items()}
        await asyncio.gather(*(client.see_through(lasts) for client in clients))
        theatre.check([client.stories for client in clients], views)
        stories = [story for client in clients for story in client.stories.values()]
        connections = sum(client.connections for client in clients)
        gaps = sum(story.gaps for story in stories)
        resumed = sum(story.resumed for story in stories)
    assert connections > cuts
    assert resumed > cuts // 5
    assert gaps > cuts // 20 if bounds is TIGHT else gaps == 0
    counts = {"reconnects": connections - WATCHERS, "resumed": resumed, "gaps": gaps}
    totals.update(counts)
    print(f"\n{stream}, {bounds.max_events} events kept: {counts}", end=" ")
