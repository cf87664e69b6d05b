"""The observation of a runtime: what is in it, what is made anew and what is not, and what of it may fail."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from msgspec import structs

from sightline.observation.cursor import Cursor, parse
from sightline.observation.events import Committed, from_wire
from sightline.observation.handle import RuntimeHandle
from sightline.observation.replay import LiveReplayStore
from sightline.observation.runtime import RuntimeObservation, SessionObservation
from sightline.process.model import HandleGrant, HandleSummary, ProcessScope
from sightline.session.model import PersistedState, Usage, UsageFigures
from sightline.session.rules import revision_of
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock
from sightline.testing.faults import Faults, faulty
from tests.core.observation.runtimes import OwnRuntime, Registry, Tools, handle_over, log, message, no_state
from tests.core.observation.test_handle import NOW, kinds, says, started, stored

FIELDS = {
    "session_id",
    "revision",
    "cursor",
    "policy",
    "read_view",
    "persisted_state",
    "usage_report",
    "tool_state",
    "tool_catalog",
    "tool_catalog_error",
    "process_registry",
    "queue_store",
    "queued_work_poke",
}


def told(replay: LiveReplayStore, revision: int, position: int = 0) -> list[str]:
    return kinds(replay.replay_after(Cursor(7, 0, position, "s"), revision))


# What is in it


def test_an_observation_has_every_part_and_none_of_them_can_be_replaced() -> None:
    runtime = OwnRuntime(process_registry=Registry(), queue_store=MemoryStore(ManualClock()))
    runtime.live_usage = Usage(UsageFigures(requests=3))
    runtime.becomes(head_revision=4, turn_index=2, messages=(message("m"),))
    seen = handle_over(runtime).observe()
    assert set(RuntimeObservation.__struct_fields__) == FIELDS | {"view"}
    assert (seen.session_id, seen.revision, seen.cursor) == ("s", 4, "sl1:7:4:0:s")
    assert (seen.policy, seen.read_view, seen.persisted_state) == ({"p": [1]}, seen.view.read_view, runtime.state)
    assert (seen.read_view.messages, seen.usage_report) == ((message("m"),), runtime.live_usage)
    assert seen.tool_state is not None
    assert (seen.tool_state.generation, seen.tool_catalog, seen.tool_catalog_error) == (1, ({"name": "add"},), None)
    assert seen.process_registry is runtime.process_registry
    assert seen.queue_store is runtime.queue_store
    assert seen.queued_work_poke is None
    for name in RuntimeObservation.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(seen, name, None)


def test_what_is_derived_of_it() -> None:
    seen = handle_over(OwnRuntime()).observe()
    assert seen.session_observation == SessionObservation(seen.read_view, seen.cursor)
    assert seen.process_scope == ProcessScope("s")


def test_the_policy_is_a_copy_that_readers_cannot_reach_the_session_through() -> None:
    runtime = OwnRuntime()
    handle = handle_over(runtime)
    handle.observe().policy["p"].append(2)
    assert (runtime.state.policy, handle.view.policy) == ({"p": [1]}, {"p": [1]})


def test_it_is_swapped_whole_and_the_one_before_stays_as_it_was() -> None:
    runtime = OwnRuntime()
    handle = handle_over(runtime)
    before = handle.observe()
    copied = structs.astuple(before)
    assert handle.observe() is before
    runtime.commits("m")
    handle.publish_from(runtime)
    after = handle.observe()
    assert handle.observe() is after
    assert (after.revision, before.revision) == (1, 0)
    assert structs.astuple(before) == copied


@pytest.mark.parametrize(
    ("head", "turns", "revision"), [(None, 3, 3), (0, 3, 0), (7, 3, 7)], ids=["no store", "no commit", "commits"]
)
def test_the_revision_is_the_stores_count_or_without_a_store_the_turns(
    head: int | None, turns: int, revision: int
) -> None:
    state = no_state(head_revision=head, turn_index=turns)
    assert revision_of(state) == revision
    assert handle_over(OwnRuntime(state)).observe().revision == revision


def test_a_loaded_session_is_observed_like_one_that_was_brought() -> None:
    handle = RuntimeHandle(stored(3), log(), keep=10)
    seen = handle.observe()
    assert (seen.revision, seen.policy, seen.tool_catalog, seen.queue_store) == (3, {"p": 1}, (), None)
    assert isinstance(seen.persisted_state, PersistedState)
    assert (seen.persisted_state.head_revision, seen.persisted_state.metadata) == (3, {"m": 2})
    handle.publish(NOW, [started()])
    assert handle.observe().view.live is not None
    assert handle.observe().persisted_state == seen.persisted_state
    assert handle.observe().policy is seen.policy


# Tools


def test_tools_of_one_generation_are_captured_once() -> None:
    runtime = OwnRuntime()
    assert runtime.tools is not None
    handle = handle_over(runtime)
    first = handle.observe().tool_state
    captured = runtime.tools.captured
    for name in ("a", "b"):
        runtime.commits(name)
        handle.publish_from(runtime)
    assert handle.observe().tool_state is first
    assert runtime.tools.captured == captured
    runtime.tools.generation = 2
    handle.publish_from(runtime)
    assert handle.observe().tool_state is not first
    assert runtime.tools.captured == captured + 1


def test_a_loaded_sessions_tools_are_captured_once_as_well() -> None:
    handle = RuntimeHandle(stored(3), log(), keep=10)
    first = handle.observe().tool_state
    handle.publish(NOW, [started(), says("x")])
    assert handle.observe().tool_state is first


def test_tools_that_cannot_be_captured_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    runtime = OwnRuntime(tools=Tools(state_fails=RuntimeError("no")))
    runtime.commits("m")
    with caplog.at_level(logging.WARNING):
        handle = handle_over(runtime)
        handle.publish_from(runtime)
    assert handle.observe().tool_state is None
    assert handle.observe().tool_catalog == ({"name": "add"},)
    assert "could not be captured: no" in caplog.text


def test_a_catalogue_that_cannot_be_made_is_empty_and_says_why() -> None:
    runtime = OwnRuntime()
    assert runtime.tools is not None
    handle = handle_over(runtime)
    runtime.tools.catalog_fails = RuntimeError("not now")
    runtime.commits("m")
    handle.publish_from(runtime)
    seen = handle.observe()
    assert (seen.revision, seen.tool_catalog, seen.tool_catalog_error) == (1, (), "not now")
    assert (seen.view.tools.catalog, seen.view.tools.error) == ((), "not now")


def test_a_session_that_is_not_live_has_no_tools() -> None:
    seen = handle_over(OwnRuntime(tools=None)).observe()
    assert (seen.tool_state, seen.tool_catalog, seen.tool_catalog_error) == (None, (), None)


# Publishing from a runtime


def test_a_new_handle_tells_nothing_and_stands_at_the_tail() -> None:
    replay = log()
    handle = handle_over(OwnRuntime(), replay)
    assert replay.is_empty("s")
    assert parse(handle.observe().cursor).position == 0


def test_a_frame_switch_is_told_before_its_commit_and_only_when_there_is_one() -> None:
    replay, runtime = log(), OwnRuntime()
    handle = handle_over(runtime, replay)
    runtime.commits("a")
    handle.publish_from(runtime)
    runtime.commits("b")
    runtime.becomes(agent_frame_id="second", messages=(message("summary"), message("b")))
    handle.publish_from(runtime)
    runtime.commits("c")
    runtime.becomes(agent_frame_id="")
    handle.publish_from(runtime)
    assert told(replay, 3) == ["committed", "agent_frame_switched", "committed", "committed"]
    view = handle.observe().read_view
    assert [shown.message_id for shown in view.messages] == ["summary", "b", "c"]
    assert view.agent_frame_id == "second"


def test_what_did_not_change_is_not_told() -> None:
    replay, runtime = log(), OwnRuntime()
    handle = handle_over(runtime, replay)
    runtime.commits("a")
    handle.publish_from(runtime)
    before = handle.cursor
    assert handle.publish_from(runtime) == before
    assert told(replay, 1) == ["committed"]


def test_a_commit_brings_what_was_appended_and_what_was_used() -> None:
    replay, runtime = log(), OwnRuntime()
    handle = handle_over(runtime, replay)
    runtime.commits("a", "b")
    handle.publish_from(runtime)
    used = Usage(UsageFigures(5, requests=1), {"m": UsageFigures(5, requests=1)})
    runtime.commits("c")
    runtime.becomes(usage=used)
    handle.publish_from(runtime)
    entries = replay.replay_after(Cursor(7, 1, 1, "s"), 2)
    assert not isinstance(entries, str)
    [commit] = [from_wire(msgspec.json.decode(entry.payload)).data for entry in entries]
    assert isinstance(commit, Committed)
    assert [shown.message_id for shown in commit.messages] == ["c"]
    assert commit.usage_delta == used
    assert handle.view.usage == used


def test_a_transcript_that_was_replaced_is_told_as_a_reset() -> None:
    runtime = OwnRuntime()
    handle = handle_over(runtime)
    runtime.commits("a", "b")
    handle.publish_from(runtime)
    runtime.becomes(messages=())
    runtime.commits("c")
    handle.publish_from(runtime)
    assert [shown.message_id for shown in handle.view.read_view.messages] == ["c"]


def test_what_else_readers_see_is_told_as_a_resident_change() -> None:
    replay, runtime = log(), OwnRuntime()
    assert runtime.tools is not None
    handle = handle_over(runtime, replay)
    runtime.becomes(policy={"p": [2]}, metadata={"m": 1})
    runtime.tools.generation, runtime.tools.entries = 2, ({"name": "sub"},)
    handle.publish_from(runtime)
    assert told(replay, 0) == ["resident_changed"]
    view = handle.view
    assert (view.policy, view.metadata, view.tools.generation, view.revision) == ({"p": [2]}, {"m": 1}, 2, 0)
    assert handle.observe().policy == {"p": [2]}


def test_the_revision_observers_have_never_falls_when_the_counter_is_another_one() -> None:
    runtime = OwnRuntime(no_state(head_revision=None, turn_index=9))
    handle = handle_over(runtime)
    runtime.becomes(head_revision=1, turn_index=10, messages=(message("a"),))
    handle.publish_from(runtime)
    assert (handle.revision, handle.view.read_view.messages) == (9, (message("a"),))
    assert parse(handle.cursor).revision == 9


def test_a_log_that_refuses_fails_no_publication() -> None:
    for method in ("publish", "prepare"):
        replay, faults, runtime = log(), Faults(), OwnRuntime()
        handle = handle_over(runtime, faulty(replay, faults))
        faults.fail_before(method, error=OSError("the log is away"))
        runtime.commits("m")
        before = handle.observe().cursor
        handle.publish_from(runtime)
        assert (handle.observe().revision, handle.observe().read_view.messages) == (1, (message("m"),))
        resumed = handle.resume_session_observation(before)
        assert not hasattr(resumed, "events"), "what was lost is a gap and not silence"


def test_what_was_told_to_nobody_is_a_gap_for_all_who_stood_before_it() -> None:
    replay, faults = log(), Faults()
    handle = RuntimeHandle(stored(0), faulty(replay, faults), keep=10)
    before = handle.publish(NOW, [started()])
    watching = handle.open(None, lambda: None)
    faults.fail_before("prepare", times=2, error=OSError())
    handle.publish(NOW, [says("lost")])
    handle.publish(NOW, [says(" too")])
    handle.publish(NOW, [says(" told")])
    assert watching.subscription.take(100) == "unavailable"
    opening = handle.open(parse(before), lambda: None)
    assert opening.gap is not None
    live = handle.view.live
    assert live is not None
    assert live.text == "lost too told"
    handle.publish(NOW, [says("!")])
    assert kinds(opening.subscription.take(1_000)) == ["turn_activity"]


# Reading while a writer writes


@pytest.mark.anyio
async def test_to_observe_is_to_wait_for_nobody() -> None:
    runtime = OwnRuntime()
    handle = handle_over(runtime)
    installed = handle.observe()
    async with handle.writer() as held:
        assert held is runtime
        runtime.commits("half")
        assert handle.observe() is installed
        assert handle.current_session_observation() == installed.session_observation
        handle.publish(NOW, [started()])
        assert handle.observe().view.live is not None
        assert handle.observe().read_view.messages == ()
        handle.publish_from(runtime)
    assert handle.observe().read_view.messages == (message("half"),)


@pytest.mark.anyio
async def test_there_is_one_writer_at_a_time_and_waiting_for_it_can_be_given_up() -> None:
    handle = handle_over(OwnRuntime())
    order: list[str] = []

    async def write(name: str) -> None:
        async with handle.writer():
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    async with handle.writer():
        assert handle.writer().is_taken
        waiting = asyncio.create_task(write("x"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    await asyncio.gather(write("a"), write("b"))
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    assert not handle.writer().is_taken


@pytest.mark.anyio
async def test_only_the_only_owner_gets_the_runtime_back() -> None:
    runtime = OwnRuntime()
    handle = handle_over(runtime)
    handle.pins += 2
    assert handle.try_into_runtime() is handle
    handle.unpin()
    async with handle.writer():
        assert handle.try_into_runtime() is handle
    opening = handle.open(None, lambda: None)
    assert handle.try_into_runtime() is handle
    opening.subscription.close()
    assert handle.try_into_runtime() is runtime
    assert handle.closed_reason == "taken apart"
    assert handle.try_into_runtime() is handle


# Processes


def grant(process_id: str, status: Any = "running", **descriptor: Any) -> HandleGrant:
    return HandleGrant(process_id=process_id, status=status, descriptor=descriptor)


def registry() -> Registry:
    return Registry(
        {
            ProcessScope("s"): [grant("c", label="the session's"), grant("a"), grant("z", "completed")],
            ProcessScope("s", "initial"): [grant("c", label="the frame's"), grant("b"), grant("y", "failed")],
            ProcessScope("s", "before"): [grant("x")],
            ProcessScope("other"): [grant("w")],
        }
    )


@pytest.mark.anyio
async def test_the_processes_of_the_session_and_its_frame_are_seen_once_and_in_order() -> None:
    processes = registry()
    seen = handle_over(OwnRuntime(process_registry=processes)).observe()
    live = await seen.list_process_handles()
    assert ([handle.process_id for handle in live.handles], live.errors) == (["a", "b", "c"], ())
    assert live.handles[2].descriptor == {"label": "the session's"}
    every = await seen.list_all_process_handles()
    assert [handle.process_id for handle in every.handles] == ["a", "b", "c", "y", "z"]
    assert [handle.status for handle in every.handles][3:] == ["failed", "completed"]
    assert set(processes.asked) == {ProcessScope("s"), ProcessScope("s", "initial")}


@pytest.mark.anyio
async def test_between_frames_only_the_sessions_own_processes_are_seen() -> None:
    processes = registry()
    seen = handle_over(OwnRuntime(no_state(agent_frame_id=""), process_registry=processes)).observe()
    assert [handle.process_id for handle in (await seen.list_process_handles()).handles] == ["a", "c"]
    assert processes.asked == [ProcessScope("s")]


@pytest.mark.anyio
async def test_a_session_whose_id_looks_like_a_frame_sees_no_frame() -> None:
    processes = Registry({ProcessScope("s", "f"): [grant("secret")]})
    state = no_state(session_id="s/frame:f", agent_frame_id="")
    seen = handle_over(OwnRuntime(state, process_registry=processes)).observe()
    assert (await seen.list_all_process_handles()).handles == ()


@pytest.mark.anyio
async def test_without_a_registry_there_are_no_processes() -> None:
    seen = handle_over(OwnRuntime()).observe()
    assert (await seen.list_process_handles()).handles == ()
    assert (await seen.list_all_process_handles()).errors == ()


@pytest.mark.anyio
async def test_a_scope_that_cannot_be_read_is_named_and_the_other_is_shown() -> None:
    processes = registry()
    processes.grants[ProcessScope("s", "initial")] = OSError("the registry is away")
    seen = handle_over(OwnRuntime(process_registry=processes)).observe()
    live = await seen.list_process_handles()
    assert [handle.process_id for handle in live.handles] == ["a", "c"]
    assert live.errors == ("frame initial: the registry is away",)
    processes.grants[ProcessScope("s")] = OSError()
    every = await seen.list_all_process_handles()
    assert (every.handles, every.errors) == ((), ("session: OSError", "frame initial: the registry is away"))


@pytest.mark.anyio
async def test_processes_are_read_while_a_writer_writes() -> None:
    handle = handle_over(OwnRuntime(process_registry=registry()))
    async with handle.writer():
        assert len((await handle.observe().list_process_handles()).handles) == 3


def test_a_process_change_is_told_once_with_its_ids() -> None:
    replay = log()
    handle = handle_over(OwnRuntime(), replay)
    summary = HandleSummary.of(grant("p", label="x"))
    handle.record_process_changed("started", [summary])
    assert told(replay, 0) == ["process_changed"]
    [shown] = handle.view.processes
    assert (shown["__handle__"], shown["id"], shown["status"]) == ("process", "p", "running")
    assert shown["descriptor"] == {"label": "x"}
    handle.record_process_changed("cancel_requested", [])
    assert told(replay, 0) == ["process_changed"]
    handle.record_process_changed("completed", [HandleSummary.of(grant("p", "completed"))])
    assert not handle.view.processes


def test_a_record_that_cannot_be_told_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    replay, faults = log(), Faults()
    handle = handle_over(OwnRuntime(), faulty(replay, faults))
    summary = HandleSummary.of(grant("p", label=object()))
    handle.record_process_changed("started", [summary])
    assert "could not be told" in caplog.text
    for method in ("prepare", "publish"):
        faults.fail_before(method, error=OSError())
        handle.record_process_changed("started", [HandleSummary.of(grant(method))])
    assert len(handle.view.processes) == 2
