"""A turn that is cut off goes on from where it was: what is known is not asked for, or done, again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from sightline.agents.standard import StandardAgent, tool
from sightline.agents.standard.model import Finish, ModelEvent, ModelRequest, Text
from sightline.queue.model import DeliveryPolicy
from sightline.session.model import Usage, UsageFigures
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.models import Line, ScriptedModel, calling, saying
from sightline.turn.agent import Turn
from sightline.turn.conversation import AssistantMessage, TextPart, ToolMessage, UserMessage
from tests.core.worlds import in_step, running, said, watch

pytestmark = pytest.mark.anyio


async def forever() -> None:
    await asyncio.Event().wait()


THINK = calling(("note", {"text": "a"}), ("note", {"text": "b"}), text="Noting. ", reasoning="hm", used=7)


class Notes:
    """A tool with an effect; it hangs at the texts that it is told to."""

    def __init__(self, *hanging: str) -> None:
        self.taken: list[str] = []
        self.hanging = set(hanging)

        @tool
        async def note(text: str) -> str:
            if text in self.hanging:
                await asyncio.Event().wait()
            self.taken.append(text)
            return f"noted {text}"

        self.tool = note


def agent(model: ScriptedModel, notes: Notes) -> StandardAgent:
    return StandardAgent(model="test:one", client=model, tools=[notes.tool])


async def cut_off(store: MemoryStore, model: ScriptedModel, notes: Notes) -> None:
    """Run a turn as far as it goes, and end the process."""
    async with running(agent(model, notes), store=store) as world:
        await world.send("go")


async def finished(store: MemoryStore, model: ScriptedModel, notes: Notes) -> list[dict[str, Any]]:
    """Go on with the turn in another process, to its end: the parts of the answer."""
    async with running(agent(model, notes), store=store, session_ids=()) as world:
        watched = await watch(world)
        await settled()
        [_, (role, content)] = await said(world)
        assert (role, content) == ("assistant", "Noting. All noted.")
        view = await world.view()
        used = UsageFigures(input_tokens=9, output_tokens=9, requests=2)
        assert view.usage == Usage(used, {"test:one": used}, {"agent": {"test:one": used}})
        await in_step(world, watched)
        parts = view.read_view.messages[-1].parts
        assert isinstance(parts, list)
        return parts


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(ManualClock())


async def test_cut_off_in_its_first_request_it_begins_anew(store: MemoryStore) -> None:
    notes = Notes()
    await cut_off(store, ScriptedModel([Text("Not"), forever]), notes)
    await finished(store, ScriptedModel(THINK, saying("All noted.", used=2)), notes)
    assert notes.taken == ["a", "b"]


async def test_cut_off_in_a_tool_it_runs_that_tool_again_and_no_other(store: MemoryStore) -> None:
    notes = Notes("b")
    await cut_off(store, ScriptedModel(THINK), notes)
    assert notes.taken == ["a"]
    notes.hanging.clear()
    second = ScriptedModel(saying("All noted.", used=2))
    await finished(store, second, notes)
    assert notes.taken == ["a", "b"]
    results = second.requests[0].messages[-1]
    assert isinstance(results, ToolMessage)
    assert [result.output for result in results.results] == ["noted a", "noted b"]


async def test_cut_off_in_its_second_request_it_makes_that_one_alone(store: MemoryStore) -> None:
    notes = Notes()
    await cut_off(store, ScriptedModel(THINK, [Text("All"), forever]), notes)
    parts = await finished(store, ScriptedModel(saying("All noted.", used=2)), notes)
    assert notes.taken == ["a", "b"]
    assert [part["type"] for part in parts] == ["reasoning", "text", "tool_call", "tool_call", "text"]
    assert [part.get("output") for part in parts if part["type"] == "tool_call"] == ["noted a", "noted b"]


class Places:
    """Where a turn can be cut off: before each thing that the model says and around each thing that a tool does."""

    def __init__(self, cut_at: int | None) -> None:
        self.cut_at = cut_at
        self.passed = 0
        self.done: list[str] = []

    async def here(self) -> None:
        if self.passed == self.cut_at:
            await asyncio.Event().wait()
        self.passed += 1

    def agent(self, *scripts: list[Line]) -> StandardAgent:
        @tool
        async def note(turn: Turn, text: str) -> str:
            def do() -> str:
                self.done.append(text)
                return f"noted {text}"

            await self.here()
            noted: str = await turn.idempotent(text, do)
            await self.here()
            return noted

        cut = [[place for line in script for place in (self.here, line)] for script in scripts]
        return StandardAgent(model="test:one", client=_ByConversation(*cut), tools=[note])


class _ByConversation(ScriptedModel):
    """Plays the script that the conversation has come to, however often it was asked before."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        said_before = sum(1 for message in request.messages if isinstance(message, AssistantMessage))
        async for event in ScriptedModel(self.scripts[said_before]).stream(request):
            yield event


