"""The streams on real sockets: what uvicorn and TCP make of them."""

from __future__ import annotations

import asyncio
import logging
import random
import tracemalloc

import pytest
from websockets.frames import Frame, Opcode

from sightline.stores.replay_memory import ReplayBounds
from sightline_gateway.lines.protocols import WebSocketProtocol
from sightline_gateway.lines.socket_protocol import SocketProtocol
from sightline_gateway.stream import asgi_line, observer
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.serving import HYPERCORN, Server, Serving, eventually, serving
from tests.gateway.stream.stage import Json, Stage, playing
from tests.gateway.stream.wires import ServerSentWire, SocketWire, request

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("server_kind")]

PATH = "/v1/sessions/s/events"
WIRES: dict[str, type[ServerSentWire] | type[SocketWire]] = {"sse": ServerSentWire, "websocket": SocketWire}
both = pytest.mark.parametrize("transport", WIRES)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


async def opened(
    server: Serving,
    transport: str,
    path: str = PATH,
    *,
    cursor: str | None = None,
    receive_buffer: int | None = None,
) -> ServerSentWire | SocketWire:
    wire: ServerSentWire | SocketWire = await server.connect(WIRES[transport], receive_buffer=receive_buffer)
    await wire.open(path, cursor=cursor)
    return wire


def viewed(frames: list[Json]) -> Json:
    """What the frames add up to, from the last snapshot among them."""
    start = max(place for place, frame in enumerate(frames) if "observation" in frame)
    events = [frame for frame in frames[start:] if frame["type"] == "event"]
    return fold(frames[start]["observation"], events)


@both
async def test_a_turn_is_seen_from_its_beginning_to_its_end(transport: str) -> None:
    async with playing() as stage, serving(stage.app) as server:
        wire = await opened(server, transport)
        frames = await wire.read_until("caught_up")
        await stage.say("one ", "“two”")
        await stage.finish()
        frames += await wire.read_until("committed")
        assert_same_view(viewed(frames), await stage.view())
        if isinstance(wire, ServerSentWire):
            assert wire.status == 200
            assert wire.headers["transfer-encoding"] == "chunked"
            assert wire.headers["cache-control"] == "no-store, no-transform"
            assert wire.body.startswith(b"retry: 2000\nevent: observation\nid: ")
        else:
            assert wire.response is not None
            assert wire.response.status_code == 101


@pytest.mark.parametrize(
    ("offered", "chosen"), [((), None), (("sightline.v1.json",), "sightline.v1.json"), (("x", "y"), None)]
)
async def test_the_handshake_names_the_subprotocol_if_it_was_offered(
    offered: tuple[str, ...], chosen: str | None
) -> None:
    async with playing() as stage, serving(stage.app) as server:
        wire = await server.connect(SocketWire)
        await wire.open(PATH, subprotocols=offered)
        await wire.read_until("caught_up")
        assert wire.response is not None
        assert wire.response.headers.get("Sec-WebSocket-Protocol") == chosen
        await wire.leave()
        await wire.read_to_end()
        assert wire.close_code == 1000


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/v1/sessions/nobody/events", 4404, "session_not_found"),
        ("/v1/sessions/gone/events", 4410, "session_deleted"),
        (PATH + "?cursor=nonsense", 4400, "malformed_cursor"),
        (PATH + "?cursor=sl1:1:0:1:other", 4400, "wrong_session_cursor"),
        (PATH + "?typo=1", 4400, "invalid_field"),
    ],
)
async def test_a_socket_that_is_refused_gets_an_error_frame_and_its_close_code(
    path: str, code: int, reason: str
) -> None:
    async with playing(session_ids=("s", "gone")) as stage, serving(stage.app) as server:
        await stage.delete("gone")
        wire = await server.connect(SocketWire)
        await wire.open(path)
        [frame] = await wire.read_to_end()
        assert frame["problem"]["code"] == reason
        assert (wire.close_code, wire.close_reason) == (code, reason)


async def test_what_a_client_asked_with_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with playing() as stage, serving(stage.app) as server:
        for path in (PATH + "?kinds=secret", "/v1/sessions/nobody/events?kinds=secret"):
            wire = await server.connect(SocketWire)
            await wire.open(path)
            await wire.read()
        assert "secret" not in caplog.text


async def test_a_socket_answers_pings_of_both_kinds() -> None:
    async with playing() as stage, serving(stage.app) as server:
        wire = await server.connect(SocketWire)
        await wire.open(PATH)
        await wire.send_raw(Frame(Opcode.PING, b"below"))
        await wire.say({"type": "ping", "id": "above"})
        frames = await wire.read_until("pong")
        assert frames[-1] == {"type": "pong", "id": "above"}


