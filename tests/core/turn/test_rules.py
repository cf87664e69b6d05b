"""Decisions about a turn."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET, structs

from sightline.observation.activities import Outcome
from sightline.queue.materializing import InputMessage, input_messages
from sightline.queue.model import Batch, BatchState, Claim
from sightline.queue.rules import new_batch
from sightline.session.model import Failure
from sightline.turn.rules import (
    GAVE_UP,
    assistant_message,
    batch_end,
    early_outcome,
    ended_batches,
    gave_up,
    user_messages,
)
from tests.core.worlds import draft

DONE = Outcome(status="completed")


def batch(text: str, **fields: Any) -> Batch:
    plain = new_batch(draft(text, key=f"host:{text}"), batch_id=text, enqueue_seq=1, now=5, cancelled=False)
    return structs.replace(plain, **fields)


def claim(*batches: Batch, attempt: int = 1, cancel_requested: str | None = None) -> Claim:
    return Claim(
        session_id="s",
        claim_id="c",
        owner_id="o",
        lease_token="l",
        fencing_token=1,
        claimed_at_epoch_ms=5,
        expires_at_epoch_ms=9,
        turn_id="t",
        attempt=attempt,
        batches=batches,
        cancel_requested=cancel_requested,
    )


def test_a_turn_runs_on_a_message_for_each_batch_that_says_something() -> None:
    assert input_messages([batch("a"), batch(""), batch("b")], {}) == (
        InputMessage(role="user", content="a", source_key="host:a"),
        InputMessage(role="user", content="b", source_key="host:b"),
    )


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_a_turn_is_run_as_often_as_it_may(attempt: int) -> None:
    assert early_outcome(claim(batch("a"), attempt=attempt), max_attempts=3) is None


def test_a_turn_whose_attempts_all_died_is_given_up() -> None:
    outcome = early_outcome(claim(batch("a"), attempt=4), max_attempts=3)
    assert outcome is not None
    assert (outcome.status, gave_up(outcome)) == ("failed", True)
    assert isinstance(outcome.error, Failure)
    assert outcome.error.code == GAVE_UP
    assert "3 attempts" in outcome.error.message


def test_a_turn_that_was_cancelled_before_this_attempt_is_cancelled_and_not_given_up() -> None:
    outcome = early_outcome(claim(batch("a"), attempt=9, cancel_requested="enough"), max_attempts=3)
    assert outcome == Outcome(status="cancelled", reason="enough")


def test_only_being_given_up_is_being_given_up() -> None:
    failed = Outcome(status="failed", error=Failure("agent_error", GAVE_UP))
    assert [gave_up(outcome) for outcome in (DONE, failed, Outcome(status="cancelled"))] == [False, False, False]


def test_input_becomes_history_with_its_origin() -> None:
    inputs = (InputMessage(role="user", content="a", source_key="host:a"), InputMessage(role="user", content="b"))
    first, second = user_messages(claim(batch("a")), inputs, ["m1", "m2"], at_ms=7)
    assert (first.message_id, first.content, first.origin, first.turn_id) == (
        "m1",
        "a",
        {"source_key": "host:a"},
        "t",
    )
    assert (second.message_id, second.origin, second.at_ms) == ("m2", UNSET, 7)


@pytest.mark.parametrize(
    ("outcome", "content", "status"),
    [
        (DONE, "answer", UNSET),
        (Outcome(status="cancelled"), "so far", "cancelled"),
        (Outcome(status="failed", error=Failure("x", "y")), "", "failed"),
    ],
)
def test_what_was_said_becomes_history_with_how_it_ended(outcome: Outcome, content: str, status: object) -> None:
    message = assistant_message(outcome, content=content, parts=[], message_id="m", turn_id="t", at_ms=7)
    assert message is not None
    assert (message.content, message.status, message.error, message.parts) == (content, status, outcome.error, UNSET)


def test_a_turn_that_ended_well_and_said_nothing_leaves_no_message() -> None:
    assert assistant_message(DONE, content="", parts=[], message_id="m", turn_id="t", at_ms=7) is None
    parts = [{"type": "reasoning", "text": "hm"}]
    message = assistant_message(DONE, content="", parts=parts, message_id="m", turn_id="t", at_ms=7)
    assert message is not None
    assert message.parts == parts


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("completed", BatchState.COMPLETED),
        ("cancelled", BatchState.CANCELLED),
        ("failed", BatchState.FAILED),
    ],
)
def test_the_outcome_decides_how_the_work_ends(status: Any, state: BatchState) -> None:
    outcome = Outcome(status=status, error=Failure("x", "y") if status == "failed" else UNSET)
    assert batch_end(outcome) is state
    [ended] = ended_batches([claim(batch("a", attempts=2))], outcome, charge=True, waited=False)
    assert (ended.state, ended.turn_id, ended.attempts, ended.error) == (state, "t", 2, outcome.error)


def test_an_attempt_that_did_not_run_is_not_counted() -> None:
    [ended] = ended_batches([claim(batch("a", attempts=4))], DONE, charge=False, waited=False)
    assert ended.attempts == 3


def test_of_a_turn_that_waited_for_an_answer_only_the_attempt_is_counted_that_ended_it() -> None:
    ended = ended_batches([claim(batch("a", attempts=3), batch("b", attempts=1))], DONE, charge=True, waited=True)
    assert [batch.attempts for batch in ended] == [1, 1]
