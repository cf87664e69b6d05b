"""The process: from settings to a listening server, and from SIGTERM to a clean end.

Draining comes before the server's own shutdown: no new work is claimed, streams are told goodbye one by one, running
turns get their time and are handed back otherwise; only then are connections closed. A second signal stops at once: the
work is in the store, and whoever comes next takes it over.

The process ends when the server has. What an agent left behind, a task that ignores its cancellation or a thread that
does not return, gets a few seconds and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import uvicorn

from sightline.agents.forms import runs_in_thread
from sightline.agents.loading import load_agent, tools_of
from sightline.clock import SystemClock
from sightline.kernel import Kernel, KernelStore, Limits
from sightline.session.port import AttachmentStore
from sightline.startup_errors import (
    AgentNotLoadable,
    StartupError,
)
from sightline.stores.attachment_files import FileAttachments
from sightline.stores.memory import MemoryAttachments, MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.stores.sqlite import SqliteStore
from sightline.turn.agent import Agent
from sightline_gateway.access.limits import BoundedHead
from sightline_gateway.app import create_app
from sightline_gateway.gateway import Gateway
from sightline_gateway.lines.protocols import HttpProtocol, WebSocketProtocol
from sightline_gateway.lines.socket_protocol import SocketProtocol
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams

__all__ = ["CannotListen", "open_attachments", "open_store", "run", "store_path", "work"]

_log = logging.getLogger("sightline.gateway.server")

_BACKLOG = 8192
_OTHER_FILES = 200
"""Open files that are not connections, and connections that are no streams."""
_CLOSE_SECONDS = 3
_LEFTOVER_SECONDS = 2.0
_FORCED_SECONDS = 1.0
_PING_SECONDS = 20.0
_SWITCH_SECONDS = 0.0005
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
    """The file a `sqlite:///PATH` names; links are followed, so that one file has one lock by whatever name."""
    return Path(url.removeprefix("sqlite:///")).resolve()


def open_store(settings: Settings) -> KernelStore:
    """Raises StartupError."""
    if settings.store == "memory:":
        return MemoryStore(SystemClock())
    return SqliteStore.open(store_path(settings.store), settings.synchronous)


def open_attachments(settings: Settings) -> AttachmentStore:
    """Pictures stay where the sessions do, unless told otherwise."""
    if settings.attachments is not None:
        return FileAttachments(Path(settings.attachments))
    if settings.store == "memory:":
        return MemoryAttachments()
    return FileAttachments(Path(f"{store_path(settings.store)}.attachments"))


def run(settings: Settings) -> int:
    """Serve until told to stop; the exit code. The process has to end after it, and is made to.

    Raises StartupError with nothing left open.
    """
    _log_to_stderr(settings)
    _make_room_for(settings.max_connections)
    agent = _load(settings.agent) if settings.role == "all" else None
    listener = _listen(settings.host, settings.port)
    try:
        store = open_store(settings)
    except BaseException:
        listener.close()
        raise
    return _Server(settings, _kernel(settings, store, agent), store, listener).serve_until_told()


def work(settings: Settings) -> int:
    """Run turns without listening to anybody, until told to stop; the exit code. Raises StartupError."""
    _log_to_stderr(settings)
    agent = _load(settings.agent)
    store = open_store(settings)
    asyncio.run(_work_until_told(settings, _kernel(settings, store, agent), store))
    return 0


async def _work_until_told(settings: Settings, kernel: Kernel, store: KernelStore) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        await kernel.start()
        print("working", flush=True)
        await told.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # a second one ends the process; its claims are void at the next start
        await kernel.drain(settings.drain_timeout)
    finally:
        await kernel.stop()
        await store.close()


def _make_room_for(connections: int) -> None:
    """Take as many open files as the streams may need, of what the system grants: shells are stingy by default."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if most != resource.RLIM_INFINITY and most < wanted:
        _log.warning("%d open files are allowed, which is less than --max-connections %d may need", most, connections)
        wanted = most
    if granted != resource.RLIM_INFINITY and granted < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def _kernel(settings: Settings, store: KernelStore, agent: Agent | None) -> Kernel:
    clock = SystemClock()
    bounds = ReplayBounds(settings.replay_max_events, settings.replay_max_age, settings.replay_max_bytes)
    return Kernel(
        store=store,
        replay=MemoryReplayStore(clock, store.incarnation, bounds),
        attachments=open_attachments(settings),
        agent=agent,
        tools=tools_of(agent),
        clock=clock,
        limits=Limits(
            concurrency=settings.concurrency,
            poll_interval=settings.poll_interval,
            session_lease=settings.session_lease,
            process_lease=settings.process_lease,
            command_output=settings.command_output,
            turn_timeout=settings.turn_timeout,
            flush_window=settings.flush_window,
            max_attempts=settings.max_attempts,
            max_queue=settings.max_queue,
            max_tasks=settings.max_tasks,
            retention=settings.retention,
            key_retention=settings.key_retention,
        ),
    )


