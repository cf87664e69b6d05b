"""A server with busy sessions, and a ledger of everything that was published in them.

Turn after turn is played, some of them cancelled. What clients saw is held against the ledger at the end.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

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
from tests.gateway.stream.serving import Server, Serving, serving
from tests.gateway.stream.stage import Json
from tests.gateway.stream.stories import Story, position
from tests.gateway.stream.wires import request

__all__ = ["Ledger", "Theatre", "busy"]


class Ledger(MemoryReplayStore):
    """A live log that also keeps everything: the events of each session, by position from 1."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.events: defaultdict[str, list[Json]] = defaultdict(list)
        self._count = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        for entry in entries:
            event = msgspec.json.decode(entry.payload)
            self.events[event["session_id"]].append(event)
        self._count += len(entries)
        super().publish(reservation, entries)
        due = [waiting for count, waiting in self._waiting if count <= self._count]
        self._waiting = [(count, waiting) for count, waiting in self._waiting if count > self._count]
        for waiting in due:
            if not waiting.done():
                waiting.set_result(None)

    async def grow(self, by: int) -> None:
        """Return when so many more events have been published."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._count + by, waiting))
        await waiting


@dataclass
class Theatre:
    """Busy sessions; `starts` are their views before anything happened."""

    server: Serving
    ledger: Ledger
    starts: Mapping[str, Json]
    playing: Sequence[asyncio.Task[None]]

    async def finish(self) -> dict[str, Json]:
        """Let the work come to its end: the last view of each session."""
        for task in self.playing:
            task.cancel()
        await asyncio.gather(*self.playing, return_exceptions=True)
        return {session: await self._at_rest(session) for session in self.starts}

    async def _at_rest(self, session: str) -> Json:
        while (view := await _view(self.server.port, session))["queue"]:
            await asyncio.wait([asyncio.ensure_future(self.ledger.grow(1))], timeout=0.1)
        return view

    def check(self, stories: Iterable[Mapping[str, Story]], lasts: Mapping[str, Json]) -> None:
        """Every snapshot that any client got is what the events up to there add up to; and so are the last ones."""
        kept = list(stories)
        for session, last in lasts.items():
            self._check(session, [each[session] for each in kept if session in each], last)

    def _check(self, session: str, stories: Sequence[Story], last: Json) -> None:
        snapshots = sorted((shot for story in stories for shot in story.snapshots), key=lambda shot: position(shot[0]))
        view, place = self.starts[session], 0
        for cursor, snapshot in [*snapshots, (last["cursor"], last)]:
            view = fold(view, self.ledger.events[session][place : position(cursor)])
            place = position(cursor)
            assert_same_view(view, snapshot)
        for story in stories:
            assert story.cursor == last["cursor"]
            assert_same_view(story.view(), last)


async def _view(port: int, session: str) -> Json:
    answer = await request(port, f"/v1/sessions/{session}")
    assert answer is not None
    return answer[1]


async def _keep_busy(port: int, session: str, chance: random.Random) -> None:
    """Turn after turn, some waiting in the queue, some cancelled there or in the middle."""
    path = f"/v1/sessions/{session}"
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
async def busy(
    folder: Path, bounds: ReplayBounds, seed: str, kind: Server, sessions: Sequence[str] = ("s",)
) -> AsyncIterator[Theatre]:
    store = SqliteStore.open(folder / "sightline.db", "NORMAL")
    clock = SystemClock()
    ledger = Ledger(clock, store.incarnation, bounds)
    kernel = Kernel(store=store, replay=ledger, agent=demo, clock=clock, limits=Limits(poll_interval=0.05))
    gateway = Gateway(kernel, Settings(buffer_bytes=20_000), Streams(100))
    await kernel.start()
    try:
        async with serving(create_app(gateway), kind=kind) as server:
            for session in sessions:
                await request(server.port, f"/v1/sessions/{session}", method="PUT", body={})
            starts = {session: await _view(server.port, session) for session in sessions}
            playing = [
                asyncio.create_task(_keep_busy(server.port, session, random.Random(f"{seed} {session}")))
                for session in sessions
            ]
            yield Theatre(server, ledger, starts, playing)
            for task in playing:
                task.cancel()
            await asyncio.gather(*playing, return_exceptions=True)
            for wire in server.wires:
                wire.close()
            await server.disconnected()
            assert gateway.streams.count == 0
            assert [ledger.subscribers(session) for session in sessions] == [0] * len(sessions)
    finally:
        await kernel.stop()
        await store.close()
