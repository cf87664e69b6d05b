"""A running turn keeps its lease and its claim, and ends without a word when somebody else has taken over."""

from __future__ import annotations

import pytest
from msgspec import structs

from sightline.kernel import Kernel, Limits
from sightline.queue.model import BatchState, Boundary, Claim
from sightline.session.model import LaneBusy, LeaseRequest, SessionLease
from sightline.stores.memory import MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.conformance.steps import ignored
from sightline.testing.ids import CountingIds
from tests.core.worlds import Puppet, World, draft, in_step, only_batch, running, said, watch

pytestmark = pytest.mark.anyio

HOUR = 3_600.0


async def take_over(world: World, *, session_id: str = "s", ttl_ms: int = 60_000) -> SessionLease | LaneBusy:
    """Another owner asks for the session, at the time of the kernel's clock."""
    return await world.store.acquire_lease(
        session_id, owner_id="other", lease_token="other", now=world.clock.now_ms(), ttl_ms=ttl_ms
    )


async def claim_as_other(world: World) -> Claim:
    taken = await world.store.claim(
        "s",
        Boundary.IDLE,
        owner_id="other",
        turn_id="unused",
        lease_token="theirs",
        now=world.clock.now_ms(),
        ttl_ms=60_000,
        max_batches=64,
        lease=LeaseRequest(owner_id="other", lease_token="their lease", ttl_ms=60_000),
        then=ignored,
    )
    assert isinstance(taken, Claim), taken
    return taken


async def test_a_turn_of_hours_keeps_its_lease_and_its_claim() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        for _ in range(8):
            await world.clock.run_for(HOUR / 4)
            assert isinstance(await take_over(world), LaneBusy)
        await puppet.says("answer")
        await puppet.ends()
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.COMPLETED, 1)
        assert await said(world) == [("user", "question"), ("assistant", "answer")]


async def test_a_lease_is_renewed_by_thirds_and_a_claim_too() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(session_lease=9.0, poll_interval=1_000.0)) as world:
        await world.send("question")
        world.faults.calls.clear()
        await world.clock.run_for(27.0)
        assert world.faults.calls.count("renew_lease") == 9
        assert world.faults.calls.count("renew") == 0
        await world.clock.run_for(300.0 - 27.0)
        assert world.faults.calls.count("renew") == 1


async def test_a_session_is_free_for_others_as_soon_as_its_turn_has_ended() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        assert isinstance(await take_over(world), LaneBusy)
        await puppet.ends()
        assert isinstance(await take_over(world), SessionLease)


async def test_a_lease_whose_renewal_fails_twice_still_holds() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(session_lease=9.0)) as world:
        await world.send("question")
        world.faults.fail_before("renew_lease", times=2)
        await world.clock.run_for(8.9)
        assert isinstance(await take_over(world), LaneBusy)
        await world.clock.run_for(1.0)
        assert isinstance(await take_over(world), LaneBusy)
        await puppet.ends()
        assert (await only_batch(world)).state is BatchState.COMPLETED


async def test_a_renewal_that_hangs_keeps_no_other_turn_from_its_lease() -> None:
    puppet = Puppet()
    limits = Limits(session_lease=9.0, poll_interval=1_000.0)
    async with running(puppet, limits=limits, session_ids=("a", "b")) as world:
        await world.send("question", session_id="a")
        await world.send("question", session_id="b")
        gate = world.faults.hold("renew_lease")
        await world.clock.run_for(30.0)
        assert gate.reached.is_set()
        held = [isinstance(await take_over(world, session_id=session_id), LaneBusy) for session_id in "ab"]
        assert sorted(held) == [False, True], "one renewal hangs, and its lease alone is over"
        gate.open()


@pytest.mark.parametrize("under_way", [False, True], ids=["a new renewal", "a renewal under way"])
async def test_a_renewal_that_meets_the_commit_does_not_take_a_committed_turn_for_lost(under_way: bool) -> None:
    """The commit gives the lease back. Its answer may reach the driver later than a renewal is refused."""
    puppet = Puppet()
    async with running(puppet, limits=Limits(session_lease=9.0, poll_interval=1_000.0)) as world:
        watched = await watch(world)
        await world.send("question")
        renewal = world.faults.hold("renew_lease")
        if under_way:
            await world.clock.run_for(4.0)
            assert renewal.reached.is_set()
        commit = world.faults.hold_answer("commit")
        await puppet.says("answer")
        await puppet.ends()
        assert commit.reached.is_set()
        renewal.open()
        await world.clock.run_for(4.0)
        commit.open()
        await settled()
        assert watched.opening.subscription.take(1) == (), "there is no gap"
        assert watched.told[-1] == "committed"
        await in_step(world, watched)


async def test_an_owner_that_was_superseded_stops_its_agent_and_writes_nothing() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(session_lease=9.0, poll_interval=1_000.0)) as world:
        watched = await watch(world)
        await world.send("question")
        await puppet.says("so far")
        world.faults.fail_before("renew_lease", times=3)
        await world.clock.run_for(9.0)
        theirs = await claim_as_other(world)
        assert (theirs.attempt, theirs.turn_id) == (2, puppet.turns[0].turn_id)
        before = await world.store.load_session("s", 10)
        await world.clock.run_for(3.0)
        assert puppet.cancelled == 1
        assert await world.store.load_session("s", 10) == before
        assert watched.told[-1] == "assistant_prose_delta", "nothing more is told by who does not rule"


