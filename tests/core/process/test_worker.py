"""The worker: what it runs and what it leaves, on both stores."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sightline.errors import StoreUnavailable
from sightline.process.attempts import GAVE_UP
from sightline.process.engine import ProcessWork
from sightline.process.model import (
    AbandonedOutput,
    CancelledOutput,
    FailureOutput,
    Provenance,
    SuccessOutput,
)
from sightline.process.worker import WorkerLimits
from sightline.testing.clock import settled
from sightline.testing.conformance.process_steps import (
    HERE,
    ask_to_cancel,
    end,
    external,
    hold,
    log_of,
    offer_process,
    register,
)
from tests.core.process.workers import Engines, MakeStore, both_stores, for_ever, memory, sqlite, working

pytestmark = pytest.mark.anyio


@both_stores
async def test_what_nobody_runs_is_run_once_and_its_end_is_logged(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store)
        await place.look()
        assert await place.end_of() == SuccessOutput(value="done")
        await place.idle()
        await place.look()
        assert place.engines.begun == ["p"]
        assert await log_of(place.store) == ["process.completed"]
        record = await place.store.get_process("p")
        assert (record.status, record.attempts) == ("completed", 1)
        assert [appended.record.status for appended in place.logged] == ["completed"]


@pytest.mark.parametrize(("make", "times"), [(memory, 1_000), (sqlite, 200)])
async def test_two_workers_and_one_process_make_one_run(make: MakeStore, times: int, tmp_path: Path) -> None:
    names = [f"p{number:03}" for number in range(times)]
    async with working(make, tmp_path) as place:
        other = Engines()
        second = place.another(other)
        second.start()
        for start in range(0, times, 25):
            await asyncio.gather(*(register(place.store, name) for name in names[start : start + 25]))
            await asyncio.gather(place.look(), second.claim_and_run_pending())
            await asyncio.gather(place.idle(), second.wait_idle())
        await second.stop()
        records = [await place.store.get_process(name) for name in names]
        assert {(record.status, record.attempts, record.last_sequence) for record in records} == {("completed", 1, 1)}
        assert sorted(place.engines.begun + other.begun) == names


@both_stores
async def test_what_an_engine_raises_is_the_failure_of_its_process(make: MakeStore, tmp_path: Path) -> None:
    async def fails(work: ProcessWork) -> object:
        raise ValueError("no such page")

    async with working(make, tmp_path) as place:
        await register(place.store)
        place.engines.plan("p", fails)
        await place.look()
        assert await place.end_of() == FailureOutput(code="process_failed", message="ValueError: no such page")


@both_stores
async def test_an_output_that_cannot_be_stored_is_a_failure(make: MakeStore, tmp_path: Path) -> None:
    async def floods(work: ProcessWork) -> object:
        return "x" * (1 << 21)

    async with working(make, tmp_path) as place:
        await register(place.store)
        place.engines.plan("p", floods)
        await place.look()
        output = await place.end_of()
        assert isinstance(output, FailureOutput)
        assert output.code == "invalid_output"


@both_stores
async def test_an_engine_that_calls_exit_fails_its_process_and_nothing_else(make: MakeStore, tmp_path: Path) -> None:
    async def leaves(work: ProcessWork) -> object:
        raise SystemExit(3)

    async with working(make, tmp_path) as place:
        await register(place.store)
        await register(place.store, "q")
        place.engines.plan("p", leaves)
        await place.look()
        assert isinstance(await place.end_of(), FailureOutput)
        assert await place.end_of("q") == SuccessOutput(value="done")


# Cancelling


@both_stores
async def test_a_cancel_before_the_run_ends_the_process_without_one(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store)
        await ask_to_cancel(place.store)
        await place.look()
        assert await place.end_of() == CancelledOutput(message="enough")
        assert place.engines.begun == []


@both_stores
async def test_a_cancel_during_the_run_stops_the_engine(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store)
        place.engines.plan("p", for_ever)
        await place.look()
        await place.begun()
        appended = await ask_to_cancel(place.store)
        assert appended.event is not None
        place.worker.changed(appended.event)
        assert await place.end_of() == CancelledOutput(message="enough")
        assert place.engines.cancelled == ["p"]


async def test_a_cancel_that_nobody_told_of_is_found_within_a_second() -> None:
    async with working() as place:
        await register(place.store)
        place.engines.plan("p", for_ever)
        await place.look()
        await place.begun()
        await place.clock.run_for(60.0)
        await ask_to_cancel(place.store)
        await place.clock.run_for(1.1)
        assert (await place.store.get_process("p")).status == "cancelled"


async def test_an_engine_that_ignores_its_cancellation_is_left_behind_and_writes_nothing() -> None:
    released = asyncio.Event()

    async def stubborn(work: ProcessWork) -> object:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                pass
        with pytest.raises(Exception, match="does not rule"):
            await work.log("note")
        return None

    async with working() as place:
        await register(place.store)
        place.engines.plan("p", stubborn)
        await place.look()
        await place.begun()
        appended = await ask_to_cancel(place.store)
        assert appended.event is not None
        place.worker.changed(appended.event)
        await place.clock.run_for(6.0)
        assert (await place.store.get_process("p")).status == "cancelled"
        released.set()
        await settled()
        assert await log_of(place.store) == ["process.cancel_requested", "process.cancelled"]


# Leases


@both_stores
async def test_the_lease_of_what_runs_is_renewed(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store)
        place.engines.plan("p", for_ever)
        await place.look()
        await place.begun()
        for _ in range(4):
            gate = place.faults.hold_answer("renew_process_lease")
            await settled()
            place.clock.advance(10.0)
            async with asyncio.timeout(20):
                await gate.reached.wait()
            gate.open()
            await settled()
        assert await place.store.runnable_processes(now=place.now, limit=10) == ()
        assert place.engines.cancelled == []


async def test_a_process_that_another_worker_took_over_is_stopped_and_nothing_is_written_for_it() -> None:
    async with working() as place:
        await register(place.store)
        place.engines.plan("p", for_ever)
        await place.look()
        await place.begun()
        await hold(place.store, "you", now=place.now + 31_000)
        await place.clock.run_for(10.1)
        assert place.engines.cancelled == ["p"]
        assert await log_of(place.store) == []
        assert (await place.store.get_process("p")).status == "running"
        assert await place.store.runnable_processes(now=place.now, limit=10) == (), "the other's lease stays"


async def test_a_late_end_of_a_superseded_worker_changes_nothing() -> None:
    go_on = asyncio.Event()

    async def slow(work: ProcessWork) -> object:
        await go_on.wait()
        return "late"

    async with working() as place:
        await register(place.store)
        place.engines.plan("p", slow)
        await place.look()
        await place.begun()
        lease = await hold(place.store, "you", now=place.now + 31_000)
        go_on.set()
        await place.idle()
        assert await log_of(place.store) == []
        await end(place.store, lease=lease)
        assert (await place.store.get_process("p")).output == SuccessOutput(value="done")


async def test_who_cannot_renew_for_a_whole_lease_stops_what_runs() -> None:
    async with working() as place:
        await register(place.store)
        place.engines.plan("p", for_ever)
        await place.look()
        await place.begun()
        place.faults.fail_before("renew_process_lease", times=10)
        await place.clock.run_for(29.0)
        assert place.engines.cancelled == []
        await place.clock.run_for(2.0)
        assert place.engines.cancelled == ["p"]


@both_stores
async def test_a_process_whose_worker_died_is_run_again_by_the_next(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store)
        dead = await hold(place.store, "dead", now=place.now)
        await place.look()
        assert place.engines.begun == []
        place.clock.advance(30.0)
        await place.look()
        assert await place.end_of() == SuccessOutput(value="done")
        assert place.engines.works["p"].attempt == 2
        assert dead.fencing_token == 1


@both_stores
async def test_after_so_many_attempts_a_process_has_failed_and_says_so(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store)
        for attempt in range(3):
            await hold(place.store, f"dead {attempt}", now=place.now)
            place.clock.advance(30.0)
        await place.look()
        output = await place.end_of()
        assert isinstance(output, FailureOutput)
        assert (output.class_, output.code) == ("infrastructure", GAVE_UP)
        assert place.engines.begun == []


async def test_a_process_that_waits_is_not_charged_for_the_workers_that_died_before() -> None:
    async def waits(work: ProcessWork) -> object:
        return await work.end_of("z")

    async with working() as place:
        await offer_process(place.store, external("z"))
        await register(place.store)
        for attempt in range(2):
            await hold(place.store, f"dead {attempt}", now=place.now)
            place.clock.advance(30.0)
        place.engines.plan("p", waits)
        await place.look()
        await place.begun()
        assert place.engines.works["p"].attempt == 3
        await place.clock.run_for(20.1)
        assert (await place.store.get_process("p")).attempts == 1


# Dispositions


@both_stores
async def test_an_owner_bound_process_whose_owner_is_gone_is_abandoned_with_evidence(
    make: MakeStore, tmp_path: Path
) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store, disposition="owner_bound")
        lease = await hold(place.store, "gone", now=place.now)
        place.clock.advance(29.0)
        await place.look()
        assert (await place.store.get_process("p")).status == "running"
        place.clock.advance(1.0)
        await place.look()
        output = await place.end_of()
        assert isinstance(output, AbandonedOutput)
        assert (output.owner_id, output.fencing_token) == ("gone", 1)
        assert output.expired_at_ms == lease.expires_at_ms
        assert place.engines.begun == []


@both_stores
async def test_a_process_that_is_done_elsewhere_is_left_alone(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await offer_process(place.store, external())
        await place.look()
        await place.idle()
        assert (await place.store.get_process("p")).status == "running"
        await end(place.store)
        assert (await place.store.get_process("p")).status == "completed"


@both_stores
async def test_a_process_of_another_profile_or_of_a_strange_kind_stays_claimable(
    make: MakeStore, tmp_path: Path
) -> None:
    async with working(make, tmp_path, limits=WorkerLimits(host_profile_id="default")) as place:
        await register(place.store, "a", provenance=Provenance(owner_scope=HERE, host_profile_id="gpu"))
        await register(place.store, "b", kind="strange")
        await register(place.store, "c")
        place.engines.unknown = {"c"}
        await place.look()
        await place.idle()
        free = await place.store.runnable_processes(now=place.now, limit=10)
        assert [(record.process_id, record.attempts) for record in free] == [("a", 0), ("b", 0), ("c", 0)]


@both_stores
async def test_what_nobody_here_can_run_is_ended_when_that_is_wanted_or_its_owner_is_gone(
    make: MakeStore, tmp_path: Path
) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store, "forgotten")
        await register(place.store, "kind", kind="strange")
        for name in ("bound", "unbegun"):
            await register(place.store, name, disposition="owner_bound")
        await hold(place.store, "gone", process_id="bound", now=place.now)
        place.engines.unknown = {"forgotten", "bound", "unbegun"}
        for name in ("forgotten", "kind"):
            await ask_to_cancel(place.store, process_id=name)
        place.clock.advance(31.0)
        await place.look()
        await place.idle()
        assert isinstance(await place.end_of("bound"), AbandonedOutput)
        assert await place.end_of("forgotten") == CancelledOutput(message="enough")
        assert await place.end_of("kind") == CancelledOutput(message="enough")
        free = await place.store.runnable_processes(now=place.now, limit=10)
        assert [(record.process_id, record.attempts) for record in free] == [("unbegun", 0)]
        assert place.engines.begun == []


# Trouble


@both_stores
async def test_trouble_leaves_the_process_claimable_and_uncharged(make: MakeStore, tmp_path: Path) -> None:
    async def meets_trouble(work: ProcessWork) -> object:
        raise StoreUnavailable("the disk is gone")

    async with working(make, tmp_path) as place:
        await register(place.store)
        place.engines.plan("p", meets_trouble)
        await place.look()
        await place.begun()
        await place.idle()
        [free] = await place.store.runnable_processes(now=place.now, limit=10)
        assert (free.attempts, await log_of(place.store)) == (0, [])


async def test_a_process_that_met_trouble_rests_longer_each_time() -> None:
    async def meets_trouble(work: ProcessWork) -> object:
        raise StoreUnavailable("the disk is gone")

    async with working() as place:
        await register(place.store)
        place.engines.plan("p", meets_trouble)
        for count, pause in enumerate((0.4, 0.8, 1.6), start=1):
            await place.look()
            await place.idle()
            assert len(place.engines.begun) == count
            await place.clock.run_for(pause - 0.01)
            await place.look()
            await place.idle()
            assert len(place.engines.begun) == count
            await place.clock.run_for(0.02)


async def test_an_end_that_cannot_be_written_is_written_when_the_store_is_back() -> None:
    async with working() as place:
        await register(place.store)
        place.faults.fail_before("append_event", times=12)
        await place.look()
        await place.clock.run_for(60.0)
        assert (await place.store.get_process("p")).output == SuccessOutput(value="done")
        assert place.engines.begun == ["p"]


async def test_an_end_whose_answer_was_lost_is_written_once() -> None:
    async with working() as place:
        await register(place.store)
        place.faults.fail_after("append_event", told=False)
        await place.look()
        await place.clock.run_for(1.0)
        assert place.worker.active == 0
        assert await log_of(place.store) == ["process.completed"]


async def test_a_look_that_fails_raises_and_the_next_one_finds_the_work() -> None:
    async with working() as place:
        await register(place.store)
        place.faults.fail_before("runnable_processes")
        with pytest.raises(StoreUnavailable):
            await place.look()
        await place.look()
        assert await place.end_of() == SuccessOutput(value="done")


async def test_a_lease_that_could_not_be_acquired_is_tried_again_later() -> None:
    async with working() as place:
        await register(place.store)
        place.faults.fail_before("acquire_process_lease")
        await place.look()
        await place.idle()
        await place.clock.run_for(0.5)
        await place.look()
        assert await place.end_of() == SuccessOutput(value="done")


# Bounds


async def test_no_more_run_at_one_time_than_there_are_permits_and_all_are_run() -> None:
    async def yields(work: ProcessWork) -> object:
        for _ in range(5):
            await asyncio.sleep(0)
        return None

    async with working(limits=WorkerLimits(concurrency=3)) as place:
        for number in range(20):
            await register(place.store, f"p{number:02}")
            place.engines.plan(f"p{number:02}", yields)
        await place.look()
        await place.idle()
        assert (place.engines.most, len(place.engines.begun)) == (3, 20)


async def test_many_live_rows_cost_one_query_for_each_page() -> None:
    names = [f"p{number:04}" for number in range(2_560)]
    async with working() as place:
        for name in names:
            await register(place.store, name, event_types=())
        place.engines.unknown = set(names)
        await place.look()
        assert place.faults.calls.count("runnable_processes") == 11
        assert set(place.faults.calls) == {"runnable_processes"}


@both_stores
async def test_a_parent_that_awaits_its_child_lets_it_run_with_one_permit(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path, limits=WorkerLimits(concurrency=1)) as place:

        async def parent(work: ProcessWork) -> object:
            await register(place.store, "b child")
            output = await work.end_of("b child")
            assert isinstance(output, SuccessOutput)
            return ["child came to", output.value]

        await register(place.store, "c parent")
        place.engines.plan("c parent", parent)
        await place.look()
        await place.begun("c parent")
        await place.look()
        assert await place.end_of("c parent") == SuccessOutput(value=["child came to", "done"])
        assert place.engines.begun == ["c parent", "b child"]


async def test_who_has_waited_takes_a_permit_before_anybody_new() -> None:
    order: list[str] = []
    ended = asyncio.Event()

    async def waits(work: ProcessWork) -> object:
        await work.end_of("z")
        order.append("a goes on")
        return None

    async def busy(work: ProcessWork) -> object:
        order.append(work.process_id)
        await ended.wait()
        return None

    async with working(limits=WorkerLimits(concurrency=1)) as place:
        await offer_process(place.store, external("z"))
        for process_id, work in (("a", waits), ("b", busy), ("c", busy)):
            await register(place.store, process_id)
            place.engines.plan(process_id, work)
        looking = asyncio.create_task(place.worker.claim_and_run_pending())
        await settled()
        await end(place.store, process_id="z")
        place.waits.changed("z")
        await settled()
        assert order == ["b"]
        ended.set()
        await looking
        await place.idle()
        assert order == ["b", "a goes on", "c"]


async def test_whoever_has_waited_long_enough_is_at_work_again() -> None:
    stand, go_on = asyncio.Event(), asyncio.Event()

    async with working(limits=WorkerLimits(concurrency=1)) as place:

        async def impatient(work: ProcessWork) -> object:
            waiting = asyncio.create_task(work.end_of("z"))
            while not place.worker._pool.is_parked("p"):
                await work.clock.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            stand.set()
            await go_on.wait()
            return None

        await offer_process(place.store, external("z"))
        await register(place.store, "p")
        place.engines.plan("p", impatient)
        await place.look()
        await stand.wait()
        await register(place.store, "q")
        looking = asyncio.create_task(place.worker.claim_and_run_pending())
        await settled()
        assert place.engines.begun == ["p"]
        go_on.set()
        await looking
        await place.idle()
        assert place.engines.begun == ["p", "q"]


# The end


@both_stores
async def test_a_worker_that_stops_gives_back_what_another_may_run(make: MakeStore, tmp_path: Path) -> None:
    async with working(make, tmp_path) as place:
        await register(place.store, "a")
        await register(place.store, "b", disposition="owner_bound")
        for process_id in ("a", "b"):
            place.engines.plan(process_id, for_ever)
        await place.look()
        await place.begun("a")
        await place.begun("b")
        await place.worker.stop()
        assert sorted(place.engines.cancelled) == ["a", "b"]
        [free] = await place.store.runnable_processes(now=place.now, limit=10)
        assert (free.process_id, free.attempts) == ("a", 0)
        free_later = await place.store.runnable_processes(now=place.now + 30_000, limit=10)
        assert [record.process_id for record in free_later] == ["a", "b"]


async def test_a_worker_that_stops_ends_the_look_that_waits_for_room() -> None:
    async with working(limits=WorkerLimits(concurrency=1)) as place:
        for process_id in ("a", "b"):
            await register(place.store, process_id)
            place.engines.plan(process_id, for_ever)
        looking = asyncio.create_task(place.worker.claim_and_run_pending())
        await settled()
        await place.worker.stop()
        async with asyncio.timeout(20):
            await looking
        assert place.engines.begun == ["a"]
