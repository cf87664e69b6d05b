"""Redis and PostgreSQL as the peers need them: child processes on a free port, with nothing in them."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.bench.measuring import Unavailable
from tests.bench.peers.installs import postgresql_folder, redis_server
from tests.bench.processes import Process, folder, free_port, output_of, running

__all__ = ["listening", "postgresql", "redis"]

_START_SECONDS = 30.0


@asynccontextmanager
async def redis() -> AsyncIterator[tuple[Process, str]]:
    """Redis as it comes, which writes a snapshot now and then: the process and its address."""
    server, _ = await redis_server()
    port = free_port()
    with folder() as place:
        async with running(
            server, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(place), cwd=place
        ) as process:
            await listening(port)
            yield process, f"redis://127.0.0.1:{port}"


@asynccontextmanager
async def postgresql() -> AsyncIterator[tuple[Process, str]]:
    """PostgreSQL as it comes, which waits for the disk at each commit: the process and how to connect."""
    programs, _ = await postgresql_folder()
    user = _unprivileged()
    port = free_port()
    with folder(user) as place:
        data = str(place / "data")
        await output_of(
            *(str(programs / "initdb"), "--pgdata", data, "--username", "bench"),
            *("--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            cwd=place,
            user=user,
        )
        command = (
            *(str(programs / "postgres"), "-D", data, "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={place}"),
        )
        # Its quick way out is an interrupt; the polite signal would wait for the clients.
        async with running(*command, cwd=place, user=user, stop=signal.SIGINT) as process:
            await listening(port)
            yield process, f"host=127.0.0.1 port={port} user=bench dbname=postgres"


def _unprivileged() -> str | None:
    """Somebody for PostgreSQL, which refuses to be run by root; none when we are not root anyway."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Unavailable("PostgreSQL refuses to be run by root, and there is neither a user postgres nor nobody")


async def listening(port: int) -> None:
    """Wait until somebody does."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
