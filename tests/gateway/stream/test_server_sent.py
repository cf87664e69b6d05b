"""Server-sent events, byte by byte."""

from __future__ import annotations

import json

import pytest

from tests.gateway.stream.stage import ServerSent, playing

pytestmark = [pytest.mark.usefixtures("way"), pytest.mark.anyio]

COMMENT = b": keep-alive\n\n"


async def test_the_answer_says_that_it_is_a_stream_and_not_to_be_held_up_or_changed() -> None:
    async with playing() as stage:
        stream = await stage.stream()
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert "content-length" not in stream.headers
        assert "content-encoding" not in stream.headers


async def test_the_opening_is_retry_and_the_first_frame_with_its_id() -> None:
    async with playing() as stage:
        stream = await stage.stream()
        view = await stage.view()
        cursor = view["cursor"]
        first, second, rest = stream.body.decode().split("\n\n")
        retry, event, identity, data = first.split("\n")
        assert [retry, event, identity] == ["retry: 2000", "event: observation", f"id: {cursor}"]
        assert json.loads(data.removeprefix("data: ")) == stream.frames[0]
        assert second == (
            f'event: caught_up\nid: {cursor}\ndata: {{"type":"caught_up","session_id":"s","cursor":"{cursor}"}}'
        )
        assert rest == ""


async def test_a_resumed_stream_opens_with_an_id_too() -> None:
    async with playing() as stage:
        cursor = (await stage.view())["cursor"]
        stream = await stage.stream(last_event_id=cursor)
        assert stream.sent[0] == ServerSent(
            event="resumed",
            id=cursor,
            data=f'{{"type":"resumed","session_id":"s","cursor":"{cursor}"}}',
            retry="2000",
        )


async def test_an_event_is_named_by_its_kind_carries_its_cursor_as_id_and_is_one_line_of_json() -> None:
    async with playing() as stage:
        stream = await stage.stream()
        before = len(stream.body)
        await stage.say("two\nlines and a “quote”\r\n\u2028")
        text = stream.body[before:].decode()
        names = [event.event for event in stream.sent[2:]]
        assert names == ["queue_changed", "queue_changed", "turn_activity", "turn_activity"]
        for block, event in zip(text.split("\n\n")[:-1], stream.sent[2:], strict=True):
            assert event.data is not None
            frame = json.loads(event.data)
            assert frame["type"] == "event"
            assert frame["kind"] == event.event
            assert frame["cursor"] == event.id
            assert block == f"event: {event.event}\nid: {event.id}\ndata: {event.data}"
        assert frame["data"]["event"]["text"] == "two\nlines and a “quote”\r\n\u2028"


async def test_every_event_and_control_frame_has_an_id_so_that_a_browser_resumes_behind_it() -> None:
    async with playing() as stage:
        stream = await stage.stream("heartbeat=1")
        await stage.say("one")
        await stage.world.clock.run_for(1)
        assert {event.event for event in stream.sent} >= {"observation", "caught_up", "turn_activity", "heartbeat"}
        assert [event.id for event in stream.sent] == [frame["cursor"] for frame in stream.frames]


async def test_quiet_is_broken_by_a_comment_every_15_seconds() -> None:
    async with playing() as stage:
        stream = await stage.stream()
        opening = stream.body
        await stage.world.clock.run_for(14.9)
        assert stream.body == opening
        await stage.world.clock.run_for(0.1)
        assert stream.body == opening + COMMENT
        await stage.world.clock.run_for(30)
        assert stream.body == opening + 3 * COMMENT


async def test_what_is_said_counts_from_the_last_word() -> None:
    async with playing() as stage:
        stream = await stage.stream()
        await stage.world.clock.run_for(10)
        await stage.say("one")
        said = stream.body
        await stage.world.clock.run_for(14.9)
        assert stream.body == said
        # Within a sixty-fourth of the time after it: comments go out in groups.
        await stage.world.clock.run_for(0.1 + 15 / 64)
        assert stream.body == said + COMMENT


async def test_heartbeats_come_as_frames_when_they_were_asked_for() -> None:
    async with playing() as stage:
        stream = await stage.stream("heartbeat=2.5")
        await stage.say("one")
        cursor = (await stage.view())["cursor"]
        before = len(stream.body)
        await stage.world.clock.run_for(5)
        beat = f'event: heartbeat\nid: {cursor}\ndata: {{"type":"heartbeat","session_id":"s","cursor":"{cursor}"}}\n\n'
        assert stream.body[before:].decode() == 2 * beat


async def test_a_filter_hides_events_from_the_ids_but_the_heartbeat_shows_how_far_the_stream_is() -> None:
    async with playing() as stage:
        stream = await stage.stream("kinds=committed&heartbeat=1")
        await stage.say("one")
        await stage.world.clock.run_for(1)
        assert stream.types() == ["observation", "caught_up", "heartbeat"]
        assert stream.cursor == (await stage.view())["cursor"]


async def test_a_stream_rotates_after_ten_minutes_give_or_take_a_fifth() -> None:
    async with playing() as stage:
        streams = [await stage.stream() for _ in range(20)]
        await stage.world.clock.run_for(479)
        assert not any(stream.complete for stream in streams)
        ended = set()
        for _ in range(24):
            await stage.world.clock.run_for(10.1)
            ended.add(sum(stream.complete for stream in streams))
        assert ended >= {20}
        assert len(ended) > 5, "they end one by one"
        cursor = (await stage.view())["cursor"]
        for stream in streams:
            assert stream.only("goodbye") == {
                "type": "goodbye",
                "session_id": "s",
                "cursor": cursor,
                "reason": "rotated",
                "code": 4504,
                "retry_after_ms": 0,
                "jitter_ms": 1000,
            }
            assert stream.types()[-1] == "goodbye"


async def test_rotation_does_not_wait_for_quiet() -> None:
    async with playing() as stage:
        stream = await stage.stream("heartbeat=3600")
        for _ in range(80):
            await stage.say("word ")
            await stage.world.clock.run_for(9.5)
        assert stream.complete
        assert stream.types()[-1] == "goodbye"


async def test_a_failure_of_ours_is_logged_and_left_to_the_server_which_cuts_the_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with playing() as stage:
        stream = await stage.stream()

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        for room in ("channel", "feed"):
            monkeypatch.setattr(f"sightline_gateway.stream.{room}.event", broken)
        await stage.say("one")
        await stream.task
        assert "ZeroDivisionError" in caplog.text
        assert not stream.complete
        assert stage.gateway.streams.count == 0
        stage.clients.clear()
