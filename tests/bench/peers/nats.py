"""NATS: a message server in Go; over WebSockets, and with JetStream for what was missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench.generator import compiler_version
from tests.bench.peers.packages import from_debian
from tests.bench.peers.servers import listening
from tests.bench.processes import environment, folder, free_port, running
from tests.bench.sides import Side, Stand, event

__all__ = ["METHOD", "NAME", "nats"]

NAME = "NATS, WebSocket"

METHOD = """\
- *NATS* (a message server, in Go) takes events over TCP in its own protocol and hands them to subscribers over
  WebSockets. It keeps nothing, except where its JetStream is asked for what was missed: a stream in memory, for which
  each client makes a consumer of its own that begins where the client left. It has one core (`GOMAXPROCS=1`)."""

_SERVER = ("/usr/sbin/nats-server", "nats-server")
_CONNECT = 'CONNECT {"verbose":false,"pedantic":false,"protocol":1,"headers":false}\\r\\n'


def nats() -> Side:
    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        server, _ = await from_debian(*_SERVER)
        port, sockets = free_port(), free_port()
        with folder() as place:
            text = f"""\
listen: "127.0.0.1:{port}"
max_connections: 60000
websocket {{ listen: "127.0.0.1:{sockets}", no_tls: true, compression: false }}
jetstream {{ store_dir: "{place}/jetstream", max_memory_store: 4G }}
"""
            await asyncio.to_thread((place / "nats.conf").write_text, text)
            async with running(str(server), "-c", "nats.conf", cwd=place, env=environment(GOMAXPROCS="1")) as process:
                await listening(port)
                await listening(sockets)

                async def missed(count: int) -> tuple[str, ...]:
                    await _kept(port, channels, count)
                    return (*_socket(sockets), "--hello", _consumer())

                watch = (*_socket(sockets), "--hello", f"{_CONNECT}SUB ch{{}} 1\\r\\nPING\\r\\n", "--await", "PONG")
                yield Stand(process, watch, ("--publish", "nats", "--publish-port", str(port)), missed)

    async def prepare() -> dict[str, str]:
        _, version = await from_debian(*_SERVER)
        return {"NATS": version, **await compiler_version()}

    return Side(NAME, stand, prepare)


def _socket(port: int) -> tuple[str, ...]:
    return ("--port", str(port), "--path", "/")


async def _kept(port: int, channels: int, count: int) -> None:
    """A stream for each channel, with events 0 to `count`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB answers 1\r\n')
        for channel in range(channels):
            wish = {"name": f"S{channel}", "subjects": [f"ch{channel}"], "storage": "memory", "retention": "limits"}
            body = json.dumps(wish)
            writer.write(f"PUB $JS.API.STREAM.CREATE.S{channel} answers {len(body)}\r\n{body}\r\n".encode())
            await _answers(reader, 1)
            for number in range(count + 1):
                writer.write(f"PUB ch{channel} answers {len(event(number))}\r\n{event(number)}\r\n".encode())
            await _answers(reader, count + 1)
    finally:
        writer.close()
        await writer.wait_closed()


async def _answers(reader: asyncio.StreamReader, count: int) -> None:
    async with asyncio.timeout(30):
        while count:
            line = await reader.readline()
            assert not line.startswith(b"-ERR"), line
            if line.startswith(b"MSG "):
                body = await reader.readexactly(int(line.split()[-1]) + 2)
                assert b'"error"' not in body, body
                count -= 1


def _consumer() -> str:
    """What a client says to get everything from the second message of its channel's stream on."""
    wish = (
        '{"stream_name":"S{}","config":{"deliver_subject":"in{n}","deliver_policy":"by_start_sequence",'
        '"opt_start_seq":2,"ack_policy":"none","replay_policy":"instant"}}'
    )
    size = len(wish.replace("{}", "0").replace("{n}", "0" * 8))
    return f"{_CONNECT}SUB in{{n}} 1\\r\\nPUB $JS.API.CONSUMER.CREATE.S{{}} made{{n}} {size}\\r\\n{wish}\\r\\n"
