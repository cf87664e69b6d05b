"""Frames from another process: what agrees with the wire is taken, what is new is let pass, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from sightline.errors import InvalidFrame
from sightline.observation.events import Event, UnknownData
from sightline.observation.opening import Gap
from sightline.observation.remote import (
    CaughtUpFrame,
    GapFrame,
    GoodbyeFrame,
    HeartbeatFrame,
    ObservationFrame,
    OtherFrame,
    ResumedFrame,
    check_frame,
    parse_frame,
)
from tests.core.observation.histories import beginning
from tests.core.observation.test_events import DATA, event, name_of
from tests.core.observation.test_fold import queue_change, summary

CURSOR = beginning.cursor
VIEW = msgspec.json.decode(msgspec.json.encode(beginning))
GAP: dict[str, Any] = {
    "session_id": "s",
    "requested_cursor": "sl1:6:0:3:s",
    "latest_cursor": CURSOR,
    "latest_revision": 1,
    "reason": "unavailable",
}
OBSERVATION = {"type": "observation", "session_id": "s", "cursor": CURSOR, "observation": VIEW}
GAPPED = {"type": "gap", "session_id": "s", "cursor": CURSOR, "gap": GAP, "observation": VIEW}
QUEUE = msgspec.json.decode(msgspec.json.encode(event(queue_change(summary(1), summary(2)))))
FRAMES: list[tuple[type, dict[str, Any]]] = [
    (ObservationFrame, OBSERVATION),
    (GapFrame, GAPPED),
    (ResumedFrame, {"type": "resumed", "session_id": "s", "cursor": CURSOR}),
    (CaughtUpFrame, {"type": "caught_up", "session_id": "s", "cursor": CURSOR}),
    (GoodbyeFrame, {"type": "goodbye", "session_id": "s", "cursor": CURSOR, "reason": "draining", "code": 4503}),
    (HeartbeatFrame, {"type": "heartbeat", "session_id": "s", "cursor": CURSOR}),
    (Event, QUEUE),
    (OtherFrame, {"type": "pong", "id": 7}),
]


def wrong(frame: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The frame with one thing in it replaced."""
    changed = copy.deepcopy(frame)
    part: Any = changed
    *way, last = path.split(".")
    for step in way:
        part = part[int(step)] if step.isdigit() else part[step]
    part[last] = value
    return changed


@pytest.mark.parametrize(("kind", "frame"), FRAMES, ids=[kind.__name__ for kind, _ in FRAMES])
def test_a_frame_of_the_wire_is_taken(kind: type, frame: dict[str, Any]) -> None:
    assert isinstance(parse_frame(msgspec.json.encode(frame)), kind)
    assert isinstance(parse_frame(msgspec.json.encode(frame).decode(), "s"), kind)
    assert isinstance(check_frame({**frame, "new_field": 1, "protocol_version": 1}), kind)


@pytest.mark.parametrize("data", DATA, ids=name_of)
def test_every_event_a_server_sends_is_taken(data: Any) -> None:
    sent = event(data)
    assert parse_frame(msgspec.json.encode(sent)) == sent


def test_what_is_in_a_frame_comes_as_what_it_is() -> None:
    taken = check_frame(GAPPED)
    assert isinstance(taken, GapFrame)
    assert (taken.gap, taken.observation) == (Gap(**GAP), beginning)


def test_what_is_new_is_let_pass() -> None:
    assert check_frame({"type": "constellation", "stars": 7}) == OtherFrame("constellation")
    taken = check_frame({**QUEUE, "kind": "constellation_changed", "data": {"stars": 7}})
    assert isinstance(taken, Event)
    assert taken.data == UnknownData()


@pytest.mark.parametrize(
    ("frame", "where"),
    [(OBSERVATION, ""), (OBSERVATION, "observation"), (GAPPED, "gap"), (GAPPED, "observation"), (QUEUE, "data")],
)
@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_wherever_it_is_named(frame: dict[str, Any], where: str, version: Any) -> None:
    part = f"{where}.protocol_version".removeprefix(".")
    with pytest.raises(InvalidFrame) as refused:
        check_frame(wrong(frame, part, version))
    assert refused.value.field == part


