"""Catching up by plain requests: JSON, page by page, with a wait at the end of what there is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sightline.stores.replay_memory import ReplayBounds
from sightline.testing.clock import settled
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.stage import Exchange, Stage, playing

pytestmark = pytest.mark.anyio


def texts(answer: Exchange) -> list[str]:
    return [event["data"]["event"]["text"] for event in answer.json["events"]]


async def begun(stage: Stage) -> str:
    """A cursor behind which nothing but the agent's words will follow."""
    await stage.say("first ")
    return str((await stage.view())["cursor"])


async def test_without_a_cursor_it_brings_the_observation() -> None:
    async with playing() as stage:
        await stage.say("one")
        answer = await stage.catch_up()
        view = await stage.view()
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json == {"observation": view, "events": [], "cursor": view["cursor"], "up_to_date": True}


async def test_a_fresh_start_brings_as_many_messages_as_asked_for() -> None:
    async with playing() as stage:
        await stage.say("one")
        await stage.finish()
        transcript = (await stage.catch_up("messages=1")).json["observation"]["read_view"]
        assert [message["content"] for message in transcript["messages"]] == ["one"]
        assert transcript["truncated"]


async def test_with_a_cursor_it_brings_the_events_behind_it() -> None:
    async with playing() as stage:
        start = await stage.view()
        await stage.say("one ", "two")
        answer = await stage.catch_up(f"cursor={start['cursor']}")
        view = await stage.view()
        assert answer.json["cursor"] == view["cursor"] == answer.json["events"][-1]["cursor"]
        assert answer.json["up_to_date"] is True
        assert "observation" not in answer.json
        assert_same_view(fold(start, answer.json["events"]), view)


async def test_the_events_are_the_same_as_on_a_stream() -> None:
    async with playing() as stage:
        socket = await stage.socket()
        await stage.say("one ", "two")
        await stage.finish()
        answer = await stage.catch_up(f"cursor={socket.frames[0]['cursor']}")
        assert answer.json["events"] == socket.events()


async def test_nothing_new_is_an_empty_page_at_the_same_cursor() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}")
        assert answer.json == {"events": [], "cursor": cursor, "up_to_date": True}


async def test_pages_of_any_size_add_up() -> None:
    async with playing() as stage:
        start = await stage.view()
        await stage.say(*(f"{number} " for number in range(20)))
        await stage.finish()
        view, cursor, events, answered = await stage.view(), start["cursor"], [], []
        for _ in range(9):
            answer = (await stage.catch_up(f"cursor={cursor}&limit=3")).json
            assert len(answer["events"]) <= 3
            cursor = answer["cursor"]
            events += answer["events"]
            answered.append(answer["up_to_date"])
        assert answered == [False] * 8 + [True]
        assert cursor == view["cursor"]
        assert_same_view(fold(start, events), view)


async def test_a_page_that_ends_exactly_at_the_tail_is_up_to_date() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        await stage.say("one ", "two ")
        answer = await stage.catch_up(f"cursor={cursor}&limit=2")
        assert texts(answer) == ["one ", "two "]
        assert answer.json["up_to_date"] is True


async def test_a_page_is_bounded_in_bytes_too() -> None:
    async with playing(buffer_bytes=4096) as stage:
        cursor = await begun(stage)
        await stage.say(*(str(number) * 1500 for number in range(5)))
        answer = await stage.catch_up(f"cursor={cursor}")
        assert len(answer.json["events"]) == 2
        assert answer.json["up_to_date"] is False
        assert answer.json["cursor"] == answer.json["events"][-1]["cursor"]


async def test_the_header_counts_as_a_cursor_here_too() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        await stage.say("one")
        assert texts(await stage.catch_up("cursor=now", last_event_id=cursor)) == ["one"]


async def test_now_is_the_tail() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up("cursor=now")
        assert answer.json == {"events": [], "cursor": cursor, "up_to_date": True}


async def test_a_long_poll_is_answered_by_the_next_event() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}&wait=30")
        assert not answer.status
        await stage.world.clock.run_for(5)
        assert not answer.status
        await stage.say("one")
        assert texts(answer) == ["one"]
        assert answer.json["cursor"] == (await stage.view())["cursor"]


async def test_a_long_poll_from_the_tail_is_answered_by_the_next_event() -> None:
    async with playing() as stage:
        await begun(stage)
        answer = await stage.catch_up("cursor=now&wait=30")
        await stage.say("one")
        assert texts(answer) == ["one"]


async def test_a_long_poll_does_not_wait_when_there_is_something() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        await stage.say("one")
        assert texts(await stage.catch_up(f"cursor={cursor}&wait=30")) == ["one"]


async def test_a_long_poll_without_an_event_ends_empty_when_its_time_is_over() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}&wait=2.5")
        await stage.world.clock.run_for(2.4)
        assert not answer.status
        await stage.world.clock.run_for(0.1)
        assert answer.json == {"events": [], "cursor": cursor, "up_to_date": True}


