"""The pass: what it costs, whom it serves first, and what it survives."""

from __future__ import annotations

import asyncio

import pytest

from sightline.testing.clock import ManualClock, settled
from sightline_gateway.stream import channel, frames, hub, websocket
from sightline_gateway.stream.clockwork import Clockwork
from sightline_gateway.stream.frames import Frame
from tests.gateway.stream.serving import eventually
from tests.gateway.stream.stage import Stage, beneath, playing

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def on_lines() -> None:
    beneath.set(True)


def told(stage: Stage, text: str) -> list[bool]:
    return [text in str(client.frames[-1]) for client in stage.clients]


async def test_an_event_is_framed_once_whoever_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []

    def counted(shown: list[Frame]) -> bytes:
        rendered.append(len(shown))
        return frames.messages(shown)

    monkeypatch.setattr(websocket, "messages", counted)
    async with playing() as stage:
        for _ in range(100):
            await stage.socket()
        await stage.say("first ")
        rendered.clear()
        await stage.say("word ")
        assert rendered == [1]
        assert all(told(stage, "word "))


async def test_what_happens_in_one_turn_of_the_loop_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing() as stage:
        client = await stage.socket()
        await stage.say("first ")
        writes: list[bytes] = []
        write = client.beneath.write

        def noted(data: bytes) -> None:
            writes.append(data)
            write(data)

        monkeypatch.setattr(client.beneath, "write", noted)

        def burst(turn: object) -> None:
            for number in range(32):
                turn.text(f"{number} ")  # type: ignore[attr-defined]

        await stage.puppet.does(burst)
        assert len(writes) == 1
        assert len(client.events()) == len(set(map(str, client.events()))) >= 32


async def test_who_waits_has_no_task_and_no_timer() -> None:
    async with playing() as stage:
        before = len(asyncio.all_tasks())
        sockets = [await stage.socket() for _ in range(50)]
        await stage.world.clock.run_for(5)
        assert len(asyncio.all_tasks()) == before
        streams = [await stage.stream() for _ in range(50)]
        assert len(asyncio.all_tasks()) <= before + 1, "one that looks after all their times"
        assert stage.gateway.streams.count == len(sockets) + len(streams)


async def test_observers_of_other_sessions_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(session_ids=("a", "b")) as stage:
        other = await stage.socket(session="b")
        monkeypatch.setattr(other.beneath, "write", None)
        await stage.socket(session="a")
        await stage.world.send("go", session_id="a")
        await stage.puppet.says("word")
        await stage.puppet.ends()
        assert "word" in str(stage.clients[-1].frames)


async def test_a_herd_that_comes_back_does_not_hold_up_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_OWN_SECONDS", 0.0)
    async with playing() as stage:
        start = (await stage.view())["cursor"]
        await stage.say(*(f"{number} " for number in range(100)))
        there = await stage.socket()
        order: list[str] = []
        take = type(there).take

        def noted(self: object, piece: bytes) -> None:
            order.append("there" if self is there else "herd")
            take(self, piece)  # type: ignore[arg-type]

        monkeypatch.setattr(type(there), "take", noted)
        herd = [asyncio.create_task(stage.socket(f"cursor={start}")) for _ in range(20)]
        await eventually(lambda: order.count("herd") >= 200)
        await stage.puppet.does(lambda turn: turn.text("now"))
        await asyncio.gather(*herd)
        assert order.index("there") < len(order) - 200, "it was told between two of the herd, and not after all of them"
        assert "now" in str(there.frames[-1])


async def test_a_line_that_breaks_its_promise_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(data: bytes) -> None:
        raise OSError("a secret")

    async with playing() as stage:
        clients = [await stage.socket() for _ in range(3)]
        await stage.say("first ")
        monkeypatch.setattr(clients[1].beneath, "write", broken)
        await stage.say("word ")
        assert [client.frames[-1]["data"]["event"]["text"] for client in (clients[0], clients[2])] == ["word "] * 2
        assert clients[1].over()
        assert "a line failed" in caplog.text