async def test_a_message_in_fragments_is_one_message() -> None:
    async with playing() as stage, serving(stage.app) as server:
        wire = await server.connect(SocketWire)
        await wire.open(PATH)
        await wire.send_raw(Frame(Opcode.TEXT, b'{"type":', fin=False))
        await wire.send_raw(Frame(Opcode.CONT, b'"ping","id":', fin=False))
        await wire.send_raw(Frame(Opcode.CONT, b'"whole"}'))
        assert (await wire.read_until("pong"))[-1]["id"] == "whole"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.TEXT, b"nonsense"), 4400),
        (Frame(Opcode.BINARY, b"\x00"), 4400),
        (Frame(Opcode.TEXT, b'{"type":"ping","id":"%b"}' % (b"x" * 65_536)), 4413),
        (Frame(Opcode.TEXT, b"x" * 1_048_577), 1009),
        (Frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        (Frame(Opcode.CONT, b"out of order"), 1002),
    ],
    ids=["nonsense", "binary", "too large for us", "too large for anybody", "not UTF-8", "not the protocol"],
)
async def test_a_bad_frame_ends_the_socket_with_its_code(frame: Frame, code: int, server_kind: Server) -> None:
    if server_kind is HYPERCORN and code in (1002, 1007):
        pytest.skip("it drops the connection without a code")
    async with playing() as stage, serving(stage.app) as server:
        wire = await server.connect(SocketWire)
        await wire.open(PATH)
        await wire.read_until("caught_up")
        await wire.send_raw(frame)
        frames = await wire.read_to_end()
        assert wire.close_code == code
        assert [frame["type"] for frame in frames] == (["error"] if code > 4000 else [])
        await server.settled()
        assert stage.gateway.streams.count == 0


@both
async def test_a_goodbye_reaches_the_client_before_the_end(transport: str) -> None:
    async with playing() as stage, serving(stage.app) as server:
        wire = await opened(server, transport)
        await wire.read_until("caught_up")
        await stage.delete()
        frames = await wire.read_until("goodbye")
        assert frames[-1]["code"] == 4410
        if isinstance(wire, SocketWire):
            await wire.read_to_end()
            assert (wire.close_code, wire.close_reason) == (4410, "session_deleted")
        else:
            while not wire.complete:
                await wire.read()
        await server.settled()


@both
@pytest.mark.parametrize("how", ["abort", "close", "after a word"])
async def test_a_client_that_vanishes_leaves_nothing_behind(transport: str, how: str) -> None:
    async with playing() as stage, serving(stage.app) as server:
        wire = await opened(server, transport)
        await wire.read_until("caught_up")
        if how == "after a word":
            await stage.say("one")
        if how == "close":
            wire.close()
        else:
            wire.abort()
        await server.disconnected()
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0
        if how == "after a word":
            await stage.finish()


async def test_a_client_that_vanishes_in_the_handshake_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with playing() as stage, serving(stage.app) as server:
        chance = random.Random(1)
        for _ in range(50):
            wire = await server.connect(SocketWire)
            await wire.begin(PATH)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            wire.abort()
        await server.disconnected()
        assert stage.gateway.streams.count == 0
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def stalled(stage: Stage, server: Serving, transport: str) -> ServerSentWire | SocketWire:
    """A client that has seen the beginning and reads no more; the server has noticed."""
    wire = await opened(server, transport, receive_buffer=4096)
    await wire.read_until("caught_up")
    word = "x" * 10_000
    await stage.say(*(word for _ in range(60)))
    return wire


async def given_up(stage: Stage) -> None:
    """Let time pass until no stream is left. The sockets' buffers may fill and empty while it does."""
    async with asyncio.timeout(10):
        while stage.gateway.streams.count:
            await stage.world.clock.run_for(1)


@both
async def test_a_client_that_does_not_read_gets_a_gap_when_it_reads_again_and_nobody_waits(transport: str) -> None:
    bounds = ReplayBounds(max_events=20)
    async with (
        playing(bounds=bounds, buffer_bytes=65_536) as stage,
        serving(stage.app, send_buffer=4096) as server,
    ):
        other = await opened(server, transport)
        seen = await other.read_until("caught_up")
        wire = await stalled(stage, server, transport)
        for number in range(30):
            await stage.say(f"{number} ")
            while f"{number} " not in str(seen[-1]):
                seen += await other.read()
        await stage.finish()
        seen += await other.read_until("committed")
        view = await stage.view()
        assert_same_view(viewed(seen), view)
        frames = await wire.read_until("gap")
        assert frames[-1]["gap"]["reason"] == "lagged"
        assert_same_view(frames[-1]["observation"], view)
        assert sum(len(str(frame)) for frame in frames[:-1]) < 300_000, "its buffer, the sockets' and no more"
        await stage.say("after")
        frames += await wire.read_until("turn_activity")
        while frames[-1]["cursor"] != (await stage.view())["cursor"]:
            frames += await wire.read()
        assert_same_view(viewed(frames), await stage.view())


