"""The gateway as the benchmarks start it: a process of its own on a new store, with the demo agent."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.http_load import Connection
from tests.bench.processes import Process, folder, running

__all__ = ["Served", "serving"]

_TURN = b"Prefer: wait=60\r\n"


class Served:
    """A gateway that listens."""

    def __init__(self, process: Process, port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder

    async def create(self, connection: Connection, session_id: str) -> None:
        answer = await connection.send("PUT", f"/v1/sessions/{session_id}", b"{}")
        assert answer.status == 201, answer

    async def revision(self, connection: Connection, session_id: str) -> bytes:
        """What the gateway says of the session, without its transcript."""
        answer = await connection.send("GET", f"/v1/sessions/{session_id}?messages=1")
        assert answer.status == 200, answer
        return answer.body

    async def whole_turn(self, connection: Connection, session_id: str, text: str) -> None:
        """A turn from its POST to the answer that it was committed."""
        answer = await connection.send("POST", turns_of(session_id), turn(text), _TURN)
        assert answer.status == 200, answer
        assert b'"state":"completed"' in answer.body, answer


def turns_of(session_id: str) -> str:
    return f"/v1/sessions/{session_id}/turns"


def turn(text: str) -> bytes:
    return b'{"input":"%b"}' % text.encode()


@asynccontextmanager
async def serving(*flags: str, stop: signal.Signals = signal.SIGTERM) -> AsyncIterator[Served]:
    command: Sequence[str] = (
        *(sys.executable, "-m", "sightline_gateway.cli", "serve"),
        *("--port", "0", "--store", "sqlite:///bench.db", *flags),
    )
    with folder() as place:
        async with running(*command, cwd=place, stop=stop, speaks=True) as process:
            line = await process.line()
            yield Served(process, int(line.rpartition(":")[2]), place)
