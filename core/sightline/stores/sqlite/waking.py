"""The transaction that brings a wake from the outbox into the queue of its target."""

from __future__ import annotations

from sightline.errors import SessionDeleted, SessionNotFound
from sightline.process.model import WakeDelivery
from sightline.queue.materializing import wake_draft
from sightline.queue.model import ProcessWake
from sightline.queue.rules import content_hash
from sightline.stores.sqlite.batches import enqueue
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.rows import decode
from sightline.stores.sqlite.statements import first, run

__all__ = ["deliver_wake"]


def deliver_wake(db: Connection, position: int, batch_id: str, now: int, max_open: int) -> WakeDelivery:
    row = first(db, "get_pending_wake", position=position)
    if row is None:
        return WakeDelivery(state="settled")
    draft = wake_draft(decode(row["wake"], ProcessWake))
    try:
        enqueued = enqueue(db, draft, content_hash(draft), batch_id, now, max_open)
    except (SessionNotFound, SessionDeleted):
        delivery = WakeDelivery(state="discarded")
    else:
        delivery = WakeDelivery(state="enqueued", enqueued=enqueued)
    run(db, "settle_process_wake", position=position, state=delivery.state, now=now)
    return delivery
