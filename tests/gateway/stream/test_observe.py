"""Many sessions on one connection: a WebSocket that is told what to watch, and a POST that says it once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sightline.stores.replay_memory import ReplayBounds
from sightline.testing.clock import settled
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.stage import Exchange, Json, Line, Socket, Stage, playing

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]

both = pytest.mark.parametrize("transport", ["sse", "websocket"])


def of(client: Socket | Exchange, session: str) -> list[Json]:
    """The frames of one session."""
    return [frame for frame in client.frames if frame.get("session_id") == session]


def names(frames: list[Json]) -> list[str]:
    return [frame["kind"] if frame["type"] == "event" else frame["type"] for frame in frames]


async def subscribe(socket: Socket, session: str, **fields: Any) -> None:
    await socket.say({"type": "subscribe", "session_id": session, **fields})


async def begun(stage: Stage, transport: str, *sessions: str, line: Line | None = None, query: str = "") -> Any:
    """A stream of these sessions, from a fresh start."""
    if transport == "sse":
        return await stage.observe_stream({"sessions": dict.fromkeys(sessions)}, query, line=line)
    socket = await stage.observe(query, line=line)
    for session in sessions:
        await subscribe(socket, session)
    return socket


async def work(stage: Stage, session: str, *texts: str) -> None:
    """A whole turn in a session."""
    await stage.world.send("go", session_id=session)
    for text in texts:
        await stage.puppet.says(text)
    await stage.puppet.ends()


@both
async def test_each_session_is_shown_as_on_a_stream_of_its_own(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "a", "b")
        alone = {session: await stage.socket(session=session) for session in "ab"}
        for session in "ab":
            await work(stage, session, f"in {session} ", "more")
        for session in "ab":
            assert names(of(client, session))[:2] == ["observation", "caught_up"]
            assert of(client, session) == alone[session].frames
            assert_same_view(
                fold(of(client, session)[0]["observation"], of(client, session)[2:]), await stage.view(session)
            )


@both
async def test_each_session_goes_on_from_its_own_cursor(transport: str) -> None:
    async with playing(session_ids=("a", "b", "c")) as stage:
        cursors = {session: (await stage.view(session))["cursor"] for session in "ab"}
        await work(stage, "a", "missed")
        if transport == "sse":
            client: Any = await stage.observe_stream({"sessions": {**cursors, "c": "now"}})
        else:
            client = await stage.observe()
            for session, cursor in {**cursors, "c": "now"}.items():
                await subscribe(client, session, cursor=cursor)
        assert [frame["type"] for frame in of(client, "b")] == ["resumed", "caught_up"]
        assert [frame["type"] for frame in of(client, "c")] == ["resumed", "caught_up"]
        missed = of(client, "a")
        assert (missed[0]["type"], missed[-1]["type"]) == ("resumed", "caught_up")
        assert missed[-1]["cursor"] == (await stage.view("a"))["cursor"]


async def test_the_twin_has_no_ids_because_no_one_cursor_tells_where_it_is() -> None:
    async with playing(session_ids=("a", "b")) as stage:
        stream = await begun(stage, "sse", "a", "b")
        await work(stage, "a", "word")
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert {sent.id for sent in stream.sent} == {None}
        assert [sent.event for sent in stream.sent if sent.event][:2] == ["observation", "caught_up"]


@both
async def test_a_session_that_is_deleted_says_goodbye_and_the_others_go_on(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "a", "b")
        await stage.delete("a")
        assert of(client, "a")[-1] | {"cursor": ""} == {
            "type": "goodbye",
            "session_id": "a",
            "cursor": "",
            "reason": "session_deleted",
            "code": 4410,
        }
        await work(stage, "b", "still here")
        assert names(of(client, "b"))[-1] == "committed"
        assert not client.over()


async def test_a_session_that_is_deleted_before_it_was_shown_says_where_it_began_and_then_goodbye() -> None:
    async with playing(session_ids=("a", "b")) as stage:
        line = Line()
        client = await stage.observe("", line=line)
        await subscribe(client, "b")
        line.stall()
        await subscribe(client, "a")
        await stage.delete("a")
        line.resume()
        await settled()
        first, *_, last = of(client, "a")
        assert names([first, last]) == ["observation", "goodbye"]
        assert last["cursor"] == first["cursor"]
        assert not client.over()


@both
async def test_sessions_that_cannot_be_watched_are_refused_by_name_and_the_others_go_on(transport: str) -> None:
    async with playing(session_ids=("a", "gone")) as stage:
        await stage.delete("gone")
        client = await begun(stage, transport, "gone", "nobody", "a")
        assert of(client, "gone")[0]["problem"]["code"] == "session_deleted"
        assert of(client, "nobody")[0]["problem"]["code"] == "session_not_found"
        assert names(of(client, "a")) == ["observation", "caught_up"]


@both
async def test_a_drain_says_goodbye_to_each_session(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "a", "b")
        await work(stage, "a", "one")
        draining = asyncio.create_task(stage.gateway.streams.drain(20))
        await stage.world.clock.run_for(2)
        await draining
        for session in "ab":
            goodbye = of(client, session)[-1]
            assert (goodbye["type"], goodbye["reason"], goodbye["code"]) == ("goodbye", "draining", 4503)
            assert goodbye["cursor"] == (await stage.view(session))["cursor"]
        assert client.over()


async def test_a_drain_says_goodbye_to_who_watches_nothing() -> None:
    async with playing() as stage:
        socket = await stage.observe()
        draining = asyncio.create_task(stage.gateway.streams.drain(0))
        await stage.world.clock.run_for(2)
        await draining
        assert socket.only("goodbye")["code"] == socket.close_code == 4503
        assert "session_id" not in socket.only("goodbye")


@both
async def test_who_does_not_read_gets_a_gap_for_each_session_that_went_on(transport: str) -> None:
    async with playing(session_ids=("a", "b", "c"), bounds=ReplayBounds(max_events=4)) as stage:
        client = await begun(stage, transport, "a", "b", "c")
        client.line.stall()
        await work(stage, "a", *"abcdef")
        await work(stage, "b", *"abcdef")
        client.line.resume()
        await settled()
        for session in "ab":
            [gap] = [frame for frame in of(client, session) if frame["type"] == "gap"]
            assert gap["gap"]["reason"] == "lagged"
            assert gap["observation"] == await stage.view(session)
        assert names(of(client, "c")) == ["observation", "caught_up"]


@both
async def test_who_is_given_up_is_told_for_each_session_where_it_stands(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "a", "b")
        seen = {session: of(client, session)[-1]["cursor"] for session in "ab"}
        client.line.stall()
        await work(stage, "a", "unseen")
        await stage.world.clock.run_for(30)
        for session in "ab":
            goodbye = of(client, session)[-1]
            assert (goodbye["reason"], goodbye["cursor"]) == ("slow_consumer", seen[session])
        assert client.line.cut_after == 10


@both
async def test_quiet_times_are_filled_by_heartbeats_that_name_no_session(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "a", "b", query="heartbeat=5")
        await stage.world.clock.run_for(11)
        assert [frame for frame in client.frames if frame["type"] == "heartbeat"] == [{"type": "heartbeat"}] * 2


async def test_a_filter_shows_some_kinds_only() -> None:
    async with playing(session_ids=("a", "b")) as stage:
        socket = await stage.observe()
        await subscribe(socket, "a", kinds="committed")
        await subscribe(socket, "b", kinds=["committed", "queue_changed"])
        for session in "ab":
            await work(stage, session, "word")
        assert set(names(of(socket, "a"))) == {"observation", "caught_up", "committed"}
        assert set(names(of(socket, "b"))) == {"observation", "caught_up", "committed", "queue_changed"}


async def test_messages_bounds_the_snapshot() -> None:
    async with playing() as stage:
        await work(stage, "s", "one")
        socket = await stage.observe()
        await subscribe(socket, "s", messages=1)
        assert len(socket.frames[0]["observation"]["read_view"]["messages"]) == 1


async def test_unsubscribing_ends_the_frames_of_that_session_and_it_can_be_watched_again() -> None:
    async with playing(session_ids=("a", "b")) as stage:
        socket = await begun(stage, "websocket", "a", "b")
        await socket.say({"type": "unsubscribe", "session_id": "a"})
        assert stage.world.replay.subscribers("a") == 0
        await work(stage, "a", "unseen")
        await work(stage, "b", "seen")
        assert names(of(socket, "a")) == ["observation", "caught_up"]
        await subscribe(socket, "a", cursor=of(socket, "a")[0]["cursor"])
        assert names(of(socket, "a"))[2] == "resumed"
        assert_same_view(
            fold(of(socket, "a")[0]["observation"], [frame for frame in of(socket, "a") if frame["type"] == "event"]),
            await stage.view("a"),
        )


async def test_unsubscribing_while_the_session_is_read_is_heeded() -> None:
    async with playing(session_ids=("a",)) as stage:
        loading = stage.world.faults.hold("load_session")
        await stage.world.clock.run_for(400)
        await stage.world.kernel.sweep()
        socket = await begun(stage, "websocket", "a")
        await socket.say({"type": "unsubscribe", "session_id": "a"})
        loading.open()
        await settled()
        assert of(socket, "a") == []
        assert stage.world.replay.subscribers("a") == 0
        await subscribe(socket, "a")
        assert names(of(socket, "a")) == ["observation", "caught_up"]


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        ({"type": "subscribe", "session_id": "s"}, "already_subscribed", None),
        ({"type": "unsubscribe", "session_id": "other"}, "not_subscribed", None),
        ({"type": "subscribe", "session_id": "other", "cursor": "nonsense"}, "malformed_cursor", None),
        ({"type": "subscribe", "session_id": "other", "cursor": "sl1:1:0:1:s"}, "wrong_session_cursor", None),
        ({"type": "subscribe", "session_id": "other", "cursor": "x" * 300}, "malformed_cursor", None),
        ({"type": "subscribe", "session_id": "other", "kinds": "a b"}, "invalid_field", "kinds"),
        ({"type": "subscribe", "session_id": "other", "kinds": []}, "invalid_field", "kinds"),
        ({"type": "subscribe", "session_id": "no such id"}, "invalid_field", "session_id"),
        ({"type": "subscribe", "session_id": "*", "cursor": "now"}, "invalid_field", "cursor"),
    ],
)
async def test_what_is_wrong_with_one_subscription_is_answered_with_its_id_and_ends_nothing(
    frame: Json, code: str, field: str | None
) -> None:
    async with playing(session_ids=("s", "other")) as stage:
        socket = await begun(stage, "websocket", "s")
        await socket.say({**frame, "id": 7})
        error = socket.only("error")
        assert error["id"] == 7
        assert error["session_id"] == frame["session_id"]
        assert error["problem"]["code"] == code
        assert error["problem"].get("field") == field
        await work(stage, "s", "still here")
        assert names(of(socket, "s"))[-1] == "committed"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("nonsense", "malformed_json"),
        ("[]", "invalid_field"),
        (b"{}", "bad_frame"),
        ({"type": "subscribe"}, "invalid_field"),
        ({"type": "subscribe", "session_id": 7}, "invalid_field"),
        ({"type": "subscribe", "session_id": "s", "cursr": "now"}, "invalid_field"),
        ({"type": "subscribe", "session_id": "s", "messages": -1}, "invalid_field"),
        ({"type": "unsubscribe"}, "invalid_field"),
        ({"type": "observe"}, "bad_frame"),
    ],
)
async def test_a_frame_that_is_none_ends_the_socket(frame: Any, code: str) -> None:
    async with playing() as stage:
        socket = await stage.observe()
        await socket.say(frame)
        assert socket.only("error")["problem"]["code"] == code
        assert socket.close_code == 4400


async def test_a_bad_cursor_is_refused_before_any_store_is_asked() -> None:
    async with playing() as stage:
        socket = await stage.observe()
        stage.world.faults.calls.clear()
        for cursor in ("nonsense", "sl1:1:0:-1:s", f"sl1:1:0:{2**63}:s", "sl1:1:0:1:other"):
            await subscribe(socket, "s", cursor=cursor)
        answer = await stage.observe_stream({"sessions": {"s": "nonsense"}})
        assert answer.status == 400
        assert stage.world.faults.calls == []


async def test_more_sessions_than_a_stream_shows_are_refused() -> None:
    async with playing(session_ids=("a", "b", "c"), max_subscriptions=2) as stage:
        socket = await begun(stage, "websocket", "a", "b", "c")
        assert of(socket, "c")[0]["problem"]["code"] == "too_many_subscriptions"
        assert names(of(socket, "b")) == ["observation", "caught_up"]
        await socket.say({"type": "unsubscribe", "session_id": "a"})
        await subscribe(socket, "c")
        assert names(of(socket, "c"))[1:] == ["observation", "caught_up"]
        answer = await stage.observe_stream({"sessions": dict.fromkeys("abc")})
        assert (answer.status, answer.json["code"]) == (400, "too_many_subscriptions")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "sessions"),
        ({"sessions": {}}, "sessions"),
        ({"sessions": ["s"]}, "sessions"),
        ({"sessions": {"s": 7}}, "sessions.s"),
        ({"sessions": {"a b": None}}, "session_id"),
        ({"sessions": {"s": None}, "more": 1}, "more"),
        ({"sessions": {"s": None}, "messages": "all"}, "messages"),
    ],
)
async def test_a_body_that_cannot_be_meant_is_refused_by_name(body: Any, field: str) -> None:
    async with playing() as stage:
        answer = await stage.observe_stream(body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_field")
        assert answer.json["field"].startswith(field.split(".")[0])


async def test_pings_are_answered() -> None:
    async with playing() as stage:
        socket = await stage.observe()
        await socket.say({"type": "ping", "id": "x"})
        assert socket.frames == [{"type": "pong", "id": "x"}]


@both
async def test_a_client_that_leaves_leaves_nothing_behind(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "a", "b", "*")
        await client.vanish()
        assert stage.gateway.streams.count == 0
        assert [stage.world.replay.subscribers(session) for session in "ab"] == [0, 0]


# The list of sessions


@both
async def test_the_index_is_the_list_and_then_each_line_that_changes(transport: str) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        client = await begun(stage, transport, "*")
        [first] = client.frames
        assert (first["type"], first["session_id"]) == ("index", "*")
        listed = (await stage.world.kernel.list_sessions()).sessions
        assert [line["session_id"] for line in first["sessions"]] == [line.session_id for line in listed]
        await stage.world.kernel.create_session("c")
        await stage.world.clock.run_for(1)
        changed = client.frames[-1]
        assert (changed["type"], changed["session"]["session_id"]) == ("index_changed", "c")
        await stage.world.send("go", session_id="a")
        await stage.world.clock.run_for(1)
        assert client.frames[-1]["session"]["status"] == "running"
        await stage.puppet.ends()
        await stage.world.clock.run_for(1)
        last = client.frames[-1]["session"]
        assert (last["session_id"], last["status"], last["revision"], last["title"]) == ("a", "idle", 1, "go")
        await stage.delete("b")
        await stage.world.clock.run_for(1)
        assert client.frames[-1] == {"type": "index_changed", "session_id": "*", "removed": "b"}


async def test_changes_within_a_moment_are_one() -> None:
    async with playing(session_ids=("a",)) as stage:
        socket = await begun(stage, "websocket", "*")
        await stage.world.clock.run_for(1)
        for number in range(20):
            await work(stage, "a", f"{number}")
        await stage.world.clock.run_for(1)
        assert 1 <= len(socket.frames) - 1 <= 2
        assert socket.frames[-1]["session"]["revision"] == 20


async def test_who_could_not_be_told_for_long_gets_the_list_anew() -> None:
    async with playing() as stage:
        socket = await begun(stage, "websocket", "*")
        socket.line.stall()
        for number in range(300):
            await stage.world.kernel.create_session(f"n{number}")
            if number % 50 == 0:
                await stage.world.clock.run_for(1)
        await stage.world.clock.run_for(1)
        socket.line.resume()
        await stage.world.clock.run_for(1)
        lists = [frame for frame in socket.frames if frame["type"] == "index"]
        assert len(lists) == 2
        assert len(lists[1]["sessions"]) == 200, "the newest"


async def test_an_index_that_cannot_be_read_is_told_when_it_can() -> None:
    async with playing() as stage:
        stage.world.faults.fail_before("list_sessions", times=2)
        socket = await begun(stage, "websocket", "*")
        assert socket.frames == []
        await stage.world.clock.run_for(1)
        assert socket.types() == ["index"]
