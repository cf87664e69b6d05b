"""What a follower takes, and that it takes nothing else: a soak is worth what its checks are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.soak.follower import Follower, frame_of

Json = dict[str, Any]


def cursor(place: int) -> str:
    return f"sl1:1:0:{place}:s"


def event(place: int, kind: str, **data: Any) -> Json:
    return {"type": "event", "session_id": "s", "cursor": cursor(place), "kind": kind, "data": data}


def activity(place: int, **fields: Any) -> Json:
    return event(place, "turn_activity", event=fields)


def started(place: int, count: int) -> Json:
    return activity(place, type="turn_started", input=[{"role": "user", "content": f"stream {count}"}])


def delta(place: int, number: int) -> Json:
    return activity(place, type="assistant_prose_delta", text=f"seq={number} t=5 ...")


def committed(place: int, count: int, said: int | None = None) -> Json:
    answer = "".join(f"seq={number} t=5 ..." for number in range(count if said is None else said))
    messages = [{"role": "user", "content": f"stream {count}"}, {"role": "assistant", "content": answer}]
    return event(place, "committed", outcome={"status": "completed"}, messages=messages)


def snapshot(place: int, *, text: str = "", messages: list[Json] | None = None, **fields: Any) -> Json:
    live = {"text": text, "input": [{"role": "user", "content": "stream 3"}]} if text else None
    transcript = {"messages": messages or [], "truncated": False}
    view = {"cursor": cursor(place), "live": live, "read_view": transcript}
    return {"type": "observation", "session_id": "s", "cursor": cursor(place), "observation": view} | fields


def gap(place: int, requested: int, **fields: Any) -> Json:
    facts = {"requested_cursor": cursor(requested), "latest_cursor": cursor(place), "reason": "lagged"}
    return snapshot(place, **fields) | {"type": "gap", "gap": facts}


def told(*frames: Json) -> Follower:
    follower = Follower()
    follower.connect()
    for frame in frames:
        follower.take(frame_of(msgspec.json.encode(frame)))
    return follower


BEGUN = (snapshot(0), started(1, 3), delta(2, 0), delta(3, 1))


@pytest.mark.parametrize(
    "frames",
    [
        (*BEGUN, delta(4, 2), committed(5, 3)),
        (*BEGUN, gap(9, 3, text="seq=0 t=5 seq=1 t=5 "), delta(10, 2), committed(11, 3)),
        (*BEGUN, activity(4, type="retracted"), started(5, 3), delta(6, 0)),
    ],
    ids=["a whole turn", "a gap in mid-turn", "a second attempt"],
)
def test_what_may_come_is_taken(frames: tuple[Json, ...]) -> None:
    assert told(*frames).cursor == frames[-1]["cursor"]


@pytest.mark.parametrize(
    "frames",
    [
        (*BEGUN, delta(5, 2)),
        (*BEGUN, delta(3, 2)),
        (*BEGUN, delta(4, 1)),
        (*BEGUN, delta(4, 3)),
        (*BEGUN, committed(4, 3)),
        (*BEGUN, delta(4, 2), committed(5, 3, said=2)),
        (*BEGUN, gap(9, 2)),
        (*BEGUN, gap(9, 3, text="seq=0 t=5 seq=2 t=5 ")),
        (*BEGUN, snapshot(4)),
        (*BEGUN, {"type": "caught_up", "session_id": "s", "cursor": cursor(2)}),
        (delta(1, 0),),
        (snapshot(0, messages=committed(0, 3, said=2)["data"]["messages"]),),
    ],
    ids=[
        "an event is missing",
        "an event comes twice",
        "a delta comes twice",
        "a delta is missing",
        "a turn ends too early",
        "an answer is not whole",
        "a gap from elsewhere",
        "a snapshot with a hole",
        "a snapshot that nobody asked for",
        "caught up with something else",
        "an event before everything",
        "a transcript that is not whole",
    ],
)
def test_what_may_not_come_is_noticed(frames: tuple[Json, ...]) -> None:
    told(*frames[:-1])
    with pytest.raises(AssertionError):
        told(*frames)


def test_a_stream_goes_on_only_from_where_it_was() -> None:
    follower = told(*BEGUN)
    follower.connect()
    with pytest.raises(AssertionError):
        follower.take(frame_of(msgspec.json.encode({"type": "resumed", "session_id": "s", "cursor": cursor(2)})))
