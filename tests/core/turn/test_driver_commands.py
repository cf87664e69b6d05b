"""Session commands: in queue order, exactly once, and a bad one holds nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import UNSET

from sightline.errors import CommandFailed, InvalidInput
from sightline.kernel import Kernel, Limits
from sightline.observation.events import Committed, ResidentChanged
from sightline.queue.model import Batch, BatchState, RefreshToolSurface, ResetSession, SessionCommand
from sightline.session.model import Failure, Policy, SessionLease
from sightline.testing.clock import ManualClock, settled
from sightline.testing.ids import CountingIds
from tests.core.worlds import Puppet, World, in_step, running, said, watch

pytestmark = pytest.mark.anyio

TOOL = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}


class Toolbox:
    """Tools that a test changes, and a source that fails when told."""

    def __init__(self, *tools: dict[str, Any]) -> None:
        self.tools: Sequence[dict[str, Any]] = tools
        self.error: Exception | None = None
        self.reads = 0

    async def __call__(self, session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.tools


async def order(world: World, command: SessionCommand, key: str = "c") -> str:
    """Submit the command: the id of its batch."""
    receipt, _ = await world.kernel.submit_command("s", command, key)
    await settled()
    return receipt.batch_id


async def batch_of(world: World, batch_id: str) -> Batch:
    return await world.store.get_batch("s", batch_id)


RESET = ResetSession(reason="start over")
REFRESH = RefreshToolSurface(reason="new tools")


async def test_a_receipt_says_where_the_command_stands_in_the_queue() -> None:
    async with running(None) as world:
        receipt, written = await world.kernel.submit_command("s", REFRESH, "k")
        assert (receipt.session_id, receipt.source_key) == ("s", "command:refresh_tool_surface:k")
        assert receipt.batch_id == written.batch.batch_id
        assert (await batch_of(world, receipt.batch_id)).state is BatchState.PENDING
        again, replay = await world.kernel.submit_command("s", REFRESH, "k")
        assert (again, replay.replayed) == (receipt, True)
        with pytest.raises(InvalidInput):
            await world.kernel.submit_command("s", REFRESH, "  ")


async def test_a_reset_empties_the_transcript_and_keeps_what_it_cost() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("answer")
        await puppet.ends()
        batch_id = await order(world, RESET)
        batch = await batch_of(world, batch_id)
        assert (batch.state, batch.attempts) == (BatchState.COMPLETED, 1)
        assert await said(world) == []
        view = await world.view()
        assert (view.read_view.truncated, view.read_view.turn_index, view.revision) == (False, 0, 2)
        assert watched.told[-3:] == ["claimed", "completed", "committed"]
        [*_, last] = watched.events
        assert isinstance(last.data, Committed)
        assert (last.data.reset, last.data.messages, last.data.outcome) == (True, (), UNSET)
        await in_step(world, watched)
        assert (await world.kernel.list_sessions()).sessions[0].title == ""


async def test_a_reset_waits_for_what_was_queued_before_it_and_rules_what_comes_after() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("before")
        await order(world, RESET)
        await world.send("after")
        await puppet.says("one")
        await puppet.ends()
        assert [turn.input[0].content for turn in puppet.turns] == ["before", "after"]
        assert await puppet.turns[1].messages() == ()
        await puppet.ends()
        assert await said(world) == [("user", "after")]


async def test_one_drive_runs_a_command_and_the_turn_behind_it() -> None:
    puppet = Puppet()
    async with running(puppet, start=False) as world:
        await order(world, RESET)
        await order(world, REFRESH)
        await world.send("question")
        await world.kernel.start()
        await settled()
        assert len(puppet.turns) == 1
        # Nothing was poked or polled since: one claim for each, by one drive.
        assert world.faults.calls.count("claim") == 3
        await puppet.ends()


async def test_a_refresh_reads_the_tools_and_shows_them_under_a_new_generation() -> None:
    toolbox = Toolbox(TOOL)
    async with running(Puppet(), tools=toolbox) as world:
        watched = await watch(world)
        await order(world, REFRESH)
        view = await world.view()
        assert (view.tools.generation, view.tools.catalog, view.tools.error) == (1, (TOOL,), None)
        assert view.revision == 0
        [*_, last] = watched.events
        assert isinstance(last.data, ResidentChanged)
        assert last.data.tools == view.tools
        assert (await world.store.load_session("s", 1)).record.tools == view.tools
        await in_step(world, watched)


async def test_a_refresh_that_finds_the_same_tools_changes_no_generation() -> None:
    toolbox = Toolbox(TOOL)
    async with running(Puppet(), tools=toolbox) as world:
        await order(world, REFRESH, "1")
        watched = await watch(world)
        await order(world, REFRESH, "2")
        assert toolbox.reads == 2
        assert (await world.view()).tools.generation == 1
        assert watched.told == ["enqueued", "claimed", "completed"]


async def test_a_refresh_that_expects_another_generation_is_settled_as_failed_and_blocks_nothing() -> None:
    puppet, toolbox = Puppet(), Toolbox(TOOL)
    async with running(puppet, tools=toolbox) as world:
        watched = await watch(world)
        batch_id = await order(world, RefreshToolSurface(reason="r", expected_generation=7))
        await world.send("question")
        batch = await batch_of(world, batch_id)
        assert batch.state is BatchState.FAILED
        assert batch.error == Failure(
            "session_command_generation_mismatch", "the tool surface is of generation 0, not 7"
        )
        assert toolbox.reads == 0
        assert len(puppet.turns) == 1
        assert watched.told[:3] == ["enqueued", "claimed", "failed"]
        await puppet.ends()
        await in_step(world, watched)


@pytest.mark.parametrize("error", [RuntimeError("no server"), TypeError("odd"), KeyError("x")])
async def test_tools_that_cannot_be_read_fail_the_command_with_the_reason(error: Exception) -> None:
    puppet, toolbox = Puppet(), Toolbox(TOOL)
    toolbox.error = error
    async with running(puppet, tools=toolbox) as world:
        batch = await batch_of(world, await order(world, REFRESH))
        assert batch.state is BatchState.FAILED
        assert isinstance(batch.error, Failure)
        assert batch.error.code == "session_command_refresh_tools"
        assert type(error).__name__ in batch.error.message
        assert (await world.view()).tools.generation == 0
        await world.send("question")
        assert len(puppet.turns) == 1
        await puppet.ends()


async def test_tools_that_are_no_json_fail_the_command() -> None:
    toolbox = Toolbox({"name": object()})
    async with running(Puppet(), tools=toolbox) as world:
        assert (await batch_of(world, await order(world, REFRESH))).state is BatchState.FAILED


async def test_a_source_of_tools_that_hangs_is_given_half_a_minute() -> None:
    class Hanging(Toolbox):
        async def __call__(self, session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
            await clock.sleep(10**6)
            return ()

    toolbox = Hanging()
    async with running(Puppet(), tools=toolbox) as world:
        clock = world.clock
        batch_id = await order(world, REFRESH)
        assert (await batch_of(world, batch_id)).state is BatchState.CLAIMED
        await world.clock.run_for(30.0)
        assert (await batch_of(world, batch_id)).state is BatchState.FAILED


async def test_a_command_whose_commit_had_no_answer_is_applied_once() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        await puppet.ends()
        world.faults.fail_after("commit")
        batch_id = await order(world, RESET)
        await world.clock.run_for(1.0)
        assert (await batch_of(world, batch_id)).state is BatchState.COMPLETED
        assert (await world.view()).revision == 2


async def test_a_command_is_handed_back_when_the_process_ends_and_carried_out_by_the_next() -> None:
    toolbox = Toolbox(TOOL)
    async with running(Puppet(), tools=toolbox) as world:
        gate = world.faults.hold("commit")
        batch_id = await order(world, REFRESH)
        stopping = world.kernel.stop()
        gate.open()
        await stopping
        assert (await batch_of(world, batch_id)).state is BatchState.COMPLETED, "a commit under way is seen through"


async def test_a_command_that_has_not_come_to_its_end_is_handed_back_uncharged() -> None:
    class Hanging(Toolbox):
        cancelled = 0

        async def __call__(self, session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return ()

    toolbox = Hanging()
    async with running(Puppet(), tools=toolbox) as world:
        watched = await watch(world)
        batch_id = await order(world, REFRESH)
        await world.kernel.stop()
        batch = await batch_of(world, batch_id)
        assert (batch.state, batch.attempts, toolbox.cancelled) == (BatchState.PENDING, 0, 1)
        assert watched.told == ["enqueued", "claimed", "abandoned"]
        lease = await world.store.acquire_lease(
            "s", owner_id="next", lease_token="next", now=world.clock.now_ms(), ttl_ms=1
        )
        assert isinstance(lease, SessionLease), "the lane is free at once"


async def test_a_drain_ends_when_a_command_has_been_handed_back() -> None:
    class Hanging(Toolbox):
        async def __call__(self, session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
            await asyncio.Event().wait()
            return ()

    async with running(Puppet(), tools=Hanging()) as world:
        batch_id = await order(world, REFRESH)
        world.faults.calls.clear()
        await world.kernel.drain(0.0)
        batch = await batch_of(world, batch_id)
        assert (batch.state, batch.attempts) == (BatchState.PENDING, 0)
        assert world.faults.calls.count("claim") == 0, "it is not taken again by the process that gave it back"


async def test_a_command_whose_end_was_asked_for_before_it_began_is_not_carried_out() -> None:
    async with running(Puppet()) as world:
        answer = world.faults.hold_answer("claim")
        batch_id = await order(world, RESET)
        await world.kernel.cancel_turn("s")
        answer.open()
        await settled()
        assert (await batch_of(world, batch_id)).state is BatchState.CANCELLED
        assert (await world.view()).revision == 0


async def test_a_running_command_can_be_cancelled() -> None:
    class Hanging(Toolbox):
        async def __call__(self, session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
            await asyncio.Event().wait()
            return ()

    async with running(Puppet(), tools=Hanging()) as world:
        batch_id = await order(world, REFRESH)
        answer, _ = await world.kernel.cancel_turn("s")
        assert answer.state == "cancel_requested"
        await settled()
        assert (await batch_of(world, batch_id)).state is BatchState.CANCELLED


async def test_a_command_that_kills_its_owner_every_time_is_given_up() -> None:
    async with running(Puppet(), tools=Toolbox(TOOL), limits=Limits(max_attempts=2)) as world:
        world.faults.fail_before("commit", times=2 * 9)
        batch_id = await order(world, REFRESH)
        await world.clock.run_for(60.0)
        batch = await batch_of(world, batch_id)
        assert (batch.state, batch.attempts) == (BatchState.FAILED, 2)
        assert isinstance(batch.error, Failure)
        assert batch.error.code == "engine_gave_up"


async def test_without_a_store_a_command_is_applied_before_it_is_answered() -> None:
    toolbox = Toolbox(TOOL)
    kernel = Kernel(agent=Puppet(), tools=toolbox, clock=ManualClock(), ids=CountingIds())
    await kernel.start()
    try:
        await kernel.create_session("s")
        receipt, _ = await kernel.submit_command("s", REFRESH, "k")
        assert receipt.batch_id.startswith("inline-command:")
        assert (await kernel.observe("s")).tools.catalog == (TOOL,)
        with pytest.raises(CommandFailed) as failed:
            await kernel.submit_command("s", RefreshToolSurface(reason="r", expected_generation=9), "l")
        assert failed.value.reason == "session_command_generation_mismatch"
    finally:
        await kernel.stop()