async def test_a_superseded_owner_that_does_not_know_it_cannot_commit() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(session_lease=9.0, poll_interval=1_000.0)) as world:
        await world.send("question")
        world.faults.fail_before("renew_lease", times=3)
        await world.clock.run_for(9.0)
        theirs = await claim_as_other(world)
        before = await world.store.load_session("s", 10)
        await puppet.says("too late")
        await puppet.ends()
        assert await world.store.load_session("s", 10) == before
        assert await said_by_store(world) == []
        await world.store.abandon(theirs, charge=False, then=ignored)
        world.kernel._runner.poke_session("s", "test")  # type: ignore[union-attr]
        await settled()
        await puppet.ends()
        assert [role for role, _ in await said_by_store(world)] == ["user"]


async def said_by_store(world: World) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in (await world.store.load_session("s", 10)).messages]


async def test_two_kernels_on_one_store_run_a_turn_once_and_the_second_takes_over_from_the_dead() -> None:
    """The first dies without a word; the second has the work once the lease is over, and not before."""
    puppet, other = Puppet(), Puppet()
    store = MemoryStore(ManualClock())
    async with running(puppet, store=store, limits=Limits(session_lease=9.0)) as world:
        second = Kernel(
            store=store,
            replay=MemoryReplayStore(world.clock, 2),
            agent=other,
            clock=world.clock,
            ids=CountingIds("second-"),
            limits=Limits(session_lease=9.0),
        )
        await second.start()
        try:
            await world.send("question")
            await world.clock.run_for(60.0)
            assert (len(puppet.turns), other.turns) == (1, [])
            # Dead: it renews nothing more, and hands nothing back.
            world.faults.fail_before("renew_lease", times=1_000)
            world.faults.fail_before("abandon", times=1_000)
            world.faults.fail_before("commit", times=1_000)
            await world.clock.run_for(5.9)
            assert other.turns == []
            await world.clock.run_for(10.0)
            assert [turn.attempt for turn in other.turns] == [2]
            assert other.turns[0].turn_id == puppet.turns[0].turn_id
            await other.says("answer")
            await other.ends()
            assert await said_by_store(world) == [("user", "question"), ("assistant", "answer")]
        finally:
            await second.stop()


async def test_what_others_did_to_the_session_is_read_before_the_next_turn_begins() -> None:
    """Else the turn would be run for nothing: a commit on an old head is refused."""
    store, clock = MemoryStore(ManualClock()), ManualClock()
    puppet, other = Puppet(), Puppet()
    async with running(puppet, store=store) as world:
        second = Kernel(
            store=store, replay=MemoryReplayStore(clock, 2), agent=other, clock=clock, ids=CountingIds("second-")
        )
        await second.create_session("unrelated")
        await second.start()
        try:
            watched = await watch(world)
            async with second.opened("s"):
                for number in range(2):
                    await world.send(f"first {number}")
                    await puppet.ends()
                    await second.enqueue(draft(f"second {number}"))
                    await settled()
                    await other.ends()
            await world.send("third")
            await puppet.ends()
            assert [turn.attempt for turn in puppet.turns + other.turns] == [1, 1, 1, 1, 1]
            assert [text for _, text in await said(world)] == ["first 0", "second 0", "first 1", "second 1", "third"]
            watched = await watch(world)
            await in_step(world, watched)
        finally:
            await second.stop()


async def test_a_turn_that_cannot_begin_because_its_session_cannot_be_read_is_not_charged() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(poll_interval=1_000.0)) as world:
        lease = await take_over(world)
        assert isinstance(lease, SessionLease)
        await world.view()
        await world.store.release_lease(lease)
        world.faults.fail_before("load_session", times=2)
        await world.send("question")
        batch = await only_batch(world)
        assert (batch.state, batch.attempts, puppet.turns) == (BatchState.PENDING, 0, [])
        await world.clock.run_for(1.0)
        assert [turn.attempt for turn in puppet.turns] == [1]
        await puppet.ends()


async def test_while_another_owner_has_the_session_its_work_waits_and_is_not_lost() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(session_lease=9.0)) as world:
        lease = await take_over(world, ttl_ms=20_000)
        assert isinstance(lease, SessionLease)
        await world.send("question")
        await world.clock.run_for(19.0)
        assert puppet.turns == []
        await world.clock.run_for(2.5)
        assert len(puppet.turns) == 1
        await puppet.ends()
        watched = await watch(world)
        await in_step(world, watched)
        assert (await only_batch(world)).attempts == 1


async def test_a_claim_that_was_stolen_under_a_turn_stops_it() -> None:
    """By somebody whose clock is a quarter of an hour ahead, and who did not ask for the lease."""
    puppet = Puppet()
    async with running(puppet, limits=Limits(poll_interval=1_000.0)) as world:
        await world.send("question")
        stolen = await world.store.claim(
            "s",
            Boundary.IDLE,
            owner_id="thief",
            turn_id="unused",
            lease_token="stolen",
            now=world.clock.now_ms() + 900_001,
            ttl_ms=60_000_000,
            max_batches=1,
            then=ignored,
        )
        assert isinstance(stolen, Claim)
        await world.clock.run_for(400.0)
        assert puppet.cancelled == 1
        assert (await world.store.load_session("s", 10)).record.revision == 0


def test_limits_of_a_lease_are_in_seconds() -> None:
    assert structs.asdict(Limits())["session_lease"] == 10.0
