"""Work: turns in, cancels in, the queue as it stands (wire: section 4)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, structs

from sightline.queue.model import Batch, DeliveryPolicy, Draft, Group, SlotPolicy, TurnInputPayload
from sightline_gateway.http.inputs import InputItems, Text, input_of, shown, shown_all
from sightline_gateway.http.operations import APPLIED_THROUGH, KEY_FORM, Answer, Call, Operation, conditional
from sightline_gateway.http.writing import idempotency_key, preferred_wait, until_ended
from sightline_gateway.problems import ProblemError

__all__ = ["OPERATIONS"]

Time = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Key = Annotated[str, Meta(min_length=1, max_length=255, pattern=rf"^{KEY_FORM}(?!\n)$")]
Reason = Annotated[str, Meta(max_length=1_000)]


class GroupKey(Struct, forbid_unknown_fields=True):
    group: Annotated[str, Meta(min_length=1, max_length=255)]


class PostTurn(Struct, forbid_unknown_fields=True):
    """`input`: text, or items."""

    input: Text | InputItems
    delivery_policy: DeliveryPolicy = DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
    slot_policy: SlotPolicy = SlotPolicy.EXCLUSIVE
    merge_key: Literal["never", "payload_default"] | GroupKey = "never"
    available_at_ms: Time = 0


class PostCancel(Struct, forbid_unknown_fields=True):
    """Which turn: by its id, by the key of its work, or (neither) the one that runs."""

    turn_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    reason: Reason = ""
    idempotency_key: Key | None = None


class PostAnswer(Struct, forbid_unknown_fields=True):
    """What somebody says to a request of a turn: an approval, which is one of the request's `options` if it has some,
    or the answer to a question, which is any JSON.
    """

    request_id: Annotated[str, Meta(min_length=1, max_length=200)]
    answer: Any


class QueueQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`pending`: what nobody has taken yet; `all`: also claimed and ended ones, as far as they are kept."""

    state: Literal["pending", "all"] = "pending"


class CancelQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`from`: cancel this batch and every later pending one."""

    start: Annotated[str, Meta(min_length=1, max_length=200)] = msgspec.field(name="from")


class BatchAnswer(Batch, frozen=True, kw_only=True):
    """A batch, and a cursor: a stream that has passed it has shown this write."""

    applied_through: str


class Queue(Struct, frozen=True):
    batches: tuple[Batch, ...]


class CancelledRange(Struct, frozen=True):
    cancelled: tuple[Batch, ...]
    kept: tuple[Batch, ...]
    applied_through: str


class Answered(Struct, frozen=True):
    request_id: str
    applied_through: str


class CancelAnswer(Struct, frozen=True):
    turn_id: str | None
    state: Literal["cancel_requested", "cancelled", "ended", "none", "will_cancel"]
    applied_through: str


async def post_turn(call: Call) -> Answer:
    body: PostTurn = call.body
    key = idempotency_key(call)
    written = await call.gateway.kernel.enqueue(
        Draft(
            session_id=call.session_id,
            payloads=(TurnInputPayload(input_of(body.input)),),
            source_key=None if key is None else f"host:{key}",
            delivery_policy=body.delivery_policy,
            slot_policy=body.slot_policy,
            merge_key=Group(body.merge_key.group) if isinstance(body.merge_key, GroupKey) else body.merge_key,
            available_at_ms=body.available_at_ms,
        )
    )
    batch: Batch = written.batch
    headers = {
        "Location": f"/v1/sessions/{call.session_id}/queue/{batch.batch_id}",
        APPLIED_THROUGH: written.applied_through,
    }
    status = 200 if written.replayed else 202
    if written.replayed:
        headers["Idempotency-Replayed"] = "true"
    wait = preferred_wait(call)
    if wait is not None:
        headers["Preference-Applied"] = f"wait={wait}"
        batch = await until_ended(call, batch, wait)
        status = status if batch.state.is_open else 200
    return Answer(status, _batch_answer(batch, written.applied_through), headers)


def _batch_answer(batch: Batch, applied_through: str) -> BatchAnswer:
    return BatchAnswer(**structs.asdict(shown(batch)), applied_through=applied_through)


async def list_queue(call: Call) -> Answer:
    query: QueueQuery = call.query
    batches = await call.gateway.kernel.list_batches(call.session_id, pending_only=query.state == "pending")
    return conditional(call, Queue(shown_all(batches)))


async def get_batch(call: Call) -> Answer:
    return conditional(call, shown(await call.gateway.kernel.get_batch(call.session_id, call.path["batch_id"])))


async def cancel_batch(call: Call) -> Answer:
    batch, cursor = await call.gateway.kernel.cancel_batch(call.session_id, call.path["batch_id"])
    return Answer(200, _batch_answer(batch, cursor), {APPLIED_THROUGH: cursor})


async def cancel_from(call: Call) -> Answer:
    query: CancelQuery = call.query
    cancelled, kept, cursor = await call.gateway.kernel.cancel_from(call.session_id, query.start)
    return Answer(200, CancelledRange(shown_all(cancelled), shown_all(kept), cursor), {APPLIED_THROUGH: cursor})


async def cancel_turn(call: Call) -> Answer:
    body: PostCancel = call.body
    if body.turn_id is not None and body.idempotency_key is not None:
        raise ProblemError("invalid_field", "give turn_id or idempotency_key, not both", field="idempotency_key")
    answer, cursor = await call.gateway.kernel.cancel_turn(
        call.session_id,
        turn_id=body.turn_id,
        source_key=None if body.idempotency_key is None else f"host:{body.idempotency_key}",
        reason=body.reason,
    )
    return Answer(200, CancelAnswer(answer.turn_id, answer.state, cursor), {APPLIED_THROUGH: cursor})


async def answer_request(call: Call) -> Answer:
    body: PostAnswer = call.body
    request, cursor = await call.gateway.kernel.answer(call.session_id, body.request_id, body.answer)
    return Answer(200, Answered(request.request_id, cursor), {APPLIED_THROUGH: cursor})


_GONE = ("session_not_found", "session_deleted", "store_unavailable")
_BODY = ("malformed_json", "invalid_field", "body_too_large", "unsupported_media_type")
_QUEUE = "/v1/sessions/{session_id}/queue"

OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sessions/{session_id}/turns",
        summary="Enqueue a turn",
        handle=post_turn,
        body=PostTurn,
        answers={202: BatchAnswer, 200: BatchAnswer},
        problems=(*_BODY, *_GONE, "idempotency_key_reused", "queue_full", "draining"),
        headers=("Idempotency-Key", "Prefer"),
    ),
    Operation(
        method="GET",
        path=_QUEUE,
        summary="The session's queue, in order",
        handle=list_queue,
        query=QueueQuery,
        answers={200: Queue, 304: None},
        headers=("If-None-Match",),
        problems=("invalid_field", *_GONE),
    ),
    Operation(
        method="GET",
        path=_QUEUE + "/{batch_id}",
        summary="One batch, also when it has ended",
        handle=get_batch,
        answers={200: Batch, 304: None},
        headers=("If-None-Match",),
        problems=("invalid_field", "batch_not_found", *_GONE),
    ),
    Operation(
        method="DELETE",
        path=_QUEUE + "/{batch_id}",
        summary="Cancel a pending batch",
        handle=cancel_batch,
        answers={200: BatchAnswer},
        problems=("invalid_field", "batch_not_found", "batch_not_cancellable", *_GONE),
    ),
    Operation(
        method="DELETE",
        path=_QUEUE,
        summary="Cancel a batch and every later pending one",
        handle=cancel_from,
        query=CancelQuery,
        answers={200: CancelledRange},
        problems=("invalid_field", "batch_not_found", *_GONE),
    ),
    Operation(
        method="POST",
        path="/v1/sessions/{session_id}/cancel",
        summary="Ask for the end of a turn",
        handle=cancel_turn,
        body=PostCancel,
        answers={200: CancelAnswer},
        problems=(*_BODY, *_GONE),
    ),
    Operation(
        method="POST",
        path="/v1/sessions/{session_id}/answers",
        summary="Answer what a turn waits for",
        handle=answer_request,
        body=PostAnswer,
        answers={200: Answered},
        problems=(*_BODY, *_GONE, "request_not_found", "already_answered"),
    ),
)
