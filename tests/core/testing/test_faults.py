"""Trouble on demand does what it says, so that tests that lean on it can be believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sightline.errors import StoreUnavailable
from sightline.testing.clock import settled
from sightline.testing.faults import Faults, faulty
from sightline.testing.ids import CountingIds

pytestmark = pytest.mark.anyio


class Shelf:
    """A store of a kind."""

    name = "shelf"

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def put(self, thing: str, *, then: Callable[[str], None]) -> str:
        self.kept.append(thing)
        then(thing)
        return thing

    def look(self) -> list[str]:
        return list(self.kept)


async def test_without_plans_everything_is_as_it_was() -> None:
    shelf, faults = Shelf(), Faults()
    store, told = faulty(shelf, faults), list[str]()
    assert await store.put("a", then=told.append) == "a"
    assert (store.look(), store.name, told) == (["a"], "shelf", ["a"])
    assert faults.calls == ["put", "look"]


async def test_a_failure_before_leaves_nothing_done() -> None:
    shelf, faults = Shelf(), Faults()
    store, told = faulty(shelf, faults), list[str]()
    faults.fail_before("put", times=2)
    faults.fail_before("put", error=ValueError("other"))
    for error in (StoreUnavailable, StoreUnavailable, ValueError):
        with pytest.raises(error):
            await store.put("a", then=told.append)
    assert (shelf.kept, told) == ([], [])
    await store.put("b", then=told.append)
    assert shelf.kept == ["b"]


@pytest.mark.parametrize(("told_of_it", "heard"), [(True, ["a"]), (False, [])])
async def test_a_failure_after_leaves_it_done(told_of_it: bool, heard: list[str]) -> None:
    shelf, faults = Shelf(), Faults()
    store, told = faulty(shelf, faults), list[str]()
    faults.fail_after("put", told=told_of_it)
    with pytest.raises(StoreUnavailable):
        await store.put("a", then=told.append)
    assert (shelf.kept, told) == (["a"], heard)


async def test_a_call_can_be_held_before_it_is_done_or_with_its_answer() -> None:
    shelf, faults = Shelf(), Faults()
    store = faulty(shelf, faults)
    for hold, kept in ((faults.hold, []), (faults.hold_answer, ["a"])):
        shelf.kept.clear()
        gate = hold("put")
        putting = asyncio.create_task(store.put("a", then=print))
        await gate.reached.wait()
        await settled()
        assert (putting.done(), shelf.kept) == (False, kept)
        gate.open()
        assert await putting == "a"


async def test_calls_that_do_not_wait_fail_too_and_plans_can_be_forgotten() -> None:
    store, faults = Shelf(), Faults()
    faults.fail_before("look", times=5)
    with pytest.raises(StoreUnavailable):
        faulty(store, faults).look()
    faults.heal()
    assert faulty(store, faults).look() == []


async def test_counted_ids_are_the_same_in_every_run() -> None:
    first, second, other = CountingIds(), CountingIds(), CountingIds("b-")
    for _ in range(3):
        assert first.new() == second.new() != other.new()
        assert first.token() == second.token() != other.token()
        assert first.uniform() == second.uniform() != other.uniform()
    ids = [first.new() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert all(0 <= first.uniform() < 1 for _ in range(100))
