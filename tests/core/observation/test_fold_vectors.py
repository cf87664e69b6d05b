"""The vectors that this fold and the browser's both pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sightline.observation.events import from_wire
from sightline.observation.fold import fold
from sightline.observation.model import Observation

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "fold.json").read_text(encoding="utf-8"))


def as_sent(observation: Observation) -> Any:
    return msgspec.json.decode(msgspec.json.encode(observation))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_events_lead_from_the_snapshot_to_the_expected_one(vector: dict[str, Any]) -> None:
    start = msgspec.convert(vector["snapshot"], Observation)
    assert as_sent(start) == vector["snapshot"], "the snapshot is one that a server could send"
    folded = fold(start, [from_wire(raw) for raw in vector["events"]])
    assert as_sent(folded) == vector["expect"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_folding_in_two_steps_is_folding_in_one(vector: dict[str, Any]) -> None:
    start = msgspec.convert(vector["snapshot"], Observation)
    events = [from_wire(raw) for raw in vector["events"]]
    for cut in range(len(events) + 1):
        halfway = msgspec.convert(as_sent(fold(start, events[:cut])), Observation)
        assert as_sent(fold(halfway, events[cut:])) == vector["expect"]


def test_no_two_vectors_have_one_name() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(names) == len(set(names))
