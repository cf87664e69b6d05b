"""How a stream begins, whatever carries it: fresh, resumed, or with a gap."""

from __future__ import annotations

import pytest

from sightline.stores.replay_memory import ReplayBounds
from tests.gateway.stream.folding import assert_same_view, fold
from tests.gateway.stream.stage import Line, playing

pytestmark = [
    pytest.mark.usefixtures("way"),
    pytest.mark.anyio,
    pytest.mark.parametrize("transport", ["sse", "websocket"]),
]


async def test_a_fresh_start_shows_the_observation_and_is_caught_up_at_once(transport: str) -> None:
    async with playing() as stage:
        await stage.say("well ")
        client = await stage.watch(transport)
        view = await stage.view()
        assert client.frames == [
            {"type": "observation", "session_id": "s", "cursor": view["cursor"], "observation": view},
            {"type": "caught_up", "session_id": "s", "cursor": view["cursor"]},
        ]
        assert view["live"]["text"] == "well "


async def test_what_happens_later_follows_the_snapshot_and_adds_up_to_the_next_one(transport: str) -> None:
    async with playing() as stage:
        await stage.say("one ")
        client = await stage.watch(transport)
        for text in ("two ", "three"):
            await stage.say(text)
            view = await stage.view()
            assert client.cursor == view["cursor"]
            assert_same_view(fold(client.frames[0]["observation"], client.events()), view)
        await stage.finish()
        view = await stage.view()
        assert_same_view(fold(client.frames[0]["observation"], client.events()), view)
        assert view["live"] is None
        assert [message["content"] for message in view["read_view"]["messages"]] == ["go", "one two three"]
        assert client.types()[-3:] == ["queue_changed", "turn_activity", "committed"]


async def test_a_stream_that_resumes_shows_what_was_missed_and_then_says_that_it_has_caught_up(transport: str) -> None:
    async with playing() as stage:
        first = await stage.watch(transport)
        await stage.say("one ")
        await first.vanish()
        seen = first.cursor
        await stage.say("two ", "three ")
        client = await stage.watch(transport, f"cursor={seen}")
        await stage.say("four")
        assert client.frames[0] == {"type": "resumed", "session_id": "s", "cursor": seen}
        assert client.types()[1:] == ["turn_activity", "turn_activity", "caught_up", "turn_activity"]
        assert [frame["data"]["event"]["text"] for frame in client.events()] == ["two ", "three ", "four"]
        assert client.only("caught_up")["cursor"] == client.events()[1]["cursor"]
        whole = first.events() + client.events()
        assert_same_view(fold(first.frames[0]["observation"], whole), await stage.view())


async def test_what_happens_while_the_missed_is_being_shown_comes_after_caught_up(transport: str) -> None:
    async with playing() as stage:
        await stage.say("one ")
        cursor = (await stage.view())["cursor"]
        await stage.say("two ")
        line = Line(stalls_after=1 if transport == "websocket" else None)
        if transport == "sse":
            line.stall()
        client = await stage.watch(transport, f"cursor={cursor}", line=line)
        await stage.say("three ")
        line.resume()
        await stage.say("four")
        assert client.types() == ["resumed", "turn_activity", "caught_up", "turn_activity", "turn_activity"]
        assert client.only("caught_up")["cursor"] == client.events()[0]["cursor"]


async def test_a_stream_that_resumes_at_the_tail_is_caught_up_at_once(transport: str) -> None:
    async with playing() as stage:
        await stage.say("one")
        cursor = (await stage.view())["cursor"]
        client = await stage.watch(transport, f"cursor={cursor}")
        assert client.types() == ["resumed", "caught_up"]
        assert {frame["cursor"] for frame in client.frames} == {cursor}


async def test_now_begins_at_the_tail_without_a_snapshot(transport: str) -> None:
    async with playing() as stage:
        await stage.say("one ")
        cursor = (await stage.view())["cursor"]
        client = await stage.watch(transport, "cursor=now")
        await stage.say("two")
        assert client.types() == ["resumed", "caught_up", "turn_activity"]
        assert client.frames[0]["cursor"] == cursor
        assert client.frames[2]["data"]["event"]["text"] == "two"


async def test_the_header_goes_before_the_cursor_and_that_before_its_twin(transport: str) -> None:
    async with playing() as stage:
        cursors = [(await stage.view())["cursor"]]
        for text in ("one", "two", "three"):
            await stage.say(text)
            cursors.append((await stage.view())["cursor"])
        all_three = await stage.watch(
            transport, f"last_event_id={cursors[2]}&cursor={cursors[1]}", last_event_id=cursors[0]
        )
        without_header = await stage.watch(transport, f"last_event_id={cursors[2]}&cursor={cursors[1]}")
        the_twin_alone = await stage.watch(transport, f"last_event_id={cursors[2]}")
        empty_header = await stage.watch(transport, f"cursor={cursors[1]}", last_event_id="")
        clients = (all_three, without_header, the_twin_alone, empty_header)
        assert [client.frames[0]["cursor"] for client in clients] == [cursors[0], cursors[1], cursors[2], cursors[1]]


async def test_now_may_also_come_as_the_header(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport, last_event_id="now")
        assert client.types() == ["resumed", "caught_up"]


