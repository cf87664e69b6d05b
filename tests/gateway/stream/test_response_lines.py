"""An HTTP response given away: on real sockets, under uvicorn's protocol class with ours on top."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from sightline_gateway.lines.line import Line, line_of
from sightline_gateway.lines.protocols import HttpProtocol
from tests.gateway.stream.lines import Diary
from tests.gateway.stream.serving import eventually, serving

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert caplog.records == []


class GivesAway:
    """Sends a head and some of the body, and gives the rest away."""

    def __init__(self, *before: Message, start: Message = START) -> None:
        self.line: Line | None = None
        self.diary = Diary()
        self.error: Exception | None = None
        self.before = before
        self.start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/plain":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"plain"})
            return
        await send(self.start)
        for message in self.before:
            await send(message)
        self.line = line_of(scope)
        if self.line is None:
            await send({"type": "http.response.body", "body": b"no line"})
            return
        try:
            self.line.detach(self.diary)
        except RuntimeError as error:
            self.error = error
            if not self.before:
                await send({"type": "http.response.body"})


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, method: str = "GET", path: str = "/", version: str = "1.1", body: bytes = b"") -> None:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n{length}\r\n".encode() + body)

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def connected(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def test_the_owner_writes_chunks_after_the_request_has_ended() -> None:
    app = GivesAway({"type": "http.response.body", "body": b"early", "more_body": True})
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask()
        head = await client.head()
        assert "200 ok" in head
        assert "transfer-encoding: chunked" in head
        await server.settled()
        assert app.line is not None
        assert len(server.state.connections) == 1
        app.line.write(b"3\r\nabc\r\n")
        assert await client.reader.readexactly(18) == b"5\r\nearly\r\n3\r\nabc\r\n"
        app.line.close(1000, "")
        app.line.write(b"late")
        assert await client.reader.read() == b"0\r\n\r\n"
        assert app.diary.told == ["(gone)"]
        await client.leave()
        await server.disconnected()


async def test_what_the_client_still_sends_is_ignored() -> None:
    app = GivesAway()
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask()
        await client.head()
        await server.settled()
        for _ in range(10):
            client.writer.write(b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
            await client.writer.drain()
        assert app.line is not None
        app.line.write(b"2\r\nok\r\n")
        app.line.close(1000, "")
        assert await client.reader.read() == b"2\r\nok\r\n0\r\n\r\n"
        await client.leave()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_client_that_leaves_is_told_to_the_owner(how: str) -> None:
    app = GivesAway()
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask()
        await client.head()
        await server.settled()
        if how == "abort":
            client.writer.transport.abort()
        else:
            client.writer.close()
        await server.disconnected()
        assert app.diary.told == ["(gone)"]
        assert app.line is not None
        app.line.write(b"into the void")
        app.line.close(1000, "")


async def test_a_client_that_left_before_is_told_after_the_hand_over() -> None:
    left = asyncio.Event()
    diary = Diary()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        line = line_of(scope)
        assert line is not None
        diary.inside = True
        line.detach(diary)
        diary.inside = False
        line.write(b"into the void")
        left.set()

    async with serving(slow) as server:
        client = await connected(server.port)
        client.ask()
        await client.head()
        client.writer.transport.abort()
        await left.wait()
        await eventually(lambda: diary.told == ["(gone)"])
        await server.disconnected()


@pytest.mark.parametrize(("method", "version"), [("HEAD", "1.1"), ("GET", "1.0")])
async def test_where_chunks_cannot_be_there_is_no_line(method: str, version: str) -> None:
    app = GivesAway()
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask(method, version=version)
        await client.head()
        await server.settled()
        assert app.line is None
        await client.leave()


@pytest.mark.parametrize(
    ("start", "before"),
    [
        ({**START, "headers": [(b"content-length", b"0")]}, ()),
        (START, ({"type": "http.response.body", "body": b"all"},)),
    ],
    ids=["a response with a length", "a response that is complete"],
)
async def test_only_an_open_response_in_chunks_is_given_away(start: Message, before: tuple[Message, ...]) -> None:
    app = GivesAway(*before, start=start)
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask()
        await client.head()
        await server.settled()
        assert isinstance(app.error, RuntimeError)
        await client.leave()


async def test_requests_before_it_on_the_same_connection_are_answered_and_those_behind_it_are_not() -> None:
    app = GivesAway()
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask(path="/plain")
        client.ask("POST", body=b"x" * 200_000)
        client.ask(path="/plain")
        assert "content-length: 5" in await client.head()
        assert await client.reader.readexactly(5) == b"plain"
        await client.head()
        await server.settled()
        assert app.line is not None
        app.line.close(1000, "")
        assert await client.reader.read() == b"0\r\n\r\n"
        await client.leave()


async def test_a_client_that_does_not_read_is_told_to_the_owner_and_that_it_reads_again() -> None:
    app = GivesAway()
    async with serving(app, send_buffer=4096) as server:
        client = await connected(server.port)
        client.ask()
        await client.head()
        await server.settled()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert app.line is not None
        chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
        wrote = 0
        while not app.line.paused:
            app.line.write(chunk)
            wrote += 1
            await asyncio.sleep(0)
        await eventually(lambda: app.diary.told == ["(stalled)"])
        assert app.line.unread > 0
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.reader.readexactly(wrote * len(chunk))
        await eventually(lambda: app.diary.told == ["(stalled)", "(writable)"])
        await client.leave()


async def test_a_shutdown_completes_the_response_and_cuts_who_does_not_read() -> None:
    for stalls in (False, True):
        app = GivesAway()
        async with serving(app, send_buffer=4096) as server:
            client = await connected(server.port)
            client.ask()
            await client.head()
            await server.settled()
            assert app.line is not None
            if stalls:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                while not app.line.paused:
                    app.line.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                    await asyncio.sleep(0)
            [connection] = server.state.connections
            connection.shutdown()
            if not stalls:
                assert await client.reader.read() == b"0\r\n\r\n"
                await client.leave()
            await server.disconnected()
            assert app.diary.told[-1] == "(gone)"
            client.writer.transport.abort()


async def test_reading_can_be_held() -> None:
    app = GivesAway()
    async with serving(app) as server:
        client = await connected(server.port)
        client.ask()
        await client.head()
        await server.settled()
        assert app.line is not None
        app.line.hold_reading()
        client.writer.close()
        for _ in range(50):
            await asyncio.sleep(0)
        assert app.diary.told == []
        app.line.go_on_reading()
        await server.disconnected()
        assert app.diary.told == ["(gone)"]


@pytest.mark.parametrize("way", ["given away", "answered", "left"])
async def test_nothing_of_a_request_stays_behind_for_the_collector(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[HttpProtocol]] = []
    original = HttpProtocol.connection_made

    def noted(self: HttpProtocol, transport: asyncio.Transport) -> None:
        made.append(weakref.ref(self))
        original(self, transport)

    monkeypatch.setattr(HttpProtocol, "connection_made", noted)
    app = GivesAway()
    async with serving(app) as server:
        gc.disable()
        try:
            client = await connected(server.port)
            client.ask(path="/" if way == "given away" else "/plain")
            await client.head()
            await server.settled()
            if way != "given away":
                await client.leave()
                await server.disconnected()
            await eventually(lambda: made[0]() is None)
        finally:
            gc.enable()
        if way == "given away":
            await client.leave()
