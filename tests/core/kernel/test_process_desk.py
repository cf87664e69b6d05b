"""Processes from outside: reported on, asked to end, handed over, and what the sessions concerned are told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sightline.errors import (
    HandleNotGranted,
    HandleNotVisible,
    InvalidPayload,
    ProcessNotFound,
    ProcessNotYours,
    ProcessTerminal,
    SessionNotFound,
    SightlineError,
    StoreUnavailable,
)
from sightline.limits import Limits
from sightline.observation.fold import fold
from sightline.observation.model import shown_process
from sightline.process.appending import ending
from sightline.process.functions import Functions, RunningProcess, function_registration
from sightline.process.model import (
    CancelledOutput,
    EventType,
    FailureOutput,
    NewEvent,
    NewGrant,
    ProcessScope,
    Registration,
    SuccessOutput,
)
from sightline.session.model import NewSession
from sightline.testing.clock import settled
from sightline.testing.conformance.process_steps import HERE, NOTE, external
from tests.core.worlds import Puppet, Watched, World, running, watch

pytestmark = pytest.mark.anyio

THERE = ProcessScope("t")
PROGRESS = EventType(name="progress")
BOTH = ("s", "t")


def told(watched: Watched) -> list[str]:
    return [word.removeprefix("process ") for word in watched.told if word.startswith("process ")]


async def begin(
    world: World, process_id: str = "p", *scopes: ProcessScope, registration: Registration | None = None
) -> None:
    """A process that somebody does elsewhere, seen from here unless told otherwise."""
    grants = [NewGrant(scope=scope, descriptor={"label": f"my {process_id}"}) for scope in scopes or (HERE,)]
    registration = registration or external(process_id, event_types=(PROGRESS, NOTE))
    await world.kernel.processes.start_process(registration, grants)
    await settled()


async def in_step(world: World, *session_ids: str) -> None:
    """What the sessions show is what is stored, however they came to show it."""
    for session_id in session_ids:
        stored = (await world.store.load_session(session_id, 10)).processes
        shown = (await world.view(session_id)).processes
        assert sorted(shown, key=lambda process: str(process["id"])) == [shown_process(each) for each in stored]


def naps() -> Functions:
    functions = Functions()

    @functions.process("nap")
    async def nap(process: RunningProcess, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            await process.sleep(seconds)

    @functions.process("listen")
    async def listen(process: RunningProcess) -> Any:
        return await process.signal()

    return functions


# Looking


async def test_a_process_and_all_of_them_can_be_looked_at() -> None:
    async with running(None) as world:
        processes = world.kernel.processes
        for process_id in ("a", "b", "c"):
            await begin(world, process_id)
        await processes.complete("b", 1)
        assert (await processes.get("b")).output == SuccessOutput(value=1)
        page = await processes.list(limit=2)
        assert [record.process_id for record in page.processes] == ["c", "b"]
        assert page.next is not None
        page = await processes.list(limit=2, after=int(page.next))
        assert ([record.process_id for record in page.processes], page.next) == (["a"], None)
        page = await processes.list(status="running", kind="external")
        assert [record.process_id for record in page.processes] == ["c", "a"]
        with pytest.raises(ProcessNotFound):
            await processes.get("nobody")


async def test_the_log_is_waited_for_while_there_may_be_more() -> None:
    async with running(None) as world:
        processes = world.kernel.processes
        await begin(world)
        assert await processes.events_after("p") == ()
        waiting = asyncio.create_task(processes.events_after("p", 0, wait=30.0))
        await settled()
        await processes.append("p", NewEvent(event_type="note", payload=1))
        assert [event.payload for event in await waiting] == [1]
        waiting = asyncio.create_task(processes.events_after("p", 1, wait=30.0))
        await world.clock.run_for(30.0)
        assert await waiting == ()
        await processes.complete("p")
        assert [event.sequence for event in await processes.events_after("p", 0, limit=9, wait=30.0)] == [1, 2]
        assert await processes.events_after("p", 2, wait=30.0) == ()
        with pytest.raises(ProcessNotFound):
            await processes.events_after("nobody", wait=1.0)


# Reporting


async def test_who_does_the_work_elsewhere_tells_its_end_once() -> None:
    async with running(None) as world:
        processes = world.kernel.processes
        watched = await watch(world)
        await begin(world)
        assert not (await processes.complete("p", {"n": 1})).replayed
        assert (await processes.complete("p", {"n": 1})).replayed
        for other in (processes.complete("p", 2), processes.fail("p", "c", "m"), processes.cancelled("p", "m")):
            with pytest.raises(ProcessTerminal):
                await other
        await begin(world, "q")
        await processes.fail("q", "no_paper", "the printer is empty")
        assert (await processes.get("q")).output == FailureOutput(code="no_paper", message="the printer is empty")
        await begin(world, "r")
        await processes.cancel("r", "enough")
        await processes.cancelled("r", "as you wish")
        assert await processes.end_of("r", 1.0) == CancelledOutput(message="as you wish")
        await settled()
        assert told(watched) == [
            *("started", "completed", "started", "failed", "started", "cancel_requested", "cancelled")
        ]
        await in_step(world, "s")


async def test_what_is_run_here_does_not_end_from_outside() -> None:
    async with running(Puppet(), functions=naps()) as world:
        await begin(world, registration=function_registration("p", "listen", owner=HERE))
        with pytest.raises(ProcessNotYours):
            await world.kernel.processes.complete("p")
        await world.kernel.processes.signal("p", "1", "done", session_id="s")
        await settled()
        assert await world.kernel.processes.end_of("p", 1.0) == SuccessOutput(value="done")


async def test_an_end_may_be_held_to_a_schema() -> None:
    schema = {"type": "object", "properties": {"await_output": {"properties": {"value": {"type": "integer"}}}}}
    async with running(None) as world:
        standard = next(each for each in (await _core_types(world)) if each.name == "process.completed")
        declared = EventType(name=standard.name, schema=schema, semantics=standard.semantics)
        await begin(world, "q", registration=external("q", event_types=(declared,)))
        with pytest.raises(InvalidPayload) as refused:
            await world.kernel.processes.complete("q", "seven")
        assert refused.value.pointer == "/await_output/value"
        await world.kernel.processes.complete("q", 7)


async def _core_types(world: World) -> tuple[EventType, ...]:
    await begin(world)
    return (await world.kernel.processes.get("p")).event_types


# Handing over


async def test_a_process_that_is_handed_over_leaves_one_session_and_comes_to_the_other() -> None:
    async with running(None, session_ids=BOTH) as world:
        processes = world.kernel.processes
        here, there = await watch(world), await watch(world, "t")
        await begin(world)
        await begin(world, "q")
        moved = await processes.transfer(HERE, THERE, ["p"])
        cursor = await processes.shown_through("s", ["p"])
        assert cursor == here.events[-1].cursor
        assert [grant.descriptor for grant in moved] == [{"label": "my p"}]
        assert await processes.shown_through("t", ["p"]) == there.events[-1].cursor
        assert (told(here), told(there)) == (["started", "started", "revoked"], ["granted"])
        assert here.events[-1].data.processes[0]["label"] == "my p"  # type: ignore[union-attr]
        assert [each.process_id for each in await processes.handles_of("t")] == ["p"]
        with pytest.raises(HandleNotGranted):
            await processes.transfer(HERE, THERE, ["p", "q"])
        await in_step(world, *BOTH)


async def test_what_is_granted_twice_is_still_seen_when_one_grant_ends() -> None:
    async with running(None, session_ids=BOTH) as world:
        processes = world.kernel.processes
        here = await watch(world)
        frame = ProcessScope("s", (await world.view()).read_view.agent_frame_id)
        assert frame != HERE
        await begin(world, "p", HERE, frame)
        assert await processes.revoke("p", frame)
        assert not await processes.revoke("p", frame)
        await settled()
        assert told(here) == ["started"]
        await processes.grant("p", HERE, {"label": "anew"})
        await in_step(world, "s")
        assert await processes.revoke("p", HERE)
        await in_step(world, "s")
        assert told(here) == ["started", "granted", "revoked"]
        with pytest.raises(HandleNotVisible):
            await processes.validate_visible("s", ["p"])


async def test_everything_of_a_session_is_asked_to_end() -> None:
    async with running(None, session_ids=BOTH) as world:
        processes = world.kernel.processes
        here = await watch(world)
        for process_id, scopes in (("a", (HERE,)), ("b", (HERE, THERE)), ("c", (HERE,)), ("d", (THERE,))):
            await begin(world, process_id, *scopes)
        await processes.complete("c")
        asked = await processes.cancel_all("s", "bye")
        assert [record.process_id for record in asked] == ["a", "b"]
        assert (await processes.shown_through("s", ["a", "b"])) == here.events[-1].cursor
        assert {shown["id"]: shown["cancel_requested"] for shown in (await world.view()).processes} == {
            "a": True,
            "b": True,
        }
        assert not (await processes.get("d")).cancel_requested
        await in_step(world, *BOTH)


async def test_what_leaves_or_ends_while_all_are_asked_to_end_is_passed_by() -> None:
    async with running(None, session_ids=BOTH) as world:
        processes = world.kernel.processes
        for process_id in ("a", "b", "c", "d"):
            await begin(world, process_id)
        gate = world.faults.hold("append_event")
        asking = asyncio.create_task(processes.cancel_all("s"))
        await gate.reached.wait()
        await processes.transfer(HERE, THERE, ["b"])
        await processes.complete("c")
        gate.open()
        assert [record.process_id for record in await asking] == ["a", "d"]
        assert [(await processes.get(name)).cancel_requested for name in ("a", "b", "c", "d")] == [
            *(True, False, False, True)
        ]


async def test_what_is_not_kept_is_taken_away_and_ends_where_nobody_else_sees_it() -> None:
    async with running(None, session_ids=BOTH) as world:
        processes = world.kernel.processes
        here = await watch(world)
        frame = ProcessScope("s", (await world.view()).read_view.agent_frame_id)
        for process_id, scopes in (("a", (HERE, frame)), ("b", (HERE, THERE)), ("c", (HERE,)), ("d", (frame,))):
            await begin(world, process_id, *scopes)
        ended = await processes.cancel_unreferenced("s", ["c"])
        assert ended.revoked == ("a", "a", "b", "d")
        assert [result.record.process_id for result in ended.cancelled] == ["a", "d"]
        assert ended.preserved == ("b",)
        await in_step(world, *BOTH)
        assert [shown["id"] for shown in (await world.view()).processes] == ["c"]
        assert told(here).count("revoked") == 3


async def test_a_deleted_session_says_what_became_of_its_processes_and_those_end_at_once() -> None:
    async with running(Puppet(), functions=naps(), session_ids=BOTH) as world:
        listening = function_registration("p", "listen", owner=HERE)
        await begin(world, registration=listening)
        await begin(world, "q", HERE, THERE)
        await settled()
        ended = await world.kernel.delete_session("s")
        assert (ended.revoked, ended.preserved) == (("p", "q"), ("q",))
        await settled()
        # Nobody had to look for it: the clock has not moved.
        assert (await world.kernel.processes.get("p")).output == CancelledOutput(message="session deleted")
        with pytest.raises(SessionNotFound):
            await world.kernel.processes.handles_of("nowhere")


async def test_a_new_frame_does_not_see_what_only_the_former_saw() -> None:
    async with running(Puppet()) as world:
        watched = await watch(world)
        frame = ProcessScope("s", (await world.view()).read_view.agent_frame_id)
        await begin(world, "a", frame)
        await begin(world, "b", HERE)
        puppet = world.kernel._agent
        assert isinstance(puppet, Puppet)
        await world.send("go")
        await puppet.does(lambda turn: turn.continue_as([("user", "go on")]))
        await puppet.ends()
        assert (await world.view()).read_view.agent_frame_id != frame.agent_frame_id
        assert [shown["id"] for shown in (await world.view()).processes] == ["b"]
        assert told(watched) == ["started", "started", "revoked"]
        await in_step(world, "s")


# Waiting


async def test_a_wait_that_lasts_is_told_and_its_end_too() -> None:
    async with running(Puppet(), functions=naps()) as world:
        watched = await watch(world)
        await begin(world, registration=function_registration("p", "nap", {"seconds": 5.0}, owner=HERE))
        await world.clock.run_for(0.2)
        assert told(watched) == ["started"]
        await world.clock.run_for(0.2)
        assert told(watched) == ["started", "waiting"]
        await world.clock.run_for(5.0)
        assert told(watched) == ["started", "waiting", "resumed", "completed"]
        assert (await world.view()).processes == ()


async def test_many_short_waits_are_not_told() -> None:
    async with running(Puppet(), functions=naps()) as world:
        watched = await watch(world)
        args = {"seconds": 0.001, "times": 1_000}
        await begin(world, registration=function_registration("p", "nap", args, owner=HERE))
        await world.clock.run_for(2.0)
        assert told(watched) == ["started", "completed"]


# What nobody hears of


async def test_a_session_that_nobody_looks_at_moves_on_so_that_who_comes_back_misses_nothing() -> None:
    async with running(None) as world:
        before = (await world.view()).cursor
        await world.clock.run_for(600.0)
        assert not len(world.kernel._handles)
        await begin(world)
        await settled()
        items = world.kernel.watch("s", before)
        event = await anext(items)
        assert (event.kind, event.data.kind) == ("process_changed", "started")  # type: ignore[union-attr]
        await items.aclose()


LOST: list[tuple[str, Callable[[World], Awaitable[object]]]] = [
    ("register_process", lambda world: begin(world, "new", HERE, THERE)),
    ("append_event", lambda world: world.kernel.processes.complete("p")),
    ("append_event", lambda world: world.kernel.processes.cancel("p")),
    ("append_event", lambda world: world.kernel.processes.append("p", NewEvent(event_type="progress", payload=1))),
    ("grant_process", lambda world: world.kernel.processes.grant("p", THERE, {})),
    ("revoke_process", lambda world: world.kernel.processes.revoke("p", HERE)),
    ("transfer_grants", lambda world: world.kernel.processes.transfer(HERE, THERE, ["p"])),
    ("cancel_unreferenced", lambda world: world.kernel.processes.cancel_unreferenced("s", [])),
]


@pytest.mark.parametrize(("method", "write"), LOST)
@pytest.mark.parametrize("was_told", [True, False], ids=["told", "untold"])
async def test_what_was_done_without_a_word_shows_all_the_same(
    method: str, write: Callable[[World], Awaitable[object]], was_told: bool
) -> None:
    async with running(None, session_ids=BOTH) as world:
        here, there = await watch(world), await watch(world, "t")
        await begin(world)
        await settled()
        world.faults.fail_after(method, told=was_told)
        with pytest.raises(StoreUnavailable):
            await write(world)
        await world.clock.run_for(2.0)
        await in_step(world, *BOTH)
        assert (here.handle.view, there.handle.view) == (await world.view("s"), await world.view("t"))
        words = [(event.data.kind, event.data.process_ids) for event in here.events]  # type: ignore[union-attr]
        assert len(words) == len(set(words))


async def test_an_end_whose_every_answer_is_lost_shows_all_the_same() -> None:
    async with running(Puppet(), functions=naps(), limits=Limits(process_lease=1.5)) as world:
        watched = await watch(world)
        world.faults.fail_after("append_event", times=100, told=False)
        await begin(world, registration=function_registration("p", "nap", {"seconds": 0.0, "times": 0}))
        await world.clock.run_for(5.0)  # its lease is gone with it, and nobody tells its end once more
        assert (await world.kernel.processes.get("p")).status == "completed"
        assert told(watched) == ["started", "completed"]


async def test_what_was_not_done_is_not_told() -> None:
    async with running(None, session_ids=BOTH) as world:
        here, there = await watch(world), await watch(world, "t")
        await begin(world)
        await settled()
        for method, write in LOST:
            world.faults.fail_before(method)
            with pytest.raises(StoreUnavailable):
                await write(world)
        await world.clock.run_for(2.0)
        assert (told(here), told(there)) == (["started"], [])


async def test_a_session_that_is_read_later_is_not_told_what_was_before() -> None:
    async with running(None) as world:
        held = world.faults.hold("grants_of_process")
        await world.store.create_session(NewSession(session_id="t"), 0, lambda _: None)
        await begin(world, "p", THERE)  # that it began is told when it is known who sees it
        output = SuccessOutput(value="done in another program")
        await world.store.append_event("p", ending("p", output), now=0, then=lambda _: None)
        held.open()
        await in_step(world, "t")


async def test_the_cursor_that_shows_a_write_waits_for_the_store() -> None:
    async with running(None, session_ids=BOTH) as world:
        here = await watch(world)
        await begin(world)
        await settled()
        world.faults.fail_before("grants_of_process")
        await world.kernel.processes.transfer(HERE, THERE, ["p"])
        with pytest.raises(StoreUnavailable):
            await world.kernel.processes.shown_through("s", ["p"])
        later = asyncio.create_task(world.kernel.processes.shown_through("s", ["p"]))
        await settled()
        assert not later.done()
        await world.clock.run_for(1.0)
        assert await later == here.events[-1].cursor
        assert told(here) == ["started", "revoked"]


async def test_news_that_cannot_be_told_for_a_fault_of_ours_keeps_no_other_from_being_told() -> None:
    async with running(None) as world:
        watched = await watch(world)
        world.faults.fail_before("grants_of_process", error=RuntimeError("a bug"))
        await begin(world, "a")
        await begin(world, "b")
        await world.kernel.processes.shown_through("s", ["a", "b"])
        assert [event.data.process_ids for event in watched.events] == [("b",)]  # type: ignore[union-attr]


# All of it


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_to_processes_shows_as_it_is_stored_and_as_it_was_told(seed: int) -> None:
    chance = random.Random(seed)
    async with running(None, session_ids=BOTH) as world:
        processes = world.kernel.processes
        watched = [await watch(world, session_id) for session_id in BOTH]
        names = ("a", "b", "c")

        async def something() -> None:
            name, scope, other = chance.choice(names), *chance.sample((HERE, THERE), 2)
            match chance.randrange(8):
                case 0 | 1:
                    grants = [NewGrant(scope=each) for each in chance.choice(((HERE,), (THERE,), (HERE, THERE), ()))]
                    await processes.start_process(external(name, event_types=(PROGRESS,)), grants)
                case 2:
                    await processes.append(name, NewEvent(event_type="progress", payload=chance.randrange(9)))
                case 3:
                    await processes.cancel(name)
                case 4:
                    await processes.complete(name)
                case 5:
                    await processes.grant(name, scope, {"label": str(chance.randrange(9))})
                case 6:
                    await processes.revoke(name, scope)
                case 7:
                    await processes.transfer(scope, other, [name])

        for _ in range(40):
            if not chance.randrange(3):
                method = chance.choice(
                    ("register_process", "append_event", "grant_process", "transfer_grants", "grants_of_process")
                )
                match chance.randrange(3):
                    case 0:
                        world.faults.fail_before(method)
                    case 1:
                        world.faults.fail_after(method)
                    case 2 if method != "grants_of_process":
                        world.faults.fail_after(method, told=False)
            with contextlib.suppress(SightlineError):
                await something()
            if not chance.randrange(4):
                await settled()
        world.faults.heal()
        await world.clock.run_for(10.0)
        await in_step(world, *BOTH)
        for each in watched:
            assert fold(each.views[0], each.events) == each.handle.view
