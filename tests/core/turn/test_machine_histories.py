"""Whole turns of the machine, as they may go: what is said to it at random, and a process that dies in between as often
as it likes. A turn that was saved and restored is the turn that never was.
"""

from __future__ import annotations

from typing import get_args

from hypothesis import event as note
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import UNSET, UnsetType

from sightline.turn.conversation import (
    AssistantPart,
    ConversationMessage,
    ReasoningPart,
    SystemMessage,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UserMessage,
)
from sightline.turn.effects import (
    Cancel,
    Checkpoint,
    CheckpointDelivery,
    Done,
    Effect,
    Input,
    ModelCall,
    ModelOutcome,
    ModelResult,
    Progress,
    Start,
    ToolCalls,
    ToolResults,
)
from sightline.turn.machine import Refusal, step
from sightline.turn.saving import restore
from sightline.turn.states import Finished, Ready, State, WaitingCheckpoint, WaitingModel, WaitingTools, outstanding
from tests.core.turn.conversations import text, through_json, user, wake, whole

words = st.sampled_from(["", "a", "ü"])
json = st.sampled_from([None, True, -1, 0.5, "a", [], [1, {"k": None}], {"ü": [""]}])
details = st.sampled_from([UNSET, UNSET, {"signature": "s"}])
calls = st.builds(ToolCallPart, call_id=st.sampled_from(["", "a", "b", "a.1.0"]), name=words, args=json)
said: st.SearchStrategy[AssistantPart] = st.one_of(
    st.builds(TextPart, text=words, details=details), st.builds(ReasoningPart, text=words, details=details)
)
parts = st.lists(said | calls, max_size=4).map(tuple)
causes = st.builds(wake, st.sampled_from(["w1", "w2", "w3"]), words)
taken_in: st.SearchStrategy[SystemMessage | UserMessage] = causes | st.builds(user, words, transient=st.just(True))
# What a model does mostly, so that turns become long.
outcomes = st.sampled_from([*["completed"] * 20, *get_args(ModelOutcome)])
starts = st.builds(
    Start,
    messages=st.lists(taken_in, max_size=3).map(tuple),
    max_turns=st.sampled_from([UNSET, 0, 1, 2, 5]),
    context_window=st.sampled_from([UNSET, 100]),
)
sizes: st.SearchStrategy[int | UnsetType] = st.sampled_from([UNSET, 94, 95])
effect_ids = st.integers(0, 9)
noise: st.SearchStrategy[Start | ModelResult | ToolResults | CheckpointDelivery] = st.one_of(
    starts,
    st.builds(ModelResult, effect_id=effect_ids),
    st.builds(ToolResults, effect_id=effect_ids, results=st.just(())),
    st.builds(CheckpointDelivery, effect_id=effect_ids),
)


def answer(draw: st.DataObject, state: State) -> Input:
    """What the state waits for; to a finished one, anything."""
    effect_id = state.course.effect_id
    match state:
        case WaitingModel():
            return ModelResult(
                effect_id=effect_id,
                outcome=draw.draw(outcomes),
                parts=draw.draw(parts),
                input_tokens=draw.draw(sizes),
            )
        case WaitingTools():
            some = draw.draw(st.lists(st.sampled_from(state.open), unique_by=lambda call: call.call_id))
            results = tuple(
                ToolResultPart(call_id=call.call_id, name=call.name, output=draw.draw(json)) for call in some
            )
            return ToolResults(effect_id=effect_id, results=results)
        case WaitingCheckpoint():
            messages = draw.draw(st.just(()) | st.lists(taken_in, max_size=2).map(tuple))
            return CheckpointDelivery(effect_id=effect_id, messages=messages)
        case Ready() | Finished():
            return draw.draw(noise)