async def test_a_long_poll_for_some_kinds_waits_for_one_of_them_and_moves_the_cursor() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        poll = f"cursor={cursor}&kinds=committed&wait=30"
        ended, late = await stage.catch_up(poll), await stage.catch_up(poll)
        await stage.say("one ", "two ")
        assert not ended.status
        await stage.settle(late)
        short = await stage.catch_up(f"cursor={cursor}&kinds=committed&wait=1")
        await stage.world.clock.run_for(1)
        assert short.json == {"events": [], "cursor": (await stage.view())["cursor"], "up_to_date": True}
        await stage.finish()
        assert [event["kind"] for event in ended.json["events"]] == ["committed"]
        assert ended.json["cursor"] == (await stage.view())["cursor"]


async def test_a_long_poll_whose_filter_hides_what_was_missed_is_woken_for_what_it_shows() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        await stage.say("one ", "two ")
        answer = await stage.catch_up(f"cursor={cursor}&kinds=committed&wait=30")
        assert not answer.status
        await stage.finish()
        assert [event["kind"] for event in answer.json["events"]] == ["committed"]


async def test_a_long_poll_on_a_session_that_is_deleted_is_answered_with_410() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}&wait=30")
        await stage.delete()
        await settled()
        assert answer.status == 410
        assert answer.json["code"] == "session_deleted"


async def test_a_long_poll_is_answered_by_a_drain() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}&wait=30")
        draining = asyncio.create_task(stage.gateway.streams.drain(20))
        await stage.world.clock.run_for(2)
        await draining
        assert answer.json == {"events": [], "cursor": cursor, "up_to_date": True}


async def test_a_cursor_that_is_gone_is_answered_with_410_the_gap_and_where_to_go_on() -> None:
    async with playing(bounds=ReplayBounds(max_events=2)) as stage:
        old = (await stage.view())["cursor"]
        await stage.say("one ", "two ", "three ")
        answer = await stage.catch_up(f"cursor={old}")
        view = await stage.view()
        assert answer.status == 410
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json
        assert problem["code"] == "cursor_gone"
        assert problem["retryable"] is False
        assert problem["gap"] == {
            "session_id": "s",
            "requested_cursor": old,
            "latest_cursor": view["cursor"],
            "latest_revision": view["revision"],
            "reason": "trimmed",
        }
        assert problem["observation"] == view
        await stage.say("four")
        assert texts(await stage.catch_up(f"cursor={problem['gap']['latest_cursor']}")) == ["four"]


async def test_a_gap_brings_as_many_messages_as_asked_for() -> None:
    async with playing(bounds=ReplayBounds(max_events=1)) as stage:
        old = (await stage.view())["cursor"]
        await stage.say("one ", "two ")
        await stage.finish()
        problem = (await stage.catch_up(f"cursor={old}&messages=1")).json
        assert len(problem["observation"]["read_view"]["messages"]) == 1


async def test_a_long_poll_that_meets_a_lost_range_is_answered_with_410() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}&wait=30")
        stage.world.replay.abandon(stage.world.replay.prepare("s", [0]))
        await settled()
        assert answer.status == 410
        assert answer.json["gap"]["reason"] == "unavailable"


async def test_a_client_that_leaves_during_a_long_poll_leaves_nothing_behind() -> None:
    async with playing() as stage:
        cursor = await begun(stage)
        answer = await stage.catch_up(f"cursor={cursor}&wait=30")
        assert stage.gateway.streams.count == 1
        assert stage.world.replay.subscribers("s") == 1
        await answer.vanish()
        assert answer.over()
        assert answer.status == 0
        assert stage.gateway.streams.count == 0
        assert stage.world.replay.subscribers("s") == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=10001", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%F0%9D%9F%AD", "limit"),
        ("wait=-1", "wait"),
        ("wait=61", "wait"),
        ("wait=nan", "wait"),
        ("wait=1e3", "wait"),
        ("messages=-1", "messages"),
        ("messages=99999999999999999999", "messages"),
        ("heartbeat=0", "heartbeat"),
        ("heartbeat=inf", "heartbeat"),
        ("kinds=", "kinds"),
        ("kinds=a,,b", "kinds"),
        ("kinds=a%20b", "kinds"),
        ("limit=1&limit=2", "limit"),
        ("after=3", "after"),
    ],
)
@pytest.mark.parametrize("transport", ["json", "sse", "websocket"])
async def test_a_parameter_that_cannot_be_meant_is_refused_by_name(query: str, field: str, transport: str) -> None:
    async with playing() as stage:
        if transport == "websocket":
            socket = await stage.socket(query)
            problem: Any = socket.only("error")["problem"]
            assert socket.close_code == 4400
        else:
            answer = await (stage.catch_up(query) if transport == "json" else stage.stream(query))
            problem = answer.json
            assert answer.status == 400
        assert problem["code"] == "invalid_field"
        assert problem["field"] == field
