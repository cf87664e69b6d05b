"""Checkpoints: input for a running turn is shown to it at once, kept once, and settled with the turn."""

from __future__ import annotations

import contextlib

import pytest

from sightline.agents.demo import demo
from sightline.errors import LeaseLost, StoreUnavailable
from sightline.kernel import Limits
from sightline.observation.activities import QueuedInputAccepted
from sightline.observation.events import TurnActivity
from sightline.queue.materializing import InputMessage, wake_draft
from sightline.queue.model import (
    BatchState,
    DeliveryPolicy,
    Draft,
    ImageItem,
    ProcessWake,
    ResetSession,
    SlotPolicy,
    TurnInput,
    TurnInputPayload,
)
from sightline.session.model import Attachment, LaneBusy
from sightline.stores.memory import MemoryAttachments
from sightline.testing.clock import settled
from sightline.turn.agent import Turn
from tests.core.worlds import Puppet, World, in_step, running, said, watch

pytestmark = pytest.mark.anyio

EARLY = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY


class Taking(Puppet):
    """A puppet that remembers what its checkpoints brought."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[InputMessage, ...]] = []

    async def takes(self) -> tuple[InputMessage, ...]:
        async def take(turn: Turn) -> None:
            self.taken.append(await turn.checkpoint())

        await self.does(take)
        return self.taken[-1]


async def states(world: World) -> list[BatchState]:
    return [batch.state for batch in await world.store.list_batches("s", pending_only=False, limit=99)]


async def test_input_for_the_running_turn_is_taken_in_and_kept_once() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question", key="host:1")
        await world.send("and this", key="host:2", delivery_policy=EARLY)
        [message] = await puppet.takes()
        assert (message.content, message.source_key) == ("and this", "host:2")
        view = await world.view()
        assert view.live is not None
        assert [given.content for given in view.live.input] == ["question", "and this"]
        await puppet.says("both answered")
        await puppet.ends()
        assert await said(world) == [("user", "question"), ("user", "and this"), ("assistant", "both answered")]
        assert await states(world) == [BatchState.COMPLETED] * 2
        assert len(puppet.turns) == 1
        batches = await world.store.list_batches("s", pending_only=False, limit=9)
        assert {batch.turn_id for batch in batches} == {puppet.turns[0].turn_id}
        assert watched.told == [
            "enqueued",
            "claimed",
            "turn_started",
            "enqueued",
            "claimed",
            "queued_input_accepted",
            "assistant_prose_delta",
            "completed",
            "turn_ended",
            "committed",
        ]
        accepted = [
            event.data.event
            for event in watched.events
            if isinstance(event.data, TurnActivity) and isinstance(event.data.event, QueuedInputAccepted)
        ]
        assert [entry.id for entry in accepted[0].inputs] == ["2"]
        await in_step(world, watched)


async def test_input_for_afterwards_is_not_taken_in_and_holds_back_what_is_behind_it() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        await world.send("afterwards")
        await world.send("urgent", delivery_policy=EARLY)
        assert await puppet.takes() == ()
        for _ in range(3):
            await puppet.ends()
        assert [turn.input[0].content for turn in puppet.turns] == ["question", "afterwards", "urgent"]


async def test_a_command_is_never_taken_into_a_turn() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        await world.kernel.submit_command("s", ResetSession(reason="over"), "k")
        assert await puppet.takes() == ()
        await puppet.ends()
        await settled()
        assert await said(world) == []


async def test_joined_input_comes_in_together_and_a_second_checkpoint_brings_what_came_since() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        for text in ("a", "b"):
            await world.send(text, delivery_policy=EARLY, slot_policy=SlotPolicy.JOIN, merge_key="payload_default")
        assert [message.content for message in await puppet.takes()] == ["a", "b"]
        assert await puppet.takes() == ()
        await world.send("c", delivery_policy=EARLY)
        assert [message.content for message in await puppet.takes()] == ["c"]
        await puppet.ends()
        assert [text for _, text in await said(world)] == ["question", "a", "b", "c"]


async def test_a_wake_comes_in_as_a_cause() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        await world.kernel.enqueue(wake_draft(WAKE))
        [message] = await puppet.takes()
        assert (message.role, message.content) == ("system", "Process p reported done (event 3): the build is over")
        assert isinstance(message.origin, dict)
        assert message.origin["process_id"] == "p"
        await puppet.ends()
        assert (await said(world))[1] == ("system", message.content)


async def test_a_wake_alone_runs_a_turn_that_knows_its_cause() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.kernel.enqueue(wake_draft(WAKE))
        await settled()
        [cause] = puppet.turns[0].causes
        assert (cause.id, cause.event_type) == ("wake:1", "done")
        await puppet.says("well then")
        await puppet.ends()
        assert [role for role, _ in await said(world)] == ["system", "assistant"]


async def test_a_turn_that_does_not_come_to_its_end_gives_back_what_it_took_in_and_takes_it_again() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question")
        await world.send("and this", delivery_policy=EARLY)
        await puppet.takes()
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        assert [turn.attempt for turn in puppet.turns] == [1, 2]
        assert [message.content for message in puppet.turns[1].input] == ["question", "and this"]
        assert puppet.turns[1].turn_id == puppet.turns[0].turn_id
        await puppet.ends()
        assert await said(world) == [("user", "question"), ("user", "and this")]
        assert await states(world) == [BatchState.COMPLETED] * 2
        await in_step(world, watched)


async def test_a_drain_hands_back_what_was_taken_in_too() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        await world.send("and this", delivery_policy=EARLY)
        await puppet.takes()
        await world.kernel.stop()
        batches = await world.store.list_batches("s", pending_only=False, limit=9)
        assert [(batch.state, batch.attempts) for batch in batches] == [(BatchState.PENDING, 0)] * 2


async def test_what_is_claimed_for_a_turn_that_is_over_goes_back() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        await world.send("and this", delivery_policy=EARLY)
        gate = world.faults.hold("claim")

        async def take(turn: Turn) -> None:
            puppet.taken.append(await turn.checkpoint())

        await puppet.does(take)
        await world.kernel.cancel_turn("s")
        # The agent cannot be stopped in the middle of the claim: it gets its time, then the turn ends without it.
        await world.clock.run_for(5.0)
        assert (await states(world))[0] is BatchState.CANCELLED
        gate.open()
        await settled()
        await world.clock.run_for(1.0)
        assert [turn.input[0].content for turn in puppet.turns] == ["question", "and this"]
        await puppet.ends()
        assert (await states(world))[1] is BatchState.COMPLETED


async def test_a_checkpoint_under_a_lost_lease_takes_nothing_and_ends_the_turn() -> None:
    puppet = Taking()
    lost: list[Exception] = []
    async with running(puppet, limits=Limits(session_lease=9.0, poll_interval=1_000.0)) as world:
        await world.send("question")
        await world.send("and this", delivery_policy=EARLY)
        world.faults.fail_before("renew_lease", times=9)
        await world.clock.run_for(9.0)
        await world.store.acquire_lease(
            "s", owner_id="other", lease_token="other", now=world.clock.now_ms(), ttl_ms=60_000
        )

        async def take(turn: Turn) -> None:
            try:
                await turn.checkpoint()
            except LeaseLost as error:
                lost.append(error)

        await puppet.does(take)
        assert len(lost) == 1
        assert puppet.cancelled == 1
        assert (await states(world))[1] is BatchState.PENDING


async def test_a_checkpoint_that_meets_a_store_in_trouble_takes_nothing_in() -> None:
    puppet = Taking()
    async with running(puppet) as world:
        await world.send("question")
        await world.send("and this", delivery_policy=EARLY)
        world.faults.fail_before("claim")
        trouble: list[str] = []

        async def take(turn: Turn) -> None:
            try:
                await turn.checkpoint()
            except Exception as error:
                trouble.append(type(error).__name__)

        await puppet.does(take)
        assert trouble == ["StoreUnavailable"]
        [message] = await puppet.takes()
        assert message.content == "and this"
        await puppet.ends()


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_input_whose_claim_had_no_answer_is_in_the_transcript_once(told: bool) -> None:
    puppet = Taking()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("question")
        await world.send("and this", delivery_policy=EARLY)
        world.faults.fail_after("claim", told=told)

        async def take(turn: Turn) -> None:
            with contextlib.suppress(StoreUnavailable):
                puppet.taken.append(await turn.checkpoint())

        await puppet.does(take)
        assert [message.content for taken in puppet.taken for message in taken] == (["and this"] if told else [])
        await puppet.ends()
        await world.clock.run_for(10.0)
        if not told:
            assert [turn.input[0].content for turn in puppet.turns] == ["question", "and this"]
            await puppet.ends()
        assert await said(world) == [("user", "question"), ("user", "and this")]
        assert await states(world) == [BatchState.COMPLETED] * 2
        await in_step(world, watched)


async def test_a_picture_that_cannot_be_stored_leaves_its_input_for_later_and_the_turn_goes_on() -> None:
    class Full(MemoryAttachments):
        async def put(self, session_id: str, data: bytes, media_type: str) -> Attachment:
            raise StoreUnavailable("disk full")

    puppet = Taking()
    async with running(puppet, attachments=Full(), limits=Limits(poll_interval=1_000.0)) as world:
        await world.send("question")
        shown = TurnInput((ImageItem("i"),), {"i": b"\x89PNG"})
        draft = Draft(session_id="s", payloads=(TurnInputPayload(shown),), delivery_policy=EARLY)
        await world.kernel.enqueue(draft)

        async def take(turn: Turn) -> None:
            with contextlib.suppress(StoreUnavailable):
                puppet.taken.append(await turn.checkpoint())

        await puppet.does(take)
        assert puppet.taken == []
        assert isinstance(
            await world.store.acquire_lease("s", owner_id="o", lease_token="o", now=world.clock.now_ms(), ttl_ms=1),
            LaneBusy,
        ), "the turn has the lane still"
        await puppet.ends()
        assert await said(world) == [("user", "question")]
        [done, waiting] = await world.store.list_batches("s", pending_only=False, limit=9)
        assert (done.state, waiting.state) == (BatchState.COMPLETED, BatchState.PENDING)


async def test_the_demo_says_at_which_step_it_took_something_in() -> None:
    async with running(demo) as world:
        await world.send("steps 5 every 200")
        await world.clock.run_for(0.1)
        await world.send("first", delivery_policy=EARLY)
        await world.clock.run_for(0.2)
        for text in ("second", "third"):
            await world.send(text, delivery_policy=EARLY)
        await world.clock.run_for(2.0)
        answer = (await said(world))[-1]
        assert answer == ("assistant", "at step 1: first\nat step 2: second\nat step 3: third")


async def test_what_comes_in_time_for_the_last_step_prolongs_the_demos_turn() -> None:
    async with running(demo) as world:
        await world.send("steps 5 every 200")
        await world.clock.run_for(0.9)
        await world.send("late", delivery_policy=EARLY)
        await world.clock.run_for(0.2)
        assert (await world.view()).status == "running"
        await world.send("later", delivery_policy=EARLY)
        await world.clock.run_for(0.2)
        await world.send("a turn of its own")
        await world.clock.run_for(5.0)
        [*_, own, answer] = await said(world)
        assert own == ("user", "a turn of its own")
        assert answer[1].startswith("I am the demo agent.")
        assert ("assistant", "at step 5: late\nat step 6: later") in await said(world)


WAKE = ProcessWake(
    wake_id="wake:1",
    target_session_id="s",
    target_scope_id="s",
    process_id="p",
    sequence=3,
    event_type="done",
    dedupe_key="p:3",
    input="the build is over",
    created_at_ms=1,
)
