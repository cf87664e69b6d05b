"""The line breaks 200 times at random moments of a busy stream, between any two bytes, on each transport.

What a client saw is checked against a ledger of everything that was published: every event exactly once and in order,
or a gap whose view is what the events up to there add up to, by the tests' own fold.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from sightline.agents.demo import demo
from sightline.clock import SystemClock
from sightline.kernel import Kernel, Limits
from sightline.observation.replay import Entry, Reservation
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.stores.sqlite import SqliteStore
from sightline_gateway.app import create_app
from sightline_gateway.gateway import Gateway
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.serving import LEAN, PLAIN, Server, Serving, serving
from tests.gateway.stream.stage import Json
from tests.gateway.stream.stories import Story, position
from tests.gateway.stream.wires import ServerSentWire, SocketWire, request

pytestmark = pytest.mark.anyio

CUTS = 200
WATCHERS = 8
PATH = "/v1/sessions/s/events"
ROOMY = ReplayBounds(max_events=100_000)
TIGHT = ReplayBounds(max_events=100)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


class Ledger(MemoryReplayStore):
    """A live log that also keeps everything, by position from 1."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.events: list[Json] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        self.events += [msgspec.json.decode(entry.payload) for entry in entries]
        super().publish(reservation, entries)
        for count, waiting in self._waiting:
            if count <= len(self.events) and not waiting.done():
                waiting.set_result(None)

    async def grow(self, by: int) -> None:
        """Return when so many more events have been published."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((len(self.events) + by, waiting))
        await waiting


@dataclass
class Theatre:
    """One busy session, `start` its view before anything happened."""

    server: Serving
    ledger: Ledger
    start: Json
    playing: asyncio.Task[None]

    async def get(self, path: str = "") -> Json:
        answer = await request(self.server.port, f"/v1/sessions/s{path}")
        assert answer is not None
        return answer[1]

    async def finish(self) -> Json:
        """Let the work come to its end: the last view."""
        self.playing.cancel()
        await asyncio.gather(self.playing, return_exceptions=True)
        while (view := await self.get())["queue"]:
            await asyncio.wait([asyncio.ensure_future(self.ledger.grow(1))], timeout=0.1)
        return view

    def check(self, stories: Sequence[Story], last: Json) -> None:
        """Every snapshot that any client got is what the events up to there add up to; and so is the last one."""
        snapshots = sorted((shot for story in stories for shot in story.snapshots), key=lambda shot: position(shot[0]))
        view, place = self.start, 0
        for cursor, snapshot in [*snapshots, (last["cursor"], last)]:
            view = fold(view, self.ledger.events[place : position(cursor)])
            place = position(cursor)
            assert_same_view(view, snapshot)
        for story in stories:
            assert story.cursor == last["cursor"]
            assert_same_view(story.view(), last)


async def keep_busy(port: int, chance: random.Random) -> None:
    """Turn after turn, some waiting in the queue, some cancelled there or in the middle."""
    path = "/v1/sessions/s"
    while True:
        text = f"stream {chance.randint(1, 120)} every {chance.randint(0, 2)} size {chance.choice([0, 0, 100, 400])}"
        posted = await request(
            port, f"{path}/turns", method="POST", body={"input": chance.choice([text, text, "echo a b"])}
        )
        assert posted is not None
        assert posted[0] == 202
        if chance.random() < 0.2:
            await request(port, f"{path}/queue/{posted[1]['batch_id']}", method="DELETE")
        if chance.random() < 0.1:
            await request(port, f"{path}/cancel", method="POST", body={})
        await asyncio.sleep(chance.choice([0, 0.02, 0.05]))


@asynccontextmanager
async def busy(folder: Path, bounds: ReplayBounds, seed: str, kind: Server) -> AsyncIterator[Theatre]:
    store = SqliteStore.open(folder / "sightline.db", "NORMAL")
    clock = SystemClock()
    ledger = Ledger(clock, store.incarnation, bounds)
    kernel = Kernel(store=store, replay=ledger, agent=demo, clock=clock, limits=Limits(poll_interval=0.05))
    gateway = Gateway(kernel, Settings(buffer_bytes=20_000), Streams(100))
    await kernel.start()
    try:
        async with serving(create_app(gateway), kind=kind) as server:
            await request(server.port, "/v1/sessions/s", method="PUT", body={})
            begun = await request(server.port, "/v1/sessions/s")
            assert begun is not None
            playing = asyncio.create_task(keep_busy(server.port, random.Random(seed)))
            yield Theatre(server, ledger, begun[1], playing)
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            for wire in server.wires:
                wire.close()
            await server.disconnected()
            assert gateway.streams.count == 0
            assert ledger.subscribers("s") == 0
    finally:
        await kernel.stop()
        await store.close()


class Watcher:
    """A client on a stream."""

    def __init__(self, theatre: Theatre, kind: type[ServerSentWire] | type[SocketWire], chance: random.Random) -> None:
        self.theatre = theatre
        self.story = Story(theatre.ledger.events)
        self._kind = kind
        self._chance = chance

    async def suffer(self, cuts: int) -> None:
        """Connect, lose the line after some bytes or some time, stay away for a while; so many times."""
        for _ in range(cuts):
            wire = await self.theatre.server.connect(self._kind)
            self.story.connect()
            watching = asyncio.create_task(self._watch(wire, int(10 ** self._chance.uniform(2.5, 5.5))))
            later = asyncio.create_task(self.theatre.ledger.grow(self._chance.randint(1, 200)))
            await asyncio.wait({watching, later}, return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, later):
                task.cancel()
            await asyncio.gather(later, return_exceptions=True)
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            wire.abort()
            if self._chance.random() < 0.3:
                await self.theatre.ledger.grow(self._chance.randint(1, 150))

    async def _watch(self, wire: ServerSentWire | SocketWire, most: int) -> None:
        await wire.open(PATH, cursor=self.story.cursor)
        while most > 0:
            some = min(most, self._chance.choice([7, 500, 20_000]))
            most -= some
            for frame in await wire.read(some):
                self.story.take(frame)

    async def see_through(self, last: str) -> None:
        """One more connection, to the end."""
        wire = await self.theatre.server.connect(self._kind)
        self.story.connect()
        await wire.open(PATH, cursor=self.story.cursor)
        while self.story.cursor != last:
            for frame in await wire.read():
                self.story.take(frame)


class Poller:
    """The same by requests, some of whose answers are cut off."""

    def __init__(self, theatre: Theatre, chance: random.Random) -> None:
        self.theatre = theatre
        self.story = Story(theatre.ledger.events)
        self._chance = chance

    async def suffer(self, cuts: int) -> None:
        while cuts:
            cut = self._chance.random() < 0.6
            cuts -= cut
            await self._ask(int(10 ** self._chance.uniform(0, 5)) if cut else None)
            if self._chance.random() < 0.2:
                await self.theatre.ledger.grow(self._chance.randint(1, 150))

    async def see_through(self, last: str) -> None:
        while self.story.cursor != last:
            await self._ask(None)

    async def _ask(self, most: int | None) -> None:
        query = f"limit={self._chance.choice([1, 3, 500])}&wait={self._chance.choice([0, 0.02])}"
        resume = f"&cursor={self.story.cursor}" if self.story.cursor else ""
        self.story.connect()
        answer = await request(self.theatre.server.port, f"{PATH}?{query}{resume}", most=most)
        if answer is not None:
            tell(self.story, *answer)


def tell(story: Story, status: int, answer: Json) -> None:
    """The answer as the frames it stands for."""
    if status == 410:
        gap = answer["gap"]
        story.take({"type": "gap", "cursor": gap["latest_cursor"], "gap": gap, "observation": answer["observation"]})
        return
    assert status == 200
    if "observation" in answer:
        story.take({"type": "observation", "cursor": answer["cursor"], "observation": answer["observation"]})
    else:
        story.take({"type": "resumed", "cursor": story.cursor})
        for event in answer["events"]:
            story.take(event)
    assert story.cursor == answer["cursor"]


@pytest.mark.parametrize("bounds", [ROOMY, TIGHT], ids=["roomy", "tight"])
@pytest.mark.parametrize("transport", ["sse", "websocket", "plain sse", "plain websocket", "json"])
async def test_two_hundred_cuts_cost_nobody_a_word(transport: str, bounds: ReplayBounds, tmp_path: Path) -> None:
    kind = PLAIN if transport.startswith("plain") else LEAN
    transport = transport.removeprefix("plain ")
    seed = f"{transport} {bounds.max_events}"
    async with busy(tmp_path, bounds, seed, kind) as theatre:
        watchers = [watcher(theatre, transport, random.Random(f"{seed} {number}")) for number in range(WATCHERS)]
        await asyncio.gather(*(each.suffer(CUTS // WATCHERS) for each in watchers))
        last = await theatre.finish()
        await asyncio.gather(*(each.see_through(last["cursor"]) for each in watchers))
        stories = [each.story for each in watchers]
        theatre.check(stories, last)
        gaps = sum(story.gaps for story in stories)
        assert sum(story.connections for story in stories) > CUTS
        assert sum(story.resumed for story in stories) > CUTS // 5
        assert gaps > CUTS // 20 if bounds is TIGHT else gaps == 0


def watcher(theatre: Theatre, transport: str, chance: random.Random) -> Watcher | Poller:
    match transport:
        case "sse":
            return Watcher(theatre, ServerSentWire, chance)
        case "websocket":
            return Watcher(theatre, SocketWire, chance)
        case _:
            return Poller(theatre, chance)
