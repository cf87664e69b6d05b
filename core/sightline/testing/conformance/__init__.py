"""What the ports promise, as checks for the authors of adapters: plain functions, plain asserts, no test framework.

Each check is a sentence, and its name is what an adapter that fails it does not do.

* `STORE_CHECKS` are for a store, the one database behind sessions, queue and commits. Each takes a new, empty store and
  is awaited.
* `REPLAY_CHECKS` are for a live log. Each takes a function that makes one (`MakeLog`): it is given a clock that moves
  when told, an incarnation and the bounds, and makes as many logs as it likes, each empty. A log that buffers has to
  answer from its buffer, as the port demands.

With pytest, for a log of yours:

    def mine(clock, incarnation, *, max_events=1_000, max_age=1_000.0, max_bytes=1_000_000):
        return MyReplayStore(clock, incarnation, max_events, max_age, max_bytes)

    @pytest.mark.parametrize("check", REPLAY_CHECKS, ids=lambda check: check.__name__)
    def test_a_live_log_promises(check):
        check(mine)

Without: `check_live_log(mine)` runs them all and raises the first AssertionError, `await check_store(make)` likewise
with a function that makes a new, empty store.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from sightline.kernel import KernelStore
from sightline.testing.conformance import (
    commands,
    commits,
    exact_claims,
    frames,
    journals,
    keys,
    leased_work,
    leases,
    payloads,
    process_grants,
    process_leases,
    process_logs,
    process_values,
    process_wakes,
    processes,
    queue_cancels,
    queue_claims,
    queue_enqueue,
    renewals,
    replay_log,
    replay_races,
    replay_subscriptions,
    requests,
    sessions,
    tasks,
)
from sightline.testing.conformance.logs import MakeLog

__all__ = ["REPLAY_CHECKS", "STORE_CHECKS", "MakeLog", "ReplayCheck", "StoreCheck", "check_live_log", "check_store"]

StoreCheck = Callable[[KernelStore], Awaitable[None]]
ReplayCheck = Callable[[MakeLog], None]


def _checks_of(*modules: ModuleType) -> tuple[Callable[..., Any], ...]:
    return tuple(
        found
        for module in modules
        for name, found in vars(module).items()
        if inspect.isfunction(found) and found.__module__ == module.__name__ and not name.startswith("_")
    )


STORE_CHECKS: tuple[StoreCheck, ...] = _checks_of(
    sessions,
    leases,
    queue_enqueue,
    keys,
    payloads,
    queue_claims,
    exact_claims,
    renewals,
    leased_work,
    queue_cancels,
    commits,
    frames,
    journals,
    requests,
    commands,
    processes,
    process_logs,
    process_values,
    process_leases,
    process_grants,
    process_wakes,
    tasks,
)
REPLAY_CHECKS: tuple[ReplayCheck, ...] = _checks_of(replay_log, replay_subscriptions, replay_races)


def check_live_log(make: MakeLog) -> None:
    """Run every check of live logs. Raises AssertionError where a promise is broken."""
    for check in REPLAY_CHECKS:
        check(make)


async def check_store(make: Callable[[], KernelStore]) -> None:
    """Run every check of stores, each on a store of its own, which is closed after it. Raises AssertionError."""
    for check in STORE_CHECKS:
        store = make()
        try:
            await check(store)
        finally:
            await store.close()
