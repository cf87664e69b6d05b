"""Wakes on their way into the queue, and the processes that a session shows when it is loaded."""

from __future__ import annotations

from msgspec import UNSET

from sightline.errors import QueueFull
from sightline.kernel import KernelStore
from sightline.process.model import NewGrant, ProcessScope, WakeDelivery
from sightline.queue.model import Batch, WakePayload
from sightline.testing.conformance.process_steps import (
    HERE,
    append,
    end,
    external,
    grant,
    offer_process,
    register,
    registration,
    wakes,
)
from sightline.testing.conformance.steps import NOW, enqueue, ignored, new_session, refused


async def a_wake_that_is_delivered_is_work_of_its_session_and_out_of_the_outbox(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await append(store, "report", {"text": "look"})
    [pending] = await store.pending_wakes(limit=10)
    delivery = await _deliver(store, pending.position, "b")
    [batch] = await _queue(store)
    assert delivery.state == "enqueued"
    assert delivery.enqueued is not UNSET
    assert (delivery.enqueued.batch, delivery.enqueued.replayed) == (batch, False)
    assert (batch.batch_id, batch.source_key) == ("b", "process:p:event:1:wake")
    [item] = batch.items
    assert item.payload == WakePayload(pending.wake)
    assert await wakes(store) == []


async def a_wake_is_delivered_once_and_for_good(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await append(store, "report", {"text": "look"}, key="k")
    [pending] = await store.pending_wakes(limit=10)
    await _deliver(store, pending.position, "b")
    assert (await _deliver(store, pending.position, "c")).state == "settled"
    assert (await append(store, "report", {"text": "look"}, key="k")).replayed
    assert await wakes(store) == []
    assert [batch.batch_id for batch in await _queue(store)] == ["b"]
    assert (await _deliver(store, 1_000, "d")).state == "settled"


async def a_wake_of_a_session_that_is_not_there_is_discarded(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await register(store, "q", wake_target=ProcessScope("nobody"))
    for name in ("p", "q"):
        await append(store, "report", {"text": name}, process_id=name)
    await store.delete_session("s", NOW, ignored)
    for pending in await store.pending_wakes(limit=10):
        told: list[WakeDelivery] = []
        delivery = await store.deliver_wake(pending.position, batch_id="b", now=NOW, max_open=9, then=told.append)
        assert (delivery.state, told) == ("discarded", [delivery])
    assert await wakes(store) == []


async def a_wake_that_finds_the_queue_full_stays_in_the_outbox(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await register(store)
    await append(store, "report", {"text": "look"})
    [pending] = await store.pending_wakes(limit=10)
    await refused(QueueFull, _deliver(store, pending.position, "b", max_open=1))
    assert await wakes(store) == [("s", "look")]
    assert (await _deliver(store, pending.position, "b", max_open=2)).state == "enqueued"


async def a_session_is_loaded_with_the_live_processes_it_sees(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "t")
    await offer_process(store, registration("b"), grants=[NewGrant(scope=HERE, descriptor={"label": "work"})])
    await register(store, "a")
    await grant(store, "a")
    await register(store, "unseen")
    await grant(store, "unseen", ProcessScope("t"))
    await register(store, "of a frame that is over")
    await grant(store, "of a frame that is over", ProcessScope("s", "old"))
    await offer_process(store, external("over"), grants=[NewGrant(scope=HERE)])
    await end(store, process_id="over")
    state = await store.load_session("s", 10)
    assert [(shown.process_id, shown.status, shown.descriptor) for shown in state.processes] == [
        ("a", "running", {"label": "it"}),
        ("b", "running", {"label": "work"}),
    ]


async def _deliver(store: KernelStore, position: int, batch_id: str, *, max_open: int = 1_000) -> WakeDelivery:
    return await store.deliver_wake(position, batch_id=batch_id, now=NOW, max_open=max_open, then=ignored)


async def _queue(store: KernelStore) -> tuple[Batch, ...]:
    return await store.list_batches("s", pending_only=True, limit=10)
