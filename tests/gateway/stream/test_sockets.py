"""WebSockets: the handshake, the frames, and what a client may say."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from sightline.testing.clock import settled
from tests.gateway.stream.stage import Line, Socket, playing

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.anyio]


async def ping(socket: Socket, identity: Any = None) -> None:
    await socket.say({"type": "ping"} if identity is None else {"type": "ping", "id": identity})


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["sightline.v1.json"], "sightline.v1.json"),
        (["other", "sightline.v1.json"], "sightline.v1.json"),
        (["other"], None),
    ],
)
async def test_the_subprotocol_is_taken_when_it_is_offered(offered: list[str], chosen: str | None) -> None:
    async with playing() as stage:
        socket = await stage.socket(subprotocols=offered)
        assert socket.accepted is not None
        assert socket.accepted["subprotocol"] == chosen
        assert socket.types() == ["observation", "caught_up"]


async def test_every_frame_is_one_text_message_with_the_same_json_as_everywhere() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        stream = await stage.stream()
        await stage.say("one ", "two “three”")
        await stage.finish()
        assert socket.messages == [event.data for event in stream.sent]


async def test_quiet_is_kept_unless_heartbeats_are_asked_for() -> None:
    async with playing() as stage:
        quiet = await stage.socket()
        lively = await stage.socket("heartbeat=20")
        await stage.world.clock.run_for(1000)
        cursor = (await stage.view())["cursor"]
        assert quiet.types() == ["observation", "caught_up"]
        beat = {"type": "heartbeat", "session_id": "s", "cursor": cursor}
        assert lively.frames[2:] == [beat] * 50


@pytest.mark.parametrize("identity", ["a", "", "x" * 200, 0, 7, -1, 2**53])
async def test_a_ping_is_answered_with_its_own_id(identity: Any) -> None:
    async with playing() as stage:
        socket = await stage.socket()
        await ping(socket, identity)
        assert json.loads(socket.messages[-1]) == {"type": "pong", "id": identity}


async def test_a_ping_without_id_is_answered_without() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        await ping(socket)
        await socket.say('{"type":"ping","id":null}')
        assert socket.messages[2:] == ['{"type":"pong"}', '{"type":"pong"}']


async def test_pongs_come_in_order() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        for number in range(5):
            await ping(socket, number)
        assert [frame["id"] for frame in socket.frames[2:]] == [0, 1, 2, 3, 4]


async def test_a_pong_does_not_wait_for_the_end_of_a_long_replay() -> None:
    async with playing() as stage:
        start = (await stage.view())["cursor"]
        await stage.say(*(f"{number} " for number in range(300)))
        line = Line(stalls_after=5)
        socket = await stage.socket(f"cursor={start}", line=line)
        await ping(socket, "now")
        assert len(socket.events()) == 3
        line.resume()
        await settled()
        assert socket.types().index("pong") < 100
        assert len(socket.events()) == 303


async def test_a_bad_frame_does_not_wait_for_it_either() -> None:
    async with playing() as stage:
        start = (await stage.view())["cursor"]
        await stage.say(*(f"{number} " for number in range(300)))
        line = Line(stalls_after=5)
        socket = await stage.socket(f"cursor={start}", line=line)
        await socket.say("nonsense")
        line.resume()
        await settled()
        assert socket.types()[-1] == "error"
        assert len(socket.events()) < 100
        assert socket.close_code == 4400


async def test_a_long_replay_lets_others_run_in_between() -> None:
    async with playing() as stage:
        start = (await stage.view())["cursor"]
        await stage.say(*(f"{number} " for number in range(500)))
        socket = Socket(stage.app, f"/v1/sessions/s/events?cursor={start}")
        stage.clients.append(socket)
        written = [0]
        while written[-1] < 500:
            await asyncio.sleep(0)
            written.append(len(socket.messages))
        assert max(after - before for before, after in pairwise(written)) <= 64


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("not after it was closed")])
@pytest.mark.parametrize("when", ["at the handshake", "in the middle", "at the goodbye"])
async def test_a_server_that_cannot_send_ends_the_socket_quietly(
    failure: Exception, when: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    if way == "line" and when == "in the middle":
        pytest.skip("a line does not raise")
    async with playing() as stage:
        line = Line()
        if when == "at the handshake":
            line.stall()
        socket = await stage.socket(line=line)
        socket.failure = failure
        line.resume()
        if when == "in the middle":
            await stage.say("one")
        elif when == "at the goodbye":
            await stage.delete()
        await settled()
        assert socket.over()
        assert stage.gateway.streams.count == 0
        assert caplog.records == []


LONG = "x" * 65_536


@pytest.mark.parametrize(
    ("frame", "code", "close"),
    [
        ("", "invalid_field", 4400),
        ("nonsense", "malformed_json", 4400),
        ("[]", "invalid_field", 4400),
        ("null", "invalid_field", 4400),
        ('"ping"', "invalid_field", 4400),
        ("{}", "bad_frame", 4400),
        ('{"type":"pong"}', "bad_frame", 4400),
        ('{"type":"subscribe","session_id":"s"}', "bad_frame", 4400),
        ('{"type":7}', "bad_frame", 4400),
        ('{"type":["ping"]}', "bad_frame", 4400),
        ('{"type":"Ping"}', "bad_frame", 4400),
        ('{"type":"ping","id":NaN}', "malformed_json", 4400),
        ('{"type":"ping","id":Infinity}', "malformed_json", 4400),
        ('{"type":"ping","id":1e999}', "malformed_json", 4400),
        ('{"type":"ping","id":99999999999999999999}', "malformed_json", 4400),
        ('{"type":"ping","type":"ping"}', "malformed_json", 4400),
        ('{"type":"ping","id":"a","id":"b"}', "malformed_json", 4400),
        ('{"type":"ping","id":"\\ud800"}', "malformed_json", 4400),
        ('{"type":"ping","id":' + "[" * 100 + "]" * 100 + "}", "malformed_json", 4400),
        ('{"type":"ping","id":[1]}', "invalid_field", 4400),
        ('{"type":"ping","id":true}', "invalid_field", 4400),
        ('{"type":"ping","id":1.5}', "invalid_field", 4400),
        ('{"type":"ping","id":"' + "x" * 201 + '"}', "invalid_field", 4400),
        ('{"type":"ping","ids":1}', "invalid_field", 4400),
        ('{"type":"auth"}', "invalid_field", 4400),
        (b"\x00\x01", "bad_frame", 4400),
        (b'{"type":"ping"}', "bad_frame", 4400),
        ('{"type":"ping","id":"' + LONG + '"}', "frame_too_large", 4413),
    ],
    ids=lambda value: (value if isinstance(value, str) else repr(value))[:40],
)
async def test_a_frame_that_cannot_be_taken_is_answered_with_an_error_and_the_end(
    frame: str | bytes, code: str, close: int
) -> None:
    async with playing() as stage:
        socket = await stage.socket()
        await socket.say(frame)
        problem = socket.only("error")["problem"]
        assert problem["code"] == code
        assert problem["instance"] == "/v1/sessions/s/events"
        assert socket.types()[-1] == "error"
        assert socket.close_code == close
        assert socket.over()
        assert stage.gateway.streams.count == 0


async def test_an_unknown_field_is_refused_by_its_name() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        await socket.say({"type": "ping", "idd": 1})
        assert socket.only("error")["problem"]["field"] == "idd"


async def test_a_renewed_credential_is_not_taken_yet_and_the_stream_goes_on() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        await socket.say({"type": "auth", "token": "secret"})
        problem = socket.only("error")["problem"]
        assert problem["code"] == "not_implemented"
        assert problem["status"] == 501
        assert "secret" not in socket.messages[-1]
        await stage.say("one")
        assert socket.close_code is None
        assert socket.types()[-1] == "turn_activity"


async def test_a_client_that_asks_faster_than_it_reads_is_not_read_further_than_64_answers() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        socket.line.stall()
        for number in range(200):
            await ping(socket, number)
        assert 133 <= socket.untaken <= 136
        socket.line.resume()
        await ping(socket, "last")
        assert [frame["id"] for frame in socket.frames[2:]] == [*range(200), "last"]


async def test_the_error_is_said_also_behind_a_crowd_of_answers() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        socket.line.stall()
        for number in range(70):
            await ping(socket, number)
        await socket.say("nonsense")
        socket.line.resume()
        await ping(socket, "unheard")
        assert socket.types()[-1] == "error"
        assert socket.types().count("pong") == 70
        assert socket.close_code == 4400


async def test_a_failure_of_ours_is_told_without_its_text_and_closes_with_1011(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with playing() as stage:
        socket = await stage.socket()

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a secret")

        for room in ("channel", "feed"):
            monkeypatch.setattr(f"sightline_gateway.stream.{room}.event", broken)
        await stage.say("one")
        problem = socket.only("error")["problem"]
        assert (problem["code"], problem["status"]) == ("internal", 500)
        assert problem["trace_id"]
        assert "a secret" not in socket.messages[-1]
        assert socket.close_code == 1011
        assert problem["trace_id"] in caplog.text
        assert "a secret" in caplog.text
