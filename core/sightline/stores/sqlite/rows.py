"""Between rows and the kernel's shapes."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from msgspec import UNSET

from sightline.queue.model import Batch, BatchState, DeliveryPolicy, Item, MergeKey, SlotPolicy
from sightline.session.model import Failure, Message, SessionRecord, Tools, Usage

__all__ = ["batch_of", "decode", "message_of", "record_of", "text"]

_ENCODER = msgspec.json.Encoder()
_NEVER = '"never"'
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


def text(value: Any) -> str:
    """JSON as the store keeps it."""
    return _ENCODER.encode(value).decode()


def decode(raw: str, shape: Any) -> Any:
    decoder = _DECODERS.get(shape)
    if decoder is None:
        decoder = _DECODERS[shape] = msgspec.json.Decoder(shape)
    return decoder.decode(raw)


def record_of(row: sqlite3.Row) -> SessionRecord:
    return SessionRecord(
        session_id=row["session_id"],
        revision=row["revision"],
        turn_index=row["turn_index"],
        agent_frame_id=row["agent_frame_id"],
        policy=decode(row["policy"], dict),
        metadata=decode(row["metadata"], dict),
        usage=decode(row["usage"], Usage),
        title=row["title"],
        created_at_ms=row["created_at_ms"],
        updated_at_ms=row["updated_at_ms"],
        tools=decode(row["tools"], Tools),
    )


def message_of(row: sqlite3.Row) -> Message:
    message: Message = decode(row["body"], Message)
    return message


def batch_of(
    row: sqlite3.Row, *, state: BatchState | None = None, turn_id: str | None = None, attempts: int | None = None
) -> Batch:
    """The batch that a row is, or (with `state`) is about to become: then the other two are told as well.

    Unknown words in the enumerated columns are an error, never a default.
    """
    if state is None:
        state, turn_id, attempts = BatchState(row["state"]), row["turn_id"], row["attempts"]
    return Batch(
        batch_id=row["batch_id"],
        session_id=row["session_id"],
        enqueue_seq=row["enqueue_seq"],
        state=state,
        delivery_policy=DeliveryPolicy(row["delivery_policy"]),
        slot_policy=SlotPolicy(row["slot_policy"]),
        merge_key="never" if row["merge_key"] == _NEVER else decode(row["merge_key"], MergeKey),
        available_at_ms=row["available_at_ms"],
        enqueued_at_ms=row["enqueued_at_ms"],
        items=decode(row["items"], tuple[Item, ...]),
        attempts=attempts or 0,
        source_key=UNSET if row["source_key"] is None else row["source_key"],
        turn_id=UNSET if turn_id is None else turn_id,
        error=UNSET if row["error"] is None else decode(row["error"], Failure),
    )