async def test_a_cursor_older_than_the_log_is_answered_with_a_gap_and_the_view(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=2)) as stage:
        old = (await stage.view())["cursor"]
        await stage.say("one ", "two ", "three ")
        client = await stage.watch(transport, f"cursor={old}")
        view = await stage.view()
        assert client.frames[0] == {
            "type": "gap",
            "session_id": "s",
            "cursor": view["cursor"],
            "gap": {
                "session_id": "s",
                "requested_cursor": old,
                "latest_cursor": view["cursor"],
                "latest_revision": view["revision"],
                "reason": "trimmed",
            },
            "observation": view,
        }
        await stage.say("four")
        assert client.types() == ["gap", "caught_up", "turn_activity"]
        assert_same_view(fold(client.frames[0]["observation"], client.events()), await stage.view())


@pytest.mark.parametrize("part", ["incarnation", "position", "revision"])
async def test_a_cursor_from_another_life_or_from_the_future_is_a_gap(transport: str, part: str) -> None:
    async with playing() as stage:
        await stage.say("one")
        prefix, incarnation, revision, position, session = (await stage.view())["cursor"].split(":")
        numbers = {"incarnation": int(incarnation), "revision": int(revision), "position": int(position)}
        numbers[part] += 1
        cursor = ":".join([prefix, *map(str, numbers.values()), session])
        client = await stage.watch(transport, f"cursor={cursor}")
        assert client.types() == ["gap", "caught_up"]
        assert client.frames[0]["gap"]["reason"] == "unavailable"
        assert client.frames[0]["gap"]["requested_cursor"] == cursor
        assert client.frames[0]["observation"] == await stage.view()


async def test_a_lost_range_is_a_gap_also_for_who_is_watching(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the log is full")

    async with playing() as stage:
        client = await stage.watch(transport)
        await stage.say("one ")
        seen = client.cursor
        with monkeypatch.context() as broken:
            broken.setattr(stage.world.replay, "publish", refuse)
            await stage.say("lost ")
        await stage.say("two")
        assert client.types().count("gap") == 1
        assert client.only("gap")["gap"]["reason"] == "unavailable"
        late = await stage.watch(transport, f"cursor={seen}")
        assert late.frames[0]["gap"]["reason"] == "unavailable"
        for watcher in (client, late):
            place = watcher.types().index("gap")
            after = [frame for frame in watcher.frames[place:] if frame["type"] == "event"]
            assert_same_view(fold(watcher.frames[place]["observation"], after), await stage.view())


async def test_caught_up_comes_once_per_subscription_also_when_a_gap_comes_later(transport: str) -> None:
    async with playing(bounds=ReplayBounds(max_events=2)) as stage:
        client = await stage.watch(transport)
        await stage.say("one ")
        client.line.stall()
        await stage.say("two ", "three ", "four ", "five ")
        client.line.resume()
        await stage.say("six ")
        assert client.types().count("gap") == 1
        assert client.types().count("caught_up") == 1


async def test_a_view_taken_in_the_middle_of_a_turn_goes_on_where_it_stands(transport: str) -> None:
    async with playing() as stage:
        first = await stage.watch(transport)
        for text in ("a ", "b ", "c "):
            await stage.say(text)
            late = await stage.watch(transport)
            snapshot = late.frames[0]["observation"]
            assert_same_view(fold(first.frames[0]["observation"], first.events()), snapshot)
            assert snapshot["live"]["text"].endswith(text)
        await stage.finish()
        for client in stage.clients:
            if client.types()[:1] == ["observation"]:
                view = fold(client.frames[0]["observation"], client.events())
                assert_same_view(view, await stage.view())


async def test_many_watchers_of_one_session_see_the_same_events(transport: str) -> None:
    async with playing() as stage:
        clients = [await stage.watch(transport) for _ in range(20)]
        await stage.say(*(f"{number} " for number in range(50)))
        await stage.finish()
        assert len(clients[0].events()) > 50
        for client in clients[1:]:
            assert client.frames == clients[0].frames


@pytest.mark.parametrize(("asked", "shown"), [("", 6), ("messages=3", 3), ("messages=0", 0), ("messages=100", 6)])
async def test_a_snapshot_brings_as_many_messages_as_were_asked_for(transport: str, asked: str, shown: int) -> None:
    async with playing(bounds=ReplayBounds(max_events=1)) as stage:
        old = (await stage.view())["cursor"]
        for text in ("one", "two", "three"):
            await stage.say(text)
            await stage.finish()
        fresh = await stage.watch(transport, asked)
        after_gap = await stage.watch(transport, f"cursor={old}&{asked}".rstrip("&"))
        for client in (fresh, after_gap):
            transcript = client.frames[0]["observation"]["read_view"]
            said = ["go", "one", "go", "two", "go", "three"]
            assert [message["content"] for message in transcript["messages"]] == said[len(said) - shown :]
            assert transcript["truncated"] == (shown < 6)


async def test_kinds_hide_other_events_but_not_the_control_frames(transport: str) -> None:
    async with playing() as stage:
        start = (await stage.view())["cursor"]
        await stage.say("one ")
        client = await stage.watch(transport, f"cursor={start}&kinds=committed,queue_changed")
        assert client.types() == ["resumed", "queue_changed", "queue_changed", "caught_up"]
        assert client.cursor == (await stage.view())["cursor"]
        await stage.say("two")
        await stage.finish()
        assert client.types()[4:] == ["queue_changed", "committed"]


async def test_a_watcher_whose_filter_hides_everything_is_woken_for_what_it_shows(transport: str) -> None:
    async with playing() as stage:
        client = await stage.watch(transport, "kinds=committed")
        await stage.say("one ")
        await stage.say("two ")
        await stage.say("three ")
        await stage.finish()
        assert client.types() == ["observation", "caught_up", "committed"]
