"""Every exit of a turn settles its claim: a process that ends at any moment, a session that is deleted."""

from __future__ import annotations

import asyncio

import pytest

from sightline.errors import SessionDeleted
from sightline.queue.model import BatchState
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.conformance.steps import enqueue, new_session
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import Puppet, only_batch, running, said, watch

pytestmark = pytest.mark.anyio


async def test_a_kernel_that_stops_hands_its_work_back_uncharged_and_retracts_what_it_showed() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("so far")
        await world.kernel.stop()
        batch = await only_batch(world)
        assert (batch.state, batch.attempts, batch.turn_id) == (BatchState.PENDING, 0, puppet.turns[0].turn_id)
        assert puppet.cancelled == 1
        assert watched.told[-2:] == ["retracted", "abandoned"]
        live = watched.handle.view.live
        assert live is None or live.segments == ()
        assert await said(world) == []


async def test_a_drain_lets_a_turn_end_in_its_time() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("one")
        await world.send("two")
        draining = asyncio.create_task(world.kernel.drain(20.0))
        await world.clock.run_for(19.0)
        await puppet.ends()
        await draining
        states = [b.state for b in await world.store.list_batches("s", pending_only=False, limit=10)]
        assert states == [BatchState.COMPLETED, BatchState.PENDING]


async def test_a_drain_hands_back_what_does_not_end_in_its_time() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        draining = asyncio.create_task(world.kernel.drain(20.0))
        await world.clock.run_for(19.9)
        assert not draining.done()
        await world.clock.run_for(0.1)
        await draining
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.PENDING, 0)


async def test_a_drain_hands_back_also_what_was_being_claimed_when_its_time_was_up() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        gate = world.faults.hold("claim")
        await world.send("question")
        draining = asyncio.create_task(world.kernel.drain(1.0))
        await world.clock.run_for(1.0)
        gate.open()
        await draining
        batch = await only_batch(world)
        assert (batch.state, batch.attempts, puppet.turns) == (BatchState.PENDING, 0, [])


async def test_a_drive_that_was_about_to_claim_when_the_drain_began_claims_nothing() -> None:
    puppet = Puppet()
    store = MemoryStore(ManualClock())
    await new_session(store)
    await enqueue(store)
    async with running(puppet, store=store, session_ids=(), start=False) as world:
        gate = world.faults.hold("load_session")
        await world.kernel.start()
        await gate.reached.wait()
        draining = asyncio.create_task(world.kernel.drain(10.0))
        await settled()
        gate.open()
        await draining
        assert (await only_batch(world)).state is BatchState.PENDING
        assert puppet.turns == []


@pytest.mark.parametrize("moment", ["hold", "hold_answer"])
async def test_work_is_given_back_when_the_process_ends_in_mid_claim(moment: str) -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        gate = getattr(world.faults, moment)("claim")
        await world.send("question")
        await gate.reached.wait()
        stopping = asyncio.create_task(world.kernel.stop())
        await settled()
        assert not stopping.done()
        gate.open()
        await stopping
        batch = await only_batch(world)
        assert (batch.state, batch.attempts, puppet.turns) == (BatchState.PENDING, 0, [])


@pytest.mark.parametrize("moment", ["hold", "hold_answer"])
async def test_a_commit_under_way_is_seen_through_when_the_process_ends(moment: str) -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        await puppet.says("answer")
        gate = getattr(world.faults, moment)("commit")
        await puppet.ends()
        await gate.reached.wait()
        stopping = asyncio.create_task(world.kernel.stop())
        await settled()
        assert not stopping.done()
        gate.open()
        await stopping
        assert (await only_batch(world)).state is BatchState.COMPLETED
        assert await said(world) == [("user", "question"), ("assistant", "answer")]


async def test_a_kernel_that_stops_waits_for_its_agents_to_clean_up() -> None:
    ended: list[str] = []

    async def cleans_up(turn: Turn) -> None:
        try:
            await turn.sleep(1_000)
        finally:
            await turn.sleep(2)
            ended.append("cleaned up")

    async with running(cleans_up) as world:
        await world.send("question")
        stopping = asyncio.create_task(world.kernel.stop())
        await world.clock.run_for(1.9)
        assert not stopping.done()
        await world.clock.run_for(0.1)
        await stopping
        assert ended == ["cleaned up"]


# A session that goes away


async def test_deleting_a_session_stops_its_turn_and_leaves_nothing() -> None:
    puppet = Puppet()
    async with running(puppet, session_ids=("s", "other")) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("so far")
        await world.kernel.delete_session("s")
        await settled()
        assert puppet.cancelled == 1
        assert world.kernel.running_turns == 0
        assert watched.handle.closed_reason == "session_deleted"
        assert world.replay.current_cursor("s", 0).position == 0
        with pytest.raises(SessionDeleted):
            await world.kernel.observe("s")
        await world.send("work", session_id="other")
        assert puppet.turns[-1].session_id == "other"


async def test_deleting_a_session_while_its_turn_is_committed_leaves_nothing() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        gate = world.faults.hold("commit")
        await puppet.ends()
        await gate.reached.wait()
        await world.kernel.delete_session("s")
        gate.open()
        await settled()
        assert world.kernel.running_turns == 0
        assert world.replay.current_cursor("s", 0).position == 0
        with pytest.raises(SessionDeleted):
            await world.kernel.observe("s")


async def test_an_agent_that_ignores_the_deletion_of_its_session_publishes_nothing() -> None:
    async def talks_on(turn: Turn) -> None:
        try:
            await turn.sleep(1_000)
        except asyncio.CancelledError:
            turn.text("hello?")
            raise AgentError("anybody?") from None

    async with running(talks_on) as world:
        await world.send("question")
        await world.kernel.delete_session("s")
        await world.clock.run_for(10.0)
        assert world.replay.current_cursor("s", 0).position == 0
