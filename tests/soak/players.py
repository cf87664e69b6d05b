"""Sessions in which turns run all the time: some said aloud, some cancelled, some sessions deleted for new ones."""

from __future__ import annotations

import asyncio
import itertools
import random

import msgspec

from tests.bench.gateways import Served, turn, turns_of
from tests.bench.http_load import Connection, connections

__all__ = ["Player", "Stage"]

_WAIT = b"Prefer: wait=60\r\n"
_TURNS_PER_RESET = 4
_TURNS_PER_LIFE = 8


class Stage:
    """`sessions` are there, `retired` were there and are deleted."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.sessions: list[str] = []
        self.retired: set[str] = set()
        self.turns = 0
        self.names = (f"s{number}" for number in itertools.count())

    async def ready(self, count: int) -> None:
        """Return when so many sessions are there."""
        async with asyncio.timeout(30):
            while len(self.sessions) < count:  # noqa: ASYNC110 - it is so in a moment
                await asyncio.sleep(0.05)

    async def last_cursors(self) -> dict[str, str]:
        """Where each session is. Nothing must run any more."""
        async with connections(self.server.port, 1) as [line]:
            views = [msgspec.json.decode(await self.server.revision(line, session)) for session in self.sessions]
        assert all(view["status"] == "idle" for view in views)
        return {view["session_id"]: view["cursor"] for view in views}


class Player:
    """Plays in one session after the other. `loud`: so much is said that whoever does not read falls behind.
    `passing`: its sessions do not last.
    """

    def __init__(self, stage: Stage, chance: random.Random, *, loud: bool, passing: bool) -> None:
        self._stage = stage
        self._chance = chance
        self._loud = loud
        self._passing = passing
        self._keys = itertools.count()
        self.over = False

    async def play(self) -> None:
        """Until it is over. Raises AssertionError when the server does not take what is played."""
        async with connections(self._stage.server.port, 1) as [line]:
            while not self.over:
                await self._play_one(line)

    async def _play_one(self, line: Connection) -> None:
        session = next(self._stage.names)
        await self._stage.server.create(line, session)
        self._stage.sessions.append(session)
        for number in itertools.count(1):
            if self.over:
                return
            await self._turn(line, session)
            if self._loud or number % _TURNS_PER_RESET == 0:
                await self._reset(line, session)
            if self._passing and number % _TURNS_PER_LIFE == 0:
                break
        self._stage.sessions.remove(session)
        self._stage.retired.add(session)
        answer = await line.send("DELETE", f"/v1/sessions/{session}")
        assert answer.status == 204, answer

    async def _turn(self, line: Connection, session: str) -> None:
        asking = asyncio.create_task(line.send("POST", turns_of(session), turn(self._text()), _WAIT))
        if self._chance.random() < 0.05:
            await asyncio.wait([asking], timeout=self._chance.uniform(0, 3))
            async with connections(self._stage.server.port, 1) as [other]:
                answer = await other.send("POST", f"/v1/sessions/{session}/cancel", b"{}")
            assert answer.status == 200, answer
        answer = await asking
        assert answer.status == 200, answer
        self._stage.turns += 1

    def _text(self) -> str:
        if self._loud:
            return f"stream 20 every 100 size {self._chance.choice([20_000, 30_000])}"
        pieces, every = self._chance.randint(5, 40), self._chance.randint(100, 500)
        return f"stream {pieces} every {every} size {self._chance.choice([0, 100, 400])}"

    async def _reset(self, line: Connection, session: str) -> None:
        body = b'{"kind":"reset_session","reason":"enough"}'
        key = f"Idempotency-Key: {next(self._keys)}\r\n".encode() + _WAIT
        answer = await line.send("POST", f"/v1/sessions/{session}/commands", body, key)
        assert answer.status in (200, 202), answer
