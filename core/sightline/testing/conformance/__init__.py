"""What the ports promise, as checks that a store author can run: plain functions, plain asserts, no test framework.

Each check is a sentence. A store check takes a new, empty store; a replay check takes a function that makes a live log.
With pytest: `@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)`.
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
    keys,
    leased_work,
    leases,
    payloads,
    queue_cancels,
    queue_claims,
    queue_enqueue,
    renewals,
    replay_log,
    replay_subscriptions,
    sessions,
)
from sightline.testing.conformance.logs import MakeLog

__all__ = ["REPLAY_CHECKS", "STORE_CHECKS", "ReplayCheck", "StoreCheck"]

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
    commands,
)
REPLAY_CHECKS: tuple[ReplayCheck, ...] = _checks_of(replay_log, replay_subscriptions)
