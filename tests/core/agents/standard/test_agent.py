"""The standard agent in a whole kernel: a scripted model, real tools, a clock that moves when told."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from msgspec import UNSET

from sightline.agents.standard import Patience, StandardAgent, tool
from sightline.agents.standard.model import ContextOverflow, Finish, ModelError, ModelTrouble, Reasoning, Text, Used
from sightline.observation.activities import RetryStatus
from sightline.observation.events import TurnActivity
from sightline.queue.model import DeliveryPolicy
from sightline.session.model import Message, UsageFigures
from sightline.startup_errors import (
    ExtraMissing,
)
from sightline.testing.clock import settled
from sightline.testing.models import Line, ScriptedModel, calling, saying
from sightline.turn.conversation import (
    AssistantMessage,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from tests.core.worlds import World, in_step, running, said, watch

pytestmark = pytest.mark.anyio


@tool
async def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@tool
async def broken() -> None:
    """Does not work."""
    raise RuntimeError("out of order")


def agent(model: ScriptedModel, *tools: Any, **settings: Any) -> StandardAgent:
    return StandardAgent(model="test:one", client=model, tools=tools, **settings)


async def answer_of(world: World) -> Message:
    [*_, answer] = (await world.view()).read_view.messages
    return answer


async def test_an_answer_is_shown_as_it_comes_and_becomes_history() -> None:
    model = ScriptedModel(saying("Hello ", "you", used=3))
    async with running(agent(model, add, instructions="Be brief.", temperature=0.5)) as world:
        watched = await watch(world)
        await world.send("hi")
        assert await said(world) == [("user", "hi"), ("assistant", "Hello you")]
        assert watched.told.count("assistant_prose_delta") == 2
        assert (await world.view()).usage.by_model == {
            "test:one": UsageFigures(input_tokens=3, output_tokens=3, requests=1)
        }
        await in_step(world, watched)
    [request] = model.requests
    assert (request.model, request.instructions, request.temperature) == ("test:one", "Be brief.", 0.5)
    assert request.messages == (UserMessage(parts=(TextPart(text="hi"),)),)
    assert [spec.name for spec in request.tools] == ["add"]


async def test_tools_run_at_once_and_their_results_go_back_to_the_model() -> None:
    here, both = 0, asyncio.Event()

    @tool
    async def meet(name: str) -> str:
        nonlocal here
        here += 1
        if here == 2:
            both.set()
        await both.wait()
        return f"{name} was there"

    model = ScriptedModel(calling(("meet", {"name": "A"}), ("meet", {"name": "B"}), text="Wait."), saying("Done."))
    async with running(agent(model, meet)) as world:
        await world.send("go")
        assert (await answer_of(world)).parts == [
            {"type": "text", "text": "Wait."},
            *(
                {
                    "type": "tool_call",
                    "call_id": call_id,
                    "name": "meet",
                    "args": {"name": name},
                    "output": f"{name} was there",
                    "state": "completed",
                }
                for call_id, name in zip(await call_ids(world), "AB", strict=True)
            ),
            {"type": "text", "text": "Done."},
        ]
    assert model.requests[1].messages[1:] == (
        AssistantMessage(
            parts=(
                TextPart(text="Wait."),
                ToolCallPart(call_id="call-1", name="meet", args={"name": "A"}),
                ToolCallPart(call_id="call-2", name="meet", args={"name": "B"}),
            )
        ),
        ToolMessage(
            results=(
                ToolResultPart(call_id="call-1", name="meet", output="A was there"),
                ToolResultPart(call_id="call-2", name="meet", output="B was there"),
            )
        ),
    )


async def call_ids(world: World) -> list[str]:
    parts = (await answer_of(world)).parts
    assert parts is not UNSET
    return [part["call_id"] for part in parts if part["type"] == "tool_call"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("add", {"a": 1}), "the arguments do not fit: Object missing required field `b`"),
        (("add", '{"a": 1'), "the arguments do not fit: Expected `object`, got `str`"),
        (("broken", {}), "RuntimeError: out of order"),
        (("nothing", {}), "there is no tool nothing; there are: add, broken, opaque, long"),
        (("long", {}), "the output is too long: 2000002 bytes, and 1000000 at most"),
        (("opaque", {}), "TypeError: Encoding objects of type object is unsupported"),
    ],
)
async def test_what_goes_wrong_with_a_call_is_told_to_the_model(call: tuple[str, Any], told: str) -> None:
    @tool
    async def opaque() -> Any:
        return object()

    @tool
    async def long() -> str:
        return "x" * 2_000_000

    model = ScriptedModel(calling(call), saying("Sorry."))
    async with running(agent(model, add, broken, opaque, long)) as world:
        await world.send("go")
        assert (await said(world))[-1] == ("assistant", "Sorry.")
    result = model.requests[1].messages[-1]
    assert isinstance(result, ToolMessage)
    assert result.results == (ToolResultPart(call_id="call-1", name=call[0], output=told, failed=True),)


async def test_the_model_is_told_of_earlier_turns() -> None:
    model = ScriptedModel(
        [Reasoning("hm"), *calling(("add", {"a": 1, "b": 2}))],
        saying("Three."),
        saying("You asked."),
    )
    async with running(agent(model, add)) as world:
        await world.send("1 + 2?")
        await world.send("What did I ask?")
    assert model.requests[2].messages == (
        UserMessage(parts=(TextPart(text="1 + 2?"),)),
        AssistantMessage(parts=(ToolCallPart(call_id="h1-1", name="add", args={"a": 1, "b": 2}),)),
        ToolMessage(results=(ToolResultPart(call_id="h1-1", name="add", output=3),)),
        AssistantMessage(parts=(TextPart(text="Three."),)),
        UserMessage(parts=(TextPart(text="What did I ask?"),)),
    )


async def test_input_that_comes_before_the_end_prolongs_the_turn() -> None:
    go = asyncio.Event()
    model = ScriptedModel([Text("One."), go.wait, Finish(parts=(TextPart(text="One."),))], saying(" Two."))
    async with running(agent(model)) as world:
        await world.send("first")
        await world.send("second", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
        go.set()
        await settled()
        assert await said(world) == [("user", "first"), ("user", "second"), ("assistant", "One. Two.")]
    assert model.requests[1].messages[-1] == UserMessage(parts=(TextPart(text="second"),), transient=True)


async def test_at_the_limit_one_last_answer_is_asked_for_without_tools() -> None:
    again = calling(("add", {"a": 1, "b": 1}))
    model = ScriptedModel(again, again, saying("Enough."))
    async with running(agent(model, add, max_turns=2)) as world:
        await world.send("go")
        answer = await answer_of(world)
        assert (answer.content, answer.status) == ("Enough.", UNSET)
    assert [len(request.tools) for request in model.requests] == [1, 1, 0]


TROUBLE: list[tuple[list[Line], str, str]] = [
    ([ContextOverflow("too long")], "context_overflow", "too long"),
    ([Text("Part"), ModelError("no such model")], "provider_error", "no such model"),
    ([Text("Part"), Finish(parts=(TextPart(text="Part"),), reason="output_limit")], "incomplete", "cut off"),
    ([Finish(parts=(), reason="content_filter")], "content_filter", "filter"),
]


@pytest.mark.parametrize(("script", "code", "sentence"), TROUBLE, ids=[code for _, code, _ in TROUBLE])
async def test_an_end_that_is_none_fails_the_turn_with_its_code(script: list[Line], code: str, sentence: str) -> None:
    async with running(agent(ScriptedModel(script))) as world:
        await world.send("go")
        answer = await answer_of(world)
        assert (answer.status, answer.content) == ("failed", "Part" if Text("Part") in script else "")
        assert answer.error is not UNSET
        assert answer.error.code == code
        assert sentence in answer.error.message


async def test_a_request_that_failed_is_made_again_and_what_it_showed_is_taken_back() -> None:
    model = ScriptedModel(
        calling(("add", {"a": 1, "b": 1}), text="First. "),
        [Reasoning("hm"), Text("Wro"), ModelTrouble("overloaded")],
        [Text("Wro"), ModelTrouble("overloaded", retry_after=7)],
        saying("Right."),
    )
    async with running(agent(model, add)) as world:
        watched = await watch(world)
        await world.send("go")
        live = (await world.view()).live
        assert live is not None
        assert (live.text, live.reasoning, len(live.tool_calls)) == ("First. ", "", 1)
        await world.clock.run_for(1.0)
        await world.clock.run_for(5.9)
        assert len(model.requests) == 3
        await world.clock.run_for(1.2)
        answer = await answer_of(world)
        assert answer.content == "First. Right."
        await in_step(world, watched)
        retries = [
            event.data.event
            for event in watched.events
            if isinstance(event.data, TurnActivity) and isinstance(event.data.event, RetryStatus)
        ]
    assert [(retry.attempt, retry.max_attempts, retry.reason) for retry in retries] == [
        (2, 4, "overloaded"),
        (3, 4, "overloaded"),
    ]
    assert 0.5 <= retries[0].wait_seconds <= 1.0
    assert retries[1].wait_seconds == 7
    assert watched.told.count("model_request_started") == 2


async def test_patience_ends() -> None:
    model = ScriptedModel(*[[ModelTrouble("overloaded")]] * 3)
    async with running(agent(model, patience=Patience(attempts=3))) as world:
        await world.send("go")
        await world.clock.run_for(60)
        answer = await answer_of(world)
    assert answer.error is not UNSET
    assert answer.error.code == "provider_error"
    assert answer.error.message == "the model did not answer in 3 attempts; the last: overloaded"


async def test_a_model_that_falls_silent_is_asked_again() -> None:
    silent: Line = asyncio.Event().wait
    model = ScriptedModel([Text("We"), silent], saying("Well."))
    async with running(agent(model, patience=Patience(silence=20))) as world:
        await world.send("go")
        await world.clock.run_for(19.9)
        assert (model.open, len(model.requests)) == (1, 1)
        await world.clock.run_for(2)
        assert await said(world) == [("user", "go"), ("assistant", "Well.")]


async def test_a_stream_without_an_end_is_asked_again() -> None:
    model = ScriptedModel([Text("We")], saying("Well."))
    async with running(agent(model)) as world:
        await world.send("go")
        await world.clock.run_for(2)
        assert await said(world) == [("user", "go"), ("assistant", "Well.")]


async def test_cancelling_stops_the_request_and_keeps_what_was_said() -> None:
    model = ScriptedModel([Text("So far"), asyncio.Event().wait])
    async with running(agent(model)) as world:
        await world.send("go")
        assert model.open == 1
        await world.kernel.cancel_turn("s")
        await settled()
        answer = await answer_of(world)
        assert (answer.content, answer.status, model.open) == ("So far", "cancelled", 0)


async def test_cancelling_stops_the_tools() -> None:
    stopped = 0

    @tool
    async def hang() -> None:
        nonlocal stopped
        try:
            await asyncio.Event().wait()
        finally:
            stopped += 1

    model = ScriptedModel(calling(("hang", {}), ("hang", {})))
    async with running(agent(model, hang)) as world:
        await world.send("go")
        await world.kernel.cancel_turn("s")
        await settled()
        assert (await answer_of(world)).status == "cancelled"
    assert stopped == 2


async def test_a_session_may_set_what_is_a_setting() -> None:
    model = ScriptedModel(saying("Oui."))
    async with running(agent(model), session_ids=()) as world:
        policy = {"model": "test:two", "instructions": "In French.", "temperature": 0, "max_turns": 3, "other": [1]}
        await world.kernel.create_session("s", policy=policy)
        await world.send("go")
        assert list((await world.view()).usage.by_model) == []
    [request] = model.requests
    assert (request.model, request.instructions, request.temperature) == ("test:two", "In French.", 0)


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ({"model": ""}, "$.model"),
        ({"model": None}, "$.model"),
        ({"max_turns": 0}, "$.max_turns"),
        ({"max_turns": "3"}, "$.max_turns"),
        ({"temperature": 3}, "$.temperature"),
        ({"instructions": ["a"]}, "$.instructions"),
    ],
)
async def test_a_policy_that_does_not_fit_fails_the_turn_and_says_where(policy: dict[str, Any], complaint: str) -> None:
    async with running(agent(ScriptedModel()), session_ids=()) as world:
        await world.kernel.create_session("s", policy=policy)
        await world.send("go")
        answer = await answer_of(world)
    assert answer.error is not UNSET
    assert answer.error.code == "policy_invalid"
    assert complaint in answer.error.message


def test_settings_that_cannot_be_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="max_turns"):
        agent(ScriptedModel(), max_turns=0)


async def test_the_cost_of_a_failed_request_counts() -> None:
    used = Used(UsageFigures(input_tokens=5, requests=1))
    model = ScriptedModel([used, ModelTrouble("cut")], saying("Well.", used=5))
    async with running(agent(model)) as world:
        await world.send("go")
        await world.clock.run_for(2)
        assert (await world.view()).usage.totals == UsageFigures(input_tokens=10, output_tokens=5, requests=2)


async def test_what_a_provider_wants_back_is_given_back_within_the_turn() -> None:
    thought = ReasoningPart(text="hm", details={"signature": "x"})
    script: list[Line] = [
        Reasoning("hm"),
        Finish(parts=(thought, ToolCallPart(call_id="c", name="add", args={"a": 1, "b": 1}))),
    ]
    model = ScriptedModel(script, saying("2"))
    async with running(agent(model, add)) as world:
        await world.send("go")
    said_before = model.requests[1].messages[1]
    assert isinstance(said_before, AssistantMessage)
    assert said_before.parts[0] == thought


async def test_the_tool_surface_is_read_from_the_agent() -> None:
    made = agent(ScriptedModel(), add)
    [entry] = await made.tools("s", {})
    assert (entry["name"], entry["description"], entry["input_schema"]["required"]) == ("add", "The sum.", ["a", "b"])


def test_without_a_client_and_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sightline.agents.standard.providers", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'sightline\[models\]'"):
        StandardAgent(model="openai:gpt-5-mini")
