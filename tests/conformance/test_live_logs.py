"""Every live log keeps the promises of the port."""

from __future__ import annotations

import pytest

from sightline.clock import Clock
from sightline.observation.replay import LiveReplayStore
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.conformance import REPLAY_CHECKS, ReplayCheck
from sightline.testing.conformance.logs import MakeLog


def memory(
    clock: Clock,
    incarnation: int,
    *,
    max_events: int = 1_000,
    max_age: float = 1_000.0,
    max_bytes: int = 1_000_000,
) -> LiveReplayStore:
    bounds = ReplayBounds(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
    return MemoryReplayStore(clock, incarnation, bounds)


@pytest.mark.parametrize("make", [memory], ids=lambda make: make.__name__)
@pytest.mark.parametrize("check", REPLAY_CHECKS, ids=lambda check: check.__name__)
def test_a_live_log_promises(make: MakeLog, check: ReplayCheck) -> None:
    check(make)
