"""A gateway in a test's hands: clients that speak ASGI to it, frame by frame, on a clock that moves when told.

Nothing here waits for time or for a socket: after `settled` all that is going to happen has happened.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message

from sightline.kernel import Limits
from sightline.stores.replay_memory import ReplayBounds
from sightline.testing.clock import settled
from sightline_gateway.app import create_app
from sightline_gateway.gateway import Gateway
from sightline_gateway.lines.connection import EXTENSION
from sightline_gateway.lines.line import EXTENSION as LINE
from sightline_gateway.lines.line import Owner
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams
from tests.core.worlds import Puppet, World, running

__all__ = ["Client", "Exchange", "Json", "Line", "ServerSent", "Socket", "Stage", "parse_server_sent", "playing"]

Json = dict[str, Any]
beneath: ContextVar[bool] = ContextVar("beneath", default=False)
"""Whether clients come on lines that streams may own, or by ASGI alone."""
HOST = "127.0.0.1:8700"


class Line:
    """The way to a client, as the server knows it. A stalled line takes nothing until it is resumed or unblocked.

    `stalls_after`: by itself, once it has taken so many messages.
    """

    def __init__(self, *, stalls_after: int | None = None) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._left = stalls_after
        self.beneath: Beneath | None = None
        self.unread = 0
        self.cut_after: float | None = None

    def stall(self) -> None:
        self._open.clear()
        self.unread = 100_000
        if self.beneath is not None:
            self.beneath.stalled()

    def resume(self) -> None:
        self._open.set()
        self.unread = 0
        if self.beneath is not None:
            self.beneath.resumed()

    async def take(self) -> None:
        """Return when one more message can be taken."""
        await self._open.wait()
        self.taken()

    def taken(self) -> None:
        """One more message was taken."""
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.stall()

    @property
    def blocked(self) -> bool:
        return not self._open.is_set()

    def unblock(self) -> None:
        self._open.set()

    def cut_in(self, seconds: float) -> None:
        self.cut_after = seconds


class Beneath:
    """The same line as a server of ours offers it: the stream owns the connection, and writes bytes.

    What is written while the line is stalled reaches the client when it goes on, or when it is about to be cut.
    """

    batch = 16_384

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: list[bytes | tuple[int, str]] = []
        self._holding = False
        self.owner: Owner | None = None
        self.closed = False

    @property
    def paused(self) -> bool:
        return self._client.line.blocked

    @property
    def unread(self) -> int:
        return self._client.line.unread

    def write(self, data: bytes) -> None:
        if not self.closed:
            self._held += self._client.pieces(data)
            self._flush()

    def close(self, code: int, reason: str) -> None:
        self._held.append((code, reason))
        self._flush()

    def cut_in(self, seconds: float) -> None:
        if seconds:
            self._client.line.cut_in(seconds)
            self._client.line.unblock()
            self._flush()
        else:
            self.end()

    def detach(self, owner: Owner) -> None:
        self.owner = owner
        asyncio.get_running_loop().call_soon(owner.gone if self.closed else self.deliver)

    def hold_reading(self) -> None:
        self._holding = True

    def go_on_reading(self) -> None:
        self._holding = False
        asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self) -> None:
        """Hand the owner what the client has said."""
        while self.owner is not None and not self._holding and self._client.untaken and not self.closed:
            message = self._client.next_message()
            if message["type"] == "websocket.receive":
                text = message.get("text")
                self.owner.received(message["bytes"] if text is None else text)

    def stalled(self) -> None:
        if self.owner is not None and not self.closed:
            self.owner.stalled()

    def resumed(self) -> None:
        self._flush()
        if self.owner is not None and not self.closed:
            self.owner.writable()

    def _flush(self) -> None:
        while self._held and not self.paused and not self.closed:
            piece = self._held.pop(0)
            if isinstance(piece, bytes):
                self._client.take(piece)
                self._client.line.taken()
            else:
                self._client.take_end(*piece)
                asyncio.get_running_loop().call_soon(self.end)

    def end(self) -> None:
        """The connection is closed."""
        if not self.closed:
            self.closed = True
            if self.owner is not None:
                self.owner.gone()


@dataclass(frozen=True)
class ServerSent:
    """One event as a browser would see it; a comment has nothing but its text."""

    event: str | None = None
    id: str | None = None
    data: str | None = None
    retry: str | None = None
    comment: str | None = None


def parse_server_sent(text: str) -> list[ServerSent]:
    """The complete events in `text`; every line must be one that the standard knows."""
    events = []
    for block in text.split("\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            name = name or "comment"
            assert colon, line
            assert name not in fields, line
            assert value.startswith(" "), line
            fields[name] = value[1:]
        events.append(ServerSent(**fields))
    return events


class Client:
    """What both kinds of client share: the application's call, and the line it writes to."""

    scope: dict[str, Any]
    frames: list[Json]

    def __init__(self, app: ASGIApp, target: str, kind: str, headers: dict[str, str], line: Line | None) -> None:
        path, _, query = target.partition("?")
        self.line = line or Line()
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.scope: dict[str, Any] = {
            "type": kind,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in {"Host": HOST, **headers}.items()],
            "extensions": {EXTENSION: self.line},
        }
        self.beneath = Beneath(self)
        if beneath.get():
            self.scope["extensions"][LINE] = self.line.beneath = self.beneath
        self.app = app
        self.task = asyncio.create_task(self._run(), name=f"client of {target}")

    async def _run(self) -> None:
        await self.app(self.scope, self._incoming.get, self._send)

    async def _send(self, message: Message) -> None:
        raise NotImplementedError

    @property
    def ending(self) -> tuple[int | None, str] | None:
        """The close code and its reason, where there is such a thing."""
        return None

    def over(self) -> bool:
        """Whether the application has done with it."""
        return self.task.done() if self.beneath.owner is None else self.beneath.closed

    def pieces(self, data: bytes) -> list[bytes]:
        """What is on the wire, message by message."""
        raise NotImplementedError

    def take(self, piece: bytes) -> None:
        """One message from the wire."""
        raise NotImplementedError

    def take_end(self, code: int, reason: str) -> None:
        """The end, said in order."""
        raise NotImplementedError

    def next_message(self) -> Message:
        """The next of ours."""
        return self._incoming.get_nowait()

    async def _goes(self, message: Message) -> None:
        """Say that we are gone, or close the connection under who owns it."""
        self._incoming.put_nowait(message)
        self.beneath.end()
        await settled()

    @property
    def untaken(self) -> int:
        """How many messages of ours the application has not asked for."""
        return self._incoming.qsize()

    @property
    def cursor(self) -> str:
        """The last one seen."""
        return str(next(frame["cursor"] for frame in reversed(self.frames) if "cursor" in frame))

    def types(self) -> list[str]:
        """The frames, each by its kind if it is an event and else by its type."""
        return [frame["kind"] if frame["type"] == "event" else frame["type"] for frame in self.frames]

    def events(self) -> list[Json]:
        return [frame for frame in self.frames if frame["type"] == "event"]

    def only(self, name: str) -> Json:
        """The one frame of this type."""
        [frame] = [frame for frame in self.frames if frame["type"] == name]
        return frame

    async def vanish(self) -> None:
        """Disconnect without a word."""
        raise NotImplementedError


