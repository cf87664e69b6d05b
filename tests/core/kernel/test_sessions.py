"""Sessions through the kernel: handles that come, stay while they are needed and go, and deletion at any moment."""

from __future__ import annotations

import asyncio

import pytest

from sightline.errors import SessionDeleted, SessionExists, SessionNotFound, StoreUnavailable
from sightline.kernel import Limits
from sightline.observation.cursor import parse
from sightline.queue.model import BatchState
from sightline.testing.clock import settled
from tests.core.worlds import Puppet, World, draft, running, watch

pytestmark = pytest.mark.anyio

LONG = 10_000.0
"""Longer than the live log keeps anything."""


async def let_go(world: World) -> None:
    """Time goes by until nothing is retained and the kernel has swept."""
    world.clock.advance(LONG)
    await settled()
    world.faults.calls.clear()


async def test_a_new_session_is_observed_as_it_was_made() -> None:
    async with running(None, session_ids=()) as world:
        made = await world.kernel.create_session("a:b", policy={"p": 1}, metadata={"m": 2})
        assert (made.session_id, made.policy, made.metadata, made.status) == ("a:b", {"p": 1}, {"m": 2}, "idle")
        assert await world.kernel.observe("a:b") == made
        with pytest.raises(SessionExists):
            await world.kernel.create_session("a:b")


async def test_a_session_without_a_name_gets_one() -> None:
    async with running(None, session_ids=()) as world:
        names = {(await world.kernel.create_session()).session_id for _ in range(3)}
        assert len(names) == 3


async def test_a_session_that_never_was_is_not_found_by_anybody() -> None:
    async with running(None) as world:
        for work in (
            world.kernel.observe("nobody"),
            world.kernel.enqueue(draft("work", session_id="nobody")),
            world.kernel.subscribe("nobody", None, print),
            world.kernel.cancel_turn("nobody"),
            world.kernel.wait_for_batch("nobody", "b", 1.0),
        ):
            with pytest.raises(SessionNotFound):
                await work


async def test_many_who_ask_at_once_share_one_view() -> None:
    async with running(None) as world:
        await let_go(world)
        views = await asyncio.gather(*(world.kernel.observe("s") for _ in range(20)))
        assert world.faults.calls == ["load_session"]
        assert all(view is views[0] for view in views)


async def test_one_who_leaves_while_the_session_is_loaded_does_not_disturb_the_others() -> None:
    async with running(None) as world:
        await let_go(world)
        gate = world.faults.hold("load_session")
        asking = [asyncio.create_task(world.kernel.observe("s")) for _ in range(3)]
        await gate.reached.wait()
        asking[0].cancel()
        await settled()
        gate.open()
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1] is done[2]
        assert not isinstance(done[1], BaseException)


async def test_a_session_that_could_not_be_loaded_is_loaded_for_the_next_who_asks() -> None:
    async with running(None) as world:
        await let_go(world)
        world.faults.fail_before("load_session")
        with pytest.raises(StoreUnavailable):
            await world.kernel.observe("s")
        assert (await world.kernel.observe("s")).session_id == "s"


async def test_an_idle_session_is_let_go_and_an_old_cursor_still_proves_that_nothing_happened() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question")
        await puppet.says("answer")
        await puppet.ends()
        before = await world.view()
        await let_go(world)
        handle, opening = await world.kernel.subscribe("s", parse(before.cursor), print)
        assert world.faults.calls == ["load_session"]
        assert (opening.gap, opening.subscription.take(100)) == (None, ())
        assert handle.view == before
        older = parse(f"sl1:{parse(before.cursor).incarnation}:0:1:s")
        _, opening = await world.kernel.subscribe("s", older, print)
        assert opening.gap is not None
        assert (opening.gap.reason, opening.observation) == ("trimmed", before)


async def test_a_session_that_somebody_watches_or_that_has_work_is_kept() -> None:
    async with running(None, session_ids=("watched", "busy", "idle")) as world:
        _, opening = await world.kernel.subscribe("watched", None, print)
        await world.send("work", session_id="busy")
        await let_go(world)
        for session_id in ("watched", "busy", "idle"):
            await world.kernel.observe(session_id)
        assert world.faults.calls == ["load_session"]
        opening.subscription.close()
        await let_go(world)
        await world.kernel.observe("watched")
        assert world.faults.calls == ["load_session"]


@pytest.mark.parametrize("rounds", range(6))
async def test_a_session_let_go_between_its_loading_and_its_use_is_loaded_again(rounds: int) -> None:
    """Two handles of one session would tell observers two stories."""
    async with running(None) as world:
        await let_go(world)
        gate = world.faults.hold_answer("load_session")
        asking = asyncio.create_task(world.kernel.subscribe("s", None, print))
        await gate.reached.wait()
        gate.open()
        # The loader goes on, then whoever waits for it; somewhere in between the sweep finds the session unused.
        for _ in range(rounds):
            await asyncio.sleep(0)
        await world.kernel.sweep()
        handle, opening = await asking
        await world.send("work")
        assert [summary.preview for summary in handle.view.queue] == ["work"]
        opening.subscription.close()


