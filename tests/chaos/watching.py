"""A watcher as a browser is one: it comes back with its last cursor whenever there is a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from tests.chaos.served import Served
from tests.gateway.stream.stories import Story
from tests.gateway.stream.wires import ServerSentWire, SocketWire

__all__ = ["KINDS", "Watcher"]

KINDS: dict[str, type[ServerSentWire] | type[SocketWire]] = {"sse": ServerSentWire, "websocket": SocketWire}


class Watcher:
    """`story` is what it was told. Runs from `start` to `stop`, through any number of servers."""

    def __init__(self, served: Served, session_id: str, transport: str) -> None:
        self.story = Story()
        self._served = served
        self._path = f"/v1/sessions/{session_id}/events"
        self._kind = KINDS[transport]
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def begun(self) -> None:
        """Return when it has been shown anything."""
        await self._until(lambda: self.story.cursor is not None)

    async def reach(self, cursor: str) -> None:
        """Return when it has been shown everything up to there. Raises what was wrong with what it was told."""
        await self._until(lambda: self.story.cursor == cursor)

    async def see(self, count: int) -> None:
        """Return when it has been shown so many events since its last snapshot."""
        await self._until(lambda: len(self.story.since) >= count)

    async def said_goodbye(self) -> None:
        await self._until(lambda: bool(self.story.goodbyes))

    async def _until(self, holds: Callable[[], bool]) -> None:
        assert self._task is not None
        while not holds():
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            await asyncio.wait({changed, self._task}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if self._task.done():
                self._task.result()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(EOFError, OSError):
                await self._watch()
            await asyncio.sleep(0.02)

    async def _watch(self) -> None:
        wire = await self._kind.connected(self._served.port)
        try:
            self.story.connect()
            await wire.open(self._path, cursor=self.story.cursor)
            while True:
                for frame in await wire.read():
                    if frame["type"] == "error":
                        assert frame["problem"]["retryable"], frame
                        return
                    self.story.take(frame)
                self._changed.set()
                if isinstance(wire, ServerSentWire) and wire.status == 503:
                    return
        finally:
            wire.close()
