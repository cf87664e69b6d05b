"""Turns of other sessions as processes: sub-agents, found again after a crash, accounted for once, ended together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import UnsetType

from sightline.kernel import Limits
from sightline.observation.events import Committed
from sightline.process.functions import Functions, RunningProcess, function_registration
from sightline.process.kinds import SESSION_TURN, child_session_of, registration_of
from sightline.process.model import AwaitOutput, CancelledOutput, FailureOutput, ProcessScope, SuccessOutput
from sightline.queue.model import Batch, BatchState
from sightline.session.model import UsageFigures
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.conformance.process_steps import HERE
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import World, running, said, watch

pytestmark = pytest.mark.anyio

CHILD = "child:p"
FIGURES = UsageFigures(input_tokens=10, requests=1)


@dataclass
class Family:
    """An agent that in the session `s` starts a sub-agent and, told so, waits for it; anywhere else it does what it is
    told, once it may.
    """

    may: asyncio.Event = field(default_factory=asyncio.Event)
    children: list[Turn] = field(default_factory=list)
    outputs: list[AwaitOutput] = field(default_factory=list)

    async def __call__(self, turn: Turn) -> None:
        if turn.session_id != "s":
            await self._work(turn)
            return
        how, _, what = turn.input[0].content.partition(" ")
        process_id = await turn.start_process("look", {"input": what}, kind=SESSION_TURN)
        if how == "wait":
            self.outputs.append(await turn.end_of(process_id))
        turn.text(process_id)

    async def _work(self, turn: Turn) -> None:
        self.children.append(turn)
        turn.usage("model", FIGURES)
        await self.may.wait()
        if turn.input[0].content == "fail":
            raise AgentError("it is too hard", code="too_hard")
        turn.text(f"found {turn.input[0].content}")


async def begin(world: World, text: str = "it", **given: Any) -> None:
    """Start a sub-agent of the session `s` as the process `p`."""
    registration = registration_of("p", SESSION_TURN, {"input": text, **given}, owner=HERE)
    await world.kernel.processes.start_process(registration)
    await settled()


async def end(world: World) -> AwaitOutput:
    await settled()
    output = await world.kernel.processes.end_of("p", 1.0)
    assert output is not None
    return output


async def work_of(world: World, session_id: str = CHILD) -> Batch:
    [batch] = await world.store.list_batches(session_id, pending_only=False, limit=9)
    return batch


async def counted(world: World) -> Any:
    """What the session `s` has used, by source, as the store has it, which is what observers are shown."""
    used = (await world.store.load_session("s", 9)).record.usage
    assert (await world.view()).usage == used
    return {} if isinstance(used.by_source, UnsetType) else used.by_source


async def test_a_turn_starts_a_sub_agent_which_has_a_session_that_says_whose_it_is() -> None:
    family = Family()
    async with running(family, functions=Functions()) as world:
        await world.send("start it")
        [shown] = (await world.view()).processes
        process_id = shown["process_id"]
        child_id = f"child:{process_id}"
        assert shown["descriptor"] == {"kind": "session_turn", "label": "look", "child_session_id": child_id}
        view = await world.view(child_id)
        assert view.metadata == {"parent": {"session_id": "s", "process_id": process_id}}
        assert view.status == "running"
        family.may.set()
        output = await world.kernel.processes.end_of(process_id, 1.0)
        turn_id = family.children[0].turn_id
        assert output == SuccessOutput(value={"text": "found it", "session_id": child_id, "turn_id": turn_id})
        assert (await said(world))[-1] == ("assistant", process_id)


async def test_a_child_has_its_parents_policy_and_its_own_metadata() -> None:
    async with running(Family(), functions=Functions()) as world:
        await world.kernel.create_session("parent", policy={"model": "m"})
        given = {"input": "it", "metadata": {"topic": "t"}}
        owner = ProcessScope("parent")
        await world.kernel.processes.start_process(registration_of("p", SESSION_TURN, given, owner=owner))
        view = await world.view(CHILD)
        assert view.policy == {"model": "m"}
        assert view.metadata == {"topic": "t", "parent": {"session_id": "parent", "process_id": "p"}}


async def test_a_child_may_be_a_session_that_is_there() -> None:
    family = Family()
    async with running(family, functions=Functions(), session_ids=("s", "t")) as world:
        family.may.set()
        await begin(world, session_id="t", policy={"model": "other"})
        output = await end(world)
        assert isinstance(output, SuccessOutput)
        assert output.value["session_id"] == "t"
        assert (await world.view("t")).policy == {}, "it is as it was"


async def test_a_session_is_not_its_own_child() -> None:
    async with running(Family(), functions=Functions()) as world:
        await begin(world, session_id="s")
        output = await end(world)
        assert isinstance(output, FailureOutput)
        assert output.code == "own_session"


def test_an_id_that_would_name_no_session_is_made_one_that_does() -> None:
    made = child_session_of("a/b c", {})
    assert made.startswith("child:")
    assert " " not in made
    assert made == child_session_of("a/b c", {})
    assert len(child_session_of("x" * 200, {})) < 128


# At concurrency one


async def test_a_turn_that_waits_for_its_child_lets_it_run() -> None:
    family = Family()
    family.may.set()
    async with running(family, functions=Functions(), limits=Limits(concurrency=1)) as world:
        await world.send("wait it")
        await settled()
        [output] = family.outputs
        assert isinstance(output, SuccessOutput)
        assert output.value["text"] == "found it"
        assert (await said(world))[-1][0] == "assistant"


async def test_a_process_that_waits_for_its_child_lets_it_run() -> None:
    functions, family = Functions(), Family()
    family.may.set()

    @functions.process("parent")
    async def parent(process: RunningProcess) -> str:
        output = await process.end_of("p")
        assert isinstance(output, SuccessOutput)
        return str(output.value["text"])

    async with running(family, functions=functions, limits=Limits(concurrency=1), start=False) as world:
        await world.kernel.processes.start_process(function_registration("a parent", "parent"))
        await begin(world)
        await world.kernel.start()
        await settled()
        assert await world.kernel.processes.end_of("a parent", 1.0) == SuccessOutput(value="found it")


async def test_a_turn_that_waits_for_a_process_is_given_back_by_a_drain_and_goes_on_elsewhere() -> None:
    family, store = Family(), MemoryStore(ManualClock())
    async with running(family, functions=Functions(), store=store) as world:
        await world.send("wait it")
        draining = asyncio.create_task(world.kernel.drain(60.0))
        await settled()
        assert (await store.list_batches("s", pending_only=False, limit=1))[0].state is BatchState.PENDING
        family.may.set()
        async with asyncio.timeout(10):
            await draining
    async with running(family, functions=Functions(), store=store, session_ids=()) as world:
        await settled()
        [output] = family.outputs
        assert isinstance(output, SuccessOutput)
        assert len(family.children) == 1


# What it used


async def test_what_the_child_used_is_counted_once_and_told() -> None:
    family = Family()
    family.may.set()
    async with running(family, functions=Functions()) as world:
        watched = await watch(world)
        await begin(world)
        await end(world)
        assert await counted(world) == {f"child:{CHILD}": {"model": FIGURES}}
        assert (await world.view()).usage.totals == FIGURES
        [told] = [event for event in watched.events if isinstance(event.data, Committed)]
        assert isinstance(told.data, Committed)
        assert (told.data.messages, told.data.usage_delta.totals, told.revision) == ((), FIGURES, 0)
        assert watched.handle.view == await world.view()


async def test_an_attempt_that_comes_after_the_count_does_not_count_again() -> None:
    family = Family()
    family.may.set()
    async with running(family, functions=Functions()) as world:
        watched = await watch(world)
        world.faults.fail_before("page_messages")
        await begin(world)
        assert (await world.store.get_process("p")).status == "running"
        assert await counted(world) == {f"child:{CHILD}": {"model": FIGURES}}
        await world.clock.run_for(5.0)
        assert isinstance(await end(world), SuccessOutput)
        assert await counted(world) == {f"child:{CHILD}": {"model": FIGURES}}
        assert watched.handle.view == await world.view()


async def test_what_other_turns_of_the_child_use_is_their_own() -> None:
    family = Family()
    family.may.set()
    async with running(family, functions=Functions(), session_ids=("s", "t")) as world:
        await world.send("before", session_id="t")
        await begin(world, session_id="t")
        await world.send("after", session_id="t")
        await end(world)
        assert await counted(world) == {"child:t": {"model": FIGURES}}


async def test_a_running_turn_of_the_parent_and_what_the_child_used_do_not_disturb_each_other() -> None:
    family = Family()
    async with running(family, functions=Functions()) as world:
        watched = await watch(world)
        await world.send("wait it")
        family.may.set()
        await settled()
        [source] = await counted(world)
        assert source.startswith("child:child:")
        assert (await world.store.load_session("s", 9)).record.revision == 1
        assert watched.handle.view == await world.view()


async def test_there_may_be_nobody_to_count_it_to() -> None:
    family = Family()
    async with running(family, functions=Functions(), session_ids=("s",)) as world:
        await begin(world)
        await world.kernel.delete_session("s")
        family.may.set()
        assert isinstance(await end(world), SuccessOutput)


# Other ends


async def test_a_turn_that_fails_is_the_process_s_failure() -> None:
    family = Family()
    family.may.set()
    async with running(family, functions=Functions()) as world:
        await begin(world, "fail")
        output = await end(world)
        turn_id = family.children[0].turn_id
        assert output == FailureOutput(
            code="too_hard", message="it is too hard", raw={"session_id": CHILD, "turn_id": turn_id}
        )
        assert await counted(world) == {f"child:{CHILD}": {"model": FIGURES}}


async def test_a_turn_that_somebody_cancels_ends_the_process_as_cancelled() -> None:
    async with running(Family(), functions=Functions()) as world:
        await begin(world)
        await world.kernel.cancel_turn(CHILD, reason="no")
        output = await end(world)
        assert isinstance(output, CancelledOutput)
        assert output.message == "its turn was cancelled"


async def test_a_child_that_is_deleted_is_a_failure() -> None:
    async with running(Family(), functions=Functions()) as world:
        await begin(world)
        await world.kernel.delete_session(CHILD)
        output = await end(world)
        assert isinstance(output, FailureOutput)
        assert output.code == "session_deleted"


async def test_who_cancels_the_process_cancels_the_turn() -> None:
    async with running(Family(), functions=Functions()) as world:
        await begin(world)
        await world.kernel.processes.cancel("p", "enough")
        assert await end(world) == CancelledOutput(message="enough")
        assert (await work_of(world)).state is BatchState.CANCELLED
        assert await counted(world) == {f"child:{CHILD}": {"model": FIGURES}}


async def test_a_process_that_is_cancelled_while_nobody_runs_it_still_ends_the_turn_it_left() -> None:
    family, store = Family(), MemoryStore(ManualClock())
    async with running(family, functions=Functions(), store=store) as world:
        await begin(world)
    async with running(None, store=store, session_ids=()) as world:
        await world.kernel.processes.cancel("p", "enough")
        assert (await work_of(world)).state.is_open
    async with running(family, functions=Functions(), store=store, session_ids=()) as world:
        assert await end(world) == CancelledOutput(message="enough")
        assert (await work_of(world)).state is BatchState.CANCELLED


async def test_a_process_that_never_began_has_no_turn_to_end() -> None:
    store = MemoryStore(ManualClock())
    async with running(None, store=store) as world:
        await begin(world)
        await world.kernel.processes.cancel("p", "enough")
    async with running(Family(), functions=Functions(), store=store, session_ids=()) as world:
        assert await end(world) == CancelledOutput(message="enough")
        page = await world.store.list_sessions(limit=9, after=None, status=None)
        assert [entry.session_id for entry in page.sessions] == ["s"]


async def test_after_a_crash_the_same_child_does_the_same_work_once() -> None:
    family, store = Family(), MemoryStore(ManualClock())
    async with running(family, functions=Functions(), store=store) as world:
        await begin(world)
    family.may.set()
    async with running(family, functions=Functions(), store=store, session_ids=()) as world:
        output = await end(world)
        assert isinstance(output, SuccessOutput)
        assert output.value["text"] == "found it"
        assert (await work_of(world)).state is BatchState.COMPLETED
        assert len(family.children) == 2, "the turn was run again, in the same session"
        assert await counted(world) == {f"child:{CHILD}": {"model": FIGURES}}
