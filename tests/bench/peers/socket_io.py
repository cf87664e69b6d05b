"""Socket.IO: what applications in Node.js mostly use for this."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.generator import compiler_version
from tests.bench.peers.packages import from_npm, npm_folder
from tests.bench.processes import folder, free_port, running
from tests.bench.sides import Side, Stand, lines

__all__ = ["METHOD", "socket_io"]

METHOD = """\
- *Socket.IO* (a library for Node.js) emits each event to a room, over WebSockets. It keeps nothing. Its events come to
  it as lines over TCP, as they come to our relay."""

_PROGRAM = Path(__file__).parent / "programs" / "socket_io.mjs"


def socket_io() -> Side:
    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        port, ingest = free_port(), free_port()
        command = ("node", str(_PROGRAM), str(npm_folder("socket.io")), str(port), str(ingest))
        with folder() as place:
            async with running(*command, cwd=place, speaks=True) as process:
                await process.line()
                path = "/socket.io/?EIO=4&transport=websocket&channel={}"
                watch = ("--port", str(port), "--path", path, "--hello", "40", "--await", "40{", "--engine-io")
                yield Stand(process, watch, lines(ingest))

    async def prepare() -> dict[str, str]:
        return await from_npm("socket.io", "socket.io@4.8.4") | await compiler_version()

    return Side("Socket.IO, WebSocket", stand, prepare)
