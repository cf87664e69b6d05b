"""Processes through the kernel: started by turns, seen by sessions, cancelled, handed over, and waking."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from sightline.agents.forms import as_agent
from sightline.errors import HandleNotVisible, ProcessConflict, QueueFull
from sightline.kernel import Limits
from sightline.process.functions import Functions, RunningProcess, function_registration
from sightline.process.model import CancelledOutput, NewEvent, NewGrant, SuccessOutput
from sightline.queue.model import BatchState
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.conformance.process_steps import HERE, NOTE, REPORT, external
from sightline.turn.agent import Turn
from sightline.turn.blocking import BlockingTurn
from tests.core.worlds import Puppet, Watched, World, running, said, watch

pytestmark = pytest.mark.anyio


class Work:
    """Functions of which `work` waits until it may end, and what became of it."""

    def __init__(self) -> None:
        self.functions = Functions()
        self.go_on = asyncio.Event()
        self.begun = 0

        @self.functions.process("work")
        async def work(process: RunningProcess, n: int = 0) -> int:
            self.begun += 1
            await self.go_on.wait()
            return n

        @self.functions.process("sleep")
        async def sleep(process: RunningProcess) -> None:
            self.begun += 1
            await process.sleep(100.0)

        @self.functions.process("wake")
        async def wake(process: RunningProcess) -> None:
            await process.wake("counted")


async def starter(turn: Turn) -> None:
    """Starts the function that its input names, or says what woke it."""
    if turn.causes:
        turn.text(f"woken by {turn.causes[0].origin['process_id']}")
    else:
        turn.text(await turn.start_process(turn.input[0].content))


async def started(world: World, name: str = "work") -> str:
    """The process that a turn has started."""
    await world.send(name)
    page = await world.store.list_processes(limit=1, after=None)
    return page.processes[0].process_id


def told(watched: Watched) -> list[str]:
    return [word for word in watched.told if word.startswith("process ")]


async def test_a_turn_starts_a_process_that_outlives_it_and_that_its_session_sees() -> None:
    work = Work()
    async with running(starter, functions=work.functions) as world:
        watched = await watch(world)
        process_id = await started(world)
        view = await world.view()
        assert view.status == "idle"
        assert view.processes == (
            {
                "__handle__": "process",
                "process_id": process_id,
                "id": process_id,
                "kind": "function",
                "label": "work",
                "status": "running",
                "created_at_ms": view.processes[0]["created_at_ms"],
                "cancel_requested": False,
                "descriptor": {"kind": "function", "label": "work"},
                "definition": {"kind": "function", "name": "work"},
            },
        )
        record = await world.store.get_process(process_id)
        assert record.provenance.owner_scope == HERE
        work.go_on.set()
        await settled()
        assert await world.kernel.processes.end_of(process_id, 1.0) == SuccessOutput(value=0)
        assert (await world.view()).processes == ()
        assert told(watched) == ["process started", "process completed"]
        assert watched.handle.view == await world.view()


async def test_the_store_is_where_a_session_reads_its_processes() -> None:
    work = Work()
    async with running(starter, functions=work.functions) as world:
        process_id = await started(world)
        async with world.kernel.opened("s") as handle:
            handles = await handle.observe().list_process_handles()
        assert [shown.process_id for shown in handles.handles] == [process_id]


async def test_a_later_attempt_of_a_turn_finds_the_process_it_started() -> None:
    work, store, stand = Work(), MemoryStore(ManualClock()), Puppet()

    async def agent(turn: Turn) -> None:
        await turn.start_process("work", {"n": 1})
        await stand(turn)

    async with running(agent, functions=work.functions, store=store) as world:
        await world.send("go")
        [process] = (await world.store.list_processes(limit=9, after=None)).processes
    async with running(agent, functions=work.functions, store=store, session_ids=()) as world:
        await settled()
        assert len(stand.turns) == 2
        assert (await world.store.list_processes(limit=9, after=None)).processes[0].process_id == process.process_id
        assert len((await world.store.list_processes(limit=9, after=None)).processes) == 1


@pytest.mark.parametrize("key", ["my/key", "", "ä b", "x" * 300, "\ud800", "~"])
async def test_any_key_gives_a_process_that_urls_can_name(key: str) -> None:
    work, ids = Work(), list[str]()

    async def agent(turn: Turn) -> None:
        ids.extend([await turn.start_process("work", key=key), await turn.start_process("work", key=key)])

    async with running(agent, functions=work.functions) as world:
        await world.send("go")
        assert len(ids) == 2
        assert ids[0] == ids[1]
        assert re.fullmatch(r"[A-Za-z0-9._~:@-]{1,200}", ids[0])


async def test_a_key_that_came_with_other_content_is_refused() -> None:
    work, raised = Work(), list[Exception]()

    async def agent(turn: Turn) -> None:
        first = await turn.start_process("work", {"n": 1}, key="k")
        assert await turn.start_process("work", {"n": 1}, key="k") == first
        try:
            await turn.start_process("work", {"n": 2}, key="k")
        except ProcessConflict as error:
            raised.append(error)

    async with running(agent, functions=work.functions) as world:
        await world.send("go")
        assert len(raised) == 1
        assert work.begun == 1


async def test_a_function_that_blocks_may_start_and_cancel_processes() -> None:
    work = Work()

    def agent(turn: BlockingTurn) -> None:
        process_id = turn.start_process("work", {"n": 1}, label="my work")
        turn.cancel_process(process_id, "no need")
        turn.text(process_id)

    async with running(as_agent(agent), functions=work.functions) as world:
        written = await world.send("go")
        async with asyncio.timeout(20):
            batch = await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)
        assert batch.state is BatchState.COMPLETED
        [process] = (await world.store.list_processes(limit=9, after=None)).processes
        await settled()
        assert await world.kernel.processes.end_of(process.process_id, 1.0) == CancelledOutput(message="no need")


async def test_a_function_that_blocks_may_wait_for_a_process() -> None:
    work, outputs = Work(), list[object]()
    work.go_on.set()

    def agent(turn: BlockingTurn) -> None:
        outputs.append(turn.end_of(turn.start_process("work", {"n": 7})))

    async with running(as_agent(agent), functions=work.functions, limits=Limits(concurrency=1)) as world:
        written = await world.send("go")
        async with asyncio.timeout(20):
            await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)
        assert outputs == [SuccessOutput(value=7)]


async def test_a_turn_lists_what_its_session_sees() -> None:
    work, seen = Work(), list[list[tuple[str, str]]]()

    def agent(turn: BlockingTurn) -> None:
        first = turn.start_process("work", {"n": 1}, label="first")
        turn.cancel_process(first)
        turn.end_of(first)
        turn.start_process("work", {"n": 2})
        for live in (True, False):
            seen.append([(each.label, each.status) for each in turn.processes(live=live)])

    async with running(as_agent(agent), functions=work.functions) as world:
        await world.kernel.processes.start_process(function_registration("elsewhere", "work", {"n": 3}))
        written = await world.send("go")
        async with asyncio.timeout(20):
            await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)
        assert seen == [[("work", "running")], [("first", "cancelled"), ("work", "running")]]


# Cancelling


async def test_a_session_cancels_what_it_sees_and_nothing_else() -> None:
    work = Work()
    async with running(starter, functions=work.functions, session_ids=("s", "t")) as world:
        watched = await watch(world)
        process_id = await started(world)
        with pytest.raises(HandleNotVisible):
            await world.kernel.processes.cancel(process_id, session_id="t")
        await world.kernel.processes.cancel(process_id, "enough", session_id="s")
        await settled()
        assert await world.kernel.processes.end_of(process_id, 1.0) == CancelledOutput(message="enough")
        assert told(watched) == ["process started", "process cancel_requested", "process cancelled"]
        assert (await world.kernel.processes.cancel(process_id, "again", session_id="s")).event is None


async def test_what_only_a_deleted_session_saw_is_cancelled() -> None:
    work = Work()
    async with running(starter, functions=work.functions) as world:
        process_id = await started(world)
        await world.kernel.delete_session("s")
        await world.clock.run_for(1.1)
        assert await world.kernel.processes.end_of(process_id, 1.0) == CancelledOutput(message="session deleted")


# Telling


async def test_what_is_done_elsewhere_is_told_to_those_who_see_it() -> None:
    async with running(None, session_ids=("s", "t")) as world:
        seen, unseen = await watch(world), await watch(world, "t")
        grant = NewGrant(scope=HERE, descriptor={"label": "elsewhere"})
        await world.kernel.processes.start_process(external(event_types=(NOTE,)), (grant,))
        await world.kernel.processes.append("p", NewEvent(event_type="note", payload=1))
        await settled()
        [shown] = (await world.view()).processes
        assert shown["descriptor"] == {"label": "elsewhere"}
        end = NewEvent(
            event_type="process.completed",
            payload={"await_output": {"type": "success", "value": 1}},
            replay_key="end",
        )
        await world.kernel.processes.append("p", end)
        await world.kernel.processes.append("p", end)
        await settled()
        assert told(seen) == ["process started", "process progress", "process completed"]
        assert (await world.view()).processes == ()
        assert unseen.told == []


async def test_trouble_with_the_store_delays_what_is_told() -> None:
    async with running(None) as world:
        watched = await watch(world)
        world.faults.fail_before("grants_of_process", times=2)
        await world.kernel.processes.start_process(external(), (NewGrant(scope=HERE),))
        await settled()
        assert told(watched) == []
        await world.clock.run_for(2.0)
        assert told(watched) == ["process started"]


async def test_a_session_that_is_loaded_anew_shows_what_runs() -> None:
    work, store = Work(), MemoryStore(ManualClock())
    async with running(starter, functions=work.functions, store=store) as world:
        process_id = await started(world)
    async with running(None, store=store, session_ids=()) as world:
        [shown] = (await world.view()).processes
        assert (shown["process_id"], shown["status"]) == (process_id, "running")


# Wakes


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "sqlite"])
async def test_a_process_wakes_its_session_and_the_turn_shows_its_cause(on_disk: bool, tmp_path: Path) -> None:
    work, woken = Work(), asyncio.Event()

    async def agent(turn: Turn) -> None:
        await starter(turn)
        if turn.causes:
            woken.set()

    store = SqliteStore.open(tmp_path / "store.db", "NORMAL") if on_disk else None
    async with running(agent, functions=work.functions, store=store) as world:
        written = await world.send("wake")
        async with asyncio.timeout(20):
            await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)
            await woken.wait()
            [process] = (await world.store.list_processes(limit=9, after=None)).processes
            batches = await world.store.list_batches("s", pending_only=False, limit=9)
            await world.kernel.wait_for_batch("s", batches[-1].batch_id, 60.0)
        texts = [content for _, content in await said(world)]
        assert texts[-1] == f"woken by {process.process_id}"
        assert [text for text in texts if text.startswith("woken")] == texts[-1:]
        assert await world.store.pending_wakes(limit=9) == ()


async def test_a_wake_whose_session_is_gone_is_discarded() -> None:
    async with running(Puppet()) as world:
        await world.kernel.processes.start_process(external(event_types=(REPORT,)))
        await world.kernel.delete_session("s")
        await world.kernel.processes.append("p", NewEvent(event_type="report", payload={"text": "look"}))
        await settled()
        assert await world.store.pending_wakes(limit=9) == ()


async def test_a_wake_waits_for_room_in_a_full_queue() -> None:
    puppet = Puppet()
    async with running(puppet, limits=Limits(max_queue=1)) as world:
        await world.kernel.processes.start_process(external(event_types=(REPORT,)))
        await world.send("work")
        with pytest.raises(QueueFull):
            await world.send("more")
        await world.kernel.processes.append("p", NewEvent(event_type="report", payload={"text": "look"}))
        await world.clock.run_for(1.0)
        assert len(await world.store.pending_wakes(limit=9)) == 1
        await puppet.ends()
        await world.clock.run_for(2.0)
        assert await world.store.pending_wakes(limit=9) == ()
        assert len(puppet.turns) == 2
        assert puppet.turns[1].causes[0].text == "Process p reported report (event 1): look"
        await puppet.ends()


# The end


async def test_a_drain_gives_back_what_waits_and_lets_what_is_at_work_end() -> None:
    work, store = Work(), MemoryStore(ManualClock())
    async with running(starter, functions=work.functions, store=store) as world:
        sleeping = await started(world, "sleep")
        at_work = await started(world, "work")
        async with asyncio.timeout(20):
            draining = asyncio.create_task(world.kernel.drain(60.0))
            await settled()
            assert not draining.done()
            work.go_on.set()
            await draining
        assert (await store.get_process(at_work)).status == "completed"
        record = await store.get_process(sleeping)
        assert (record.status, record.attempts) == ("running", 0)
    async with running(starter, functions=work.functions, store=store, session_ids=()) as world:
        await world.clock.run_for(101.0)
        assert (await store.get_process(sleeping)).status == "completed"


async def test_a_kernel_without_an_agent_keeps_processes_and_runs_none() -> None:
    work = Work()
    async with running(None, functions=work.functions) as world:
        await world.kernel.processes.start_process(function_registration("p", "work", owner=HERE))
        await world.clock.run_for(5.0)
        assert (world.kernel.processes.running, work.begun) == (0, 0)
