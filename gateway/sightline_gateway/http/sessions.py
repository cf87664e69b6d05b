"""Sessions: create, list, look, page back, delete (wire: section 3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, structs

from sightline.errors import SessionExists
from sightline.observation.model import Observation
from sightline.session.model import MessagePage, SessionPage
from sightline_gateway.http.operations import APPLIED_THROUGH, Answer, Call, Operation, matches
from sightline_gateway.problems import ProblemError

__all__ = ["OPERATIONS", "SessionId"]

SessionId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~:@-]{1,128}(?!\n)$", min_length=1, max_length=128)]
Count = Annotated[int, Meta(ge=0, le=10_000)]
Limit = Annotated[int, Meta(ge=1, le=1_000)]


class CreateSession(Struct, forbid_unknown_fields=True):
    """`session_id`: yours, or one is made. `policy`, `metadata`: objects that are kept and shown."""

    session_id: SessionId | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


class CreatedSession(Observation, frozen=True, kw_only=True):
    """A session, and a cursor: a stream that has passed it has shown this write."""

    applied_through: str


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: the `next` of the page before."""

    limit: Limit = 50
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    status: Literal["waiting", "running", "queued", "idle"] | None = None


class ObserveQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`messages`: the newest so many; 200 without it."""

    messages: Count = 200


class MessagesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`before`: a message id; the newest without it."""

    before: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    limit: Limit = 50


async def create(call: Call) -> Answer:
    body: CreateSession = call.body
    return await _create(call, body.session_id, body)


async def put(call: Call) -> Answer:
    body: CreateSession = call.body
    if body.session_id not in (None, call.session_id):
        raise ProblemError("invalid_field", "session_id must be the one in the path, or left out", field="session_id")
    try:
        return await _create(call, call.session_id, body)
    except SessionExists:
        view = await call.gateway.kernel.observe(call.session_id, 200)
        return Answer(200, _created(view), {APPLIED_THROUGH: view.cursor})


async def _create(call: Call, session_id: str | None, body: CreateSession) -> Answer:
    view = await call.gateway.kernel.create_session(session_id, policy=body.policy, metadata=body.metadata)
    location = f"/v1/sessions/{view.session_id}"
    return Answer(201, _created(view), {"Location": location, APPLIED_THROUGH: view.cursor})


def _created(view: Observation) -> CreatedSession:
    return CreatedSession(**structs.asdict(view), applied_through=view.cursor)


async def list_sessions(call: Call) -> Answer:
    query: ListQuery = call.query
    return Answer(
        200,
        await call.gateway.kernel.list_sessions(limit=query.limit, after=query.after, status=query.status),
    )


async def observe(call: Call) -> Answer:
    query: ObserveQuery = call.query
    view = await call.gateway.kernel.observe(call.session_id, query.messages)
    tag = f'"{view.cursor}.{query.messages}"'
    # no-cache: keep it, but ask again. The stream is for those who do not want to ask.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if matches(call, tag):
        return Answer(304, None, headers)
    return Answer(200, view, headers)


async def messages(call: Call) -> Answer:
    query: MessagesQuery = call.query
    return Answer(200, await call.gateway.kernel.page_messages(call.session_id, before=query.before, limit=query.limit))


async def attachment(call: Call) -> Answer:
    """A picture, by what it holds: who has it once has it for good."""
    found, data = await call.gateway.kernel.attachment(call.session_id, call.path["attachment_id"])
    tag = f'"{found.attachment_id}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if matches(call, tag):
        return Answer(304, None, headers)
    return Answer(200, data, {**headers, "Content-Type": found.media_type})


async def delete(call: Call) -> Answer:
    await call.gateway.kernel.delete_session(call.session_id)
    return Answer(204)


_GONE = ("session_not_found", "session_deleted", "store_unavailable")
_BODY = ("malformed_json", "invalid_field", "body_too_large", "unsupported_media_type")
_ONE = "/v1/sessions/{session_id}"

OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sessions",
        summary="Create a session",
        handle=create,
        body=CreateSession,
        answers={201: CreatedSession},
        problems=(*_BODY, "session_exists", "session_deleted", "draining", "store_unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/sessions",
        summary="List sessions, newest activity first",
        handle=list_sessions,
        query=ListQuery,
        answers={200: SessionPage},
        problems=("invalid_field", "store_unavailable"),
    ),
    Operation(
        method="PUT",
        path=_ONE,
        summary="Create a session, or find that it is there",
        handle=put,
        body=CreateSession,
        answers={201: CreatedSession, 200: CreatedSession},
        problems=(*_BODY, "session_deleted", "draining", "store_unavailable"),
    ),
    Operation(
        method="GET",
        path=_ONE,
        summary="Look at a session",
        handle=observe,
        query=ObserveQuery,
        answers={200: Observation, 304: None},
        problems=("invalid_field", *_GONE),
        headers=("If-None-Match",),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/messages",
        summary="Page back through a session's messages",
        handle=messages,
        query=MessagesQuery,
        answers={200: MessagePage},
        problems=("invalid_field", *_GONE),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/attachments/{{attachment_id}}",
        summary="A picture that a message shows",
        handle=attachment,
        answers={200: str, 304: None},
        media=("image/png", "image/jpeg", "image/gif", "image/webp", "application/octet-stream"),
        problems=("invalid_field", "attachment_not_found", *_GONE),
        headers=("If-None-Match",),
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        summary="Delete a session and fence its id",
        handle=delete,
        answers={204: None},
        problems=("invalid_field", *_GONE),
    ),
)