BLANK: list[tuple[dict[str, Any], str]] = [
    (OBSERVATION, "type"),
    (OBSERVATION, "session_id"),
    (OBSERVATION, "cursor"),
    (GAPPED, "gap.requested_cursor"),
    (GAPPED, "gap.reason"),
    (QUEUE, "kind"),
    (QUEUE, "data.batches.0.batch_id"),
    ({**QUEUE, "turn_id": "t"}, "turn_id"),
    (FRAMES[4][1], "reason"),
]


@pytest.mark.parametrize(("frame", "path"), BLANK, ids=[path for _, path in BLANK])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_an_id_or_a_cursor_that_says_nothing_is_refused(frame: dict[str, Any], path: str, blank: str) -> None:
    with pytest.raises(InvalidFrame):
        check_frame(wrong(frame, path, blank))


@pytest.mark.parametrize("field", ["id", "correlation_id"])
def test_an_activity_without_a_name_is_refused(field: str) -> None:
    raw = msgspec.json.decode(msgspec.json.encode(event(DATA[0])))
    with pytest.raises(InvalidFrame) as refused:
        check_frame(wrong(raw, f"data.{field}", " "))
    assert refused.value.field == f"data.{field}"


MISMATCHED: list[tuple[dict[str, Any], str, Any]] = [
    (OBSERVATION, "observation.session_id", "other"),
    (OBSERVATION, "observation.cursor", "sl1:7:1:9:s"),
    (GAPPED, "gap.session_id", "other"),
    (GAPPED, "gap.latest_cursor", "sl1:7:1:9:s"),
    (GAPPED, "gap.latest_revision", 9),
    (GAPPED, "observation.cursor", "sl1:7:1:9:s"),
    (QUEUE, "data.batch_ids", ["b1"]),
]


@pytest.mark.parametrize(("frame", "path", "value"), MISMATCHED, ids=[path for _, path, _ in MISMATCHED])
def test_a_part_of_another_session_or_moment_is_refused(frame: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(InvalidFrame) as refused:
        check_frame(wrong(frame, path, value))
    assert "contradicts" in refused.value.detail


def test_a_frame_of_another_session_than_the_one_watched_is_refused() -> None:
    for _, frame in FRAMES[:-1]:
        with pytest.raises(InvalidFrame):
            check_frame(frame, "other")


def test_a_commit_of_another_turn_than_its_event_is_refused() -> None:
    [commit] = [data for data in DATA if getattr(data, "reset", None) is True]
    raw = msgspec.json.decode(msgspec.json.encode(event(commit, turn_id="t")))
    check_frame(raw)
    with pytest.raises(InvalidFrame):
        check_frame({**raw, "turn_id": "another"})


@pytest.mark.parametrize("cursor", ["x" * 257, "sl1:7:1:0:s s", "sl1:7:1:0:ü", "a/b"])
def test_a_cursor_that_no_server_gives_out_is_refused(cursor: str) -> None:
    frame = {"type": "resumed", "session_id": "s", "cursor": cursor}
    with pytest.raises(InvalidFrame):
        check_frame(frame)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"7",
        b"\xff",
        b'{"type": 7}',
        b"{}",
        b'{"type": "resumed"}',
        b'{"type": "event", "session_id": "s"}',
        msgspec.json.encode({**QUEUE, "kind": "committed", "data": 5}),
        b'{"type": "observation", "session_id": "s", "cursor": "c", "observation": {}}',
        msgspec.json.encode(wrong(QUEUE, "revision", -1)),
        msgspec.json.encode(wrong(QUEUE, "data.batches", [5])),
    ],
)
def test_what_is_no_frame_is_refused_and_never_raises_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidFrame):
        parse_frame(data)
