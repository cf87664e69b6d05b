"""The table of the turn machine is complete: in every state, every input is refused as declared, or leads where the
table says.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest

from sightline.turn.conversation import ToolCallPart
from sightline.turn.effects import (
    Cancel,
    CheckpointDelivery,
    Input,
    ModelOutcome,
    ModelResult,
    Start,
    ToolResults,
)
from sightline.turn.machine import TABLE, Move, Refusal, RefusalReason, Step, step
from sightline.turn.states import Finished, Ready, State, WaitingTools
from tests.core.turn.conversations import call, result, text, user, wake, went, whole

LIMITED = Start(messages=(user("hello"), wake("w1", "first")), max_turns=1, context_window=100)
CALLS = ModelResult(effect_id=1, parts=(call("a"), call("b")))
ANSWERS = ToolResults(effect_id=2, results=(result("a"), result("b")))

STATES: dict[str, State] = {
    "ready": Ready(),
    "waiting_model": went(Start(messages=())).state,
    "waiting_model, limited": went(LIMITED).state,
    "waiting_model, final": went(LIMITED, CALLS, ANSWERS, CheckpointDelivery(effect_id=3)).state,
    "waiting_tools": went(LIMITED, CALLS).state,
    "waiting_tools, one answered": went(LIMITED, CALLS, ToolResults(effect_id=2, results=(result("b"),))).state,
    "waiting_checkpoint, after work": went(LIMITED, CALLS, ANSWERS).state,
    "waiting_checkpoint, before completion": went(LIMITED, ModelResult(effect_id=1, parts=(text("hi"),))).state,
    "finished": went(LIMITED, ModelResult(effect_id=1), CheckpointDelivery(effect_id=2)).state,
    "finished, unbegun": went(Cancel(reason="no")).state,
}


def inputs(effect_id: int) -> dict[str, Input]:
    """Every kind of input, as answers to one effect."""
    results: dict[str, Input] = {
        f"model_result, {outcome}, {len(parts)} parts": ModelResult(
            effect_id=effect_id, outcome=outcome, parts=parts, input_tokens=100
        )
        for outcome in get_args(ModelOutcome)
        for parts in ((), (text("hi"),), (text("hi"), call("a"), call("a")))
    }
    return results | {
        "start": LIMITED,
        "start, of nothing": Start(messages=()),
        "tool_results, none": ToolResults(effect_id=effect_id, results=()),
        "tool_results, some": ToolResults(effect_id=effect_id, results=(result("a"),)),
        "tool_results, all": ToolResults(effect_id=effect_id, results=(result("b"), result("a"))),
        "tool_results, one twice": ToolResults(effect_id=effect_id, results=(result("a"), result("a"))),
        "tool_results, unknown": ToolResults(effect_id=effect_id, results=(result("z"),)),
        "checkpoint_delivery, nothing": CheckpointDelivery(effect_id=effect_id),
        "checkpoint_delivery, known": CheckpointDelivery(effect_id=effect_id, messages=(wake("w1", "again"),)),
        "checkpoint_delivery, new": CheckpointDelivery(effect_id=effect_id, messages=(user("more"), wake("w2", "x"))),
        "cancel": Cancel(reason="no"),
        "cancel, with what was said": Cancel(reason="no", partial=(text("so f"), call("a"))),
    }


PAIRS = [
    (state, given)
    for state in STATES.values()
    for effect_id in (state.course.effect_id, 0, 99)
    for given in inputs(effect_id).values()
]

REFUSALS: dict[type[Input], set[str]] = {
    ModelResult: {"wrong_id"},
    CheckpointDelivery: {"wrong_id"},
    ToolResults: {"wrong_id", "unknown_call", "call_answered"},
    Start: set(),
    Cancel: set(),
}
"""Why an input may be refused in a state that takes its kind."""


def test_the_states_and_inputs_tried_here_are_all_there_are() -> None:
    assert {type(state) for state in STATES.values()} == set(get_args(State))
    assert {type(given) for given in inputs(1).values()} == set(get_args(Input)) == set(REFUSALS)


def test_every_input_in_every_state_is_refused_or_leads_to_a_legal_state() -> None:
    for state, given in PAIRS:
        assert_declared(state, given)


def assert_declared(state: State, given: Input) -> None:
    rule = TABLE.get((type(state), type(given)))
    taken = step(state, given)
    if rule is None:
        assert isinstance(taken, Refusal)
        assert taken.reason == "wrong_state"
    elif isinstance(taken, Refusal):
        assert taken.reason in REFUSALS[type(given)]
    else:
        assert moved(taken) in [(move.to, move.effects) for move in rule.moves]
        assert_legal(taken.state)
        assert taken.state.course.effect_id >= state.course.effect_id
        assert taken.state.course.iteration >= state.course.iteration


def moved(taken: Step) -> tuple[type[State], tuple[type[Any], ...]]:
    return type(taken.state), tuple(type(effect) for effect in taken.effects)


def assert_legal(state: State) -> None:
    course = state.course
    assert 0 <= course.told <= len(course.messages)
    if isinstance(state, WaitingTools):
        assert whole(course.messages[:-1])
        assert state.open
        assert {answer.call_id for answer in state.results} < {asked.call_id for asked in state.calls}
        assert state.calls == tuple(part for part in course.messages[-1].parts if isinstance(part, ToolCallPart))  # type: ignore[union-attr]
    else:
        assert whole(course.messages)


def test_every_reason_for_a_refusal_is_given_somewhere() -> None:
    taken = [step(state, given) for state, given in PAIRS]
    assert {refusal.reason for refusal in taken if isinstance(refusal, Refusal)} == set(get_args(RefusalReason))


EXAMPLES: dict[tuple[str, str, str], tuple[str, str]] = {
    ("Ready", "Start", ""): ("ready", "start"),
    ("Ready", "Cancel", ""): ("ready", "cancel"),
    ("WaitingModel", "ModelResult", "it calls tools"): ("waiting_model", "model_result, completed, 3 parts"),
    ("WaitingModel", "ModelResult", "it calls none"): ("waiting_model", "model_result, completed, 1 parts"),
    ("WaitingModel", "ModelResult", "it was the final one"): (
        "waiting_model, final",
        "model_result, completed, 3 parts",
    ),
    ("WaitingModel", "ModelResult", "it was cancelled"): ("waiting_model", "model_result, cancelled, 1 parts"),
    ("WaitingModel", "ModelResult", "it ended badly"): (
        "waiting_model",
        "model_result, output_limit, 1 parts",
    ),
    ("WaitingModel", "Cancel", ""): ("waiting_model", "cancel"),
    ("WaitingTools", "ToolResults", "a call has not been answered"): ("waiting_tools", "tool_results, some"),
    ("WaitingTools", "ToolResults", "all calls have been answered"): ("waiting_tools", "tool_results, all"),
    ("WaitingTools", "Cancel", ""): ("waiting_tools", "cancel"),
    ("WaitingCheckpoint", "CheckpointDelivery", "something new came in"): (
        "waiting_checkpoint, before completion",
        "checkpoint_delivery, new",
    ),
    ("WaitingCheckpoint", "CheckpointDelivery", "nothing new came in after work"): (
        "waiting_checkpoint, after work",
        "checkpoint_delivery, known",
    ),
    ("WaitingCheckpoint", "CheckpointDelivery", "nothing new came in before completion"): (
        "waiting_checkpoint, before completion",
        "checkpoint_delivery, nothing",
    ),
    ("WaitingCheckpoint", "Cancel", ""): ("waiting_checkpoint, after work", "cancel"),
}
"""For each move in words, a state and an input of which it is true."""

MOVES = {
    (state.__name__, given.__name__, move.when): move for (state, given), rule in TABLE.items() for move in rule.moves
}


def test_every_move_has_words_of_its_own_and_an_example() -> None:
    assert len(MOVES) == sum(len(rule.moves) for rule in TABLE.values())
    assert set(EXAMPLES) == set(MOVES)


@pytest.mark.parametrize(("words", "move"), MOVES.items(), ids=["/".join(words) for words in MOVES])
def test_a_move_is_what_happens_where_its_words_are_true(words: tuple[str, str, str], move: Move) -> None:
    state_name, input_name = EXAMPLES[words]
    state = STATES[state_name]
    taken = step(state, inputs(state.course.effect_id)[input_name])
    assert isinstance(taken, Step)
    assert moved(taken) == (move.to, move.effects)


def test_whoever_waits_can_be_cancelled_and_whoever_has_finished_cannot() -> None:
    assert {state for state, given in TABLE if given is Cancel} == set(get_args(State)) - {Finished}
