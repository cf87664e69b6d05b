"""Small decisions of the queue: what makes two requests the same, what a list shows of a batch, what a cancel does."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET

from sightline.queue.model import Batch, BatchState, BatchSummary, CancelState, Draft, Item, TextItem

__all__ = ["cancel_outcome", "content_hash", "digest", "may_drop", "new_batch", "summary_of", "text_of"]

_PREVIEW_LENGTH = 200
_HASH_VERSION = "1"
_CANONICAL = msgspec.json.Encoder(order="sorted")


def content_hash(draft: Draft) -> str:
    """A fingerprint of everything about a draft that its author chose: the work, and how it is to be delivered.

    The session and the key are not part of it: they are what the fingerprint is looked up by.
    """
    content = [
        draft.payloads,
        draft.delivery_policy,
        draft.slot_policy,
        draft.merge_key,
        draft.available_at_ms,
    ]
    return f"{_HASH_VERSION}:{digest(content)}"


def digest(content: Any) -> str:
    """A hash of a value by its canonical JSON: keys sorted, compact, UTF-8. 1 and 1.0 are two values."""
    return hashlib.sha256(_CANONICAL.encode(content)).hexdigest()


def new_batch(draft: Draft, *, batch_id: str, enqueue_seq: int, now: int, cancelled: bool) -> Batch:
    """The batch a draft becomes. `cancelled`: its cancellation arrived before it did."""
    return Batch(
        batch_id=batch_id,
        session_id=draft.session_id,
        enqueue_seq=enqueue_seq,
        state=BatchState.CANCELLED if cancelled else BatchState.PENDING,
        delivery_policy=draft.delivery_policy,
        slot_policy=draft.slot_policy,
        merge_key=draft.merge_key,
        available_at_ms=draft.available_at_ms or now,
        enqueued_at_ms=now,
        items=tuple(Item(f"{batch_id}:item:{index}", payload) for index, payload in enumerate(draft.payloads)),
        source_key=UNSET if draft.source_key is None else draft.source_key,
    )


def text_of(batch: Batch) -> str:
    """The text a batch brings, its text items joined by newlines."""
    return "\n".join(
        item.text
        for entry in batch.items
        for item in entry.payload.input.items
        if isinstance(item, TextItem) and item.text
    )


def summary_of(batch: Batch) -> BatchSummary:
    text = text_of(batch)
    return BatchSummary(
        batch_id=batch.batch_id,
        enqueue_seq=batch.enqueue_seq,
        state=batch.state,
        kind=_kind_of(batch),
        preview=text if len(text) <= _PREVIEW_LENGTH else text[: _PREVIEW_LENGTH - 1] + "…",
        delivery_policy=batch.delivery_policy,
        slot_policy=batch.slot_policy,
        available_at_ms=batch.available_at_ms,
        source_key=batch.source_key,
        turn_id=batch.turn_id,
    )


def _kind_of(batch: Batch) -> str:
    return str(type(batch.items[0].payload).__struct_config__.tag) if batch.items else "empty"


def may_drop(batch: Batch) -> bool:
    """Whether the batch can be cancelled without a trace in the transcript: no turn has ever taken it.

    One that waits for its next attempt has been seen; its end is the turn's end, and is asked for as that.
    """
    return batch.state is BatchState.PENDING and batch.turn_id is UNSET


def cancel_outcome(state: BatchState) -> CancelState:
    """What a cancel request answers when it meets a batch in `state` and has done what it may."""
    match state:
        case BatchState.PENDING | BatchState.CANCELLED:
            return "cancelled"
        case BatchState.CLAIMED:
            return "cancel_requested"
        case BatchState.COMPLETED | BatchState.FAILED:
            return "ended"
