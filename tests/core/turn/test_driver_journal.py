"""The turn's journal: what an attempt has done and written down, the next does not do again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import LeaseLost, StoreUnavailable
from sightline.kernel import Limits
from sightline.queue.model import BatchState
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock, settled
from sightline.turn.agent import Turn, TurnOver
from tests.core.worlds import Puppet, in_step, only_batch, running, said, watch

pytestmark = pytest.mark.anyio


def says_once(effects: list[str], key: str = "k") -> Callable[[Turn], Any]:
    """An order: do something under the key, and say what came of it."""

    def effect() -> str:
        effects.append(key)
        return f"{key} {len(effects)}"

    async def order(turn: Turn) -> None:
        turn.text(await turn.idempotent(key, effect))

    return order


async def test_what_was_done_once_is_not_done_again_by_a_retry() -> None:
    puppet, effects = Puppet(), list[str]()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("work")
        await puppet.does(says_once(effects))
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        assert [turn.attempt for turn in puppet.turns] == [1, 2]
        await puppet.does(says_once(effects))
        await puppet.ends()
        assert effects == ["k"]
        assert await said(world) == [("user", "work"), ("assistant", "k 1")]
        await in_step(world, watched)
        assert await world.store.recall("s", puppet.turns[0].turn_id) == {}


async def test_a_drained_turn_finds_what_it_did_although_its_attempt_was_not_counted() -> None:
    clock, effects = ManualClock(), list[str]()
    store = MemoryStore(clock)
    first, second = Puppet(), Puppet()
    async with running(first, store=store) as world:
        await world.send("work")
        await first.does(says_once(effects))
    async with running(second, store=store, session_ids=()) as world:
        await world.clock.run_for(1.0)
        assert [turn.attempt for turn in second.turns] == [1]
        await second.does(says_once(effects))
        await second.ends()
        assert await said(world) == [("user", "work"), ("assistant", "k 1")]
    assert effects == ["k"]


async def test_a_first_attempt_asks_the_store_for_nothing_and_a_turn_without_a_journal_never() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("work")

        async def order(turn: Turn) -> None:
            assert await turn.recorded("k") is None
            assert await turn.recorded("k", 7) == 7

        await puppet.does(order)
        await puppet.ends()
        assert not {"recall", "remember"} & set(world.faults.calls)
        await world.send("again")
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        await puppet.ends()
        assert not {"recall", "remember"} & set(world.faults.calls)
        assert (await world.view()).status == "idle"


async def test_a_retry_reads_its_journal_once() -> None:
    puppet, effects = Puppet(), list[str]()
    async with running(puppet) as world:
        await world.send("work")
        for key in ("a", "b"):
            await puppet.does(says_once(effects, key))
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        for key in ("a", "b", "c"):
            await puppet.does(says_once(effects, key))
        await puppet.ends()
        assert effects == ["a", "b", "c"]
        assert (await said(world))[-1] == ("assistant", "a 1b 2c 3")
        assert world.faults.calls.count("recall") == 1
        assert world.faults.calls.count("remember") == 3


async def test_the_result_is_kept_and_returned_as_json_has_it() -> None:
    puppet, found = Puppet(), list[Any]()

    async def asynchronous() -> Any:
        return {"pair": (1, 2)}

    async def order(turn: Turn) -> None:
        found.append(await turn.idempotent("k", asynchronous))
        found.append(await turn.idempotent("k", asynchronous))
        found.append(await turn.recorded("k"))

    async with running(puppet) as world:
        await world.send("work")
        await puppet.does(order)
        assert found == [{"pair": [1, 2]}] * 3
        found[0]["pair"].append(3)
        assert found[1] == {"pair": [1, 2]}
        await puppet.ends()


async def test_nothing_at_all_is_a_result_too() -> None:
    puppet, calls = Puppet(), list[int]()

    async def order(turn: Turn) -> None:
        assert await turn.idempotent("k", lambda: calls.append(1)) is None
        assert await turn.idempotent("k", lambda: calls.append(2)) is None
        assert await turn.recorded("k", "default") is None

    async with running(puppet) as world:
        await world.send("work")
        await puppet.does(order)
        await puppet.ends()
        assert calls == [1]
        assert (await only_batch(world)).state is BatchState.COMPLETED


async def test_a_record_is_replaced_by_the_next_one_and_found_by_a_retry() -> None:
    puppet, found = Puppet(), list[Any]()

    async def order(turn: Turn) -> None:
        found.append(await turn.recorded("state"))
        for number in range(3):
            await turn.record("state", {"at": number + 10 * turn.attempt})
            found.append(await turn.recorded("state"))

    async with running(puppet) as world:
        await world.send("work")
        await puppet.does(order)
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        await puppet.does(order)
        await puppet.ends()
        assert found == [None, *({"at": 10 + n} for n in range(3)), {"at": 12}, *({"at": 20 + n} for n in range(3))]


async def test_two_calls_with_one_key_wait_for_each_other() -> None:
    puppet, gate, effects = Puppet(), asyncio.Event(), list[str]()

    async def slow() -> str:
        effects.append("done")
        await gate.wait()
        return "once"

    async def order(turn: Turn) -> None:
        both = asyncio.gather(turn.idempotent("k", slow), turn.idempotent("k", slow))
        gate.set()
        assert list(await both) == ["once", "once"]

    async with running(puppet) as world:
        await world.send("work")
        await puppet.does(order)
        await puppet.ends()
        assert effects == ["done"]
        assert (await only_batch(world)).state is BatchState.COMPLETED


async def test_what_failed_is_not_kept() -> None:
    puppet, tries = Puppet(), list[int]()

    def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no route")
        return "through"

    async def order(turn: Turn) -> None:
        with pytest.raises(OSError, match="no route"):
            await turn.idempotent("k", flaky)
        turn.text(await turn.idempotent("k", flaky))

    async with running(puppet) as world:
        await world.send("work")
        await puppet.does(order)
        await puppet.ends()
        assert (await said(world))[-1] == ("assistant", "through")


@pytest.mark.parametrize("method", ["record", "idempotent"])
async def test_what_json_cannot_hold_fails_the_turn(method: str) -> None:
    async def agent(turn: Turn) -> None:
        await (turn.record("k", object()) if method == "record" else turn.idempotent("k", object))

    async with running(agent) as world:
        await world.send("work")
        batch = await only_batch(world)
        assert batch.state is BatchState.FAILED
        assert "TypeError" in batch.error.message  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["", 7, None])
async def test_a_key_is_a_text_that_says_something(key: Any) -> None:
    turn_failed = list[BaseException]()

    async def agent(turn: Turn) -> None:
        try:
            await turn.record(key, 1)
        except TypeError as error:
            turn_failed.append(error)

    async with running(agent) as world:
        await world.send("work")
        assert len(turn_failed) == 1


@pytest.mark.parametrize("told", ["before", "after"])
async def test_a_store_that_is_away_for_a_moment_costs_nothing_but_time(told: str) -> None:
    puppet, effects = Puppet(), list[str]()
    async with running(puppet) as world:
        await world.send("work")
        fail = world.faults.fail_before if told == "before" else world.faults.fail_after
        fail("remember", times=2)
        await puppet.does(says_once(effects))
        await world.clock.run_for(1.0)
        await puppet.ends()
        assert effects == ["k"]
        assert await said(world) == [("user", "work"), ("assistant", "k 1")]


async def test_a_store_that_stays_away_is_the_agents_trouble() -> None:
    puppet, raised = Puppet(), list[BaseException]()

    async def order(turn: Turn) -> None:
        try:
            await turn.record("k", 1)
        except StoreUnavailable as error:
            raised.append(error)

    async with running(puppet) as world:
        await world.send("work")
        world.faults.fail_before("remember", times=9)
        await puppet.does(order)
        await world.clock.run_for(10.0)
        await puppet.ends()
        assert len(raised) == 1
        assert (await only_batch(world)).state is BatchState.COMPLETED


async def test_what_was_done_is_written_down_also_when_the_turn_is_handed_back_meanwhile() -> None:
    clock, effects = ManualClock(), list[str]()
    store = MemoryStore(clock)
    first, second = Puppet(), Puppet()
    async with running(first, store=store) as world:
        await world.send("work")
        gate = world.faults.hold("remember")
        await first.does(says_once(effects))
        await gate.reached.wait()
        draining = asyncio.create_task(world.kernel.drain(0.0))
        await settled()
        gate.open()
        await draining
    async with running(second, store=store, session_ids=()) as world:
        await world.clock.run_for(1.0)
        await second.does(says_once(effects))
        await second.ends()
        assert effects == ["k"]


async def test_an_owner_that_was_superseded_writes_nothing_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    puppet, raised = Puppet(), list[BaseException]()

    async def order(turn: Turn) -> None:
        try:
            await turn.record("k", "late")
        except LeaseLost as error:
            raised.append(error)
            raise

    async with running(puppet, limits=Limits(session_lease=10.0)) as world:
        await world.send("work")
        await puppet.says("mine")
        await world.store.acquire_lease("s", owner_id="heir", lease_token="new", now=10**15, ttl_ms=1)
        with caplog.at_level(logging.CRITICAL, "sightline"):
            await puppet.does(order)
            await settled()
        assert len(raised) == 1
        assert await world.store.recall("s", puppet.turns[0].turn_id) == {}
        assert (await world.store.load_session("s", 10)).messages == ()


async def test_who_goes_on_after_the_end_of_the_turn_is_refused() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("work")
        await puppet.ends()
        turn = puppet.turns[0]
        for late in (turn.idempotent("k", int), turn.record("k", 1), turn.recorded("k")):
            with pytest.raises(TurnOver):
                await late


async def test_a_journal_outlives_its_process(tmp_path: Path) -> None:
    effects, done = list[str](), asyncio.Event()
    first, second = Puppet(), Puppet()

    async def order(turn: Turn) -> None:
        await says_once(effects)(turn)
        done.set()

    async with running(first, store=SqliteStore.open(tmp_path / "store.db", "NORMAL")) as world:
        await world.send("work")
        await first.does(order)
        await done.wait()
    done.clear()
    async with running(second, store=SqliteStore.open(tmp_path / "store.db", "NORMAL"), session_ids=()) as world:
        await second.does(order)
        await done.wait()
        await second.ends()
        batch = await only_batch(world)
        ended = await world.kernel.wait_for_batch("s", batch.batch_id, 60.0)
        assert ended.state is BatchState.COMPLETED
        assert effects == ["k"]
