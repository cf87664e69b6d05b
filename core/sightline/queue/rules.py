"""Small decisions of the queue: what makes two requests the same, what a list shows of a batch, what a cancel does."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, structs

from sightline.errors import InvalidInput
from sightline.queue.model import (
    Batch,
    BatchState,
    BatchSummary,
    CancelState,
    CommandPayload,
    Draft,
    Item,
    SlotPolicy,
    TaskWakePayload,
    TextItem,
    TurnInputPayload,
    WakePayload,
)
from sightline.session.model import Failure

__all__ = [
    "End",
    "cancel_outcome",
    "check_draft",
    "check_durable",
    "content_hash",
    "digest",
    "end_of",
    "may_drop",
    "new_batch",
    "replayed_batch",
    "summary_of",
    "text_of",
]

_PREVIEW_LENGTH = 200
_HASH_VERSION = "1"
_CANONICAL = msgspec.json.Encoder(order="sorted")


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What stays of a batch when its row is forgotten: with the draft that comes again, the whole batch."""

    batch_id: str
    enqueue_seq: int
    enqueued_at_ms: int
    available_at_ms: int
    state: BatchState
    attempts: int
    turn_id: str | msgspec.UnsetType = UNSET
    error: Failure | msgspec.UnsetType = UNSET


def check_draft(draft: Draft) -> None:
    """Refuse what no queue should hold. Raises InvalidInput."""
    if not draft.payloads:
        raise InvalidInput("payloads", "must hold at least one payload")
    if draft.source_key == "":
        raise InvalidInput("source_key", "must not be empty")
    commands = [payload for payload in draft.payloads if isinstance(payload, CommandPayload)]
    if commands and (len(draft.payloads) > 1 or draft.slot_policy is not SlotPolicy.EXCLUSIVE):
        raise InvalidInput("payloads", "a session command is alone in its batch, and the batch exclusive")


def check_durable(draft: Draft) -> None:
    """Refuse also what cannot be stored: options that JSON does not hold, text that is none. Raises InvalidInput."""
    check_draft(draft)
    for payload in draft.payloads:
        try:
            # Not the pictures: bytes can be stored, and there may be many of them.
            if isinstance(payload, TurnInputPayload):
                _CANONICAL.encode(structs.replace(payload.input, image_blobs=UNSET))
            else:
                _CANONICAL.encode(payload)
        except (TypeError, ValueError) as error:
            raise InvalidInput("payloads", f"cannot be stored: {error}") from None


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


def end_of(batch: Batch) -> End:
    """What to keep of an ended batch for the day its key comes again."""
    return End(
        batch_id=batch.batch_id,
        enqueue_seq=batch.enqueue_seq,
        enqueued_at_ms=batch.enqueued_at_ms,
        available_at_ms=batch.available_at_ms,
        state=batch.state,
        attempts=batch.attempts,
        turn_id=batch.turn_id,
        error=batch.error,
    )


def replayed_batch(draft: Draft, end: End) -> Batch:
    """The batch as it ended, made of what is left of it and the same draft come again."""
    batch = new_batch(
        draft, batch_id=end.batch_id, enqueue_seq=end.enqueue_seq, now=end.enqueued_at_ms, cancelled=False
    )
    return structs.replace(
        batch,
        state=end.state,
        available_at_ms=end.available_at_ms,
        attempts=end.attempts,
        turn_id=end.turn_id,
        error=end.error,
    )


def text_of(batch: Batch) -> str:
    """What a batch says, in lines: texts, the input of a wake, the reason of a command."""
    lines: list[str] = []
    for item in batch.items:
        match item.payload:
            case TurnInputPayload(input=given):
                lines += [part.text for part in given.items if isinstance(part, TextItem) and part.text]
            case WakePayload(wake=wake):
                lines.append(wake.input)
            case TaskWakePayload(wake=said):
                lines.append(said.input)
            case CommandPayload(command=command):
                lines.append(command.reason)
    return "\n".join(lines)


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
