"""A WebSocket given away: what its owner is told, and what the protocol does without it. No socket, no time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from sightline.testing.clock import settled
from sightline_gateway.lines.line import line_of
from sightline_gateway.lines.rfc6455 import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame
from sightline_gateway.lines.sockets import Sockets
from tests.gateway.stream.lines import Diary, Transport
from tests.gateway.stream.serving import eventually
from tests.gateway.stream.test_rfc6455 import closing, said

pytestmark = pytest.mark.anyio

HEADERS = [(b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")]
LIMIT = 1000


class Held:
    """A socket whose application has accepted it and does what it is told."""

    def __init__(self, **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        config = Config(
            self._app, interface="asgi3", proxy_headers=False, log_config=None, ws_max_size=LIMIT, **settings
        )
        config.load()
        self.state = ServerState()
        self.sockets = Sockets(config, self.state, loop)
        self.transport = Transport()
        self.scope: Scope = {
            "type": "http",
            "method": "GET",
            "http_version": "1.1",
            "scheme": "http",
            "headers": HEADERS,
        }
        self.receive: Receive = None  # type: ignore[assignment]
        self.send: Send = None  # type: ignore[assignment]
        self._end = asyncio.Event()
        self.line = self.transport.protocol = self.sockets.upgrade(self.transport, self.state, self.scope, b"/x")

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive, self.send = receive, send
        assert line_of(scope) is self.line
        assert await receive() == {"type": "websocket.connect"}
        await self._end.wait()

    async def accept(self) -> None:
        await settled()
        await self.send({"type": "websocket.accept"})
        assert self.transport.taken().startswith(b"HTTP/1.1 101 Switching Protocols\r\n")

    async def return_(self) -> None:
        """Let the application end."""
        self._end.set()
        await settled()
        assert not self.state.tasks

    def reads(self) -> bool:
        return self.transport.reading

    def hears(self, *frames: bytes) -> None:
        self.line.data_received(b"".join(frames))


async def given_away(**settings: Any) -> tuple[Held, Diary]:
    held = Held(**settings)
    await held.accept()
    diary = Diary(held.line)
    held.line.detach(diary)
    await held.return_()
    return held, diary


async def ended(held: Held) -> None:
    """Let the connection go."""
    held.transport.close()
    await settled()
    assert not held.state.connections


async def test_the_request_ends_and_the_connection_stays() -> None:
    held, diary = await given_away()
    assert len(held.state.connections) == 1
    assert diary.told == []
    assert held.transport.taken() == b""
    assert not held.transport.closing
    await ended(held)
    assert diary.told == ["(gone)"]


async def test_messages_go_to_the_owner() -> None:
    held, diary = await given_away()
    held.hears(said(TEXT, b"one"), said(BINARY, b"two"), said(TEXT, b"thr")[:7])
    held.hears(said(TEXT, b"thr")[7:])
    assert diary.told == ["one", b"two", "thr"]
    await ended(held)


async def test_what_came_before_is_delivered_after_and_in_order() -> None:
    held = Held()
    await settled()
    held.hears(said(TEXT, b"1"))
    assert not held.reads(), "before the accept nobody listens"
    await held.accept()
    await settled()
    held.hears(said(TEXT, b"2"), said(TEXT, b"3"))
    diary = Diary(held.line)
    diary.inside = True
    held.line.detach(diary)
    diary.inside = False
    held.hears(said(TEXT, b"4"))
    await settled()
    assert diary.told == ["1", "2", "3", "4"]
    await held.return_()
    assert held.reads()
    await ended(held)


async def test_a_socket_is_given_away_once_and_not_before_it_is_accepted() -> None:
    held = Held()
    await settled()
    with pytest.raises(RuntimeError):
        held.line.detach(Diary())
    await held.accept()
    held.line.detach(Diary())
    with pytest.raises(RuntimeError):
        held.line.detach(Diary())
    with pytest.raises(RuntimeError):
        await held.send({"type": "websocket.send", "text": "not mine any more"})
    assert (await held.receive())["type"] == "websocket.disconnect"
    await held.return_()
    await ended(held)


async def test_who_takes_over_a_socket_that_has_ended_is_told_so() -> None:
    held = Held()
    await held.accept()
    await ended(held)
    diary = Diary(held.line)
    held.line.detach(diary)
    assert diary.told == []
    await held.return_()
    assert diary.told == ["(gone)"]
    held.line.write(b"into the void")
    held.line.close(1000, "")
    assert held.transport.taken() == b""


async def test_a_client_that_leaves_while_it_is_accepted_is_no_error() -> None:
    held = Held()
    await settled()
    held.transport.closing = True
    await held.send({"type": "websocket.accept"})
    diary = Diary(held.line)
    held.line.detach(diary)
    await held.return_()
    assert diary.told == ["(gone)"]
    held.line.connection_lost(None)
    assert diary.told == ["(gone)"]
    assert held.transport.taken() == b""


async def test_what_is_written_is_written_as_it_is() -> None:
    held, _ = await given_away()
    held.line.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
    assert held.transport.taken() == b"\x81\x03one\x81\x03two"
    await ended(held)


# Who does not read


async def test_a_stall_is_told_but_not_inside_the_write_that_brings_it_about() -> None:
    held, diary = await given_away()
    diary.inside = True
    held.transport.stall()
    diary.inside = False
    assert held.line.paused
    assert diary.told == []
    await settled()
    assert diary.told == ["(stalled)"]
    assert held.line.unread == 100_000
    held.line.write(b"more")
    held.transport.resume()
    assert diary.told == ["(stalled)", "(writable)"]
    await ended(held)


async def test_a_stall_that_is_over_at_once_is_not_told_and_its_end_is() -> None:
    held, diary = await given_away()
    held.transport.stall()
    held.transport.resume()
    await settled()
    assert diary.told == ["(writable)"]
    await ended(held)


async def test_pings_of_a_client_that_does_not_read_cost_one_pong() -> None:
    held, _ = await given_away()
    held.transport.stall()
    held.hears(*(said(PING, b"%d" % number) for number in range(50)))
    assert held.transport.taken() == b""
    held.transport.resume()
    assert held.transport.taken() == frame(PONG, b"49")
    held.hears(said(PING, b"now"))
    assert held.transport.taken() == frame(PONG, b"now")
    await ended(held)


async def test_a_cut_resets_the_connection_whatever_is_unread() -> None:
    held, diary = await given_away()
    held.transport.stall()
    held.line.cut_in(0)
    await eventually(lambda: held.transport.aborted)
    await settled()
    assert diary.told[-1] == "(gone)"


# Who is not read


async def test_an_owner_that_holds_reading_gets_nothing_until_it_goes_on() -> None:
    held, diary = await given_away()
    diary.then["1"] = held.line.hold_reading
    held.hears(said(TEXT, b"1"), said(TEXT, b"2"), said(PING, b"?"), said(TEXT, b"3"))
    assert diary.told == ["1"]
    assert not held.reads()
    assert held.transport.taken() == b""
    diary.inside = True
    held.line.go_on_reading()
    diary.inside = False
    assert held.reads()
    await settled()
    assert diary.told == ["1", "2", "3"]
    assert held.transport.taken() == frame(PONG, b"?")
    held.line.hold_reading()
    held.line.hold_reading()
    held.line.go_on_reading()
    held.line.go_on_reading()
    assert held.reads()
    await ended(held)


# The end


async def test_a_close_is_said_and_the_answer_ends_the_connection() -> None:
    held, diary = await given_away()
    diary.inside = True
    held.line.close(4503, "draining")
    held.line.close(4400, "again")
    held.line.write(b"late")
    diary.inside = False
    assert held.transport.taken() == close_frame(4503, "draining")
    held.hears(said(TEXT, b"crossed"), said(PING, b"also"))
    assert diary.told == []
    assert held.transport.taken() == b""
    held.hears(closing(4503))
    await settled()
    assert held.transport.closing
    assert not held.transport.aborted
    assert diary.told == ["(gone)"]


async def test_a_close_is_sent_also_while_reading_is_held() -> None:
    held, diary = await given_away()
    diary.then["1"] = held.line.hold_reading
    held.hears(said(TEXT, b"1"), said(TEXT, b"2"), closing(1000))
    held.line.close(1001, "")
    await settled()
    assert held.transport.closing
    assert diary.told == ["1", "(gone)"]


async def test_a_close_that_is_not_answered_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline_gateway.lines.socket_protocol.CLOSE_SECONDS", 0)
    held, diary = await given_away()
    held.line.close(1000, "")
    await eventually(lambda: held.transport.aborted)
    await settled()
    assert diary.told == ["(gone)"]


async def test_a_clients_close_is_answered_with_its_code() -> None:
    held, diary = await given_away()
    held.hears(said(TEXT, b"bye"), closing(3001, b"so long"), said(TEXT, b"late"))
    assert held.transport.taken() == close_frame(3001, "so long")
    assert held.transport.closing
    assert held.line.closing == (3001, "so long")
    await settled()
    assert diary.told == ["bye", "(gone)"]


async def test_a_close_without_a_code_is_answered_without() -> None:
    held, _ = await given_away()
    held.hears(said(CLOSE))
    assert held.transport.taken() == b"\x88\x00"
    await settled()


@pytest.mark.parametrize(
    ("raw", "code"), [(said(3), 1002), (said(TEXT, b"\xff"), 1007), (said(TEXT, b"x" * (LIMIT + 1)), 1009)]
)
async def test_who_breaks_the_protocol_is_told_and_listened_to_no_more_but_not_cut_off(raw: bytes, code: int) -> None:
    held, diary = await given_away()
    held.hears(said(TEXT, b"fine"), raw, said(TEXT, b"late"))
    assert held.transport.taken()[2:4] == code.to_bytes(2, "big")
    assert held.transport.ended
    assert diary.told == ["fine", "(gone)"]
    held.hears(b"x" * 100_000)
    assert held.reads()
    assert not held.transport.closing, "the client would be reset, and might never see the code"
    await ended(held)


async def test_a_shutdown_is_told_with_1012() -> None:
    held, diary = await given_away()
    held.line.shutdown()
    assert held.transport.taken() == close_frame(1012)
    assert held.transport.ended
    assert diary.told == ["(gone)"]
    assert not held.transport.closing
    held.line.shutdown()
    await settled()
    assert not held.state.connections


async def test_a_shutdown_cuts_who_does_not_read() -> None:
    held, diary = await given_away()
    held.transport.stall()
    held.line.shutdown()
    assert held.transport.aborted
    await settled()
    assert diary.told[-1] == "(gone)"


# Keep-alive


@pytest.mark.parametrize("sign", [said(PONG), said(PONG, b"more"), said(PING), said(TEXT, b"word"), b"\x81"])
async def test_who_gives_any_sign_of_life_stays(sign: bytes) -> None:
    held, _ = await given_away()
    for _ in range(5):
        held.line.visit()
        assert held.transport.taken() == frame(PING, b"")
        held.hears(sign)
        held.transport.taken()
        held.line._reader = type(held.line._reader)(LIMIT)
    await ended(held)


async def test_who_gives_none_is_closed() -> None:
    held, diary = await given_away()
    held.line.visit()
    assert held.transport.taken() == frame(PING, b"")
    held.line.visit()
    assert held.transport.taken() == close_frame(1011, "keepalive ping timeout")
    assert diary.told == ["(gone)"]
    await ended(held)


async def test_patience_is_told_in_pings() -> None:
    held, _ = await given_away(ws_ping_interval=10, ws_ping_timeout=25)
    for _ in range(3):
        held.line.visit()
    assert held.transport.taken() == 3 * frame(PING, b"")
    held.line.visit()
    assert held.transport.taken()[2:4] == (1011).to_bytes(2, "big")
    await ended(held)


async def test_without_a_timeout_pings_are_sent_for_ever_and_without_an_interval_never() -> None:
    held, _ = await given_away(ws_ping_timeout=None)
    for _ in range(100):
        held.line.visit()
    assert held.transport.taken() == 100 * frame(PING, b"")
    await ended(held)
    held, _ = await given_away(ws_ping_interval=None)
    assert held.line.place == -1
    await ended(held)


@pytest.mark.parametrize("unread", ["paused", "a little unread"])
async def test_who_does_not_read_cannot_answer(unread: str) -> None:
    held, _ = await given_away()
    held.line.visit()
    held.transport.taken()
    if unread == "paused":
        held.transport.stall()
    held.transport.waiting = 100
    for _ in range(10):
        held.line.visit()
    assert held.transport.taken() == b""
    if unread == "paused":
        held.transport.resume()
    held.transport.waiting = 0
    held.line.visit()
    assert held.transport.taken() == frame(PING, b""), "it has a whole round to answer this one"
    await ended(held)


async def test_who_is_not_read_cannot_be_heard() -> None:
    held, _ = await given_away()
    held.line.hold_reading()
    for _ in range(10):
        held.line.visit()
    assert held.transport.taken() == 10 * frame(PING, b"")
    held.line.go_on_reading()
    held.line.visit()
    assert held.transport.taken() == frame(PING, b""), "its answers may be on their way only now"
    await ended(held)


async def test_who_is_leaving_is_not_asked() -> None:
    held, _ = await given_away()
    assert held.line.place >= 0
    held.line.close(1000, "")
    assert held.line.place < 0
    await ended(held)
