"""Durable Streams: the reference server of a protocol for streams that one can come back to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.generator import compiler_version
from tests.bench.http_load import connections
from tests.bench.peers.packages import from_npm, npm_folder
from tests.bench.processes import folder, free_port, running
from tests.bench.sides import Side, Stand, event

__all__ = ["METHOD", "NAME", "durable_streams"]

NAME = "Durable Streams reference server, SSE"

METHOD = """\
- *Durable Streams* (`@durable-streams/server`, the protocol's reference server for Node.js, which calls itself one for
  development and tests) takes events by `POST` and streams them as server-sent events. It is run as it comes, in
  memory."""

_PROGRAM = Path(__file__).parent / "programs" / "durable_streams.mjs"


def durable_streams() -> Side:
    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        port = free_port()
        command = ("node", str(_PROGRAM), str(npm_folder("durable-streams")), str(port))
        with folder() as place:
            async with running(*command, cwd=place, speaks=True) as process:
                await process.line()
                async with connections(port, 1) as [line]:
                    for channel in range(channels):
                        answer = await line.send("PUT", f"/{channel}")
                        assert answer.status in (200, 201), answer

                async def missed(count: int) -> tuple[str, ...]:
                    async with connections(port, 1) as [line]:
                        for channel in range(channels):
                            for number in range(1, count + 1):
                                answer = await line.send("POST", f"/{channel}", json.dumps(event(number)).encode())
                                assert answer.status in (200, 204), answer
                    return ("--port", str(port), "--path", "/{}?offset=-1&live=sse", "--sse")

                watch = ("--port", str(port), "--path", "/{}?offset=now&live=sse", "--sse")
                publish = (
                    *("--publish", "http", "--publish-port", str(port), "--publish-path", "/{}"),
                    *("--publish-type", "application/json", "--publish-body", '"{}"'),
                )
                yield Stand(process, watch, publish, missed)

    async def prepare() -> dict[str, str]:
        return await from_npm("durable-streams", "@durable-streams/server@0.3.7") | await compiler_version()

    return Side(NAME, stand, prepare)
