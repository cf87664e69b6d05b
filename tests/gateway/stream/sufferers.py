"""Clients whose line breaks at random moments, between any two bytes, on every transport.

Each has a story for every session it watches, and goes on from the cursors in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Protocol

from tests.gateway.stream.stage import Json
from tests.gateway.stream.stories import Story
from tests.gateway.stream.theatre import Theatre
from tests.gateway.stream.wires import ServerSentWire, SocketWire, Wire, request

__all__ = ["TRANSPORTS", "Sufferer", "sufferer"]

TRANSPORTS = ("sse", "websocket", "json", "observe", "observe sse")
PATH = "/v1/sessions/s/events"


class Sufferer(Protocol):
    stories: dict[str, Story]
    connections: int

    async def suffer(self, cuts: int) -> None:
        """Connect, lose the line after some bytes or some time, stay away for a while; so many times."""
        ...

    async def see_through(self, lasts: Mapping[str, str]) -> None:
        """One more connection, until these cursors are reached."""
        ...


class Watcher:
    """A client on a stream of one session."""

    def __init__(self, theatre: Theatre, kind: type[ServerSentWire] | type[SocketWire], chance: random.Random) -> None:
        self.theatre = theatre
        self.connections = 0
        self.stories = {session: Story(theatre.ledger.events[session]) for session in theatre.starts}
        self._kind = kind
        self._chance = chance

    async def suffer(self, cuts: int) -> None:
        for _ in range(cuts):
            wire = await self._connect()
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

    async def see_through(self, lasts: Mapping[str, str]) -> None:
        wire = await self._connect()
        await self.open(wire)
        while any(story.cursor != lasts[session] for session, story in self.stories.items()):
            self._take(await wire.read())

    async def _connect(self) -> ServerSentWire | SocketWire:
        wire: ServerSentWire | SocketWire = await self.theatre.server.connect(self._kind)
        self.connections += 1
        for story in self.stories.values():
            story.connect()
        return wire

    async def _watch(self, wire: ServerSentWire | SocketWire, most: int) -> None:
        await self.open(wire)
        while most > 0:
            some = min(most, self._chance.choice([7, 500, 20_000]))
            most -= some
            self._take(await wire.read(some))

    def _take(self, frames: list[Json]) -> None:
        for frame in frames:
            self.stories[frame["session_id"]].take(frame)

    async def open(self, wire: Wire) -> None:
        """Ask for everything after what the stories have."""
        assert isinstance(wire, ServerSentWire | SocketWire)
        [story] = self.stories.values()
        await wire.open(PATH, cursor=story.cursor)


class ManyWatcher(Watcher):
    """A client that watches several sessions on one connection, each from a cursor of its own."""

    async def open(self, wire: Wire) -> None:
        if isinstance(wire, ServerSentWire):
            cursors = {session: story.cursor for session, story in self.stories.items()}
            await wire.open("/v1/observe", body={"sessions": cursors})
            return
        assert isinstance(wire, SocketWire)
        await wire.open("/v1/observe")
        for session, story in self._chance.sample([*self.stories.items()], len(self.stories)):
            place = {} if story.cursor is None else {"cursor": story.cursor}
            await wire.say({"type": "subscribe", "session_id": session, **place})


class Poller:
    """The same by requests, some of whose answers are cut off."""

    def __init__(self, theatre: Theatre, chance: random.Random) -> None:
        self.theatre = theatre
        self.connections = 0
        self._story = Story(theatre.ledger.events["s"])
        self.stories = {"s": self._story}
        self._chance = chance

    async def suffer(self, cuts: int) -> None:
        while cuts:
            cut = self._chance.random() < 0.6
            cuts -= cut
            await self._ask(int(10 ** self._chance.uniform(0, 5)) if cut else None)
            if self._chance.random() < 0.2:
                await self.theatre.ledger.grow(self._chance.randint(1, 150))

    async def see_through(self, lasts: Mapping[str, str]) -> None:
        while self._story.cursor != lasts["s"]:
            await self._ask(None)

    async def _ask(self, most: int | None) -> None:
        query = f"limit={self._chance.choice([1, 3, 500])}&wait={self._chance.choice([0, 0.02])}"
        resume = f"&cursor={self._story.cursor}" if self._story.cursor else ""
        self.connections += 1
        self._story.connect()
        answer = await request(self.theatre.server.port, f"{PATH}?{query}{resume}", most=most)
        if answer is not None:
            _tell(self._story, *answer)


def _tell(story: Story, status: int, answer: Json) -> None:
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


def sufferer(theatre: Theatre, transport: str, chance: random.Random) -> Sufferer:
    match transport:
        case "sse":
            return Watcher(theatre, ServerSentWire, chance)
        case "websocket":
            return Watcher(theatre, SocketWire, chance)
        case "observe":
            return ManyWatcher(theatre, SocketWire, chance)
        case "observe sse":
            return ManyWatcher(theatre, ServerSentWire, chance)
        case _:
            return Poller(theatre, chance)