def _load(target: str | None) -> Agent:
    try:
        agent = load_agent(target)
    except SystemExit as error:
        raise AgentNotLoadable(target or "", f"it ends the process with {error.code!r} when it is imported") from None
    if runs_in_thread(agent):
        # An agent that computes gives the interpreter back sooner: streams wait for it at every step.
        sys.setswitchinterval(_SWITCH_SECONDS)
    return agent


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is said before anything is opened. Who connects early waits a moment."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except UnicodeError:
        raise CannotListen(host, port, "this is no host name") from None
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two that only bind may share a port; it is theirs who listens first.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(host, port, error.strerror or str(error)) from None
    return listener


class _HttpProtocol(HttpProtocol, BoundedHead):
    """What a stream wants to know of its connection, and a bound on what comes before a request is known."""


class _Server(uvicorn.Server):
    """uvicorn with a drain in front of its shutdown."""

    def __init__(self, settings: Settings, kernel: Kernel, store: KernelStore, listener: socket.socket) -> None:
        self._settings = settings
        self._kernel = kernel
        self._store = store
        self._listener = listener
        self._gateway = Gateway(kernel, settings, Streams(settings.max_connections))
        self._drain: asyncio.Task[None] | None = None
        self._forced = False
        super().__init__(
            uvicorn.Config(
                create_app(self._gateway, self._life),
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_CLOSE_SECONDS,
                lifespan="on",
                http=_HttpProtocol,
                ws=SocketProtocol if settings.ws_impl == "lean" else WebSocketProtocol,
                ws_max_size=settings.max_body,
                ws_ping_interval=_PING_SECONDS,
                ws_ping_timeout=_PING_SECONDS,
                ws_per_message_deflate=settings.ws_compression and settings.ws_impl == "lean",
                timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # a timer takes it, with fractions
                proxy_headers=False,
            )
        )

    def serve_until_told(self) -> int:
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            try:
                runner.run(self.serve([self._listener]))
            except SystemExit:
                return 1  # uvicorn's way to say that the kernel could not begin; its log says why
            code = 0 if self.started and not self._forced else 1
            _end_within(_LEFTOVER_SECONDS, code)
        return code

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
        elif not self._forced:
            self._forced = self.should_exit = self.force_exit = True
            self._gateway.drained.set()
            # Should the loop be busy with something that does not let go, it is not asked twice.
            _end_within(_LEFTOVER_SECONDS, 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves it at that. What can be handed back in a moment still is.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FORCED_SECONDS):
                    await self.lifespan.shutdown()

    async def _drain_then_exit(self) -> None:
        timeout = self._settings.drain_timeout
        _log.info("draining: %d streams, %d turns", self._gateway.streams.count, self._kernel.running_turns)
        try:
            await asyncio.gather(self._kernel.drain(timeout), self._gateway.streams.drain(timeout))
        finally:
            self._gateway.drained.set()
            self.should_exit = True


def _end_within(seconds: float, code: int) -> None:
    """End the process after so long, if it has not ended by itself."""

    def end() -> None:
        _log.warning("ending although something of an agent's still runs")
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
