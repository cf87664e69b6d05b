"""A client on a stream of one session, over either transport, that may stop reading."""

from __future__ import annotations

import asyncio
import time

from tests.soak.follower import Follower, frame_of
from tests.soak.lines import EventStream, Socket

__all__ = ["TRANSPORTS", "Witness"]

TRANSPORTS: dict[str, type[Socket] | type[EventStream]] = {"WebSocket": Socket, "SSE": EventStream}


class Witness:
    """`connect` it. What is wrong with what it is told is raised by whatever waits for it."""

    def __init__(self, port: int, session_id: str, transport: str) -> None:
        self.follower = Follower()
        self.delays: list[float] | None = None
        """When it is a list, it gets how old each delta was, in seconds."""
        self.caught_up = False
        self.goodbye = ""
        self._port = port
        self._path = f"/v1/sessions/{session_id}/events"
        self._kind = TRANSPORTS[transport]
        self._line: Socket | EventStream | None = None
        self._changed = asyncio.Event()

    @property
    def line(self) -> Socket | EventStream:
        assert self._line is not None
        return self._line

    async def connect(self, *, receive_buffer: int | None = None) -> None:
        """Go on from where it was."""
        self.caught_up, self.goodbye = False, ""
        self.follower.connect()
        cursor = self.follower.cursor
        self._line = line = await self._kind.to(self._port, self._take, receive_buffer=receive_buffer)
        line.ended.add_done_callback(lambda _: self._changed.set())
        if isinstance(line, EventStream):
            line.ask(self._path, cursor=cursor)
        else:
            line.ask(self._path if cursor is None else f"{self._path}?cursor={cursor}")

    async def reach(self, cursor: str) -> None:
        """Return when it has been told everything up to there."""
        while self.follower.cursor != cursor:
            await self._change()

    async def catch_up(self) -> None:
        while not self.caught_up:
            await self._change()

    async def gap_or_goodbye(self) -> None:
        gaps = len(self.follower.gaps)
        while len(self.follower.gaps) == gaps and not self.goodbye:
            await self._change()

    async def _change(self) -> None:
        """Raises what was wrong, and ConnectionError when the line is over."""
        if self.line.ended.done():
            self.line.ended.result()
            raise ConnectionError(f"the stream is over; goodbye: {self.goodbye or 'none'}")
        self._changed.clear()
        await self._changed.wait()

    def leave(self) -> None:
        if self._line is not None:
            self._line.abort()

    def _take(self, payload: bytes) -> None:
        frame = frame_of(payload)
        before = self.follower.sent_at_ns
        self.follower.take(frame)
        if self.delays is not None and self.follower.sent_at_ns != before:
            self.delays.append((time.time_ns() - self.follower.sent_at_ns) / 1e9)
        if frame.type == "caught_up":
            self.caught_up = True
        elif frame.type == "goodbye":
            self.goodbye = frame.reason
        self._changed.set()
