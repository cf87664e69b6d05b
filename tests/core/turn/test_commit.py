"""What makes two commits of a turn the same."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from sightline.observation.activities import Outcome
from sightline.queue.model import Completion
from sightline.session.model import Failure, Message, SessionLease, Tools, Usage, UsageFigures
from sightline.turn.commit import TurnCommit, stamp_hash

SPOKEN = Message(message_id="m", role="assistant", content="answer", at_ms=1, parts=[{"b": 1, "a": [None, 1.5]}])
HELD = Completion(session_id="s", claim_id="c", lease_token="l", batch_ids=("b1", "b2"))
LEASE = SessionLease(session_id="s", owner_id="o", lease_token="l", generation=1, expires_at_ms=9)
COMMIT = TurnCommit(
    session_id="s",
    turn_id="t",
    expected_revision=3,
    outcome=Outcome(status="failed", error=Failure("agent_error", "no")),
    messages=(SPOKEN,),
    usage=Usage(UsageFigures(requests=1), {"m": UsageFigures(requests=1)}),
    completions=(HELD,),
    title="title",
    now=7,
)


def spoken(**fields: Any) -> dict[str, Any]:
    return {"messages": (structs.replace(SPOKEN, **fields),)}


@pytest.mark.parametrize(
    "change",
    [
        {"expected_revision": 9},
        {"now": 99},
        {"title": "other"},
        {"charge": False},
        {"completions": (structs.replace(HELD, claim_id="other", lease_token="other"),)},
        spoken(message_id="other"),
        spoken(at_ms=99),
        spoken(parts=[{"a": [None, 1.5], "b": 1}]),
    ],
    ids=lambda change: ",".join(change),
)
def test_another_attempt_that_says_the_same_is_the_same(change: dict[str, Any]) -> None:
    assert stamp_hash(structs.replace(COMMIT, **change)) == stamp_hash(COMMIT)


@pytest.mark.parametrize(
    "change",
    [
        {"lease": LEASE},
        {"outcome": Outcome(status="completed")},
        {"outcome": Outcome(status="failed", error=Failure("agent_error", "other"))},
        {"messages": ()},
        {"messages": (SPOKEN, SPOKEN)},
        {"usage": Usage()},
        {"advances": False},
        {"reset": True},
        {"tools": Tools()},
        {"tools": Tools(generation=1)},
        {"completions": (structs.replace(HELD, batch_ids=("b1",)),)},
        spoken(content="other"),
        spoken(role="user"),
        spoken(parts=[{"b": 1, "a": [None, 2.5]}]),
    ],
    ids=lambda change: ",".join(change),
)
def test_an_attempt_that_says_something_else_is_another(change: dict[str, Any]) -> None:
    assert stamp_hash(structs.replace(COMMIT, **change)) != stamp_hash(COMMIT)
