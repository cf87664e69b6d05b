"""An application on a real socket, on the server's own protocol classes, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from sightline_gateway.lines.line import EXTENSION
from sightline_gateway.lines.protocols import HttpProtocol, WebSocketProtocol
from sightline_gateway.lines.socket_protocol import SocketProtocol
from tests.gateway.stream.wires import Wire

__all__ = ["HYPERCORN", "LEAN", "PLAIN", "Server", "Serving", "eventually", "serving"]


@dataclass(frozen=True)
class Server:
    """A kind of server: its class for WebSockets, and whether streams may own their connections."""

    ws: type[SocketProtocol] | type[WebSocketProtocol] | None
    lines: bool


LEAN = Server(SocketProtocol, lines=True)
PLAIN = Server(WebSocketProtocol, lines=False)
HYPERCORN = Server(None, lines=False)
KIND = LEAN
"""What `serving` takes unless told otherwise; the fixture `server_kind` sets it."""
AnyWire = TypeVar("AnyWire", bound=Wire)


@dataclass
class Serving:
    port: int
    state: ServerState
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, kind: type[AnyWire], *, receive_buffer: int | None = None) -> AnyWire:
        """A client of this server; closed at the end if the test does not do it."""
        wire = await kind.connected(self.port, receive_buffer)
        self.wires.append(wire)
        return wire

    async def settled(self) -> None:
        """Return when no request is being answered any more."""
        while self.state.tasks:
            await asyncio.wait(self.state.tasks)

    async def disconnected(self) -> None:
        """Return when no client is connected and no request is being answered any more."""
        await eventually(lambda: not self.state.connections)
        await self.settled()


async def eventually(holds: Callable[[], bool]) -> None:
    """Let sockets and everything else go on until this holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the other end of a socket sets no event
            await asyncio.sleep(0)


def without_lines(app: ASGIApp) -> ASGIApp:
    """The application as it runs where connections cannot be taken over."""

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        (scope.get("extensions") or {}).pop(EXTENSION, None)
        await app(scope, receive, send)

    return plain


@asynccontextmanager
async def _on_hypercorn(app: ASGIApp, send_buffer: int | None) -> AsyncIterator[Serving]:
    """A server that knows nothing of us. Its own tasks are not seen; calls of the application are."""
    state = ServerState()

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        task = asyncio.current_task()
        assert task is not None
        state.tasks.add(task)
        try:
            await app(scope, receive, send)
        finally:
            state.tasks.discard(task)

    listening = socket.create_server(("127.0.0.1", 0), backlog=500)
    if send_buffer is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.websocket_max_message_size = 1_048_576
    config.graceful_timeout = 0.5
    config.errorlog = None
    [bound] = config.create_sockets().insecure_sockets
    served = Serving(bound.getsockname()[1], state)
    config.bind = [f"fd://{bound.detach()}"]
    end = asyncio.Event()
    server = asyncio.create_task(serve(cast("Any", noted), config, shutdown_trigger=end.wait))
    try:
        yield served
        for wire in served.wires:
            wire.close()
        await eventually(lambda: not state.tasks)
    finally:
        for wire in served.wires:
            wire.close()
        end.set()
        await server


@asynccontextmanager
async def serving(
    app: ASGIApp, *, send_buffer: int | None = None, kind: Server | None = None, **settings: Any
) -> AsyncIterator[Serving]:
    """On the way out every request has ended, and the clients are gone. `settings` are uvicorn's."""
    kind = kind or KIND
    if kind is HYPERCORN:
        async with _on_hypercorn(app, send_buffer) as served:
            yield served
        return
    config = uvicorn.Config(
        app if kind.lines else without_lines(app),
        log_config=None,
        access_log=False,
        http=HttpProtocol,
        ws=kind.ws or "none",
        lifespan="off",
        **{"ws_max_size": 1_048_576, "ws_per_message_deflate": False, **settings},
    )
    config.load()
    served = Serving(0, ServerState())
    listening = socket.create_server(("127.0.0.1", 0), backlog=500)
    if send_buffer is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    served.port = listening.getsockname()[1]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: HttpProtocol(config=config, server_state=served.state, app_state={}), sock=listening
    )
    try:
        yield served
        for wire in served.wires:
            wire.close()
        await served.disconnected()
    finally:
        for wire in served.wires:
            wire.close()
        server.close()
        for task in served.state.tasks:
            task.cancel()
        await served.settled()
        for connection in list(served.state.connections):
            connection.transport.abort()
        await server.wait_closed()
