"""Between a cancel and the end of a turn the first one wins, wherever the turn happens to wait."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import UNSET

from sightline.queue.model import BatchState, DeliveryPolicy
from sightline.testing.clock import settled
from sightline.turn.agent import Turn
from tests.core.worlds import World, draft, in_step, only_batch, running, said, watch

pytestmark = pytest.mark.anyio

WHOLE = "abcde"


async def speaks(turn: Turn) -> None:
    async def tool() -> int:
        await turn.sleep(0)
        return 1

    for letter in WHOLE:
        turn.text(letter)
        match letter:
            case "a":
                await turn.sleep(0)
            case "b":
                await turn.tool_call("t", {}, tool)
            case "c":
                await turn.checkpoint()
            case "d":
                await turn.messages()


async def assert_one_end(world: World, told: list[str]) -> BatchState:
    """Batch, transcript, events and the answer to another cancel agree on how it ended."""
    batch = await only_batch(world)
    transcript = (await world.store.load_session("s", 100)).messages
    answer, _ = await world.kernel.cancel_turn("s", source_key="k")
    match batch.state:
        case BatchState.COMPLETED:
            assert (transcript[-1].content, transcript[-1].status) == (WHOLE, UNSET)
            assert answer.state == "ended"
        case BatchState.CANCELLED:
            assert answer.state == "cancelled"
            if transcript:
                assert transcript[-1].status == "cancelled"
                assert WHOLE.startswith(transcript[-1].content)
        case other:
            pytest.fail(f"it is {other}")
    assert [told.count(word) for word in ("turn_ended", "committed")] in ([1, 1], [0, 0])
    assert len(transcript) in (0, 2)
    return batch.state


async def test_a_cancel_after_any_number_of_steps_leaves_one_end() -> None:
    ends: list[BatchState] = []
    for steps in range(120):
        async with running(speaks) as world:
            watched = await watch(world)
            posting = asyncio.create_task(world.kernel.enqueue(draft("question", key="k")))
            for _ in range(steps):
                await asyncio.sleep(0)
            await world.kernel.cancel_turn("s", source_key="k")
            await posting
            await world.clock.run_for(1.0)
            ends.append(await assert_one_end(world, watched.told))
            await in_step(world, watched)
    changed = ends.index(BatchState.COMPLETED)
    assert changed > 10
    assert set(ends[:changed]) == {BatchState.CANCELLED}
    assert set(ends[changed:]) == {BatchState.COMPLETED}


@pytest.mark.parametrize(
    ("method", "moment", "end"),
    [
        ("claim", "hold", BatchState.CANCELLED),
        ("claim", "hold_answer", BatchState.CANCELLED),
        ("page_messages", "hold", BatchState.CANCELLED),
        ("page_messages", "hold_answer", BatchState.CANCELLED),
        ("commit", "hold", BatchState.COMPLETED),
        ("commit", "hold_answer", BatchState.COMPLETED),
    ],
)
async def test_a_cancel_while_the_store_is_at_work(method: str, moment: str, end: BatchState) -> None:
    async with running(speaks) as world:
        watched = await watch(world)
        gate = getattr(world.faults, moment)(method)
        await world.kernel.enqueue(draft("question", key="k"))
        await gate.reached.wait()
        await world.kernel.cancel_turn("s", source_key="k")
        gate.open()
        await world.clock.run_for(1.0)
        assert await assert_one_end(world, watched.told) is end


async def test_a_cancel_while_a_checkpoint_claims_cancels_what_it_took_in_as_well() -> None:
    async with running(speaks, start=False) as world:
        await world.send("question", key="k")
        await world.kernel.start()
        first = world.faults.hold_answer("page_messages")
        await first.reached.wait()
        # Behind the checkpoint; the turn commits without it, and it has a turn of its own.
        await world.kernel.enqueue(draft("more", key="m", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY))
        await world.kernel.cancel_turn("s", source_key="k")
        first.open()
        await world.clock.run_for(1.0)
        assert [role for role, _ in await said(world)] == ["user", "assistant", "user", "assistant"]
        states = [batch.state for batch in await world.store.list_batches("s", pending_only=False, limit=10)]
        assert states == [BatchState.CANCELLED, BatchState.COMPLETED]


@pytest.mark.parametrize("moment", ["hold", "hold_answer"])
async def test_a_cancel_that_takes_its_time_in_the_store(moment: str) -> None:
    async with running(speaks) as world:
        watched = await watch(world)
        claim = world.faults.hold_answer("claim")
        await world.kernel.enqueue(draft("question", key="k"))
        await claim.reached.wait()
        gate = getattr(world.faults, moment)("request_cancel")
        cancelling = asyncio.create_task(world.kernel.cancel_turn("s", source_key="k"))
        await gate.reached.wait()
        claim.open()
        await settled()
        gate.open()
        await cancelling
        await world.clock.run_for(1.0)
        end = await assert_one_end(world, watched.told)
        # Asked for and known to be before it ended, or not.
        assert end is (BatchState.COMPLETED if moment == "hold" else BatchState.CANCELLED)


async def test_a_cancel_between_two_tries_of_a_commit_has_lost() -> None:
    async with running(speaks) as world:
        watched = await watch(world)
        world.faults.fail_before("commit", times=2)
        await world.kernel.enqueue(draft("question", key="k"))
        await settled()
        await world.kernel.cancel_turn("s", source_key="k")
        await world.clock.run_for(5.0)
        assert await assert_one_end(world, watched.told) is BatchState.COMPLETED
