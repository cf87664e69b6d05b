"""The fold law, over whatever a stream may hold: from wherever somebody begins, and however the deltas are joined, the
same state comes of it. In the browser's fold as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.observation.activities import Activity, UnknownActivity
from sightline.observation.cursor import parse
from sightline.observation.entry import Entry
from sightline.observation.events import KINDS, Data, Event, TurnActivity, UnknownData, from_wire
from sightline.observation.fold import Fold, fold
from sightline.observation.merging import merge_entries, merge_events
from sightline.observation.model import Observation, newest
from tests.core.observation.histories import activities, beginning, data, streams

JS = Path(__file__).parents[2] / "js" / "fold_histories.mjs"


def sent(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def received(view: Observation) -> Observation:
    """A snapshot as a client has it."""
    return msgspec.json.decode(msgspec.json.encode(view), type=Observation)


def entries_of(events: Sequence[Event]) -> list[Entry]:
    """The events as a log keeps them; an unknown kind carries what this version would not."""
    entries = []
    for event in events:
        raw = sent(event)
        if isinstance(event.data, UnknownData):
            raw["data"] = {"stars": 7}
        position = parse(event.cursor).position
        entries.append(Entry(position, event.cursor, event.revision, event.kind, msgspec.json.encode(raw)))
    return entries


def events_of(entries: Sequence[Entry]) -> list[Event]:
    return [from_wire(msgspec.json.decode(entry.payload)) for entry in entries]


@settings(max_examples=200, deadline=None)
@given(st.data(), streams(30))
def test_whoever_begins_in_the_middle_ends_where_everybody_ends(choose: st.DataObject, events: list[Event]) -> None:
    cut = choose.draw(st.integers(0, len(events)), label="cut")
    whole = fold(beginning, events)
    assert fold(received(fold(beginning, events[:cut])), events[cut:]) == whole
    for seen in events:
        kind = seen.data.event if isinstance(seen.data, TurnActivity) else seen.data
        note(type(kind).__name__)


@settings(max_examples=120, deadline=None)
@given(st.data(), streams(30))
def test_every_snapshot_on_the_way_is_the_one_that_the_server_has_there(
    choose: st.DataObject, events: list[Event]
) -> None:
    """Looking often, seldom or never changes nothing."""
    server, seldom = Fold(beginning), Fold(beginning)
    for seen in events:
        server.apply(seen)
        seldom.apply(seen)
        if choose.draw(st.booleans()):
            assert seldom.observation() == server.observation()
        assert received(server.observation()) == server.observation()
        assert server.observation().cursor == seen.cursor
    assert seldom.observation() == server.observation() == fold(beginning, events)


@settings(max_examples=120, deadline=None)
@given(st.data(), streams(30))
def test_joined_deltas_add_up_to_what_the_single_ones_do(choose: st.DataObject, events: list[Event]) -> None:
    """Whoever comes back gets what was missed with its deltas joined, and then what is live as it is."""
    cut = choose.draw(st.integers(0, len(events)), label="cut")
    live = choose.draw(st.integers(cut, len(events)), label="live from")
    start = received(fold(beginning, events[:cut]))
    missed = events_of(merge_entries(entries_of(events[cut:live])))
    assert fold(start, [*missed, *events[live:]]) == fold(beginning, events)
    assert fold(start, merge_events(events[cut:])) == fold(beginning, events)
    note(f"joined: {live - cut - len(missed) > 0}")


@settings(max_examples=120, deadline=None)
@given(st.data(), streams(30), st.integers(0, 3))
def test_a_server_that_keeps_the_newest_messages_agrees_on_all_it_has(
    choose: st.DataObject, events: list[Event], keep: int
) -> None:
    server = Fold(beginning, keep=keep)
    cut = choose.draw(st.integers(0, len(events)), label="cut")
    for seen in events[:cut]:
        server.apply(seen)
    client = Fold(received(newest(server.observation(), keep)))
    for seen in events[cut:]:
        server.apply(seen)
        client.apply(seen)
    mine, servers = client.observation(), server.observation()
    common = min(len(mine.read_view.messages), len(servers.read_view.messages))
    assert suffix(mine, common) == suffix(servers, common)
    assert common == min(keep, len(mine.read_view.messages))


def suffix(view: Observation, count: int) -> Observation:
    messages = view.read_view.messages
    cut = msgspec.structs.replace(view.read_view, messages=messages[len(messages) - count :], truncated=False)
    return msgspec.structs.replace(view, read_view=cut)


@pytest.fixture(scope="module")
def browser() -> Iterator[Callable[[Any, Any], Any]]:
    """The browser's fold, in one node for all histories: (snapshot, events) → snapshot."""
    node = shutil.which("node")
    if node is None:
        assert os.environ.get("CI") != "true", "node is needed here"
        pytest.skip("no node found")
    with subprocess.Popen([node, str(JS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        answers, questions = running.stdout, running.stdin
        assert answers is not None
        assert questions is not None

        def folded(snapshot: Any, events: Any) -> Any:
            questions.write(msgspec.json.encode({"snapshot": snapshot, "events": events}) + b"\n")
            questions.flush()
            return msgspec.json.decode(answers.readline())

        yield folded
        questions.close()


@settings(max_examples=150, deadline=None)
@given(st.data(), streams(30))
def test_the_browsers_fold_comes_to_the_same(
    browser: Callable[[Any, Any], Any], choose: st.DataObject, events: list[Event]
) -> None:
    """Whole, from a snapshot in the middle, and with its deltas joined."""
    expect = sent(fold(beginning, events))
    raw = [msgspec.json.decode(entry.payload) for entry in entries_of(events)]
    assert browser(sent(beginning), raw) == expect
    cut = choose.draw(st.integers(0, len(events)), label="cut")
    assert browser(sent(fold(beginning, events[:cut])), raw[cut:]) == expect
    joined = [msgspec.json.decode(entry.payload) for entry in merge_entries(entries_of(events))]
    assert browser(sent(beginning), joined) == expect


def test_every_kind_and_activity_of_the_wire_is_among_what_is_drawn() -> None:
    drawn: set[type] = set()

    @settings(max_examples=1_500, deadline=None, database=None, derandomize=True)
    @given(data, activities)
    def draw(shown: Data, activity: Activity | UnknownActivity) -> None:
        drawn.update((type(shown), type(activity)))

    draw()
    assert {*KINDS, UnknownData, *Activity.__args__, UnknownActivity} - drawn == set()
