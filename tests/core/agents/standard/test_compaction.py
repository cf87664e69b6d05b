"""Long conversations: put into a few words behind a turn, and gone on with from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from sightline.agents.standard import Patience, StandardAgent, tool
from sightline.agents.standard.model import ContextOverflow, ModelTrouble
from sightline.session.model import Failure, UsageFigures
from sightline.session.rules import ledger_of
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock
from sightline.testing.models import Line, ScriptedModel, calling, saying
from sightline.turn.conversation import (
    AssistantMessage,
    ConversationMessage,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from tests.core.worlds import in_step, running, said, watch

pytestmark = pytest.mark.anyio


def agent(model: ScriptedModel) -> StandardAgent:
    return StandardAgent(model="test:one", client=model, context_window=100, patience=Patience(attempts=2))


SUMMARY = "What was before this, in short:\n\nThey greet each other."


async def test_a_conversation_that_fills_the_window_is_compacted_behind_the_turn() -> None:
    model = ScriptedModel(
        saying("Hello.", used=79),
        saying("Good day.", used=80),
        saying("They greet ", "each other.", used=85),
        saying("Yes?", used=9),
    )
    async with running(agent(model)) as world:
        watched = await watch(world)
        await world.send("hi")
        assert await said(world) == [("user", "hi"), ("assistant", "Hello.")]
        await world.send("hello")
        assert await said(world) == [("system", SUMMARY), ("user", "hello"), ("assistant", "Good day.")]
        assert "They greet" not in "".join(view.live.text for view in watched.views if view.live is not None)
        await world.send("well")
        assert (await said(world))[-2:] == [("user", "well"), ("assistant", "Yes?")]
        view = await world.view()
        assert view.usage.totals == UsageFigures(input_tokens=253, output_tokens=253, requests=4)
        assert ledger_of(view.usage) == (
            ("agent", "test:one", UsageFigures(input_tokens=168, output_tokens=168, requests=3)),
            ("compaction", "test:one", UsageFigures(input_tokens=85, output_tokens=85, requests=1)),
        )
        await in_step(world, watched)
        pages = (await world.kernel.page_messages("s")).messages
        assert [message.content for message in pages][:4] == ["hi", "Hello.", "hello", "Good day."]
    asked, after = model.requests[2:]
    assert asked.tools == ()
    assert isinstance(asked.messages[-1], SystemMessage)
    assert after.messages[0] == SystemMessage(text=SUMMARY)
    assert after.messages[-1] == UserMessage(parts=(TextPart(text="well"),))
    assert len(after.messages) == 4


async def test_trouble_with_the_summary_leaves_everything_as_it_is() -> None:
    model = ScriptedModel(saying("Hello.", used=90), [ModelTrouble("busy")], [ModelTrouble("busy")])
    async with running(agent(model)) as world:
        await world.send("hi")
        await world.clock.run_for(5)
        assert await said(world) == [("user", "hi"), ("assistant", "Hello.")]
        view = await world.view()
        assert (view.read_view.agent_frame_id, view.status) == ("initial", "idle")


class Reading:
    """What takes several requests, each with a tool call."""

    def __init__(self, *after: Iterable[Line], used: tuple[int, int] = (0, 0), window: int | None = None) -> None:
        @tool
        async def read(name: str) -> str:
            return f"what {name} says"

        calls = [calling(("read", {"name": name}), used=tokens) for name, tokens in zip("ab", used, strict=True)]
        self.model = ScriptedModel(*calls, *after)
        self.agent = StandardAgent(model="test:one", client=self.model, tools=[read], context_window=window)

    def told(self, request: int) -> list[str]:
        """Who said something in the conversation of that request, and what, in short."""
        return [_in_short(message) for message in self.model.requests[request].messages]


def _in_short(message: ConversationMessage) -> str:
    match message:
        case SystemMessage(text=text):
            return text.rpartition("\n")[2] if text.startswith("What was before") else "wish"
        case UserMessage():
            return "user"
        case AssistantMessage():
            return "calls" if message.calls else "says"
        case ToolMessage(results=results):
            return str(results[0].output)


OVERFLOW: list[Line] = [ContextOverflow("too long")]
WHOLE = ["user", "calls", "what a says", "calls", "what b says"]


@pytest.mark.parametrize("overflows", [True, False])
async def test_a_conversation_that_outgrows_the_window_in_its_turn_goes_on_in_short(overflows: bool) -> None:
    rest = (saying("A was read."), saying("Both read.", used=20), saying("It is done."))
    reading = Reading(OVERFLOW, *rest) if overflows else Reading(*rest, used=(50, 80), window=100)
    async with running(reading.agent) as world:
        watched = await watch(world)
        await world.send("go")
        head = "What was before this, in short:\n\n"
        assert await said(world) == [("system", f"{head}It is done."), ("user", "go"), ("assistant", "Both read.")]
        await in_step(world, watched)
    short = ["A was read.", "user", "calls", "what b says"]
    tried = [WHOLE] if overflows else []
    assert [reading.told(number) for number in range(2, len(reading.model.requests))] == [
        *tried,
        [*WHOLE[:3], "wish"],
        short,
        [*short, "says", "wish"],
    ]


async def test_what_does_not_fit_in_short_either_has_overflown() -> None:
    reading = Reading(OVERFLOW, saying("A was read."), OVERFLOW)
    async with running(reading.agent) as world:
        await world.send("go")
        failed = (await world.view()).read_view.messages[-1]
        assert failed.error == Failure("context_overflow", "too long")


async def test_what_a_first_tool_gave_has_to_fit_by_itself() -> None:
    @tool
    async def read() -> str:
        return "very much"

    model = ScriptedModel(calling(("read", {})), OVERFLOW)
    async with running(StandardAgent(model="test:one", client=model, tools=[read], context_window=100)) as world:
        await world.send("go")
        failed = (await world.view()).read_view.messages[-1]
        assert failed.error == Failure("context_overflow", "too long")
    assert len(model.requests) == 2, "there was nothing that could be put into a few words"


async def test_a_turn_that_is_cut_off_behind_a_summary_goes_on_with_it() -> None:
    store = MemoryStore(ManualClock())
    third = calling(("read", {"name": "c"}))
    first = Reading(OVERFLOW, saying("A was read."), third, [asyncio.Event().wait])
    async with running(first.agent, store=store) as world:
        await world.send("go")
        assert len(first.model.requests) == 6
    second = Reading()
    second.model.scripts = [saying("All read."), saying("It is done.")]
    async with running(second.agent, store=store, session_ids=()) as world:
        assert (await said(world))[-1] == ("assistant", "All read.")
    assert second.told(0) == ["A was read.", "user", "calls", "what b says", "calls", "what c says"]


async def test_without_a_known_window_nothing_is_compacted() -> None:
    model = ScriptedModel(saying("Hello.", used=1_000_000))
    async with running(StandardAgent(model="test:one", client=model)) as world:
        await world.send("hi")
        assert await said(world) == [("user", "hi"), ("assistant", "Hello.")]
