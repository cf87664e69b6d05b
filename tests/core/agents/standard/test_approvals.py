"""Tools that need somebody's word: asked for before the call, waited for across restarts, told to the model."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.agents.standard import StandardAgent, tool
from sightline.errors import InvalidInput
from sightline.queue.model import DeliveryPolicy
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.models import ScriptedModel, calling, saying
from sightline.turn.conversation import TextPart, ToolMessage, UserMessage
from tests.core.worlds import World, in_step, running, said, watch

pytestmark = pytest.mark.anyio


class Bank:
    def __init__(self) -> None:
        self.paid: list[int] = []

        @tool(approval=True)
        async def pay(amount: int) -> str:
            """Pays."""
            self.paid.append(amount)
            return f"paid {amount}"

        @tool
        async def balance() -> int:
            return 100 - sum(self.paid)

        self.tools = [pay, balance]


def agent(model: ScriptedModel, bank: Bank) -> StandardAgent:
    return StandardAgent(model="test:one", client=model, tools=bank.tools)


async def answer(world: World, index: int, word: Any) -> None:
    request = (await world.view()).requests[index]
    await world.kernel.answer("s", request["request_id"], word)
    await settled()


async def test_a_call_waits_until_it_is_allowed_and_others_do_not() -> None:
    bank = Bank()
    model = ScriptedModel(calling(("pay", {"amount": 7}), ("balance", {})), saying("Paid."))
    async with running(agent(model, bank)) as world:
        watched = await watch(world)
        await world.send("pay 7")
        view = await world.view()
        assert (view.status, bank.paid) == ("waiting", [])
        [request] = view.requests
        assert (request["kind"], request["options"]) == ("approval", ["allow", "deny"])
        assert request["prompt"] == 'May pay be called with {"amount":7}?'
        assert view.live is not None
        assert [call.state for call in view.live.tool_calls] == ["running", "completed"]
        await answer(world, 0, "allow")
        assert (await said(world))[-1] == ("assistant", "Paid.")
        assert bank.paid == [7]
        await in_step(world, watched)


async def test_what_is_denied_is_told_to_the_model_and_not_done_and_so_is_what_was_sent_with_it() -> None:
    bank = Bank()
    model = ScriptedModel(calling(("pay", {"amount": 7})), saying("Then not."))
    async with running(agent(model, bank)) as world:
        await world.send("pay 7")
        await world.send("too much", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
        await answer(world, 0, "deny")
        assert (await said(world))[-1] == ("assistant", "Then not.")
    results, why = model.requests[1].messages[-2:]
    assert isinstance(results, ToolMessage)
    told = results.results[0]
    assert (told.output, told.failed, bank.paid) == ("the call was not allowed", True, [])
    assert why == UserMessage(parts=(TextPart(text="too much"),), transient=True)


@pytest.mark.parametrize("word", ["yes", "Allow", "too much", True, {"allow": True}])
async def test_a_word_that_was_not_offered_is_no_answer(word: Any) -> None:
    bank = Bank()
    async with running(agent(ScriptedModel(calling(("pay", {"amount": 7}))), bank)) as world:
        await world.send("pay 7")
        with pytest.raises(InvalidInput, match='answer: must be one of "allow", "deny"'):
            await answer(world, 0, word)
        assert ((await world.view()).status, bank.paid) == ("waiting", [])


async def test_two_calls_are_two_requests() -> None:
    bank = Bank()
    model = ScriptedModel(calling(("pay", {"amount": 1}), ("pay", {"amount": 2})), saying("Half of it."))
    async with running(agent(model, bank)) as world:
        await world.send("pay")
        await answer(world, 1, "allow")
        await answer(world, 0, "deny")
        assert (await said(world))[-1] == ("assistant", "Half of it.")
    assert bank.paid == [2]


async def test_what_is_asked_survives_a_restart_and_is_asked_once() -> None:
    bank, store = Bank(), MemoryStore(ManualClock())
    first = ScriptedModel(calling(("pay", {"amount": 7})))
    async with running(agent(first, bank), store=store) as world:
        await world.send("pay 7")
        [asked] = (await world.view()).requests
    second = ScriptedModel(saying("Paid."))
    async with running(agent(second, bank), store=store, session_ids=()) as world:
        await settled()
        [again] = (await world.view()).requests
        assert again["request_id"] == asked["request_id"]
        await answer(world, 0, "allow")
        assert (await said(world))[-1] == ("assistant", "Paid.")
    assert bank.paid == [7]


async def test_an_answer_that_came_while_nobody_ran_is_found() -> None:
    bank, store = Bank(), MemoryStore(ManualClock())
    async with running(agent(ScriptedModel(calling(("pay", {"amount": 7}))), bank), store=store) as world:
        await world.send("pay 7")
    async with running(None, store=store, session_ids=()) as world:
        await answer(world, 0, "allow")
    async with running(agent(ScriptedModel(saying("Paid.")), bank), store=store, session_ids=()) as world:
        await settled()
        assert (await said(world))[-1] == ("assistant", "Paid.")
    assert bank.paid == [7]