async def test_a_write_whose_caller_left_keeps_the_session_until_it_is_done() -> None:
    async with running(None) as world:
        await world.kernel.observe("s")
        gate = world.faults.hold("enqueue")
        writing = asyncio.create_task(world.kernel.enqueue(draft("work")))
        await gate.reached.wait()
        writing.cancel()
        await settled()
        await let_go(world)
        watched = await watch(world)
        gate.open()
        await settled()
        assert watched.told == ["enqueued"]
        assert [summary.preview for summary in (await world.view()).queue] == ["work"]


async def test_the_view_keeps_the_newest_messages_and_widens_on_demand() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(keep_messages=2)) as world:
        for number in range(3):
            await world.send(f"question {number}")
            await puppet.says(f"answer {number}")
            await puppet.ends()
        view = await world.view()
        whole = await world.kernel.observe("s", messages=100)
        contents = [f"{kind} {number}" for number in range(3) for kind in ("question", "answer")]
        assert [message.content for message in whole.read_view.messages] == contents
        for count, truncated in ((6, False), (5, True), (3, True), (2, True), (1, True), (0, True)):
            wide = await world.kernel.widen(view, count)
            assert [message.content for message in wide.read_view.messages] == contents[6 - count :]
            assert (wide.read_view.truncated, wide.cursor) == (truncated, view.cursor)
        assert await world.kernel.widen(view, None) is view
        older = await world.kernel.page_messages("s", before=view.read_view.messages[0].message_id, limit=3)
        assert [message.content for message in older.messages] == contents[1:4]


async def test_the_list_pages_through_all_sessions() -> None:
    async with running(None, session_ids=("a", "b", "c")) as world:
        page = await world.kernel.list_sessions(limit=2)
        assert [entry.session_id for entry in page.sessions] == ["c", "b"]
        assert page.next is not None
        page = await world.kernel.list_sessions(limit=2, after=int(page.next))
        assert ([entry.session_id for entry in page.sessions], page.next) == (["a"], None)


# Deletion


async def test_a_deleted_session_is_gone_for_everybody_and_its_observers_are_told() -> None:
    async with running(None) as world:
        watched = await watch(world)
        told: list[str] = []
        watched.handle.attach(told.append)
        await world.kernel.delete_session("s")
        assert told == ["session_deleted"]
        assert world.replay.subscribers("s") == 0
        for work in (
            world.kernel.observe("s"),
            world.kernel.enqueue(draft("work")),
            world.kernel.subscribe("s", None, print),
            world.kernel.create_session("s"),
            world.kernel.delete_session("s"),
        ):
            with pytest.raises(SessionDeleted):
                await work


async def test_deleting_a_session_ends_the_waiting_for_its_work() -> None:
    async with running(None) as world:
        written = await world.send("work")
        waiting = asyncio.create_task(world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0))
        await settled()
        await world.kernel.delete_session("s")
        with pytest.raises(SessionDeleted):
            await waiting


async def test_a_session_deleted_while_it_is_loaded_does_not_come_back() -> None:
    async with running(None) as world:
        await let_go(world)
        gate = world.faults.hold_answer("load_session")
        asking = asyncio.create_task(world.kernel.observe("s"))
        await gate.reached.wait()
        await world.kernel.delete_session("s")
        gate.open()
        with pytest.raises(SessionDeleted):
            await asking


async def test_a_session_deleted_while_work_arrives_refuses_it_and_tells_nobody() -> None:
    async with running(None) as world:
        watched = await watch(world)
        gate = world.faults.hold("enqueue")
        writing = asyncio.create_task(world.kernel.enqueue(draft("work")))
        await gate.reached.wait()
        await world.kernel.delete_session("s")
        gate.open()
        with pytest.raises(SessionDeleted):
            await writing
        assert watched.told == []


async def test_work_that_arrived_before_the_deletion_was_accepted_and_is_gone_with_it() -> None:
    async with running(None) as world:
        gate = world.faults.hold_answer("enqueue")
        writing = asyncio.create_task(world.kernel.enqueue(draft("work")))
        await gate.reached.wait()
        await world.kernel.delete_session("s")
        gate.open()
        assert (await writing).batch.state is BatchState.PENDING
        assert await world.store.claimable_sessions(world.clock.now_ms(), 10) == ()


async def test_deleting_one_session_does_not_disturb_the_loading_of_another() -> None:
    async with running(None, session_ids=("s", "other")) as world:
        await let_go(world)
        gate = world.faults.hold_answer("load_session")
        asking = asyncio.create_task(world.kernel.observe("other"))
        await gate.reached.wait()
        await world.kernel.delete_session("s")
        gate.open()
        assert (await asking).session_id == "other"


# Housekeeping


async def test_the_sweep_goes_on_after_trouble() -> None:
    async with running(None) as world:
        world.faults.fail_before("purge_ended")
        world.faults.fail_before("purge_ended", error=ValueError("a bug"))
        for _ in range(3):
            await world.clock.run_for(15.0)
        assert world.faults.calls.count("purge_ended") == 3


async def test_ended_work_is_forgotten_after_its_retention() -> None:
    async with running(None, limits=Limits(retention=100.0)) as world:
        written = await world.send("work")
        kept = await world.send("more")
        await world.kernel.cancel_batch("s", written.batch.batch_id)
        await world.clock.run_for(90.0)
        assert len(await world.kernel.list_batches("s", pending_only=False)) == 2
        await world.clock.run_for(30.0)
        assert await world.kernel.list_batches("s", pending_only=False) == (kept.batch,)
