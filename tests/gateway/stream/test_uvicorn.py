"""What we take from inside uvicorn, written down: a new version that changes it fails here first, and says where."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import Server, ServerState

from sightline_gateway.access.limits import BoundedHead
from sightline_gateway.lines.protocols import HttpProtocol, WebSocketProtocol
from sightline_gateway.lines.response_line import ResponseLine
from sightline_gateway.lines.socket_protocol import SocketProtocol


def overridden(ours: type, theirs: type) -> list[str]:
    own = [name for name, value in vars(ours).items() if inspect.isfunction(value)]
    return [name for name in own if hasattr(theirs, name)]


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (
            HttpProtocol,
            HttpToolsProtocol,
            {
                "connection_made",
                "connection_lost",
                "on_message_begin",
                "on_headers_complete",
                "_should_upgrade",
                "_start_asgi_task",
                "handle_websocket_upgrade",
                "shutdown",
            },
        ),
        (
            BoundedHead,
            HttpToolsProtocol,
            {"data_received", "on_headers_complete", "on_body", "on_message_complete"},
        ),
        (
            WebSocketProtocol,
            WebSocketsSansIOProtocol,
            {
                "__init__",
                "data_received",
                "handle_parser_exception",
                "shutdown",
                "run_asgi",
                "keepalive_timeout",
            },
        ),
    ],
)
def test_the_methods_that_are_overridden_exist_and_are_called_alike(ours: type, theirs: type, names: set[str]) -> None:
    assert set(overridden(ours, theirs)) == names
    for name in names - {"__init__"}:
        mine, other = (inspect.signature(getattr(kind, name)) for kind in (ours, theirs))
        assert list(mine.parameters) == list(other.parameters), name


async def app(scope: Any, receive: Any, send: Any) -> None: ...


def test_what_is_read_and_written_of_a_request_is_there() -> None:
    config = Config(app, log_config=None)
    config.load()
    loop = asyncio.new_event_loop()
    loop.close()
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    for name in (
        "server_state",
        "connections",
        "tasks",
        "loop",
        "config",
        "flow",
        "parser",
        "scope",
        "cycle",
        "pipeline",
    ):
        assert hasattr(protocol, name), name
    assert callable(protocol._unset_keepalive_if_required)
    assert callable(protocol.send_400_response)
    protocol.on_message_begin()
    assert protocol.url == b""
    assert {"type", "http_version", "scheme", "server", "client", "headers", "state"} <= set(protocol.scope)


def test_what_is_changed_of_a_response_is_there() -> None:
    names = set(RequestResponseCycle.__init__.__code__.co_names)
    assert {"disconnected", "response_complete", "chunked_encoding", "message_event"} <= names


def test_the_server_shuts_every_connection_down_by_this_name() -> None:
    assert "shutdown" in inspect.getsource(Server.shutdown)
    assert callable(SocketProtocol.shutdown)
    assert callable(ResponseLine.shutdown)
    assert {"connections", "tasks", "default_headers"} <= set(vars(ServerState()))


def test_sending_too_late_is_an_oserror() -> None:
    assert issubclass(ClientDisconnected, OSError)


def test_the_settings_that_are_read_exist() -> None:
    for name in (
        "ws_max_size",
        "ws_ping_interval",
        "ws_ping_timeout",
        "ws_per_message_deflate",
        "reset_contextvars",
        "root_path",
        "asgi_version",
    ):
        assert hasattr(Config(app, interface="asgi3", log_config=None), name), name