@both
async def test_a_client_that_never_reads_costs_a_bounded_amount_of_memory(transport: str, server_kind: Server) -> None:
    if server_kind is HYPERCORN:
        pytest.skip("its buffers are not ours to look at")
    bounds = ReplayBounds(max_bytes=200_000)
    async with (
        playing(bounds=bounds, buffer_bytes=100_000) as stage,
        serving(stage.app, send_buffer=4096) as server,
    ):
        wire = await stalled(stage, server, transport)
        [connection] = server.state.connections
        tracemalloc.start()
        await stage.say(*("y" * 10_000 for _ in range(40)))
        before, _ = tracemalloc.get_traced_memory()
        await stage.say(*("y" * 10_000 for _ in range(200)))
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        said = 200 * 10_000
        # The agent's own answer grows with what it says; a copy for the client would be a second time that.
        assert after - before < 2.5 * said
        assert connection.transport.get_write_buffer_size() <= 65_536 + 100_000 + 20_000
        wire.abort()


@both
async def test_a_client_that_never_reads_is_cut_off(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (observer, asgi_line):
        monkeypatch.setattr(room, "FAREWELL", 0.05)
    async with playing() as stage, serving(stage.app, send_buffer=4096) as server:
        wire = await stalled(stage, server, transport)
        await given_up(stage)
        await server.settled()
        assert stage.gateway.streams.count == 0
        await server.disconnected()
        assert "goodbye" not in [frame["type"] for frame in await wire.read_to_end()]


@both
async def test_a_client_that_wakes_up_after_that_finds_a_goodbye(transport: str, server_kind: Server) -> None:
    if server_kind is HYPERCORN:
        pytest.skip("it offers no way to say something behind what is unread")
    async with playing() as stage, serving(stage.app, send_buffer=4096) as server:
        wire = await stalled(stage, server, transport)
        await given_up(stage)
        await server.settled()
        frames = await wire.read_until("goodbye")
        assert (frames[-1]["reason"], frames[-1]["code"]) == ("slow_consumer", 4502)
        assert frames[-1]["cursor"] == frames[-2]["cursor"]
        if isinstance(wire, SocketWire):
            await wire.read_to_end()
            assert (wire.close_code, wire.close_reason) == (4502, "slow_consumer")
        again = await opened(server, transport, cursor=frames[-1]["cursor"])
        rest = await again.read_until("caught_up")
        assert rest[0]["type"] == "resumed"
        events = [frame for frame in frames + rest if frame["type"] == "event"]
        assert len(events) == len({event["cursor"] for event in events}) == 63


def ping_in_vain(connection: object) -> None:
    """Let the server ask for a sign of life, and the time pass in which one should have come."""
    if isinstance(connection, SocketProtocol):
        connection.visit()
        connection.visit()
    else:
        assert isinstance(connection, WebSocketProtocol)
        connection.send_keepalive_ping()
        connection.keepalive_timeout()


async def test_a_ping_that_lies_behind_unread_bytes_is_no_reason_to_close(server_kind: Server) -> None:
    if server_kind is HYPERCORN:
        pytest.skip("its pings are its own affair")
    async with playing() as stage, serving(stage.app, send_buffer=4096) as server:
        wire = await stalled(stage, server, "websocket")
        assert isinstance(wire, SocketWire)
        [connection] = server.state.connections
        ping_in_vain(connection)
        assert not connection.transport.is_closing()
        await stage.finish()
        frames = await wire.read_until("committed")
        assert frames[-1]["kind"] == "committed"
        ping_in_vain(connection)
        await wire.read_to_end()
        assert wire.close_code == 1011
        assert wire.pings >= 1


@both
async def test_a_shutdown_cuts_who_does_not_read(transport: str, server_kind: Server) -> None:
    if server_kind is HYPERCORN:
        pytest.skip("its shutdown is its own affair")
    async with playing() as stage, serving(stage.app, send_buffer=4096) as server:
        await stalled(stage, server, transport)
        for connection in list(server.state.connections):
            connection.shutdown()
        await server.disconnected()
        assert stage.gateway.streams.count == 0


@both
async def test_a_drain_ends_every_stream_on_its_socket(transport: str) -> None:
    async with playing() as stage, serving(stage.app) as server:
        wires = [await opened(server, transport) for _ in range(20)]
        for wire in wires:
            await wire.read_until("caught_up")
        draining = asyncio.create_task(stage.gateway.streams.drain(20))
        await stage.world.clock.run_for(1)
        for wire in wires:
            assert (await wire.read_until("goodbye"))[-1]["reason"] == "draining"
        await stage.world.clock.run_for(1)
        await draining
        await server.settled()


async def test_a_long_poll_whose_client_vanishes_leaves_nothing_behind() -> None:
    async with playing() as stage, serving(stage.app) as server:
        cursor = (await stage.view())["cursor"]
        polling = asyncio.create_task(request(server.port, f"{PATH}?cursor={cursor}&wait=60"))
        await eventually(lambda: stage.gateway.streams.count == 1)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await server.settled()
        assert stage.gateway.streams.count == 0