class Exchange(Client):
    """One HTTP request. `body` grows while the answer comes."""

    def __init__(
        self,
        app: ASGIApp,
        target: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        line: Line | None = None,
    ) -> None:
        super().__init__(app, target, "http", headers or {}, line)
        self.scope |= {"method": method, "http_version": "1.1", "scheme": "http"}
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def _send(self, message: Message) -> None:
        await self.line.take()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)

    @property
    def sent(self) -> list[ServerSent]:
        return parse_server_sent(self.body.decode())

    @property
    def frames(self) -> list[Json]:  # type: ignore[override]
        return [json.loads(event.data) for event in self.sent if event.data is not None]

    @property
    def json(self) -> Json:
        answer: Json = json.loads(self.body)
        return answer

    def pieces(self, data: bytes) -> list[bytes]:
        chunks = []
        while data:
            size, _, data = data.partition(b"\r\n")
            chunks.append(data[: int(size, 16)])
            assert data[int(size, 16) :][:2] == b"\r\n"
            data = data[int(size, 16) + 2 :]
        return chunks

    def take(self, piece: bytes) -> None:
        self.body += piece

    def take_end(self, code: int, reason: str) -> None:
        self.complete = True

    async def vanish(self) -> None:
        await self._goes({"type": "http.disconnect"})


