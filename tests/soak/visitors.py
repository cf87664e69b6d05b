"""Observers that come and go: over every transport, of one session or several, some of them rudely, some asleep.

What each is told is checked by a follower for each session. Whatever is not as promised ends the visitor.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from tests.bench.http_load import Connection
from tests.soak.follower import Follower, Frame, frame_of
from tests.soak.lines import EventStream, Line, Refused, Socket
from tests.soak.players import Stage

__all__ = ["Visitor"]

_TRANSPORTS = ("WebSocket", "SSE", "catch-up", "observe WebSocket", "observe SSE")
_MOST_SESSIONS = 6
_SMALL = 4096
_PATIENCE = 19.0
"""Who has slept for longer may have been cut off: a WebSocket that answered no ping for 20 s, and any stream on which
nothing was read for 30 s, and its goodbye neither.
"""
_GONE = ("session_deleted", "session_not_found")


class _CaughtUp(Struct):
    cursor: str
    events: list[Frame] = []
    observation: msgspec.Raw = msgspec.Raw(b"null")


class _Problem(Struct):
    code: str
    gap: msgspec.Raw = msgspec.Raw(b"null")
    observation: msgspec.Raw = msgspec.Raw(b"null")


class Visitor:
    """`counts` is shared by all of them."""

    def __init__(self, stage: Stage, chance: random.Random, counts: Counter[str]) -> None:
        self._stage = stage
        self._chance = chance
        self._counts = counts
        self._port = stage.server.port
        self._transport = ""
        self._followers: dict[str, Follower] = {}
        self._goodbye = ""
        self._over = asyncio.Event()
        self._stirred = asyncio.Event()

    def stop(self) -> None:
        """The visit that is going on is the last."""
        self._over.set()
        self._stir()

    async def visit(self) -> None:
        """Come and go until it is stopped. Raises what was not as promised."""
        await self._wait(self._chance.uniform(0, 15))
        while not self._over.is_set():
            self._choose()
            if self._transport == "catch-up":
                await self._poll()
            else:
                await self._watch()
            if self._chance.random() < 0.5:
                await self._wait(self._chance.uniform(0, 6))

    async def see_through(self, lasts: dict[str, str]) -> None:
        """Once more, to the last cursor of whatever it watched; nothing happens any more."""
        self._forget_retired()
        if not self._followers or self._transport == "catch-up":
            return
        line = await self._connect(None)
        try:
            async with asyncio.timeout(60):
                while any(follower.cursor != lasts[session] for session, follower in self._followers.items()):
                    if line.ended.done():
                        line.ended.result()
                        raise AssertionError(f"a last visit was cut off; goodbye: {self._goodbye or 'none'}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            where = {session: (follower.cursor, lasts[session]) for session, follower in self._followers.items()}
            raise AssertionError(f"{self._transport}: a last visit did not come to its end: {where}") from None
        finally:
            line.abort()
        self._counts["saw it through"] += 1

    # One visit

    def _choose(self) -> None:
        """What to watch, and how: often what it watched before, from where it was."""
        self._forget_retired()
        if self._followers and self._chance.random() < 0.6:
            return
        self._transport = self._chance.choice(_TRANSPORTS)
        many = self._transport.startswith("observe")
        count = self._chance.randint(2, _MOST_SESSIONS) if many else 1
        here = self._stage.sessions
        self._followers = {session: Follower() for session in self._chance.sample(here, min(count, len(here)))}

    def _forget_retired(self) -> None:
        self._followers = {
            session: follower for session, follower in self._followers.items() if session not in self._stage.retired
        }

    async def _watch(self) -> None:
        sleepy = self._chance.random() < 0.15
        line = await self._connect(_SMALL if sleepy else None)
        slept = 0.0
        try:
            await self._stay(line, self._chance.uniform(1, 40))
            if sleepy and not line.ended.done():
                slept = self._chance.uniform(2, 45)
                line.stop_reading()
                await self._wait(slept)
                line.read_on()
                await self._stay(line, 5)
                self._counts["slept"] += 1
            self._judge(line, slept)
        finally:
            rude = self._chance.random() < 0.5
            line.abort() if rude else line.close()
            self._counts["aborted" if rude else "closed"] += 1

    async def _connect(self, receive_buffer: int | None) -> Line:
        self._goodbye = ""
        for follower in self._followers.values():
            follower.connect()
        cursors = {session: follower.cursor for session, follower in self._followers.items()}
        self._counts[self._transport] += 1
        match self._transport:
            case "WebSocket":
                [(session, cursor)] = cursors.items()
                socket = await Socket.to(self._port, self._take, receive_buffer=receive_buffer)
                socket.ask(_path(session, cursor))
                return socket
            case "observe WebSocket":
                socket = await Socket.to(self._port, self._take, receive_buffer=receive_buffer)
                socket.ask("/v1/observe")
                for session, cursor in cursors.items():
                    place = {} if cursor is None else {"cursor": cursor}
                    socket.say({"type": "subscribe", "session_id": session, **place})
                return socket
        stream = await EventStream.to(self._port, self._take, receive_buffer=receive_buffer)
        if self._transport == "SSE":
            [(session, cursor)] = cursors.items()
            stream.ask(_path(session, None), cursor=cursor)
        else:
            stream.ask("/v1/observe", body={"sessions": cursors})
        return stream

    async def _stay(self, line: Line, seconds: float) -> None:
        line.ended.add_done_callback(self._stir)
        try:
            async with asyncio.timeout(seconds):
                while not line.ended.done() and not self._over.is_set():
                    self._stirred.clear()
                    await self._stirred.wait()
        except TimeoutError:
            pass

    def _stir(self, _: object = None) -> None:
        self._stirred.set()

    def _judge(self, line: Line, slept: float) -> None:
        """A line may end only for a reason that was told, or if its client was asleep for too long."""
        if not line.ended.done():
            return
        error = line.ended.exception()
        if isinstance(error, Refused):
            assert error.status in (404, 410), error
            assert self._stage.retired & set(self._followers), error
            self._counts["refused"] += 1
        elif error is not None:
            raise error
        elif self._goodbye:
            self._counts[f"goodbye {self._goodbye}"] += 1
        elif slept > _PATIENCE:
            self._counts["cut off asleep"] += 1
        else:
            code = getattr(line, "close_code", None)
            raise AssertionError(f"{self._transport}: cut off, code {code}, no goodbye, after {slept:.0f} s of sleep")

    def _take(self, payload: bytes) -> None:
        self._take_frame(frame_of(payload))

    def _take_frame(self, frame: Frame) -> None:
        if frame.type == "error":
            assert frame.problem is not None
            assert frame.problem.code in _GONE, frame.problem
            self._goodbye = frame.problem.code
            return
        follower = self._followers.get(frame.session_id)
        if follower is None:
            assert frame.session_id in self._stage.retired, frame
            return
        gaps, resumed = len(follower.gaps), follower.resumed
        follower.take(frame)
        self._counts["events"] += frame.type == "event"
        self._counts["resumed"] += follower.resumed - resumed
        if len(follower.gaps) > gaps:
            self._counts[f"gap {follower.gaps[-1]}"] += 1
        if frame.type == "goodbye":
            self._goodbye = frame.reason

    # By requests

    async def _poll(self) -> None:
        [(session, follower)] = self._followers.items()
        line = await Connection.to(self._port)
        try:
            for _ in range(self._chance.randint(1, 20)):
                if self._over.is_set() or session in self._stage.retired:
                    return
                follower.connect()
                path = _path(session, follower.cursor)
                answer = await line.send("GET", f"{path}{'&' if '?' in path else '?'}wait=2")
                self._counts["catch-up"] += 1
                self._answered(session, follower, answer.status, answer.body)
        finally:
            line.close()

    def _answered(self, session: str, follower: Follower, status: int, body: bytes) -> None:
        """The answer as the frames it stands for."""
        if status == 200:
            answer = msgspec.json.decode(body, type=_CaughtUp)
            if follower.cursor is None:
                self._take(_frame("observation", session, answer.cursor, observation=answer.observation))
                return
            self._take(_frame("resumed", session, follower.cursor))
            for event in answer.events:
                self._take_frame(event)
            assert follower.cursor == answer.cursor
            return
        problem = msgspec.json.decode(body, type=_Problem)
        if problem.code == "cursor_gone":
            latest = msgspec.json.decode(problem.gap)["latest_cursor"]
            self._take(_frame("gap", session, latest, gap=problem.gap, observation=problem.observation))
        else:
            assert problem.code in _GONE, body
            assert session in self._stage.retired, body

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass


def _path(session: str, cursor: str | None) -> str:
    path = f"/v1/sessions/{session}/events"
    return path if cursor is None else f"{path}?cursor={cursor}"


def _frame(type_: str, session: str, cursor: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": type_, "session_id": session, "cursor": cursor, **fields})
