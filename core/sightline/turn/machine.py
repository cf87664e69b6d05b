"""The turn of an agent that talks with a model and calls tools, as a machine that decides and never does.

It is told one thing at a time and answers with its next state and with what is to be done: `step(state, input)`. It
makes no request, runs no tool, reads no clock; the same inputs give the same turn, today, in a test, and after a crash.

**The states.** *Ready*: nothing has happened. *Waiting for the model*, *for tools*, *for a checkpoint*: exactly one
effect is out, and the machine does nothing until it is answered or the turn is cancelled. *Finished*: the outcome is
known and nothing changes it.

**The round.** A model call ends in tool calls or without. Tools run all at once; when the last has answered there is a
checkpoint `after_work`, then the next model call. Without tool calls there is a checkpoint `before_completion`, and the
turn ends only if nothing came in there: input that arrives in time prolongs the turn, it does not miss it.

**Answers that nobody asked for** are refused, by a value and not by an exception: after a restart, a late answer to
what was asked before is an ordinary thing. Whoever gets a `Refusal` goes on as if nothing had been said.

**The limit.** `max_turns` counts the model calls that may use tools. Whatever would make one more makes a *final* one
instead: the model is told, is offered no tools, and its answer ends the turn, without a checkpoint, because what came
in there could not be answered. Input waits for the next turn instead.

**Cancelling** ends the turn in the same step, from every state, and asks for the end of what is out. Waiting for a
provider or a tool to agree would leave the time of the end to them. What the model has said so far comes with the
request; tools that had not answered are answered as cancelled, so that the conversation is whole. A checkpoint is not
called back: what it takes in belongs to the turn and is settled with it.

**Saving.** A state is plain data (`turn/states.py`). Restoring (`turn/saving.py`) gives it back together with what is
out, made by the same function as the first time. Tools answer one by one and their answers are part of the state, so a
restored turn asks for the missing ones alone. Effects that need no answer are told once and never again, but for the
end: a finished state tells it whenever it is restored.

What has no state here: approval of a tool, or a question to a person, happens inside a tool call, which takes as long
as it takes, and a refusal is a result. Retrying a provider happens inside a model call. Which tools there are is looked
up by whoever makes the call. There is no engine that runs code.

`TABLE` is the machine: what is not in it is refused, and each entry says where it may lead. `docs/turn-machine.md` is
drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, structs

from sightline.observation.activities import ErrorReported
from sightline.turn.conversation import (
    AssistantMessage,
    AssistantPart,
    ConversationMessage,
    SystemMessage,
    ToolCallPart,
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
    Effect,
    Emit,
    Ending,
    EndingReason,
    Input,
    ModelCall,
    ModelOutcome,
    ModelResult,
    Progress,
    Start,
    ToolCalls,
    ToolResults,
)
from sightline.turn.states import (
    Course,
    Finished,
    Ready,
    State,
    WaitingCheckpoint,
    WaitingModel,
    WaitingTools,
    outstanding,
)

__all__ = ["TABLE", "Move", "Refusal", "RefusalReason", "Rule", "Step", "step"]

_FULL_PERCENT = 95
"""A prompt that fills so much of the context window leaves no room for an answer."""


class Step(Struct, frozen=True):
    """The next state, and what to do now, in this order. A state that is to survive is saved before its effects are
    performed.
    """

    state: State
    effects: tuple[Effect, ...]


RefusalReason = Literal["wrong_state", "wrong_id", "unknown_call", "call_answered"]
"""Another kind of input is awaited, or none; the answer is to another effect; no such tool call was asked for; it has
been answered.
"""


class Refusal(Struct, frozen=True):
    """The input was not for this state, and changed nothing. `detail` is for people."""

    reason: RefusalReason
    detail: str


def step(state: State, given: Input) -> Step | Refusal:
    """What follows when the machine is told something."""
    rule = TABLE.get((type(state), type(given)))
    if rule is None:
        return Refusal("wrong_state", f"{_tag(given)} while {_tag(state)}")
    if not isinstance(given, Start | Cancel) and given.effect_id != state.course.effect_id:
        return Refusal("wrong_id", f"{_tag(given)} for effect {given.effect_id}, awaited is {state.course.effect_id}")
    return rule.decide(state, given)


def _start(state: Ready, given: Start) -> Step:
    messages = _without_known(given.messages, ())
    course = Course(
        messages=messages,
        told=len(messages),
        max_turns=given.max_turns,
        context_window=given.context_window,
    )
    return _enter(_calling_model(course))


def _model_answered(state: WaitingModel, given: ModelResult) -> Step:
    outcome = _outcome(state.course, given)
    if outcome != "completed":
        course = _said(state.course, _without_calls(given.parts))
        message = given.message or _SENTENCES[outcome]
        ending = Ending(reason=_ENDINGS.get(outcome, "provider_error"), outcome=outcome, message=message)
        shown = () if outcome == "cancelled" else (Emit(activity=ErrorReported(message=message)),)
        return _enter(Finished(course=course, ending=ending), *shown)
    if state.final:
        course = _said(state.course, _without_calls(given.parts))
        return _enter(Finished(course=course, ending=Ending(reason="max_turns", message=_limit(course))))
    said = AssistantMessage(parts=_with_own_ids(given.parts, state.course.effect_id))
    course = _next_effect(_said(state.course, said.parts))
    if said.calls:
        return _enter(WaitingTools(course=course, calls=said.calls))
    return _enter(WaitingCheckpoint(course=course, kind="before_completion"))


def _tools_answered(state: WaitingTools, given: ToolResults) -> Step | Refusal:
    still_open = {call.call_id for call in state.open}
    for result in given.results:
        if result.call_id not in still_open:
            known = any(call.call_id == result.call_id for call in state.calls)
            return Refusal("call_answered" if known else "unknown_call", f"tool call {result.call_id}")
        still_open.remove(result.call_id)
    state = structs.replace(state, results=state.results + given.results)
    if still_open:
        return Step(state, ())
    course, progress = _progress(_answered(state))
    return _enter(WaitingCheckpoint(course=_next_effect(course), kind="after_work"), progress)


def _delivered(state: WaitingCheckpoint, given: CheckpointDelivery) -> Step:
    messages = _without_known(given.messages, state.course.messages)
    if messages:
        course, progress = _progress(_grown(state.course, *messages))
        return _enter(_calling_model(course), progress)
    if state.kind == "after_work":
        return _enter(_calling_model(state.course))
    return _enter(Finished(course=state.course, ending=Ending(reason="finished")))


def _cancelled(state: Ready | WaitingCheckpoint, given: Cancel) -> Step:
    return _enter(Finished(course=state.course, ending=_cancellation(given)))


def _model_cancelled(state: WaitingModel, given: Cancel) -> Step:
    course = _said(state.course, _without_calls(given.partial))
    return _enter(
        Finished(course=course, ending=_cancellation(given)), CancelModelCall(effect_id=state.course.effect_id)
    )


def _tools_cancelled(state: WaitingTools, given: Cancel) -> Step:
    missing = tuple(
        ToolResultPart(call_id=call.call_id, name=call.name, output="cancelled", failed=True) for call in state.open
    )
    course = _answered(structs.replace(state, results=state.results + missing))
    return _enter(
        Finished(course=course, ending=_cancellation(given)),
        CancelToolCalls(effect_id=state.course.effect_id, call_ids=tuple(result.call_id for result in missing)),
    )


class Move(Struct, frozen=True):
    """One way on: under which condition, where to, with which effects."""

    when: str
    to: type[State]
    effects: tuple[type[Effect], ...]


class Rule(Struct, frozen=True):
    """What follows from one input in one state: how it is decided, and every way it may go."""

    decide: Callable[[Any, Any], Step | Refusal]
    moves: tuple[Move, ...]


TABLE: dict[tuple[type[State], type[Input]], Rule] = {
    (Ready, Start): Rule(
        _start,
        (Move("", WaitingModel, (ModelCall,)),),
    ),
    (Ready, Cancel): Rule(
        _cancelled,
        (Move("", Finished, (Done,)),),
    ),
    (WaitingModel, ModelResult): Rule(
        _model_answered,
        (
            Move("it calls tools", WaitingTools, (ToolCalls,)),
            Move("it calls none", WaitingCheckpoint, (Checkpoint,)),
            Move("it was the final one", Finished, (Done,)),
            Move("it was cancelled", Finished, (Done,)),
            Move("it ended badly", Finished, (Emit, Done)),
        ),
    ),
    (WaitingModel, Cancel): Rule(
        _model_cancelled,
        (Move("", Finished, (CancelModelCall, Done)),),
    ),
    (WaitingTools, ToolResults): Rule(
        _tools_answered,
        (
            Move("a call has not been answered", WaitingTools, ()),
            Move("all calls have been answered", WaitingCheckpoint, (Progress, Checkpoint)),
        ),
    ),
    (WaitingTools, Cancel): Rule(
        _tools_cancelled,
        (Move("", Finished, (CancelToolCalls, Done)),),
    ),
    (WaitingCheckpoint, CheckpointDelivery): Rule(
        _delivered,
        (
            Move("something new came in", WaitingModel, (Progress, ModelCall)),
            Move("nothing new came in after work", WaitingModel, (ModelCall,)),
            Move("nothing new came in before completion", Finished, (Done,)),
        ),
    ),
    (WaitingCheckpoint, Cancel): Rule(
        _cancelled,
        (Move("", Finished, (Done,)),),
    ),
}


def _enter(state: State, *before: Effect) -> Step:
    return Step(state, (*before, *outstanding(state)))


def _calling_model(course: Course) -> WaitingModel:
    course = _next_effect(structs.replace(course, iteration=course.iteration + 1))
    if isinstance(course.max_turns, UnsetType) or course.iteration <= course.max_turns:
        return WaitingModel(course=course)
    note = SystemMessage(
        text=f"{_limit(course)} Answer now, with what there is; no tool can be called.", transient=True
    )
    return WaitingModel(course=_grown(course, note), final=True)


def _limit(course: Course) -> str:
    return f"The turn has made as many model requests as it may ({course.max_turns})."


def _next_effect(course: Course) -> Course:
    return structs.replace(course, effect_id=course.effect_id + 1)


def _grown(course: Course, *messages: ConversationMessage) -> Course:
    return structs.replace(course, messages=course.messages + messages)


def _said(course: Course, parts: Iterable[AssistantPart]) -> Course:
    """With what the model said; an answer of nothing is no message."""
    kept = tuple(part for part in parts if isinstance(part, ToolCallPart) or part.text or part.details is not UNSET)
    return _grown(course, AssistantMessage(parts=kept)) if kept else course


def _answered(state: WaitingTools) -> Course:
    results = {result.call_id: result for result in state.results}
    return _grown(state.course, ToolMessage(results=tuple(results[call.call_id] for call in state.calls)))


def _progress(course: Course) -> tuple[Course, Progress]:
    told = Progress(iteration=course.iteration, messages=course.messages[course.told :])
    return structs.replace(course, told=len(course.messages)), told


def _cancellation(given: Cancel) -> Ending:
    return Ending(reason="cancelled", message=given.reason)


_ENDINGS: dict[ModelOutcome, EndingReason] = {"output_limit": "incomplete", "cancelled": "cancelled"}

_SENTENCES: dict[ModelOutcome, str] = {
    "output_limit": "the model's answer was cut off at its limit",
    "context_overflow": "the conversation does not fit into the model's context window",
    "content_filter": "the provider's filter stopped the answer",
    "provider_error": "the model's provider failed",
    "cancelled": "the model call was cancelled",
}


def _outcome(course: Course, given: ModelResult) -> ModelOutcome:
    """The outcome, seen through: an answer cut off before its first word by a prompt that fills the window is not an
    answer that was too long.
    """
    said = AssistantMessage(parts=given.parts)
    if given.outcome != "output_limit" or said.text or said.calls:
        return given.outcome
    if isinstance(course.context_window, UnsetType) or isinstance(given.input_tokens, UnsetType):
        return given.outcome
    full = given.input_tokens * 100 >= course.context_window * _FULL_PERCENT
    return "context_overflow" if full else given.outcome


def _without_calls(parts: Iterable[AssistantPart]) -> tuple[AssistantPart, ...]:
    """What was said without what was to be done, which nobody will do: a call that stays open spoils a conversation."""
    return tuple(part for part in parts if not isinstance(part, ToolCallPart))


def _with_own_ids(parts: Iterable[AssistantPart], effect_id: int) -> tuple[AssistantPart, ...]:
    """The parts, each call under an id of its own. Some models give none, or one twice, and an answer must find its
    call.
    """
    taken: set[str] = {""}
    named: list[AssistantPart] = []
    for index, part in enumerate(parts):
        if isinstance(part, ToolCallPart):
            call_id = part.call_id
            while call_id in taken:
                call_id = f"{call_id or 'call'}.{effect_id}.{index}"
            taken.add(call_id)
            named.append(structs.replace(part, call_id=call_id))
        else:
            named.append(part)
    return tuple(named)


def _without_known(
    messages: Iterable[ConversationMessage], before: Iterable[ConversationMessage]
) -> tuple[ConversationMessage, ...]:
    """The messages that tell something new: a cause is told of once, and its first telling counts."""
    known = {_cause_id(message) for message in before}
    fresh: list[ConversationMessage] = []
    for message in messages:
        cause_id = _cause_id(message)
        if cause_id is None or cause_id not in known:
            known.add(cause_id)
            fresh.append(message)
    return tuple(fresh)


def _cause_id(message: ConversationMessage) -> str | None:
    if isinstance(message, SystemMessage) and not isinstance(message.cause, UnsetType):
        return message.cause.id
    return None


def _tag(value: State | Input) -> str:
    return str(value.__struct_config__.tag)
