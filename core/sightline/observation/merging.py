"""Merging: who comes back to a stream of words gets sentences.

Adjacent text deltas of one correlation and one channel add up to the same when they come as one. That is all that may
be merged: nothing is reordered, nothing between two deltas is passed over, and a delta of another attempt, turn or
revision begins anew. What is merged stands where its last part stood: it has that one's id, time and cursor. So whoever
has seen it goes on behind all of its parts, and whoever stands between two parts gets only those that come after.

Merging is done when somebody reads, never to what is kept: a position in the middle stays a place to go on from.
Readers stand at different places, and each would make texts of its own of the same words. So runs are cut at every
`BLOCK`th position: behind the first cut all readers meet the same runs, and the first who needs one makes it for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from sightline.observation.activities import AssistantProseDelta, ReasoningDelta
from sightline.observation.entry import Entry
from sightline.observation.events import Event, TurnActivity

__all__ = ["BLOCK", "merge_entries", "merge_events"]

BLOCK = 64
"""Merged entries never reach beyond a multiple of this position."""

_T = TypeVar("_T")
_Key = tuple[object, ...]


def merge_events(events: Sequence[Event]) -> list[Event]:
    """The events with adjacent deltas joined. Folding them gives what folding the single ones gives."""
    merged: list[Event] = []
    for first, after in _runs(events, _key_of_event):
        run = events[first:after]
        merged.append(run[0] if len(run) == 1 else _joined_event(run))
    return merged


def merge_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Consecutive entries of a log with adjacent deltas joined, each up to the end of its block."""
    merged: list[Entry] = []
    index = 0
    while index < len(entries):
        first = entries[index]
        known = first.merged
        if known is not None and index + known[0] <= len(entries):
            merged.append(known[1] or first)
            index += known[0]
            continue
        after = _end_of_run(entries, index, _key_of_entry)
        joined = None if after - index == 1 else _joined_entry(entries[index:after])
        if after < len(entries) or entries[after - 1].position % BLOCK == 0:
            first.merged = (after - index, joined)  # nothing can be added to this run any more
        merged.append(joined or first)
        index = after
    return merged


def _runs(items: Sequence[_T], key_of: Callable[[_T], _Key | None]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    first = 0
    while first < len(items):
        after = _end_of_run(items, first, key_of)
        runs.append((first, after))
        first = after
    return runs


def _end_of_run(items: Sequence[_T], first: int, key_of: Callable[[_T], _Key | None]) -> int:
    """Index behind the items that belong together with the first."""
    key, after = key_of(items[first]), first + 1
    while key is not None and after < len(items) and key_of(items[after]) == key:
        after += 1
    return after


def _key_of_event(event: Event) -> _Key | None:
    """What two events have in common that may be joined; none for those that never may."""
    data = event.data
    if isinstance(data, TurnActivity) and isinstance(data.event, AssistantProseDelta | ReasoningDelta):
        return (event.session_id, event.revision, event.turn_id, data.correlation_id, type(data.event))
    return None


def _joined_event(run: Sequence[Event]) -> Event:
    last = run[-1]
    assert isinstance(last.data, TurnActivity)
    delta = structs.replace(last.data.event, text="".join(_text_of(event) for event in run))
    return structs.replace(last, data=structs.replace(last.data, event=delta))


def _text_of(event: Event) -> str:
    assert isinstance(event.data, TurnActivity)
    assert isinstance(event.data.event, AssistantProseDelta | ReasoningDelta)
    return event.data.event.text


class _Delta(Struct):
    type: str = ""
    text: Any = None


class _Activity(Struct):
    correlation_id: str
    event: _Delta


class _Sent(Struct):
    data: _Activity
    turn_id: str | UnsetType = UNSET


_DELTAS = frozenset({"assistant_prose_delta", "reasoning_delta"})
_DECODER = msgspec.json.Decoder(_Sent)
_ANY_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def _key_of_entry(entry: Entry) -> _Key | None:
    if entry.kind != "turn_activity":
        return None
    sent = _DECODER.decode(entry.payload)
    if sent.data.event.type not in _DELTAS:
        return None
    block = (entry.position - 1) // BLOCK
    return (block, entry.revision, sent.turn_id, sent.data.correlation_id, sent.data.event.type)


def _joined_entry(run: Sequence[Entry]) -> Entry:
    last = run[-1]
    # As it was sent, whatever else is in it.
    sent = _ANY_DECODER.decode(last.payload)
    sent["data"]["event"]["text"] = "".join(_DECODER.decode(entry.payload).data.event.text for entry in run)
    joined = Entry(last.position, last.cursor, last.revision, last.kind, _ENCODER.encode(sent))
    joined.published_at = last.published_at
    return joined
