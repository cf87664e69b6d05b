"""A kernel over a file that outlives it: what a restarted server finds, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET

from sightline.kernel import Limits
from sightline.observation.cursor import parse
from sightline.queue.model import BatchState
from sightline.stores.sqlite import SqliteStore
from sightline.testing.conformance.steps import request_cancel
from sightline.turn.agent import Turn
from tests.core.worlds import Puppet, World, running

pytestmark = pytest.mark.anyio


def opened(folder: Path) -> SqliteStore:
    return SqliteStore.open(folder / "store.db", "NORMAL")


async def die(world: World) -> None:
    """End the kernel as a power cut would: what it holds is not given back."""
    world.faults.fail_before("abandon", times=100)
    await world.kernel.stop()


async def answers(turn: Turn) -> None:
    turn.text(f"answer to {turn.input[0].content}")


async def ended(world: World, batch_id: str) -> BatchState:
    return (await world.kernel.wait_for_batch("s", batch_id, 60.0)).state


async def test_a_turn_that_died_with_its_process_is_run_again_as_the_same_turn_and_committed_once(
    tmp_path: Path,
) -> None:
    first, second = Puppet(), Puppet()
    async with running(first, store=opened(tmp_path)) as world:
        written = await world.send("question")
        await first.begun()
        await first.says("half of the ans")
        await die(world)
    async with running(second, store=opened(tmp_path), session_ids=()) as world:
        await second.begun()
        [before], [after] = first.turns, second.turns
        assert (after.turn_id, after.attempt) == (before.turn_id, 2)
        assert after.input == before.input
        await second.says("the whole answer")
        await second.ends()
        assert await ended(world, written.batch.batch_id) is BatchState.COMPLETED
        messages = (await world.kernel.observe("s")).read_view.messages
        assert [message.content for message in messages] == ["question", "the whole answer"]
        assert (await world.kernel.get_batch("s", written.batch.batch_id)).attempts == 2


async def test_a_turn_that_was_handed_back_is_not_charged_for_it(tmp_path: Path) -> None:
    first, second = Puppet(), Puppet()
    async with running(first, store=opened(tmp_path)) as world:
        await world.send("question")
        await first.begun()
    async with running(second, store=opened(tmp_path), session_ids=()):
        await second.begun()
        assert second.turns[0].attempt == 1
        assert second.turns[0].turn_id == first.turns[0].turn_id


async def test_a_cancel_survives_the_process_and_the_input_is_history(tmp_path: Path) -> None:
    first, second = Puppet(), Puppet()
    async with running(first, store=opened(tmp_path)) as world:
        written = await world.send("question", key="k")
        await first.begun()
        # Durable, and then the process dies before its agent hears of it.
        await request_cancel(world.store, key="k", reason="enough")
        await die(world)
    async with running(second, store=opened(tmp_path), session_ids=()) as world:
        assert await ended(world, written.batch.batch_id) is BatchState.CANCELLED
        assert second.turns == []
        user, assistant = (await world.kernel.observe("s")).read_view.messages
        assert (user.content, user.status) == ("question", UNSET)
        assert (assistant.content, assistant.status) == ("", "cancelled")
        assert user.turn_id == first.turns[0].turn_id
        answer, _ = await world.kernel.cancel_turn("s", turn_id=first.turns[0].turn_id)
        assert answer.state == "cancelled"


async def test_a_turn_that_kills_its_process_is_given_up_after_three_attempts(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        puppet = Puppet()
        async with running(puppet, store=opened(tmp_path), session_ids=("s",) if attempt == 1 else ()) as world:
            if attempt == 1:
                await world.send("poison")
            await puppet.begun()
            assert puppet.turns[0].attempt == attempt
            await die(world)
    puppet = Puppet()
    async with running(puppet, store=opened(tmp_path), session_ids=(), limits=Limits(max_attempts=3)) as world:
        [batch] = await world.kernel.list_batches("s", pending_only=False)
        assert await ended(world, batch.batch_id) is BatchState.FAILED
        batch = await world.kernel.get_batch("s", batch.batch_id)
        assert batch.error is not UNSET
        assert (batch.error.code, batch.attempts, puppet.turns) == ("engine_gave_up", 3, [])


async def test_waiting_work_of_many_sessions_goes_on_at_once(tmp_path: Path) -> None:
    names = tuple(f"s{number}" for number in range(10))
    async with running(None, store=opened(tmp_path), session_ids=names) as world:
        written = [await world.send(f"question {name}", session_id=name) for name in names]
    async with running(answers, store=opened(tmp_path), session_ids=()) as world:
        for name, one in zip(names, written, strict=True):
            batch = await world.kernel.wait_for_batch(name, one.batch.batch_id, 60.0)
            assert batch.state is BatchState.COMPLETED
            view = await world.kernel.observe(name)
            assert view.read_view.messages[-1].content == f"answer to question {name}"


async def test_a_cursor_of_the_former_life_is_a_gap_with_the_view_of_this_one(tmp_path: Path) -> None:
    async with running(answers, store=opened(tmp_path)) as world:
        written = await world.send("question")
        await ended(world, written.batch.batch_id)
        before = await world.kernel.observe("s")
    async with running(answers, store=opened(tmp_path), session_ids=()) as world:
        _, opening = await world.kernel.subscribe("s", parse(before.cursor), print)
        assert opening.gap is not None
        assert opening.observation is not None
        assert opening.gap.reason == "unavailable"
        assert opening.observation.read_view == before.read_view
        assert parse(opening.cursor).incarnation > parse(before.cursor).incarnation
        opening.subscription.close()


async def test_a_key_that_was_used_in_the_former_life_brings_the_same_work(tmp_path: Path) -> None:
    async with running(answers, store=opened(tmp_path)) as world:
        written = await world.send("question", key="k")
        await ended(world, written.batch.batch_id)
    async with running(answers, store=opened(tmp_path), session_ids=()) as world:
        again = await world.send("question", key="k")
        assert (again.replayed, again.batch.batch_id) == (True, written.batch.batch_id)
        assert len((await world.kernel.observe("s")).read_view.messages) == 2
