"""Compressed streams: who agreed to it sees the same messages, and the server compresses each of them once."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.uri import parse_uri

from sightline_gateway.lines import rfc6455
from tests.gateway.stream.folding import assert_same_view
from tests.gateway.stream.serving import Serving, serving
from tests.gateway.stream.stage import playing
from tests.gateway.stream.test_on_sockets import PATH, viewed
from tests.gateway.stream.wires import SocketWire

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def compressed(server: Serving, *, window: int | None = None, path: str = PATH) -> SocketWire:
    """A client that offers compression, and keeps windows if the server does."""
    wire = await server.connect(SocketWire)
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=window)
    wire._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{server.port}{path}"), extensions=[offer], max_size=None)
    wire._protocol.send_request(wire._protocol.connect())
    await wire._flush()
    while wire.response is None:
        wire._early += await super(SocketWire, wire).read()
    return wire


@pytest.mark.parametrize("window", [None, 15, 10])
async def test_everybody_sees_the_same_and_it_is_compressed_once(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    deflated = rfc6455.deflated
    made: list[bytes] = []

    def counted(payload: bytes, **options: int) -> bytes:
        made.append(payload)
        return deflated(payload, **options)

    monkeypatch.setattr(rfc6455, "deflated", counted)
    async with playing() as stage, serving(stage.app, ws_per_message_deflate=True) as server:
        wires = [await compressed(server, window=window) for _ in range(3)]
        plain = await server.connect(SocketWire)
        await plain.open(PATH)
        for wire in wires:
            assert wire.response is not None
            assert "no_context_takeover" in wire.response.headers["Sec-WebSocket-Extensions"]
        seen = [await wire.read_until("caught_up") for wire in (*wires, plain)]
        made.clear()
        await stage.say("x" * 2_000, "short", "y" * 70_000)
        await stage.finish()
        for wire, frames in zip((*wires, plain), seen, strict=True):
            frames += await wire.read_until("committed")
            assert_same_view(viewed(frames), await stage.view())
        assert len(made) == len(set(made)), "each message once, for all three"
        late = await compressed(server, window=window, path=f"{PATH}?cursor={seen[0][0]['cursor']}")
        missed = await late.read_until("caught_up")
        assert [frame for frame in missed if frame["type"] == "event"] == [
            frame for frame in seen[0] if frame["type"] == "event"
        ]
