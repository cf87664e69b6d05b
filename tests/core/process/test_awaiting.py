"""Waiting for what a process logs: nothing is missed, and nobody is needed to tell."""

from __future__ import annotations

import asyncio

import pytest

from sightline.errors import ProcessNotFound
from sightline.process.awaiting import ProcessWaits
from sightline.process.model import ProcessEvent, ProcessRecord, SuccessOutput
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.conformance.process_steps import append, end, external, offer_process

pytestmark = pytest.mark.anyio


class SlowToAnswer:
    """A registry that is read as it was when it was asked, and something happens before the answer arrives."""

    def __init__(self, store: MemoryStore, waits: list[ProcessWaits]) -> None:
        self._store = store
        self._waits = waits

    async def get_process(self, process_id: str) -> ProcessRecord:
        record = await self._store.get_process(process_id)
        if not record.is_terminal:
            await end(self._store, process_id=process_id)
            for waits in self._waits:
                waits.changed(process_id)
        return record

    async def list_process_events(
        self, process_id: str, *, after: int, limit: int, event_type: str | None = None
    ) -> tuple[ProcessEvent, ...]:
        raise NotImplementedError

    async def process_value(self, process_id: str, attachment_id: str) -> bytes:
        raise NotImplementedError


async def test_what_has_ended_is_told_at_once() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await offer_process(store, external())
    await end(store)
    assert await ProcessWaits(store, clock).end_of("p") == SuccessOutput(value="done")


async def test_an_end_between_the_look_and_the_wait_is_not_missed() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await offer_process(store, external())
    told: list[ProcessWaits] = []
    waits = ProcessWaits(SlowToAnswer(store, told), clock)
    told.append(waits)
    before = clock.monotonic()
    async with asyncio.timeout(5):
        assert await waits.end_of("p") == SuccessOutput(value="done")
    assert clock.monotonic() == before


async def test_all_who_wait_are_told_without_waiting_for_the_clock() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await offer_process(store, external())
    waits = ProcessWaits(store, clock)
    waiting = [asyncio.create_task(waits.end_of("p")) for _ in range(3)]
    await settled()
    await end(store)
    waits.changed("p")
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [SuccessOutput(value="done")] * 3


async def test_an_end_that_nobody_told_of_is_found_within_a_second() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await offer_process(store, external())
    waiting = asyncio.create_task(ProcessWaits(store, clock).end_of("p"))
    await clock.run_for(60.0)
    assert not waiting.done()
    await end(store)
    await clock.run_for(1.0)
    await settled()
    assert waiting.done()
    assert await waiting == SuccessOutput(value="done")


async def test_an_event_of_a_type_is_waited_for_behind_a_sequence() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await offer_process(store, external())
    await append(store, payload="old")
    waits = ProcessWaits(store, clock)
    assert (await waits.next_event("p", 0)).payload == "old"
    waiting = asyncio.create_task(waits.next_event("p", 1, "note"))
    await settled()
    await append(store, "report", {})
    waits.changed("p")
    await settled()
    assert not waiting.done()
    await append(store, payload="new")
    waits.changed("p")
    async with asyncio.timeout(5):
        assert (await waiting).payload == "new"


async def test_a_process_that_is_not_there_is_not_waited_for() -> None:
    clock = ManualClock()
    waits = ProcessWaits(MemoryStore(clock), clock)
    with pytest.raises(ProcessNotFound):
        await waits.end_of("p")
    with pytest.raises(ProcessNotFound):
        await waits.next_event("p", 0)


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await offer_process(store, external())
    waits = ProcessWaits(store, clock)
    waiting = asyncio.create_task(waits.end_of("p"))
    await settled()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waits._waiting == {}
    waits.changed("p")