class Socket(Client):
    """One WebSocket. `close_code` is there once the server closed it."""

    def __init__(
        self,
        app: ASGIApp,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        subprotocols: list[str] | None = None,
        line: Line | None = None,
    ) -> None:
        super().__init__(app, target, "websocket", headers or {}, line)
        self.scope |= {"subprotocols": subprotocols or [], "scheme": "ws"}
        self.accepted: Message | None = None
        self.messages: list[str] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.failure: Exception | None = None
        self._incoming.put_nowait({"type": "websocket.connect"})

    async def _send(self, message: Message) -> None:
        await self.line.take()
        if self.failure is not None:
            raise self.failure
        match message["type"]:
            case "websocket.accept":
                self.accepted = message
            case "websocket.send":
                assert message.get("bytes") is None, "frames are text"
                self.messages.append(message["text"])
            case "websocket.close":
                self.close_code, self.close_reason = message["code"], message.get("reason", "")

    @property
    def frames(self) -> list[Json]:  # type: ignore[override]
        return [json.loads(message) for message in self.messages]

    async def say(self, frame: Any) -> None:
        """Send a frame: text as it is, bytes as a binary message, anything else as JSON."""
        if isinstance(frame, bytes):
            self._incoming.put_nowait({"type": "websocket.receive", "bytes": frame})
        else:
            text = frame if isinstance(frame, str) else json.dumps(frame)
            self._incoming.put_nowait({"type": "websocket.receive", "text": text})
        self.beneath.deliver()
        await settled()

    @property
    def ending(self) -> tuple[int | None, str] | None:
        return self.close_code, self.close_reason

    def pieces(self, data: bytes) -> list[bytes]:
        frames = []
        while data:
            assert data[0] == 0x81, "frames are text, and whole"
            size, start = data[1], 2
            if size > 125:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            frames.append(data[start : start + size])
            assert len(frames[-1]) == size
            data = data[start + size :]
        return frames

    def take(self, piece: bytes) -> None:
        self.messages.append(piece.decode())

    def take_end(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason

    async def vanish(self) -> None:
        self.failure = OSError("the client is gone")
        await self._goes({"type": "websocket.disconnect", "code": 1006})


AnyClient = TypeVar("AnyClient", bound=Client)


@dataclass
class Stage:
    """`app` on `gateway` on the kernel of `world`, whose agent is `puppet`."""

    world: World
    gateway: Gateway
    app: ASGIApp
    puppet: Puppet
    clients: list[Client] = field(default_factory=list)

    async def stream(
        self, query: str = "", *, session: str = "s", last_event_id: str | None = None, line: Line | None = None
    ) -> Exchange:
        """Watch by server-sent events."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        return await self._begun(Exchange(self.app, _events(session, query), headers=headers, line=line))

    async def socket(
        self,
        query: str = "",
        *,
        session: str = "s",
        last_event_id: str | None = None,
        subprotocols: list[str] | None = None,
        line: Line | None = None,
    ) -> Socket:
        """Watch by WebSocket."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        return await self._begun(
            Socket(self.app, _events(session, query), headers=headers, subprotocols=subprotocols, line=line)
        )

    async def observe(self, query: str = "", *, line: Line | None = None) -> Socket:
        """A WebSocket for many sessions."""
        return await self._begun(Socket(self.app, "/v1/observe" + (f"?{query}" if query else ""), line=line))

    async def observe_stream(self, body: Any, query: str = "", *, line: Line | None = None) -> Exchange:
        """Its twin by server-sent events."""
        target = "/v1/observe" + (f"?{query}" if query else "")
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        return await self._begun(
            Exchange(self.app, target, method="POST", headers=headers, body=json.dumps(body).encode(), line=line)
        )

    async def watch(self, transport: str, query: str = "", **options: Any) -> Exchange | Socket:
        """Watch by either: `sse` or `websocket`."""
        return await (self.socket(query, **options) if transport == "websocket" else self.stream(query, **options))

    async def catch_up(self, query: str = "", *, session: str = "s", last_event_id: str | None = None) -> Exchange:
        """Ask for what was missed, as JSON."""
        headers = {"Accept": "application/json"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        return await self._begun(Exchange(self.app, _events(session, query), headers=headers))

    async def view(self, session: str = "s") -> Json:
        """The observation as GET shows it."""
        return (await self._begun(Exchange(self.app, f"/v1/sessions/{session}"))).json

    async def delete(self, session: str = "s") -> None:
        answer = await self._begun(Exchange(self.app, f"/v1/sessions/{session}", method="DELETE"))
        assert answer.status == 204

    async def say(self, *texts: str) -> None:
        """Let the agent say these, one event each, in the turn that runs or in a new one."""
        if not self.world.kernel.running_turns:
            await self.world.send("go")
        for text in texts:
            await self.puppet.says(text)

    async def finish(self) -> None:
        """Let the running turn end."""
        await self.puppet.ends()

    async def settle(self, client: Client) -> None:
        """Let the application see the client through to its end."""
        await client.vanish()
        await asyncio.gather(client.task)

    async def _begun(self, client: AnyClient) -> AnyClient:
        self.clients.append(client)
        await settled()
        return client


def _events(session: str, query: str) -> str:
    return f"/v1/sessions/{session}/events" + (f"?{query}" if query else "")


@asynccontextmanager
async def playing(
    *,
    bounds: ReplayBounds | None = None,
    limits: Limits | None = None,
    session_ids: tuple[str, ...] = ("s",),
    max_streams: int = 100,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """A running gateway with these sessions. On the way out nothing may be left, neither stream nor task."""
    puppet = Puppet()
    async with running(puppet, bounds=bounds, limits=limits, session_ids=session_ids) as world:
        gateway = Gateway(world.kernel, Settings(**settings), Streams(max_streams, world.clock))
        stage = Stage(world, gateway, create_app(gateway), puppet)
        try:
            yield stage
        finally:
            for client in stage.clients:
                client.line.resume()
                await client.vanish()
            await asyncio.gather(*(client.task for client in stage.clients))
        assert gateway.streams.count == 0
        assert [world.replay.subscribers(session) for session in session_ids] == [0] * len(session_ids)
