"""Both classes that speak WebSocket, for tests on real sockets."""

from __future__ import annotations

import pytest

from sightline_gateway.stream.protocols import WebSocketProtocol
from sightline_gateway.stream.socket_protocol import SocketProtocol
from tests.gateway.stream import serving
from tests.gateway.stream.serving import WsImpl


@pytest.fixture(params=[SocketProtocol, WebSocketProtocol], ids=["lean", "uvicorn"])
def ws_impl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WsImpl:
    monkeypatch.setattr(serving, "WS_IMPL", request.param)
    chosen: WsImpl = request.param
    return chosen