class Turns(RuleBasedStateMachine):
    """Two machines that are told the same; `mortal` is restored from what was saved of it now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.immortal: State = Ready()
        self.mortal: State = Ready()
        self.given: Start | None = None
        self.asked: list[int] = []
        self.told: list[ConversationMessage] = []
        self.working: set[int] = set()
        """Iterations whose model call might use tools."""
        self.finals = 0

    def tell(self, given: Input) -> None:
        before = self.immortal
        taken, again = step(self.immortal, given), step(self.mortal, given)
        assert taken == again
        if isinstance(taken, Refusal) or isinstance(again, Refusal):
            note(f"refused: {taken.reason if isinstance(taken, Refusal) else ''}")
            return
        self.immortal, self.mortal = taken.state, again.state
        for effect in taken.effects:
            self.look_at(effect)
        if isinstance(self.immortal, Finished):
            note(f"{before.__struct_config__.tag} to the end: {self.immortal.ending.reason}")

    def look_at(self, effect: Effect) -> None:
        match effect:
            case ModelCall() | ToolCalls() | Checkpoint():
                self.asked.append(effect.effect_id)
                if isinstance(effect, ModelCall):
                    assert whole(effect.messages)
                    self.finals += effect.final
                    self.working |= set() if effect.final else {effect.iteration}
            case Progress() | Done():
                self.told += effect.messages
            case _:
                pass

    @initialize(given=starts)
    def begin(self, given: Start) -> None:
        self.given = given
        self.tell(given)

    @rule()
    def dies_and_comes_back(self) -> None:
        taken = restore(through_json(self.mortal))
        assert taken.effects == outstanding(self.immortal)
        self.mortal = taken.state

    @rule(chance=st.integers(0, 15), draw=st.data())
    def something_comes(self, chance: int, draw: st.DataObject) -> None:
        before = self.immortal
        if chance == 5:
            self.tell(Cancel(reason="no", partial=draw.draw(parts)))
            assert isinstance(self.immortal, Finished)
        elif chance in (6, 7):
            given = draw.draw(noise)
            if isinstance(given, Start) or given.effect_id != before.course.effect_id:
                self.tell(given)
                assert self.immortal is before
        else:
            self.tell(answer(draw, self.mortal))

    @invariant()
    def both_are_the_same(self) -> None:
        assert self.mortal == self.immortal

    @invariant()
    def effect_ids_are_dense_from_one(self) -> None:
        assert self.asked == list(range(1, len(self.asked) + 1))

    @invariant()
    def the_limit_holds(self) -> None:
        assert self.finals <= 1
        if self.given is not None and isinstance(self.given.max_turns, int):
            assert len(self.working) <= self.given.max_turns

    @invariant()
    def every_message_is_told_once(self) -> None:
        course = self.immortal.course
        beginning = len(course.messages) - len(self.told)
        if isinstance(self.immortal, Finished):
            assert list(course.messages[beginning:]) == self.told
            assert whole(course.messages)
        else:
            assert list(course.messages[course.told - len(self.told) : course.told]) == self.told

    @invariant()
    def no_cause_counts_twice(self) -> None:
        ids = [
            message.cause.id
            for message in self.immortal.course.messages
            if isinstance(message, SystemMessage) and message.cause is not UNSET
        ]
        assert len(ids) == len(set(ids))


TestTurns = Turns.TestCase
TestTurns.settings = settings(stateful_step_count=40, deadline=None)


def test_a_turn_that_dies_at_each_step_is_the_turn_that_does_not() -> None:
    inputs: tuple[Input, ...] = (
        Start(messages=(user("hello"),), max_turns=2),
        ModelResult(effect_id=1, parts=(ToolCallPart(call_id="a", name="look", args={}), text("see"))),
        ToolResults(effect_id=2, results=(ToolResultPart(call_id="a", name="look", output=[1, {"k": None}]),)),
        CheckpointDelivery(effect_id=3, messages=(wake("w1", "news"),)),
        ModelResult(effect_id=4, parts=(text("so"),)),
        CheckpointDelivery(effect_id=5, messages=(user("late"),)),
        ModelResult(effect_id=6, parts=(text("well"),)),
    )
    living: State = Ready()
    dying: State = Ready()
    for given in inputs:
        taken, again = step(living, given), step(restore(through_json(dying)).state, given)
        assert taken == again
        assert not isinstance(taken, Refusal)
        assert not isinstance(again, Refusal)
        living, dying = taken.state, again.state
    assert isinstance(living, Finished)
    assert living.ending.reason == "max_turns"