async def test_a_pass_that_fails_leaves_no_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    event = frames.event
    failures = [ZeroDivisionError()]

    def once_broken(*facts: object) -> Frame:
        if failures:
            raise failures.pop()
        return event(*facts)  # type: ignore[arg-type]

    async with playing() as stage:
        client = await stage.socket()
        await stage.say("first ")
        monkeypatch.setattr(channel, "event", once_broken)
        await stage.say("word ", "and another")
        texts = [shown["data"]["event"].get("text") for shown in client.events() if shown["kind"] == "turn_activity"]
        assert texts[-3:] == ["first ", "word ", "and another"]


async def test_a_log_that_cannot_be_read_any_more_sends_all_away_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("the log is gone")

    async with playing(session_ids=("s", "t")) as stage:
        client, other = await stage.socket(), await stage.socket(session="t")
        await stage.say("first ")
        with monkeypatch.context() as trouble:
            trouble.setattr(type(stage.world.replay), "subscribe_after", broken)
            trouble.setattr(channel, "event", broken)
            await stage.say("word ")
        assert (client.only("goodbye")["reason"], client.close_code) == ("rotated", 4504)
        again = await stage.socket(f"cursor={client.only('goodbye')['cursor']}")
        assert [event["data"]["event"]["text"] for event in again.events()] == ["word "]
        await stage.puppet.ends()
        await stage.world.send("go", session_id="t")
        assert other.events(), "and nobody else has noticed"
        await stage.puppet.ends()


async def test_ten_thousand_subscriptions_on_one_socket_are_answered_and_nobody_notices() -> None:
    async with playing(max_subscriptions=1_000) as stage:
        other = await stage.socket()
        crowd = await stage.observe()
        for number in range(10_000):
            crowd._incoming.put_nowait(
                {"type": "websocket.receive", "text": f'{{"type":"subscribe","session_id":"n{number}","id":{number}}}'}
            )
        crowd.beneath.deliver()
        await stage.say("word ")
        assert "word " in str(other.frames[-1])
        await settled()
        codes = [frame["problem"]["code"] for frame in crowd.frames]
        assert len(codes) == 10_000
        assert set(codes) <= {"session_not_found", "too_many_subscriptions"}
        assert sorted(frame["id"] for frame in crowd.frames) == list(range(10_000))


async def test_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing() as stage:
        clients = [await stage.socket() for _ in range(3)]
        await stage.say("first ")
        counts = stage.gateway.hub.counts
        passes, writes = counts.deliveries, counts.writes
        await stage.say("word ")
        assert (counts.deliveries - passes, counts.writes - writes) == (1, 3)
        clients[0].line.stall()
        assert counts.stalls == 1
        await stage.world.clock.run_for(30)
        assert counts.slow_consumers == 1


# The clockwork


async def test_calls_come_in_the_order_of_their_times_and_no_task_is_left() -> None:
    clock = ManualClock()
    works = Clockwork(clock)
    called: list[str] = []
    before = asyncio.all_tasks()
    works.after(3.0, lambda: called.append("three"))
    works.after(1.0, lambda: called.append("one"))
    never = works.after(2.0, lambda: called.append("never"))
    works.cancel(never)

    def half_a_second_later() -> None:
        works.after(0.5, lambda: called.append("two and a half"))

    works.after(2.0, half_a_second_later)
    await clock.run_for(1.0)
    assert called == ["one"]
    await clock.run_for(5.0)
    assert called == ["one", "two and a half", "three"]
    await settled()
    assert asyncio.all_tasks() == before


async def test_what_was_cancelled_needs_no_task(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    works = Clockwork(clock)
    before = asyncio.all_tasks()
    timer = works.after(1.0, lambda: None)
    works.cancel(timer)
    works.cancel(timer)
    works.cancel(None)
    await settled()
    assert asyncio.all_tasks() == before

    def fails() -> None:
        raise ZeroDivisionError

    works.after(1.0, fails)
    works.after(1.0, lambda: None)
    await clock.run_for(2.0)
    assert "something that was due failed" in caplog.text
