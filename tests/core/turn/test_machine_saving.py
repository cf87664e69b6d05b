"""A turn machine outlives its process: what is saved comes back, with what was out, once."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.turn.conversation import ToolMessage
from sightline.turn.effects import (
    Cancel,
    Checkpoint,
    CheckpointDelivery,
    Done,
    Input,
    ModelCall,
    ModelResult,
    Progress,
    Start,
    ToolCalls,
    ToolResults,
)
from sightline.turn.machine import Refusal, step
from sightline.turn.saving import VERSION, NotRestorable, restore, save
from sightline.turn.states import Ready, WaitingTools
from tests.core.turn.conversations import call, result, text, through_json, user, went

BEGIN = Start(messages=(user("hello"),), max_turns=5)
CALLS = ModelResult(effect_id=1, parts=(text("let me see"), call("a", deep=[1, None]), call("b"), call("c")))
TWO = ToolResults(effect_id=2, results=(result("c", {"n": 1.5}), result("a")))
LAST = ToolResults(effect_id=2, results=(result("b"),))


@pytest.mark.parametrize(
    "before",
    [
        (BEGIN,),
        (BEGIN, CALLS),
        (BEGIN, CALLS, TWO, LAST),
        (BEGIN, CALLS, TWO, LAST, CheckpointDelivery(effect_id=3)),
        (BEGIN, ModelResult(effect_id=1, parts=(text("hi"),))),
    ],
)
def test_restoring_gives_back_what_was_out_once(before: tuple[Input, ...]) -> None:
    taken = went(*before)
    again = restore(through_json(taken.state))
    assert again.state == taken.state
    assert again.effects == tuple(
        effect for effect in taken.effects if isinstance(effect, ModelCall | ToolCalls | Checkpoint)
    )
    assert len(again.effects) == 1


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_messages_that_are_kept_elsewhere_come_back_in_front_of_the_others(kept: int) -> None:
    taken = went(BEGIN, CALLS, TWO, LAST)
    messages = taken.state.course.messages
    assert len(messages) == 3
    saved = save(taken.state, kept=kept)
    assert len(saved["state"]["course"]["messages"]) == len(messages) - kept
    assert restore(saved, messages[:kept]).state == taken.state


def test_tools_that_have_answered_are_not_asked_again() -> None:
    again = restore(through_json(went(BEGIN, CALLS, TWO).state))
    assert again.effects == (ToolCalls(effect_id=2, iteration=1, calls=(call("b"),)),)
    [progress, _] = went(LAST, start=again.state).effects
    assert isinstance(progress, Progress)
    assert progress.messages[-1] == ToolMessage(results=(result("a"), result("b"), result("c", {"n": 1.5})))


def test_an_answer_from_before_the_restart_is_taken_once() -> None:
    again = restore(through_json(went(BEGIN, CALLS).state)).state
    taken = went(TWO, start=again).state
    assert isinstance(taken, WaitingTools)
    refusal = step(taken, TWO)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "call_answered"


def test_a_machine_that_had_not_begun_asks_for_nothing() -> None:
    assert restore(through_json(Ready())).effects == ()


def test_a_finished_machine_tells_its_end_whenever_it_is_restored() -> None:
    taken = went(BEGIN, Cancel(reason="no", partial=(text("so f"),)))
    for _ in range(2):
        again = restore(through_json(taken.state))
        assert again.effects == taken.effects[-1:]
        assert isinstance(again.effects[0], Done)


@pytest.mark.parametrize("version", [VERSION + 1, 0, None, "1"])
def test_the_state_of_another_version_is_refused_by_number(version: Any) -> None:
    with pytest.raises(NotRestorable, match=rf"version {version!r} .* version {VERSION}"):
        restore({**save(went(BEGIN).state), "version": version})


@pytest.mark.parametrize("saved", [None, [], "text", 3, {}], ids=repr)
def test_what_was_never_saved_is_refused(saved: Any) -> None:
    with pytest.raises(NotRestorable, match="version None"):
        restore(saved)


@pytest.mark.parametrize(
    "state",
    [None, {}, {"type": "dreaming"}, {"type": "waiting_model"}, {"type": "waiting_model", "course": {"told": "x"}}],
    ids=repr,
)
def test_a_damaged_state_is_refused(state: Any) -> None:
    with pytest.raises(NotRestorable, match="not the state of a turn"):
        restore({"version": VERSION, "state": state})
