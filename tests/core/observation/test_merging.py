"""Joining deltas: what may be joined, what never is, and where the joined one stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, structs

from sightline.observation.activities import AssistantProseDelta, ModelRequestStarted, ReasoningDelta
from sightline.observation.entry import Entry
from sightline.observation.events import Event, TurnActivity, from_wire
from sightline.observation.merging import BLOCK, merge_entries, merge_events

Delta = AssistantProseDelta | ReasoningDelta | ModelRequestStarted


def event(position: int, shown: Delta, correlation: str = "c", **fields: Any) -> Event:
    plain = Event(
        session_id="s",
        cursor=f"sl1:7:1:{position}:s",
        revision=1,
        turn_id="t",
        at_ms=position,
        kind="turn_activity",
        data=TurnActivity(id=f"a{position}", correlation_id=correlation, event=shown),
    )
    return structs.replace(plain, **fields)


def says(position: int, text: str, correlation: str = "c", **fields: Any) -> Event:
    return event(position, AssistantProseDelta(text=text), correlation, **fields)


def entry(event: Event) -> Entry:
    position = int(event.cursor.split(":")[3])
    return Entry(position, event.cursor, event.revision, event.kind, msgspec.json.encode(event))


def told(entries: list[Entry]) -> list[Event]:
    return [from_wire(msgspec.json.decode(one.payload)) for one in entries]


def test_what_is_joined_stands_where_its_last_part_stood() -> None:
    events = [says(1, "a"), says(2, "b"), says(3, "c")]
    [joined] = merge_events(events)
    assert joined == says(3, "abc")
    [kept] = merge_entries([entry(one) for one in events])
    assert (kept.position, kept.cursor, kept.revision, kept.kind) == (3, "sl1:7:1:3:s", 1, "turn_activity")
    assert told([kept]) == [joined]


def test_what_else_the_last_part_says_is_kept() -> None:
    raw = msgspec.to_builtins(says(2, "b"))
    raw["data"]["event"]["lang"] = "de"
    raw["trace"] = {"x": 1}
    last = Entry(2, "sl1:7:1:2:s", 1, "turn_activity", msgspec.json.encode(raw))
    [joined] = merge_entries([entry(says(1, "a")), last])
    raw["data"]["event"]["text"] = "ab"
    assert msgspec.json.decode(joined.payload) == raw


APART = {
    "another correlation": [says(1, "a"), says(2, "b", "d")],
    "another channel": [says(1, "a"), event(2, ReasoningDelta(text="b"))],
    "another turn": [says(1, "a"), says(2, "b", turn_id="t2")],
    "one of no turn": [says(1, "a"), says(2, "b", turn_id=UNSET)],
    "another revision": [says(1, "a"), says(2, "b", revision=2)],
    "something between": [says(1, "a"), event(2, ModelRequestStarted(protocol_iteration=1)), says(3, "b")],
    "a word of another between": [says(1, "a"), says(2, "x", "d"), says(3, "b")],
}


@pytest.mark.parametrize("events", APART.values(), ids=APART.keys())
def test_only_neighbours_that_belong_together_are_joined(events: list[Event]) -> None:
    assert merge_events(events) == events
    entries = [entry(one) for one in events]
    assert merge_entries(entries) == entries


def test_each_stretch_is_joined_for_itself_and_in_order() -> None:
    thought = event(3, ReasoningDelta(text="x"))
    events = [says(1, "a"), says(2, "b"), thought, says(4, "c"), says(5, "", "d"), says(6, "d", "d")]
    assert merge_events(events) == [says(2, "ab"), thought, says(4, "c"), says(6, "d", "d")]


def test_whoever_stands_between_two_parts_gets_those_that_come_after() -> None:
    entries = [entry(says(position, str(position))) for position in range(1, 7)]
    for position in range(6):
        [joined] = told(merge_entries(entries[position:]))
        assert joined == says(6, "".join(str(after) for after in range(position + 1, 7)))


def test_readers_from_different_places_share_what_is_joined_behind_the_first_cut() -> None:
    entries = [entry(says(position, "x")) for position in range(1, 3 * BLOCK + 10)]
    early, late = merge_entries(entries), merge_entries(entries[BLOCK // 2 :])
    assert [one.position for one in early] == [BLOCK, 2 * BLOCK, 3 * BLOCK, 3 * BLOCK + 9]
    assert [one.position for one in late] == [one.position for one in early]
    assert late[1] is early[1]
    assert late[2] is early[2]
    assert [len(one.data.event.text) for one in told(late)] == [BLOCK // 2, BLOCK, BLOCK, 9]  # type: ignore[union-attr]


def test_a_run_that_goes_on_is_joined_anew_with_what_came() -> None:
    entries = [entry(says(position, str(position))) for position in range(1, 4)]
    assert told(merge_entries(entries)) == [says(3, "123")]
    entries.append(entry(says(4, "4")))
    assert told(merge_entries(entries)) == [says(4, "1234")]
    entries.append(entry(event(5, ModelRequestStarted(protocol_iteration=1))))
    first = merge_entries(entries)
    assert merge_entries(entries)[0] is first[0]
    assert told(merge_entries(entries[:2])) == [says(2, "12")]
