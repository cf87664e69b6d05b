"""The process: from settings to a listening server, and from SIGTERM to a clean end.

Draining comes before the server's own shutdown: no new work is claimed, streams are told goodbye one by one, running turns get their time and are
handed back otherwise; only then are connections closed. A second signal stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import uvicorn

from sightline.agents.loading import load_agent
from sightline.clock import SystemClock
from sightline.errors import StartupError
from sightline.kernel import Kernel, KernelStore, Limits
from sightline.stores.memory import MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.stores.sqlite import SqliteStore
from sightline_gateway.app import create_app
from sightline_gateway.gateway import Gateway
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams

__all__ = ["CannotListen", "open_store", "run", "store_path"]

_log = logging.getLogger("sightline.gateway.server")

_BACKLOG = 2048
_CLOSE_SECONDS = 3
_PING_SECONDS = 20.0
_GC_THRESHOLDS = (50_000, 50, 100)


class CannotListen(StartupError):
    """The address is taken or not ours."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host = host
        self.port = port
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot listen on {self.host} port {self.port}: {self.reason}"


def store_path(url: str) -> Path:
    """The file a `sqlite:///PATH` names."""
    return Path(url.removeprefix("sqlite:///"))


def open_store(settings: Settings) -> KernelStore:
    """Raises StartupError."""
    if settings.store == "memory:":
        return MemoryStore(SystemClock())
    return SqliteStore.open(store_path(settings.store), settings.synchronous)


def run(settings: Settings) -> int:
    """Serve until told to stop; the exit code. Raises StartupError before anything listens."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    agent = load_agent(settings.agent) if settings.role == "all" else None
    listener = _listen(settings.host, settings.port)
    store = open_store(settings)
    clock = SystemClock()
    bounds = ReplayBounds(settings.replay_max_events, settings.replay_max_age, settings.replay_max_bytes)
    kernel = Kernel(
        store=store,
        replay=MemoryReplayStore(clock, store.incarnation, bounds),
        agent=agent,
        clock=clock,
        limits=Limits(
            concurrency=settings.concurrency,
            poll_interval=settings.poll_interval,
            max_attempts=settings.max_attempts,
            max_queue=settings.max_queue,
            retention=settings.retention,
        ),
    )
    return _Server(settings, kernel, store, listener).serve_until_told()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is said before anything is opened."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from None
    return listener


class _Server(uvicorn.Server):
    """uvicorn with a drain in front of its shutdown."""

    def __init__(self, settings: Settings, kernel: Kernel, store: KernelStore, listener: socket.socket) -> None:
        self._settings = settings
        self._kernel = kernel
        self._store = store
        self._listener = listener
        self._gateway = Gateway(kernel, settings, Streams(settings.max_connections))
        self._drain: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                create_app(self._gateway, self._life),
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_CLOSE_SECONDS,
                ws="websockets-sansio",
                ws_max_size=settings.max_body,
                ws_ping_interval=_PING_SECONDS,
                ws_ping_timeout=_PING_SECONDS,
                ws_per_message_deflate=False,
                proxy_headers=False,
            )
        )

    def serve_until_told(self) -> int:
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self.serve([self._listener]))
        return 0 if self.started else 1

    @contextlib.asynccontextmanager
    async def _life(self) -> AsyncIterator[None]:
        try:
            await self._kernel.start()
            yield
        finally:
            await self._kernel.stop()
            await self._store.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            # What lives from here on is young; the rest need not be looked at again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
            host, port = self._listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"listening on http://{shown}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain, then shut down. Second: stop at once."""
        if self._drain is None and sig in (signal.SIGTERM, signal.SIGINT):
            self._drain = asyncio.get_running_loop().create_task(self._drain_then_exit())
        else:
            self.should_exit = self.force_exit = True

    async def _drain_then_exit(self) -> None:
        timeout = self._settings.drain_timeout
        _log.info("draining: %d streams, %d turns", self._gateway.streams.count, self._kernel.running_turns)
        try:
            await asyncio.gather(self._kernel.drain(timeout), self._gateway.streams.drain(timeout))
        finally:
            self.should_exit = True
