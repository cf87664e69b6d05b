"""Wakes on their way from the outbox into the queue of their target."""

from __future__ import annotations

from sightline.errors import SessionDeleted, SessionNotFound
from sightline.process.model import WakeDelivery
from sightline.queue.materializing import wake_draft
from sightline.stores.memory.batches import enqueue
from sightline.stores.memory.state import State

__all__ = ["deliver_wake"]


def deliver_wake(state: State, position: int, batch_id: str, now: int, max_open: int) -> WakeDelivery:
    wakes = state.processes.wakes
    if position not in wakes:
        return WakeDelivery(state="settled")
    try:
        enqueued = enqueue(state, wake_draft(wakes[position].wake), batch_id, now, max_open)
    except (SessionNotFound, SessionDeleted):
        delivery = WakeDelivery(state="discarded")
    else:
        delivery = WakeDelivery(state="enqueued", enqueued=enqueued)
    del wakes[position]
    return delivery
