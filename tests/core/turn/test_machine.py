"""What the turn machine does next: the round, the checkpoints, the limit, bad endings and cancelling, by example."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from sightline.observation.activities import ErrorReported
from sightline.turn.conversation import (
    AssistantMessage,
    AssistantPart,
    ReasoningPart,
    SystemMessage,
    ToolMessage,
    ToolResultPart,
)
from sightline.turn.effects import (
    Cancel,
    CancelModelCall,
    CancelToolCalls,
    Checkpoint,
    CheckpointDelivery,
    Done,
    Emit,
    Ending,
    Input,
    ModelCall,
    ModelOutcome,
    ModelResult,
    Progress,
    Start,
    ToolCalls,
    ToolResults,
    replay_key,
)
from sightline.turn.machine import Refusal, Step, step
from sightline.turn.states import Finished, Ready, State
from tests.core.turn.conversations import call, kinds, result, text, user, wake, went, whole

BEGIN = Start(messages=(user("hello"),))
TALKS = ModelResult(effect_id=1, parts=(text("hi"),))
CALLS = ModelResult(effect_id=1, parts=(text("let me see"), call("a"), call("b")))


def answered(effect_id: int, *call_ids: str) -> ToolResults:
    return ToolResults(effect_id=effect_id, results=tuple(result(call_id) for call_id in call_ids))


def delivered(effect_id: int, *texts: str) -> CheckpointDelivery:
    return CheckpointDelivery(effect_id=effect_id, messages=tuple(user(said, transient=True) for said in texts))


def done(taken: Step) -> Done:
    effect = taken.effects[-1]
    assert isinstance(effect, Done)
    return effect


def refused(state: State, given: Input) -> str:
    refusal = step(state, given)
    assert isinstance(refusal, Refusal)
    return refusal.reason


# The round.


def test_a_turn_begins_with_a_model_call_on_all_that_it_was_given() -> None:
    assert went(BEGIN).effects == (ModelCall(effect_id=1, iteration=1, messages=(user("hello"),)),)


def test_an_answer_without_tool_calls_ends_the_turn_after_a_checkpoint() -> None:
    assert went(BEGIN, TALKS).effects == (Checkpoint(effect_id=2, iteration=1, kind="before_completion"),)
    end = done(went(BEGIN, TALKS, delivered(2)))
    assert end == Done(ending=Ending(reason="finished"), iteration=1, messages=(AssistantMessage(parts=(text("hi"),)),))


def test_all_tool_calls_of_an_answer_are_asked_for_at_once() -> None:
    assert went(BEGIN, CALLS).effects == (ToolCalls(effect_id=2, iteration=1, calls=(call("a"), call("b"))),)


def test_tools_answer_in_any_order_and_the_model_reads_them_in_its_own() -> None:
    assert went(BEGIN, CALLS, answered(2, "b")).effects == ()
    answers = ToolMessage(results=(result("a"), result("b")))
    assert went(BEGIN, CALLS, answered(2, "b"), answered(2, "a")).effects == (
        Progress(iteration=1, messages=(AssistantMessage(parts=CALLS.parts), answers)),
        Checkpoint(effect_id=3, iteration=1, kind="after_work"),
    )


def test_after_work_the_model_is_asked_again() -> None:
    [again] = went(BEGIN, CALLS, answered(2, "a", "b"), delivered(3)).effects
    assert isinstance(again, ModelCall)
    assert (again.effect_id, again.iteration, again.final) == (4, 2, False)
    assert again.messages[-1] == ToolMessage(results=(result("a"), result("b")))


def test_effect_ids_grow_by_one_from_one() -> None:
    calls = ModelResult(effect_id=4, parts=(call("c"),))
    inputs = (BEGIN, CALLS, answered(2, "a", "b"), delivered(3), calls, answered(5, "c"), delivered(6))
    steps = [went(*inputs[: count + 1]) for count in range(len(inputs))]
    assert [taken.effects[-1].effect_id for taken in steps if hasattr(taken.effects[-1], "effect_id")] == [*range(1, 8)]


@pytest.mark.parametrize("given", ["", "a"], ids=["none", "one twice"])
def test_a_call_without_an_id_of_its_own_gets_one(given: str) -> None:
    # The names that would be made are taken as well.
    parts = (call("a"), call("a.1.3"), call("call.1.3"), call(given), text("and"))
    [effect] = went(BEGIN, ModelResult(effect_id=1, parts=parts)).effects
    assert isinstance(effect, ToolCalls)
    ids = [wanted.call_id for wanted in effect.calls]
    assert ids[:3] == ["a", "a.1.3", "call.1.3"]
    assert len(set(ids)) == 4
    assert "" not in ids
    assert kinds(went(BEGIN, ModelResult(effect_id=1, parts=parts), answered(2, *ids)).effects) == [
        "progress",
        "checkpoint",
    ]


def test_an_answer_of_nothing_is_no_message() -> None:
    silence = ModelResult(effect_id=1, parts=(text(""), ReasoningPart(text="")))
    assert done(went(BEGIN, silence, delivered(2))).messages == ()


def test_what_a_provider_wants_back_is_kept_though_it_says_nothing() -> None:
    sealed = ReasoningPart(text="", details={"signature": "s"})
    end = done(went(BEGIN, ModelResult(effect_id=1, parts=(sealed,)), delivered(2)))
    assert end.messages == (AssistantMessage(parts=(sealed,)),)


# Answers that nobody waits for.


@pytest.mark.parametrize("effect_id", [0, 2, 7])
def test_an_answer_to_another_effect_is_refused(effect_id: int) -> None:
    assert refused(went(BEGIN).state, ModelResult(effect_id=effect_id)) == "wrong_id"


def test_an_answer_of_another_kind_is_refused() -> None:
    assert refused(went(BEGIN).state, answered(1, "a")) == "wrong_state"
    assert refused(went(BEGIN).state, BEGIN) == "wrong_state"
    assert refused(Ready(), TALKS) == "wrong_state"


def test_a_second_answer_is_refused() -> None:
    assert refused(went(BEGIN, CALLS).state, CALLS) == "wrong_state"
    assert refused(went(BEGIN, CALLS, answered(2, "a")).state, answered(2, "a")) == "call_answered"
    assert refused(went(BEGIN, CALLS).state, answered(2, "a", "a")) == "call_answered"


def test_of_answers_of_which_one_is_unknown_none_counts() -> None:
    state = went(BEGIN, CALLS).state
    assert refused(state, answered(2, "a", "z")) == "unknown_call"
    assert kinds(went(answered(2, "a", "b"), start=state).effects) == ["progress", "checkpoint"]


# Checkpoints.


def test_input_at_before_completion_prolongs_the_turn() -> None:
    taken = went(BEGIN, TALKS, delivered(2, "one more thing"))
    late = user("one more thing", transient=True)
    said = AssistantMessage(parts=(text("hi"),))
    assert taken.effects == (
        Progress(iteration=1, messages=(said, late)),
        ModelCall(effect_id=3, iteration=2, messages=(user("hello"), said, late)),
    )
    assert done(went(ModelResult(effect_id=3), delivered(4), start=taken.state)).messages == ()


def test_input_after_work_goes_along_with_the_next_model_call() -> None:
    taken = went(BEGIN, CALLS, answered(2, "a", "b"), delivered(3, "quick"))
    assert kinds(taken.effects) == ["progress", "model_call"]
    assert taken.effects[0] == Progress(iteration=1, messages=(user("quick", transient=True),))


def test_what_a_checkpoint_took_in_stays_transient() -> None:
    [_, again] = went(BEGIN, TALKS, delivered(2, "late")).effects
    assert isinstance(again, ModelCall)
    assert [getattr(message, "transient", False) for message in again.messages] == [False, False, True]


def test_a_cause_counts_once_and_its_first_telling() -> None:
    begin = Start(messages=(user("hello"), wake("w1", "first")))
    more = CheckpointDelivery(effect_id=2, messages=(wake("w1", "second"), wake("w2", "first"), wake("w2", "second")))
    [progress, _] = went(begin, TALKS, more).effects
    assert isinstance(progress, Progress)
    assert progress.messages[1:] == (wake("w2", "first"),)


def test_a_turn_begins_with_each_cause_once() -> None:
    [first] = went(Start(messages=(wake("w1", "first"), user("hello"), wake("w1", "second")))).effects
    assert isinstance(first, ModelCall)
    assert first.messages == (wake("w1", "first"), user("hello"))


def test_a_cause_that_is_known_does_not_prolong_the_turn() -> None:
    begin = Start(messages=(wake("w1", "first"),))
    again = CheckpointDelivery(effect_id=2, messages=(wake("w1", "again"),))
    assert done(went(begin, TALKS, again)).ending == Ending(reason="finished")


# The limit.


def limited(max_turns: int) -> Start:
    return Start(messages=(user("hello"),), max_turns=max_turns)


def test_beyond_the_limit_there_is_one_final_message_without_tools() -> None:
    taken = went(limited(1), CALLS, answered(2, "a", "b"), delivered(3))
    [final] = taken.effects
    assert isinstance(final, ModelCall)
    assert (final.final, final.iteration) == (True, 2)
    assert isinstance(final.messages[-1], SystemMessage)
    assert final.messages[-1].transient
    end = done(went(ModelResult(effect_id=4, parts=(text("so far"),)), start=taken.state))
    assert end.ending.reason == "max_turns"
    assert end.messages[-1] == AssistantMessage(parts=(text("so far"),))


def test_the_final_message_calls_no_tools_whatever_the_model_wants() -> None:
    wants = ModelResult(effect_id=4, parts=(text("but"), call("c")))
    end = done(went(limited(1), CALLS, answered(2, "a", "b"), delivered(3), wants))
    assert end.ending.reason == "max_turns"
    assert end.messages[-1] == AssistantMessage(parts=(text("but"),))


def test_input_at_the_limit_gets_the_final_message() -> None:
    [_, final] = went(limited(1), TALKS, delivered(2, "late")).effects
    assert isinstance(final, ModelCall)
    assert final.final


def test_a_turn_that_ends_within_its_limit_has_not_reached_it() -> None:
    assert done(went(limited(1), TALKS, delivered(2))).ending == Ending(reason="finished")


def test_a_limit_of_zero_leaves_the_final_message_alone() -> None:
    [only] = went(limited(0)).effects
    assert isinstance(only, ModelCall)
    assert (only.final, only.iteration) == (True, 1)


# Bad endings.


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("output_limit", "incomplete"),
        ("context_overflow", "provider_error"),
        ("content_filter", "provider_error"),
        ("provider_error", "provider_error"),
        ("cancelled", "cancelled"),
    ],
)
@pytest.mark.parametrize("begin", [BEGIN, limited(0)], ids=["in between", "in the final one"])
def test_a_model_call_that_ends_badly_ends_the_turn(begin: Start, outcome: ModelOutcome, reason: str) -> None:
    end = done(went(begin, ModelResult(effect_id=1, outcome=outcome, parts=(text("so f"), call("a")))))
    assert (end.ending.reason, end.ending.outcome) == (reason, outcome)
    assert end.ending.message
    assert end.messages[-1] == AssistantMessage(parts=(text("so f"),))


def test_a_bad_end_is_shown_in_the_words_it_came_with() -> None:
    taken = went(BEGIN, ModelResult(effect_id=1, outcome="provider_error", message="429 too many requests"))
    assert taken.effects[0] == Emit(activity=ErrorReported(message="429 too many requests"))
    assert done(taken).ending.message == "429 too many requests"


WINDOW = Start(messages=(user("hello"),), context_window=1_000)


@pytest.mark.parametrize(
    ("begin", "input_tokens", "parts", "outcome"),
    [
        (WINDOW, 949, (), "output_limit"),
        (WINDOW, 950, (), "context_overflow"),
        (WINDOW, 950, (ReasoningPart(text="hm"),), "context_overflow"),
        (WINDOW, 950, (text("so f"),), "output_limit"),
        (WINDOW, 950, (call("a"),), "output_limit"),
        (WINDOW, UNSET, (), "output_limit"),
        (BEGIN, 950, (), "output_limit"),
    ],
)
def test_an_answer_that_had_no_room_is_an_overflow(
    begin: Start, input_tokens: int, parts: tuple[AssistantPart, ...], outcome: ModelOutcome
) -> None:
    cut = ModelResult(effect_id=1, outcome="output_limit", parts=parts, input_tokens=input_tokens)
    assert done(went(begin, cut)).ending.outcome == outcome


# Cancelling.


CANCEL = Cancel(reason="user_request")
CANCELLED = Ending(reason="cancelled", message="user_request")


def test_a_cancelled_model_call_is_stopped_and_what_it_said_is_kept() -> None:
    taken = went(BEGIN, Cancel(reason="user_request", partial=(text("so f"), call("a"))))
    assert taken.effects == (
        CancelModelCall(effect_id=1),
        Done(ending=CANCELLED, iteration=1, messages=(AssistantMessage(parts=(text("so f"),)),)),
    )


def test_cancelled_tools_are_stopped_and_answered_as_cancelled() -> None:
    taken = went(BEGIN, CALLS, answered(2, "b"), CANCEL)
    assert taken.effects[0] == CancelToolCalls(effect_id=2, call_ids=("a",))
    cancelled = ToolResultPart(call_id="a", name="look", output="cancelled", failed=True)
    assert done(taken).messages[-1] == ToolMessage(results=(cancelled, result("b")))
    assert whole(done(taken).messages)


@pytest.mark.parametrize(
    "before",
    [
        (),
        (BEGIN,),
        (limited(0),),
        (BEGIN, CALLS),
        (BEGIN, CALLS, answered(2, "a")),
        (BEGIN, CALLS, answered(2, "a", "b")),
        (BEGIN, TALKS),
    ],
)
def test_a_turn_can_be_cancelled_whatever_it_waits_for(before: tuple[Input, ...]) -> None:
    taken = went(*before, CANCEL)
    assert isinstance(taken.state, Finished)
    assert done(taken).ending == CANCELLED


def test_after_the_end_nothing_counts() -> None:
    state = went(BEGIN, CANCEL).state
    for given in (BEGIN, TALKS, answered(2, "a"), delivered(2), CANCEL):
        assert refused(state, given) == "wrong_state"


# Replay keys.


def test_an_effect_has_one_name_whenever_the_turn_comes_to_it() -> None:
    names = []
    for _ in range(2):
        [asked] = went(BEGIN, CALLS).effects
        assert isinstance(asked, ToolCalls)
        names.append(replay_key("s", "t", 3, asked))
    assert names == ["s:t:3:1:tool_calls:2"] * 2


def test_no_two_effects_of_a_turn_share_a_name() -> None:
    inputs = (BEGIN, CALLS, answered(2, "a", "b"), delivered(3), ModelResult(effect_id=4), delivered(5, "more"))
    effects = [went(*inputs[: count + 1]).effects[-1] for count in range(len(inputs))]
    names = [
        replay_key("s", "t", 3, effect) for effect in effects if isinstance(effect, ModelCall | ToolCalls | Checkpoint)
    ]
    assert names == [
        "s:t:3:1:model_call:1",
        "s:t:3:1:tool_calls:2",
        "s:t:3:1:checkpoint:3",
        "s:t:3:2:model_call:4",
        "s:t:3:2:checkpoint:5",
        "s:t:3:3:model_call:6",
    ]