SCRIPTS = (
    THINK,
    calling(("note", {"text": "c"}), text="More. ", used=1),
    saying("All ", "noted.", used=2),
)


async def places_of_a_turn() -> int:
    uncut = Places(None)
    async with running(uncut.agent(*SCRIPTS)) as world:
        await world.send("go")
        assert len(await said(world)) == 2
    return uncut.passed


@pytest.mark.parametrize("chunk", [32_768, 1, 600])
async def test_wherever_it_is_cut_off_it_ends_as_if_it_had_not_been(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.agents.standard.notebook._CHUNK", chunk)
    count = await places_of_a_turn()
    assert count > 15
    for place in range(count):
        store = MemoryStore(ManualClock())
        cut = Places(place)
        async with running(cut.agent(*SCRIPTS), store=store) as world:
            await world.send("go")
            assert cut.passed == place
        cut.cut_at = None
        async with running(cut.agent(*SCRIPTS), store=store, session_ids=()) as world:
            watched = await watch(world)
            await settled()
            assert await said(world) == [("user", "go"), ("assistant", "Noting. More. All noted.")], place
            parts = (await world.view()).read_view.messages[-1].parts
            assert [part["type"] for part in parts or ()] == [
                *("reasoning", "text", "tool_call", "tool_call"),
                *("text", "tool_call", "text"),
            ], place
            assert sorted(cut.done) == ["a", "b", "c"], place
            await in_step(world, watched)


class Scale(MemoryStore):
    """Weighs what is written into journals."""

    weight = 0

    async def remember(self, *args: Any, **options: Any) -> str:
        self.weight += len(args[3])
        return await super().remember(*args, **options)


async def weight_of(calls: int) -> int:
    @tool
    async def read() -> str:
        return "x" * 2_000

    scripts = [calling(("read", {})) for _ in range(calls)]
    model = ScriptedModel(*scripts, saying("Done."))
    standard = StandardAgent(model="test:one", client=model, tools=[read], max_turns=1_000)
    store = Scale(ManualClock())
    async with running(standard, store=store) as world:
        await world.send("go")
        assert (await said(world))[-1] == ("assistant", "Done.")
    return store.weight


async def test_what_is_written_down_grows_with_the_conversation_and_not_with_its_square() -> None:
    some, more = await weight_of(100), await weight_of(400)
    assert more < 5 * some


async def test_what_a_checkpoint_took_in_is_heard_once(store: MemoryStore) -> None:
    notes, go = Notes(), asyncio.Event()
    first = ScriptedModel([go.wait, Finish(parts=(TextPart(text="One."),))], [forever])
    async with running(agent(first, notes), store=store) as world:
        await world.send("first")
        await world.send("more", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
        await world.send("more", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
        go.set()
        await settled()
        assert len(first.requests) == 2
    second = ScriptedModel(saying(" Two."))
    async with running(agent(second, notes), store=store, session_ids=()) as world:
        assert await said(world) == [
            ("user", "first"),
            ("user", "more"),
            ("user", "more"),
            ("assistant", "One. Two."),
        ]
    heard = [message for message in second.requests[0].messages if isinstance(message, UserMessage)]
    assert [message.parts for message in heard] == [(TextPart(text=text),) for text in ("first", "more", "more")]


async def test_what_another_version_left_is_not_guessed_at(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr("sightline.turn.saving.VERSION", 0)
        await cut_off(store, ScriptedModel(THINK, [forever]), notes)
    await finished(store, ScriptedModel(THINK, saying("All noted.", used=2)), notes)
    assert notes.taken == ["a", "b", "a", "b"]
