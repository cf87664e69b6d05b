"""`sightline serve` as a process of its own: started, killed, told to stop, started again on the same data."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

__all__ = ["Served", "serving"]

_START_SECONDS = 30


class Served:
    """One server on one data folder. It keeps its port over restarts, as a redeployed one would."""

    def __init__(self, folder: Path, flags: tuple[str, ...], variables: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.port = 0
        self.starts: list[float] = []
        self._flags = flags
        self._variables = variables or {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    async def start(self, *flags: str) -> None:
        """Start, and return when it listens; `starts` gets the seconds that took. Raises ChildProcessError."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
        began = time.monotonic()
        with (self.folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sightline_gateway.cli", "serve", "--port", str(self.port)),
                *(*self._flags, *flags),
                cwd=self.folder,
                env=inherited | self._variables,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await self._process.stdout.readline()
        if not line.startswith(b"listening on "):
            await self._process.wait()
            raise ChildProcessError(self.log)
        self.starts.append(time.monotonic() - began)
        self.port = int(line.rsplit(b":", 1)[1])

    async def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, seconds: float = 30) -> int:
        """The exit code, once it has ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=10)


@asynccontextmanager
async def serving(folder: Path, *flags: str, variables: dict[str, str] | None = None) -> AsyncIterator[Served]:
    """A listening server, with these variables in its environment; whatever is left of it at the end is killed."""
    served = Served(folder, flags, variables)
    await served.start()
    try:
        yield served
    finally:
        if served.running:
            await served.kill()
