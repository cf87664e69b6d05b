"""WebSockets under any ASGI application, on a real socket: ours and uvicorn's own class behave alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from sightline_gateway.lines.line import line_of
from sightline_gateway.lines.socket_protocol import SocketProtocol
from tests.gateway.stream import serving as serving_room
from tests.gateway.stream.serving import LEAN, PLAIN, Server, Serving, eventually, serving
from tests.gateway.stream.wires import SocketWire

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("server_kind")]


@pytest.fixture(params=[LEAN, PLAIN], ids=["lean", "plain"])
def server_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Our two only: other servers are not ours to test."""
    monkeypatch.setattr(serving_room, "KIND", request.param)
    chosen: Server = request.param
    return chosen


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def dialled(
    server: Serving, path: str = "/", subprotocols: Sequence[str] = (), headers: dict[str, str] | None = None
) -> ClientConnection:
    return await connect(
        f"ws://127.0.0.1:{server.port}{path}",
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        additional_headers=headers,
        compression=None,
        proxy=None,
        close_timeout=5,
    )


async def refused(server: Serving) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as raised:
        await dialled(server)
    return raised.value


Step = Callable[[Receive, Send], Awaitable[None]]


class App:
    """Accepts and does one thing; keeps what it got."""

    def __init__(self, step: Step | None = None, accept: Message | None = None) -> None:
        self.scope: Scope = {}
        self.got: list[Message] = []
        self.error: Exception | None = None
        self._step = step
        self._accept = accept or {"type": "websocket.accept"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope

        async def keep() -> Message:
            message = await receive()
            self.got.append(message)
            return message

        await keep()
        await send(self._accept)
        try:
            if self._step is not None:
                await self._step(keep, send)
            else:
                while (await keep())["type"] != "websocket.disconnect":
                    pass
        except Exception as error:
            self.error = error
            raise


def answering(*messages: Message) -> ASGIApp:
    """Says this instead of accepting."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)

    return app


async def echo(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


# The handshake


async def test_the_scope_says_what_was_asked_for() -> None:
    app = App()
    async with serving(app) as server:
        client = await dialled(
            server, "/a%20b/%C3%BC?x=1&y=%20", ["one", "two"], {"X-More": "café".encode().decode("latin-1")}
        )
        await client.close()
        await server.settled()
    scope = app.scope
    assert scope["type"] == "websocket"
    assert scope["asgi"]["version"] == "3.0"
    assert (scope["http_version"], scope["scheme"], scope["root_path"]) == ("1.1", "ws", "")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/ü", b"/a%20b/%C3%BC", b"x=1&y=%20")
    assert scope["subprotocols"] == ["one", "two"]
    assert (b"host", f"127.0.0.1:{server.port}".encode()) in scope["headers"]
    assert (b"x-more", "café".encode()) in scope["headers"]
    assert scope["server"] == ("127.0.0.1", server.port)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["state"] == {}
    assert "method" not in scope
    assert app.got[0] == {"type": "websocket.connect"}


async def test_an_accept_chooses_subprotocol_and_headers() -> None:
    app = App(
        accept={"type": "websocket.accept", "subprotocol": "two", "headers": [(b"X-Mine", b"1"), (b"x-mine", b"2")]}
    )
    async with serving(app) as server:
        client = await dialled(server, subprotocols=["one", "two"])
        assert client.subprotocol == "two"
        assert client.response is not None
        assert client.response.headers.get_all("X-Mine") == ["1", "2"]
        await client.close()


@pytest.mark.parametrize("messages", [(), ({"type": "websocket.send", "text": "early"},)])
async def test_an_application_that_does_not_accept_is_answered_for_with_500(
    messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(answering(*messages)) as server:
        assert (await refused(server)).response.status_code == 500
        await server.disconnected()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    caplog.clear()


async def test_a_close_before_the_accept_is_a_403() -> None:
    async with serving(answering({"type": "websocket.close"})) as server:
        response = (await refused(server)).response
        assert (response.status_code, response.body) == (403, b"")
        assert response.headers["connection"] == "close"
        await server.disconnected()


async def test_another_response_can_be_given_instead() -> None:
    start = {
        "type": "websocket.http.response.start",
        "status": 418,
        "headers": [(b"X-Why", b"tea"), (b"content-type", b"a/b")],
    }
    body = {"type": "websocket.http.response.body", "body": b"short ", "more_body": True}
    async with serving(answering(start, body, {**body, "body": b"and stout", "more_body": False})) as server:
        response = (await refused(server)).response
        assert (response.status_code, response.body) == (418, b"short and stout")
        assert response.headers["X-Why"] == "tea"
        assert response.headers["Content-Type"] == "a/b"
        assert response.headers["Content-Length"] == "15"
        await server.disconnected()


async def test_a_response_that_is_broken_off_is_an_error(caplog: pytest.LogCaptureFixture, server_kind: Server) -> None:
    start = {"type": "websocket.http.response.start", "status": 200, "headers": []}
    async with serving(answering(start, {"type": "websocket.accept"})) as server:
        with suppress(Exception):
            await dialled(server)
        await server.disconnected()
    assert "Expected ASGI message 'websocket.http.response.body'" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "not base 64"}, 400),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"method": "POST"}, 405),
    ],
)
async def test_a_request_that_is_no_handshake_is_refused_before_the_application(
    changed: dict[str, str | None], status: int, server_kind: Server
) -> None:
    app = App()
    fields: dict[str, str | None] = {
        "Host": "localhost",
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **changed,
    }
    method = fields.pop("method", "GET")
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"{method} / HTTP/1.1\r\n{head}\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    if server_kind.ws is not SocketProtocol and status == 426:
        status = 400  # which says less
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert app.scope == {}


# Messages


async def test_text_and_bytes_go_both_ways() -> None:
    async with serving(App(echo)) as server:
        client = await dialled(server)
        for message in ("", "text “with” more", b"", b"\x00\xff" * 70_000, "x" * 70_000):
            await client.send(message)
            assert await client.recv() == message
        await client.close()


async def test_messages_are_received_in_order_however_slowly() -> None:
    received = []

    async def slowly(receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            received.append(message["text"])
            await asyncio.sleep(0)

    async with serving(App(slowly)) as server:
        client = await dialled(server)
        for number in range(200):
            await client.send(str(number))
        await client.close()
        await server.settled()
    assert received == [str(number) for number in range(200)]


async def test_an_application_that_does_not_receive_is_not_sent_more_than_buffers_hold() -> None:
    enough = asyncio.Event()

    async def deaf(receive: Receive, send: Send) -> None:
        await enough.wait()

    async with serving(App(deaf)) as server:
        client = await dialled(server)
        sent = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while sent < 100_000_000:
                    await client.send(b"x" * 100_000)
                    sent += 100_000
        assert sent < 20_000_000
        enough.set()
        client.transport.abort()


async def test_a_send_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def endless(receive: Receive, send: Send) -> None:
        nonlocal sent
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 10_000})
            sent += 1

    app = App(endless)
    async with serving(app, send_buffer=4096) as server:
        wire = await server.connect(SocketWire, receive_buffer=4096)
        await wire.begin("/")
        await eventually(lambda: bool(app.got))
        for _ in range(2_000):
            await asyncio.sleep(0)
        assert 65_536 < sent * 10_000 < 1_000_000
        wire.abort()
        await server.settled()
    assert isinstance(app.error, OSError)


# The end


async def test_a_client_that_closes_is_a_disconnect_with_its_code_and_reason() -> None:
    app = App()
    async with serving(app) as server:
        client = await dialled(server)
        await client.close(4001, "enough")
        await server.disconnected()
    assert app.got[-1] == {"type": "websocket.disconnect", "code": 4001, "reason": "enough"}


async def test_a_client_that_vanishes_is_a_disconnect() -> None:
    app = App()
    async with serving(app) as server:
        client = await dialled(server)
        client.transport.abort()
        await server.disconnected()
    assert app.got[-1]["type"] == "websocket.disconnect"
    assert app.got[-1]["code"] in (1005, 1006)


async def test_an_application_closes_with_a_code_and_a_reason() -> None:
    async def close(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 4002, "reason": "done"})
        assert (await receive()) == {"type": "websocket.disconnect", "code": 4002, "reason": "done"}

    app = App(close)
    async with serving(app) as server:
        client = await dialled(server)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4002, "done")
        await server.disconnected()
    assert app.error is None


@pytest.mark.parametrize("message", [{"type": "websocket.send", "text": "late"}, {"type": "websocket.close"}])
async def test_nothing_is_sent_after_a_close(message: Message, caplog: pytest.LogCaptureFixture) -> None:
    async def close_and_more(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})
        await send(message)

    app = App(close_and_more)
    async with serving(app) as server:
        client = await dialled(server)
        await client.wait_closed()
    assert "after sending 'websocket.close'" in str(app.error)
    caplog.clear()


async def test_a_message_that_is_none_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def nonsense(receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start"})

    app = App(nonsense)
    async with serving(app) as server:
        client = await dialled(server)
        await client.wait_closed()
    assert "Expected ASGI message 'websocket.send' or 'websocket.close'" in str(app.error)
    assert "Exception in ASGI application" in caplog.text
    caplog.clear()


async def test_sending_to_a_client_that_left_is_an_oserror_that_nobody_logs(caplog: pytest.LogCaptureFixture) -> None:
    async def late(receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await send({"type": "websocket.send", "text": "late"})

    app = App(late)
    async with serving(app) as server:
        client = await dialled(server)
        await client.close()
        await server.disconnected()
    assert isinstance(app.error, OSError)
    assert caplog.records == []


async def test_a_shutdown_tells_the_client_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    async with serving(app) as server:
        client = await dialled(server)
        [connection] = server.state.connections
        connection.shutdown()
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1012
        await server.disconnected()
    assert app.got[-1]["code"] == 1012
    assert caplog.records == []


async def test_a_shutdown_during_the_handshake_answers_it() -> None:
    asked = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        assert (await receive())["type"] == "websocket.connect"
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(slow) as server:
        dialling = asyncio.create_task(refused(server))
        await asked.wait()
        [connection] = server.state.connections
        connection.shutdown()
        assert (await dialling).response.status_code in (500, 503)
        await server.disconnected()


async def test_compression_is_used_where_it_was_agreed() -> None:
    async with serving(App(echo), ws_per_message_deflate=True) as server:
        client = await connect(f"ws://127.0.0.1:{server.port}/", proxy=None)
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        for message in ("", "hello " * 10_000, b"\x00" * 100_000, "short"):
            await client.send(message)
            assert await client.recv() == message
        await client.close()


async def test_a_task_that_is_cancelled_ends_its_socket(server_kind: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with serving(App()) as server:
        client = await dialled(server)
        [task] = server.state.tasks
        task.cancel()
        await client.wait_closed()
        if server_kind.ws is SocketProtocol:
            assert client.close_code == 1012
        await server.disconnected()


async def test_only_our_own_class_has_a_line(server_kind: Server) -> None:
    app = App()
    async with serving(app) as server:
        client = await dialled(server)
        assert (line_of(app.scope) is not None) == (server_kind.ws is SocketProtocol)
        await client.close()
        await server.settled()
