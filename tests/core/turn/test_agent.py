"""A turn as the agent holds it: what it says, under which correlation, and what remains of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sightline.observation.activities import (
    Activity,
    AssistantProseDelta,
    ErrorReported,
    ModelRequestStarted,
    ReasoningDelta,
    Retracted,
    RetryStatus,
    ToolCallCompleted,
    ToolCallStarted,
    UsageReported,
)
from sightline.session.model import Message, UsageFigures
from sightline.testing.clock import ManualClock
from sightline.turn.agent import AgentError, Turn, TurnOver


class Stage:
    """A turn, and what it showed."""

    def __init__(self) -> None:
        self.shown: list[tuple[Activity, str]] = []
        self.clock = ManualClock()
        self.turn = Turn(
            session_id="s",
            turn_id="t",
            attempt=2,
            input=(),
            policy={},
            clock=self.clock,
            emit=lambda activity, correlation: self.shown.append((activity, correlation)),
            history=self.history,
        )

    async def history(self, count: int) -> tuple[Message, ...]:
        return ()

    @property
    def activities(self) -> list[Activity]:
        return [activity for activity, _ in self.shown]

    @property
    def correlations(self) -> list[str]:
        return [correlation for _, correlation in self.shown]


def returning(output: object) -> Callable[[], Awaitable[object]]:
    async def run() -> object:
        return output

    return run


def test_text_and_reasoning_are_shown_as_they_come_and_only_text_is_the_answer() -> None:
    stage = Stage()
    stage.turn.text("a ")
    stage.turn.reasoning("hm")
    stage.turn.text("b")
    assert stage.activities == [
        AssistantProseDelta(text="a "),
        ReasoningDelta(text="hm"),
        AssistantProseDelta(text="b"),
    ]
    assert len(set(stage.correlations)) == 1
    assert stage.turn.answer == "a b"
    assert stage.turn.parts == [
        {"type": "text", "text": "a "},
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "b"},
    ]


def test_text_alone_has_no_parts() -> None:
    stage = Stage()
    for text in ("a", "", "b"):
        stage.turn.text(text)
    assert (stage.turn.answer, stage.turn.parts, len(stage.shown)) == ("ab", [], 2)


@pytest.mark.parametrize("thing", [7, b"bytes", None, ["x"]])
def test_an_agent_can_only_say_text(thing: Any) -> None:
    stage = Stage()
    for speak in (stage.turn.text, stage.turn.reasoning):
        with pytest.raises(TypeError):
            speak(thing)
    assert (stage.shown, stage.turn.answer) == ([], "")


def test_what_could_not_be_shown_is_not_part_of_the_answer() -> None:
    stage = Stage()

    def refuse(activity: Activity, correlation: str) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    turn = Turn(
        session_id="s",
        turn_id="t",
        attempt=1,
        input=(),
        policy={},
        clock=stage.clock,
        emit=refuse,
        history=stage.history,
    )
    with pytest.raises(UnicodeEncodeError):
        turn.text("\ud800")
    assert turn.answer == ""


def test_each_model_request_begins_another_correlation() -> None:
    stage = Stage()
    stage.turn.model_request()
    stage.turn.text("a")
    stage.turn.model_request()
    stage.turn.text("b")
    assert stage.activities[0::2] == [
        ModelRequestStarted(protocol_iteration=1),
        ModelRequestStarted(protocol_iteration=2),
    ]
    first, same, second, again = stage.correlations
    assert first == same != second == again


@pytest.mark.anyio
async def test_a_tool_call_is_shown_from_start_to_end_under_its_own_correlation() -> None:
    stage = Stage()

    async def run() -> str:
        stage.clock.advance(0.25)
        return "output"

    stage.turn.text("before")
    assert await stage.turn.tool_call("add", {"a": 1}, run) == "output"
    stage.turn.text("after")
    before, started, completed, after = stage.activities
    assert isinstance(started, ToolCallStarted)
    assert isinstance(completed, ToolCallCompleted)
    assert (started.name, started.args) == ("add", {"a": 1})
    assert (completed.output, completed.duration_ms, completed.state) == ("output", 250, "completed")
    assert started.call_id == completed.call_id
    assert stage.correlations[1] == stage.correlations[2]
    assert len({stage.correlations[0], stage.correlations[1], stage.correlations[3]}) == 3
    assert stage.turn.parts[1] == {
        "type": "tool_call",
        "call_id": started.call_id,
        "name": "add",
        "args": {"a": 1},
        "state": "completed",
        "output": "output",
    }
    assert stage.turn.answer == "beforeafter"
    assert (before, after) == (AssistantProseDelta(text="before"), AssistantProseDelta(text="after"))


@pytest.mark.anyio
async def test_a_tool_call_that_fails_is_shown_as_failed_and_the_agent_may_go_on() -> None:
    stage = Stage()

    async def run() -> None:
        raise AgentError("no such file \udcff")

    with pytest.raises(AgentError):
        await stage.turn.tool_call("read", {}, run)
    completed = stage.activities[-1]
    assert isinstance(completed, ToolCallCompleted)
    assert (completed.state, completed.output) == ("failed", "no such file ?")
    assert (stage.turn.parts[0]["state"], stage.turn.parts[0]["output"]) == ("failed", "no such file ?")
    stage.turn.text("never mind")
    assert stage.turn.answer == "never mind"


@pytest.mark.anyio
async def test_arguments_that_json_cannot_hold_are_refused_before_anything_is_shown_or_run() -> None:
    stage = Stage()
    ran: list[str] = []

    async def run() -> None:
        ran.append("!")

    with pytest.raises(TypeError):
        await stage.turn.tool_call("add", {"a": object()}, run)
    assert (ran, stage.shown, stage.turn.parts) == ([], [], [])


@pytest.mark.anyio
async def test_what_a_tool_returns_reaches_the_agent_as_it_is_and_everybody_else_as_json() -> None:
    stage = Stage()
    output = {1: (1, 2), "x": float("nan")}
    assert await stage.turn.tool_call("t", ("a",), returning(output)) is output
    completed = stage.activities[-1]
    assert isinstance(completed, ToolCallCompleted)
    assert (completed.args, completed.output) == (["a"], {"1": [1, 2], "x": None})


def test_usage_adds_up_and_is_shown_with_its_sum() -> None:
    stage = Stage()
    stage.turn.usage("m", UsageFigures(input_tokens=1, requests=1))
    stage.turn.usage("n", UsageFigures(input_tokens=2, requests=1))
    reported = stage.activities[-1]
    assert isinstance(reported, UsageReported)
    assert (reported.usage.input_tokens, reported.cumulative.input_tokens) == (2, 3)
    assert stage.turn.used.totals == UsageFigures(input_tokens=3, requests=2)
    assert stage.turn.used.by_model["m"] == UsageFigures(input_tokens=1, requests=1)


@pytest.mark.anyio
async def test_every_correlation_that_was_shown_is_known_for_a_retraction() -> None:
    stage = Stage()
    stage.turn.text("a")
    await stage.turn.tool_call("t", {}, returning(1))
    stage.turn.text("b")
    stage.turn.model_request()
    assert set(stage.correlations) <= set(stage.turn.correlations)
    assert len(stage.turn.correlations) == len(set(stage.turn.correlations))


@pytest.mark.anyio
async def test_after_its_end_a_turn_shows_nothing_more() -> None:
    stage = Stage()
    stage.turn.text("a")
    stage.turn.end()
    with pytest.raises(TurnOver):
        stage.turn.text("b")
    with pytest.raises(TurnOver):
        stage.turn.model_request()
    with pytest.raises(TurnOver):
        stage.turn.usage("m", UsageFigures())
    with pytest.raises(TurnOver):
        await stage.turn.tool_call("t", {}, returning(1))
    assert (stage.turn.answer, len(stage.shown)) == ("a", 1)


def test_a_request_can_be_taken_back() -> None:
    stage = Stage()
    stage.turn.text("before ")
    stage.turn.model_request()
    stage.turn.text("wro")
    stage.turn.reasoning("hm")
    stage.turn.text("ng")
    shown = stage.correlations[-1]
    stage.turn.retract()
    assert (stage.turn.answer, stage.turn.parts) == ("before ", [])
    assert stage.shown[-1] == (Retracted(correlation_id=shown), shown)
    assert shown not in stage.turn.correlations
    stage.turn.text("right")
    assert stage.correlations[-1] != shown
    assert stage.turn.answer == "before right"
    stage.turn.retract()
    assert stage.turn.answer == "before "


def test_without_a_request_all_that_was_said_can_be_taken_back() -> None:
    stage = Stage()
    stage.turn.text("wrong")
    stage.turn.retract()
    stage.turn.text("right")
    assert (stage.turn.answer, stage.correlations[1]) == ("right", stage.correlations[0])


def test_trouble_is_shown_and_ends_nothing() -> None:
    stage = Stage()
    stage.turn.retrying("overloaded", wait_seconds=1.5, attempt=2, max_attempts=4)
    stage.turn.error("it is broken")
    assert stage.activities == [
        RetryStatus(wait_seconds=1.5, attempt=2, max_attempts=4, reason="overloaded"),
        ErrorReported(message="it is broken"),
    ]
    assert stage.turn.answer == ""
