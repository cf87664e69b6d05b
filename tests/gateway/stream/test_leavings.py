"""What a connection leaves behind when it is over: nothing that waits for the garbage collector to look for cycles.

It seldom looks, and what was long connected it looks at last: a server that many come to and go from would grow.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from sightline_gateway.lines.response_line import ResponseLine
from sightline_gateway.lines.socket_protocol import SocketProtocol
from sightline_gateway.stream.channel import Channel
from sightline_gateway.stream.observer import Observer
from tests.gateway.stream.serving import LEAN, Serving, serving
from tests.gateway.stream.stage import playing
from tests.gateway.stream.wires import ServerSentWire, SocketWire, Wire

pytestmark = pytest.mark.anyio

PATH = "/v1/sessions/s/events"
KINDS = (Channel, Observer, ResponseLine, SocketProtocol)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> list[str]:
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, KINDS)]


async def opened(server: Serving, stream: str) -> Wire:
    if stream.endswith("sse"):
        events = await server.connect(ServerSentWire)
        if stream == "observe sse":
            await events.open("/v1/observe", body={"sessions": {"s": None}})
        else:
            await events.open(PATH)
        await events.read_until("caught_up")
        return events
    socket = await server.connect(SocketWire)
    await socket.open("/v1/observe" if stream == "observe" else PATH)
    if stream == "observe":
        await socket.say({"type": "subscribe", "session_id": "s"})
    await socket.read_until("caught_up")
    return socket


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("stream", ["sse", "websocket", "observe", "observe sse"])
async def test_a_stream_that_is_over_leaves_nothing_behind(stream: str, how: str) -> None:
    async with playing() as stage, serving(stage.app, kind=LEAN) as server:
        before = left()
        wire = await opened(server, stream)
        await stage.say("one")
        assert len(left()) > len(before)
        if how == "abort":
            wire.abort()
        else:
            wire.close()
        await server.disconnected()
        assert left() == before
        await stage.finish()
