"""The processes that a session sees: shown, handed over, asked to end (wire: section 8)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sightline.kernel import Kernel
from sightline.process.model import HandleSummary, ProcessScope, ProcessStatus
from sightline_gateway.http.operations import APPLIED_THROUGH, Answer, Call, Operation
from sightline_gateway.http.processes import Frame, Reason
from sightline_gateway.http.sessions import SessionId

__all__ = ["OPERATIONS"]

# Not `ProcessId`: a session may hold processes whose ids no URL can carry.
Ids = Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=10_000)]


class HandlesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`live`: those that have not ended; `all`: those that have, too."""

    state: Literal["live", "all"] = "live"


class PostTransfer(Struct, forbid_unknown_fields=True):
    """Which processes this session, or one frame of it, gives to that session, or to one frame of it."""

    to_session_id: SessionId
    process_ids: Ids
    agent_frame_id: Frame | None = None
    to_agent_frame_id: Frame | None = None


class PostCancelUnreferenced(Struct, forbid_unknown_fields=True):
    """`keep`: the processes that the session goes on seeing."""

    keep: Ids
    reason: Reason = "not needed any more"


class Handles(Struct, frozen=True):
    processes: tuple[HandleSummary, ...]


class Transferred(Struct, frozen=True, kw_only=True):
    """The processes as they are called where they are now."""

    processes: tuple[HandleSummary, ...]
    applied_through: str


class CancelSummary(Struct, frozen=True):
    process_id: str
    status: ProcessStatus


class CancelledAll(Struct, frozen=True, kw_only=True):
    """What was asked to end. It ends in its own time."""

    cancelled: tuple[CancelSummary, ...]
    applied_through: str


class Unreferenced(Struct, frozen=True, kw_only=True):
    """`revoked`: what the session does not see any more. Of these `cancelled` were asked to end, because nobody else
    sees them; `preserved` are left as they are.
    """

    revoked: tuple[str, ...]
    cancelled: tuple[str, ...]
    preserved: tuple[str, ...]
    applied_through: str


async def list_handles(call: Call) -> Answer:
    query: HandlesQuery = call.query
    kernel: Kernel = call.gateway.kernel
    return Answer(200, Handles(await kernel.processes.handles_of(call.session_id, live=query.state == "live")))


async def transfer(call: Call) -> Answer:
    body: PostTransfer = call.body
    kernel: Kernel = call.gateway.kernel
    async with kernel.opened(call.session_id):  # it has to be there, also to give nothing
        moved = await kernel.processes.transfer(
            ProcessScope(call.session_id, body.agent_frame_id or ""),
            ProcessScope(body.to_session_id, body.to_agent_frame_id or ""),
            body.process_ids,
        )
        cursor = await kernel.processes.shown_through(call.session_id, [grant.process_id for grant in moved])
    answer = Transferred(processes=tuple(map(HandleSummary.of, moved)), applied_through=cursor)
    return Answer(200, answer, {APPLIED_THROUGH: cursor})


async def cancel_unreferenced(call: Call) -> Answer:
    body: PostCancelUnreferenced = call.body
    kernel: Kernel = call.gateway.kernel
    ended = await kernel.processes.cancel_unreferenced(call.session_id, body.keep, body.reason)
    cursor = await kernel.processes.shown_through(call.session_id, ended.revoked)
    answer = Unreferenced(
        revoked=tuple(dict.fromkeys(ended.revoked)),
        cancelled=tuple(result.record.process_id for result in ended.cancelled),
        preserved=ended.preserved,
        applied_through=cursor,
    )
    return Answer(200, answer, {APPLIED_THROUGH: cursor})


async def cancel_all(call: Call) -> Answer:
    kernel: Kernel = call.gateway.kernel
    asked = await kernel.processes.cancel_all(call.session_id)
    cursor = await kernel.processes.shown_through(call.session_id, [record.process_id for record in asked])
    cancelled = tuple(CancelSummary(record.process_id, record.status) for record in asked)
    return Answer(200, CancelledAll(cancelled=cancelled, applied_through=cursor), {APPLIED_THROUGH: cursor})


_GONE = ("session_not_found", "session_deleted", "store_unavailable")
_BODY = ("malformed_json", "invalid_field", "body_too_large", "unsupported_media_type")
_PROCESSES = "/v1/sessions/{session_id}/processes"

OPERATIONS = (
    Operation(
        method="GET",
        path=_PROCESSES,
        summary="The processes that the session sees",
        handle=list_handles,
        query=HandlesQuery,
        answers={200: Handles},
        problems=("invalid_field", *_GONE),
    ),
    Operation(
        method="POST",
        path=f"{_PROCESSES}/transfer",
        summary="Hand processes over to another session, all or none",
        handle=transfer,
        body=PostTransfer,
        answers={200: Transferred},
        problems=(*_BODY, *_GONE, "handle_not_granted", "draining"),
    ),
    Operation(
        method="POST",
        path=f"{_PROCESSES}/cancel_unreferenced",
        summary="Take all processes but these from the session, and end what nobody else sees",
        handle=cancel_unreferenced,
        body=PostCancelUnreferenced,
        answers={200: Unreferenced},
        problems=(*_BODY, *_GONE, "draining"),
    ),
    Operation(
        method="POST",
        path=f"{_PROCESSES}/cancel_all",
        summary="Ask for the end of all processes that the session sees",
        handle=cancel_all,
        answers={200: CancelledAll},
        problems=(*_BODY, *_GONE, "draining"),
    ),
)
