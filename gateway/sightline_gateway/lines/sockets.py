"""Upgrades: from a request that asks for a WebSocket to an application that runs on one."""

from __future__ import annotations

import asyncio
from contextvars import Context
from math import ceil
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from httptools import parse_url
from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from sightline_gateway.lines import connection, line
from sightline_gateway.lines.deflate import agree
from sightline_gateway.lines.handshake import open_handshake
from sightline_gateway.lines.keepalive import KeepAlive
from sightline_gateway.lines.rfc6455 import Reader
from sightline_gateway.lines.socket_application import SocketApplication
from sightline_gateway.lines.socket_protocol import Shared, SocketProtocol

__all__ = ["Sockets", "sockets_of"]


class Sockets:
    """Makes the sockets of one server, by uvicorn's `ws_*` settings."""

    def __init__(self, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        every, within = config.ws_ping_interval, config.ws_ping_timeout
        self._app: ASGIApp = config.loaded_app
        self._fresh_context = config.reset_contextvars
        self._root_path = config.root_path
        self._asgi = {"version": config.asgi_version, "spec_version": "2.4"}
        self._limit = config.ws_max_size
        self._deflates = config.ws_per_message_deflate
        self._shared = Shared(
            loop,
            state.connections,
            KeepAlive(loop, every) if every else None,
            ceil(within / every) if every and within else None,
        )

    def upgrade(self, transport: asyncio.Transport, state: ServerState, scope: Scope, url: bytes) -> SocketProtocol:
        """Take over a request whose head is in `scope`, as `HttpToolsProtocol` leaves it, and start the application.

        Raises Refused, and what httptools does for a target that is none.
        """
        opening = open_handshake(scope.pop("method"), scope["http_version"], scope["headers"])
        target = parse_url(url)
        raw_path = target.path or b"/"
        agreed = agree(opening.extensions) if self._deflates else None
        socket = SocketProtocol(self._shared, transport, Reader(self._limit, deflate=agreed is not None))
        if agreed is not None:
            socket.window = agreed.window
        application = SocketApplication(socket, state, opening.accept, None if agreed is None else agreed.answer)
        socket.begin(application)
        scope.update(
            type="websocket",
            asgi=self._asgi,
            scheme="wss" if scope["scheme"] == "https" else "ws",
            path=self._root_path + unquote(raw_path.decode("ascii")),
            raw_path=self._root_path.encode("ascii") + raw_path,
            query_string=target.query or b"",
            subprotocols=opening.subprotocols,
            extensions={
                "websocket.http.response": {},
                line.EXTENSION: socket,
                connection.EXTENSION: application,
            },
        )
        task = self._shared.loop.create_task(
            application.run(self._app, scope), context=Context() if self._fresh_context else None
        )
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)
        return socket


_made: WeakKeyDictionary[ServerState, Sockets] = WeakKeyDictionary()


def sockets_of(config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> Sockets:
    """The one of this server."""
    if (sockets := _made.get(state)) is None:
        sockets = _made[state] = Sockets(config, state, loop)
    return sockets
