"""Long conversations: put into a few words behind a turn, and gone on with from there."""

from __future__ import annotations

import pytest

from sightline.agents.standard import Patience, StandardAgent
from sightline.agents.standard.model import ModelTrouble
from sightline.session.model import UsageFigures
from sightline.session.rules import ledger_of
from sightline.testing.models import ScriptedModel, saying
from sightline.turn.conversation import SystemMessage, TextPart, UserMessage
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


async def test_without_a_known_window_nothing_is_compacted() -> None:
    model = ScriptedModel(saying("Hello.", used=1_000_000))
    async with running(StandardAgent(model="test:one", client=model)) as world:
        await world.send("hi")
        assert await said(world) == [("user", "hi"), ("assistant", "Hello.")]
