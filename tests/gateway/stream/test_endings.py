"""How a stream ends: with a goodbye that says why and when to come back, or because the client left."""

from __future__ import annotations

import asyncio

import pytest

from sightline.kernel import Limits
from sightline.stores.replay_memory import ReplayBounds
from sightline.testing.clock import settled
from sightline_gateway.stream.streams import Streams
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.stage import Exchange, Line, Socket, Stage, playing

pytestmark = [
    pytest.mark.usefixtures("way"),
    pytest.mark.anyio,
    pytest.mark.parametrize("transport", ["sse", "websocket"]),
]


def assert_ended(client: Exchange | Socket, code: int) -> None:
    assert client.types()[-1] == "goodbye"
    assert client.frames[-1]["code"] == code
    assert client.over()
    if isinstance(client, Socket):
        assert client.close_code == code
        assert client.close_reason == client.frames[-1]["reason"]
    else:
        assert client.complete


async def drained(stage: Stage, window: float = 20.0) -> None:
    draining = asyncio.create_task(stage.gateway.streams.drain(window))
    await stage.world.clock.run_for(window + 2)
    await draining


async def test_a_deleted_session_says_goodbye_with_4410(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        await stage.say("one")
        cursor = client.cursor
        await stage.delete()
        goodbye = client.only("goodbye")
        assert goodbye == {
            "type": "goodbye",
            "session_id": "s",
            "cursor": cursor,
            "reason": "session_deleted",
            "code": 4410,
        }
        assert_ended(client, 4410)


async def test_a_drain_says_goodbye_with_4503_and_when_to_come_back(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        await stage.say("one")
        await drained(stage)
        assert client.only("goodbye") == {
            "type": "goodbye",
            "session_id": "s",
            "cursor": (await stage.view())["cursor"],
            "reason": "draining",
            "code": 4503,
            "retry_after_ms": 1000,
            "jitter_ms": 250,
        }
        assert_ended(client, 4503)


async def test_goodbyes_of_a_drain_are_spread_over_time_and_the_jitter_grows_with_the_herd(transport: str) -> None:
    async with playing() as stage:
        clients = [await stage.watch(transport) for _ in range(100)]
        draining = asyncio.create_task(stage.gateway.streams.drain(20))
        ended = []
        for _ in range(5):
            await stage.world.clock.run_for(0.1)
            ended.append(sum(client.over() for client in clients))
        assert ended == sorted(set(ended))
        assert ended[0] < 40
        await stage.world.clock.run_for(1)
        await draining
        for client in clients:
            assert_ended(client, 4503)
            assert client.frames[-1]["jitter_ms"] == 500


async def test_a_drain_does_not_take_longer_than_its_window_and_a_second(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        client.line.stall()
        await stage.say("one")
        began = stage.world.clock.monotonic()
        draining = asyncio.create_task(stage.gateway.streams.drain(0.01))
        await stage.world.clock.run_for(1.01)
        assert draining.done()
        assert stage.world.clock.monotonic() - began < 1.1
        assert "goodbye" not in client.types()


async def test_a_goodbye_comes_after_the_snapshot_that_its_cursor_belongs_to(transport: str) -> None:
    async with playing() as stage:
        loading = stage.world.faults.hold("load_session")
        await stage.world.clock.run_for(400)
        await stage.world.kernel.sweep()
        client = await stage.watch(transport)
        assert client.frames == []
        draining = asyncio.create_task(stage.gateway.streams.drain(0))
        await settled()
        loading.open()
        await settled()
        assert client.types() == ["observation", "goodbye"]
        assert client.frames[1]["cursor"] == client.frames[0]["cursor"]
        assert_ended(client, 4503)
        await stage.world.clock.run_for(2)
        await draining


async def test_a_goodbye_in_the_middle_of_a_gap_comes_after_it(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=2), limits=Limits(keep_messages=2)) as stage:
        for _ in range(3):
            await stage.say("x")
            await stage.finish()
        client = await stage.watch(transport, "messages=100")
        client.line.stall()
        await stage.say(*"abcdef")
        older = stage.world.faults.hold("page_messages")
        client.line.resume()
        await settled()
        await older.reached.wait()
        draining = asyncio.create_task(stage.gateway.streams.drain(0))
        await settled()
        older.open()
        await stage.world.clock.run_for(2)
        await draining
        assert client.types()[-2:] == ["gap", "goodbye"]
        assert client.frames[-1]["cursor"] == client.frames[-2]["cursor"]
        assert len(client.frames[-2]["observation"]["read_view"]["messages"]) == 6


async def test_who_comes_back_with_the_goodbyes_cursor_misses_nothing(transport: str) -> None:
    async with playing() as stage:
        first = await stage.watch(transport)
        await stage.say("one ", "two ")
        await drained(stage)
        stage.gateway.streams = Streams(100, stage.world.clock)
        await stage.say("three ")
        second = await stage.watch(transport, f"cursor={first.frames[-1]['cursor']}")
        await stage.say("four")
        events = first.events() + second.events()
        assert second.types()[0] == "resumed"
        assert_same_view(fold(first.frames[0]["observation"], events), await stage.view())


async def test_the_first_reason_to_end_is_the_one_that_is_told(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        client.line.stall()
        await stage.say("one")
        draining = asyncio.create_task(stage.gateway.streams.drain(0))
        await settled()
        await stage.delete()
        client.line.resume()
        await stage.world.clock.run_for(2)
        await draining
        assert client.only("goodbye")["reason"] == "draining"


async def test_a_session_that_nobody_watches_any_more_is_let_go(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        await stage.world.clock.run_for(400)
        calls = stage.world.faults.calls
        calls.clear()
        await stage.view()
        assert "load_session" not in calls
        await client.vanish()
        await stage.world.clock.run_for(30)
        await stage.view()
        assert "load_session" in calls


async def test_a_client_that_leaves_leaves_nothing_behind(transport: str) -> None:
    async with playing() as stage:
        before = asyncio.all_tasks()
        client = await stage.watch(transport, "heartbeat=5")
        await stage.say("one")
        assert stage.gateway.streams.count == 1
        assert stage.world.replay.subscribers("s") == 1
        await client.vanish()
        assert client.over()
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0
        await stage.finish()
        assert asyncio.all_tasks() <= before


async def test_a_client_that_leaves_while_it_is_written_to_leaves_nothing_behind(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        client.line.stall()
        await stage.say("one ", "two")
        await client.vanish()
        assert client.over()
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0


async def test_a_client_that_leaves_while_its_session_is_loaded_leaves_nothing_behind(transport: str) -> None:
    async with playing() as stage:
        loading = stage.world.faults.hold("load_session")
        await stage.world.clock.run_for(400)
        await stage.world.kernel.sweep()
        client = await stage.watch(transport)
        await client.vanish()
        loading.open()
        await settled()
        assert client.over()
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0


async def test_a_request_that_is_cancelled_leaves_nothing_behind(transport: str, way: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport)
        if way == "line":
            assert client.task.done(), "the stream owns its connection, and the request is over"
            await client.vanish()
        late = Line()
        late.stall()
        stuck = await stage.watch(transport, line=late)
        for one in (client, stuck):
            one.task.cancel()
            await asyncio.gather(one.task, return_exceptions=True)
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0
        stage.clients.clear()


async def test_a_session_deleted_while_its_snapshot_is_fetched_says_goodbye(transport: str) -> None:
    async with playing(limits=Limits(keep_messages=2)) as stage:
        for _ in range(3):
            await stage.say("x")
            await stage.finish()
        older = stage.world.faults.hold("page_messages")
        client = await stage.watch(transport, "messages=100")
        await older.reached.wait()
        await stage.delete()
        older.open()
        await settled()
        assert client.types() == ["goodbye"]
        assert_ended(client, 4410)


async def test_a_store_that_stays_away_costs_a_snapshot_its_older_messages_and_nothing_else(transport: str) -> None:
    async with playing(limits=Limits(keep_messages=2)) as stage:
        for _ in range(3):
            await stage.say("x")
            await stage.finish()
        stage.world.faults.fail_before("page_messages", times=1)
        client = await stage.watch(transport, "messages=100")
        transcript = client.frames[0]["observation"]["read_view"]
        assert transcript["truncated"] is True
        assert len(transcript["messages"]) == 2
        await stage.say("y")
        assert_same_view(fold(client.frames[0]["observation"], client.events()), await stage.view())
