"""Between rows and the kernel's shapes."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from sightline.queue.model import Batch, BatchState, DeliveryPolicy, Item, MergeKey, SlotPolicy
from sightline.session.model import Failure, Message, Request, SessionRecord, Tools, Usage

__all__ = ["BATCH_COLUMNS", "batch_of", "decode", "message_of", "record_of", "request_of", "text"]

_E = TypeVar("_E", bound=StrEnum)

_ENCODER = msgspec.json.Encoder()
_NEVER = '"never"'
BATCH_COLUMNS = (
    "enqueue_seq",
    "batch_id",
    "session_id",
    "source_key",
    "state",
    "delivery_policy",
    "slot_policy",
    "merge_key",
    "available_at_ms",
    "enqueued_at_ms",
    "items",
    "attempts",
    "turn_id",
    "error",
)
"""The columns that a batch is read from, which are the first of their table, in this order."""


class _Words(dict[str, _E]):
    """The members of an enumeration by their words: a look-up where calling the enumeration would cost as much as the
    rest of a row.
    """

    def __init__(self, members: type[_E]) -> None:
        super().__init__((str(member), member) for member in members)

    def __missing__(self, word: str) -> _E:
        raise ValueError(f"{word!r} is none of {', '.join(self)}")


_STATES = _Words(BatchState)
_DELIVERIES = _Words(DeliveryPolicy)
_SLOTS = _Words(SlotPolicy)
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


def request_of(row: sqlite3.Row) -> Request:
    return Request(
        request_id=row["request_id"],
        turn_id=row["turn_id"],
        kind=row["kind"],
        prompt=row["prompt"],
        options=UNSET if row["options"] is None else decode(row["options"], list),
        at_ms=row["at_ms"],
    )


def batch_of(
    row: sqlite3.Row, *, state: BatchState | None = None, turn_id: str | None = None, attempts: int | None = None
) -> Batch:
    """The batch that a row of all columns is, or (with `state`) is about to become: then the other two are told too.

    Unknown words in the enumerated columns are an error, never a default. Columns are read by their place: by name,
    each would be looked for among all.
    """
    (
        enqueue_seq,
        batch_id,
        session_id,
        source_key,
        stored_state,
        delivery_policy,
        slot_policy,
        merge_key,
        available_at_ms,
        enqueued_at_ms,
        items,
        stored_attempts,
        stored_turn_id,
        error,
        *_,
    ) = row
    if state is None:
        state, turn_id, attempts = _STATES[stored_state], stored_turn_id, stored_attempts
    return Batch(
        batch_id=batch_id,
        session_id=session_id,
        enqueue_seq=enqueue_seq,
        state=state,
        delivery_policy=_DELIVERIES[delivery_policy],
        slot_policy=_SLOTS[slot_policy],
        merge_key="never" if merge_key == _NEVER else decode(merge_key, MergeKey),
        available_at_ms=available_at_ms,
        enqueued_at_ms=enqueued_at_ms,
        items=decode(items, tuple[Item, ...]),
        attempts=attempts or 0,
        source_key=UNSET if source_key is None else source_key,
        turn_id=UNSET if turn_id is None else turn_id,
        error=UNSET if error is None else decode(error, Failure),
    )
