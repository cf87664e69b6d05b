"""Consumers that do not read: what they cost, what they get when they read again, and when they are given up."""

from __future__ import annotations

import asyncio

import pytest

from sightline.stores.replay_memory import ReplayBounds
from sightline.testing.clock import settled
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.stage import Line, playing

pytestmark = [
    pytest.mark.usefixtures("way"),
    pytest.mark.anyio,
    pytest.mark.parametrize("transport", ["sse", "websocket"]),
]


async def test_who_reads_again_gets_a_gap_with_the_view_and_goes_on_from_there(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=10)) as stage:
        client = await stage.watch(transport)
        await stage.say("first ")
        client.line.stall()
        await stage.say(*(f"{number} " for number in range(30)))
        client.line.resume()
        await settled()
        view = await stage.view()
        gap = client.only("gap")
        before = client.frames[: client.frames.index(gap)]
        assert gap["gap"] == {
            "session_id": "s",
            "requested_cursor": [frame["cursor"] for frame in before][-1],
            "latest_cursor": view["cursor"],
            "latest_revision": view["revision"],
            "reason": "lagged",
        }
        assert gap["cursor"] == view["cursor"]
        assert gap["observation"] == view
        await stage.say("after")
        await stage.finish()
        after = client.frames[client.frames.index(gap) + 1 :]
        assert {frame["type"] for frame in after} == {"event"}
        assert_same_view(fold(gap["observation"], after), await stage.view())


async def test_who_reads_again_in_time_gets_everything(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=100)) as stage:
        client = await stage.watch(transport)
        client.line.stall()
        await stage.say(*(f"{number} " for number in range(30)))
        client.line.resume()
        await stage.finish()
        assert "gap" not in client.types()
        assert_same_view(fold(client.frames[0]["observation"], client.events()), await stage.view())


async def test_it_costs_at_most_its_buffer(transport: str) -> None:
    async with playing(buffer_bytes=10_000, bounds=ReplayBounds(max_bytes=50_000)) as stage:
        client = await stage.watch(transport)
        client.line.stall()
        await stage.say(*("x" * 1_000 for _ in range(200)))
        client.line.resume()
        await settled()
        place = client.types().index("gap")
        held = [frame for frame in client.frames[:place] if frame["type"] == "event"]
        assert sum(len(str(frame)) for frame in held) < 12_000
        assert client.only("gap")["observation"] == await stage.view()


async def test_nobody_else_waits_for_it(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=10)) as stage:
        stuck = await stage.watch(transport)
        stuck.line.stall()
        other = await stage.watch(transport)
        for number in range(30):
            await stage.say(f"{number} ")
            assert other.frames[-1]["data"]["event"]["text"] == f"{number} "
        await stage.finish()
        assert other.types()[-1] == "committed"
        assert stuck.types() == ["observation", "caught_up"]


async def test_after_30_seconds_without_progress_it_is_told_goodbye_and_cut_off_ten_seconds_later(
    transport: str,
) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        await stage.say("seen ")
        shown = client.cursor
        client.line.stall()
        await stage.say("unseen")
        await stage.world.clock.run_for(29.9)
        assert not client.over()
        assert "goodbye" not in client.types()
        await stage.world.clock.run_for(0.1)
        assert client.only("goodbye") == {
            "type": "goodbye",
            "session_id": "s",
            "cursor": shown,
            "reason": "slow_consumer",
            "code": 4502,
            "retry_after_ms": 0,
            "jitter_ms": 1000,
        }
        assert client.types()[-1] == "goodbye"
        assert client.line.cut_after == 10
        assert client.over()
        assert client.ending in ((4502, "slow_consumer"), None)
        assert (client.ending is None) is (transport == "sse")
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0


async def test_who_comes_back_after_that_goodbye_has_missed_nothing(transport: str) -> None:
    async with playing() as stage:
        first = await stage.watch(transport)
        await stage.say("one ")
        first.line.stall()
        await stage.say("two ", "three ")
        await stage.world.clock.run_for(30)
        second = await stage.watch(transport, f"cursor={first.frames[-1]['cursor']}")
        events = first.events() + second.events()
        assert [event["data"]["event"]["text"] for event in events[-3:]] == ["one ", "two ", "three "]
        assert_same_view(fold(first.frames[0]["observation"], events), await stage.view())


async def test_the_goodbye_in_the_middle_of_a_replay_stands_where_the_client_stopped(transport: str, way: str) -> None:
    async with playing() as stage:
        start = await stage.view()
        await stage.say(*(f"{number} " for number in range(30)))
        line = Line(stalls_after=5)
        first = await stage.watch(transport, f"cursor={start['cursor']}", line=line)
        await stage.say("more")
        await stage.world.clock.run_for(30)
        if (transport, way) == ("websocket", "asgi"):
            assert len(first.events()) == 3, "the handshake, the first frame, and three events"
        line.unblock()
        second = await stage.watch(transport, f"cursor={first.frames[-1]['cursor']}")
        events = first.events() + second.events()
        assert_same_view(fold(start, events), await stage.view())


async def test_slow_progress_is_progress(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_age=1_000)) as stage:
        client = await stage.watch(transport)
        client.line.stall()
        await stage.say("one")
        for _ in range(10):
            await stage.world.clock.run_for(29)
            client.line.unread -= 1_000
        assert not client.over()
        client.line.resume()
        await settled()
        assert client.types()[-1] == "turn_activity"
        assert client.line.cut_after is None


async def test_each_pause_is_measured_for_itself(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        for _ in range(3):
            client.line.stall()
            await stage.say("word ")
            await stage.world.clock.run_for(20)
            client.line.resume()
            await settled()
        assert len(client.events()) == 6
        assert not client.over()


async def test_a_goodbye_that_cannot_be_said_does_not_keep_the_stream_for_ever(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        client.line.stall()
        draining = asyncio.create_task(stage.gateway.streams.drain(0))
        await stage.world.clock.run_for(30)
        await draining
        assert client.over()
        assert stage.gateway.streams.count == 0
        assert client.line.cut_after == 10


async def test_heartbeats_that_cannot_be_said_do_not_pile_up(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport, "heartbeat=1")
        client.line.stall()
        await stage.world.clock.run_for(20)
        client.line.resume()
        await settled()
        assert client.types().count("heartbeat") <= 2


async def test_two_gaps_in_a_row_are_both_right(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=2)) as stage:
        client = await stage.watch(transport)
        for _ in range(2):
            client.line.stall()
            await stage.say(*"abcdef")
            client.line.resume()
            await settled()
        gaps = [place for place, name in enumerate(client.types()) if name == "gap"]
        assert len(gaps) == 2
        assert client.frames[gaps[1]]["observation"] == await stage.view()
        between = [frame for frame in client.frames[gaps[0] : gaps[1]] if frame["type"] == "event"]
        last = fold(client.frames[gaps[0]]["observation"], between)
        assert client.frames[gaps[1]]["gap"]["requested_cursor"] == last["cursor"]
