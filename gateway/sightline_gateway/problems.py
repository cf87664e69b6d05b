"""Refusals as the wire has them: `application/problem+json` (RFC 9457) with a stable `code`.

One table says for each code which status it has on HTTP, which close code on a WebSocket, and its title. Kernel errors
carry their code themselves; a test proves that the table knows every one of them.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sightline.errors import (
    AlreadyAnswered,
    BatchNotCancellable,
    InvalidInput,
    InvalidPayload,
    ProcessTerminal,
    SightlineError,
    StoreUnavailable,
    Unavailable,
)

__all__ = [
    "CODES",
    "Code",
    "FieldError",
    "Problem",
    "ProblemError",
    "instance_of",
    "problem_of",
    "problem_response",
    "refuse",
]

_log = logging.getLogger("sightline.gateway")
_MAX_INSTANCE = 500


class Code(Struct, frozen=True):
    """`close` is the WebSocket close code; `retryable`: the same request may succeed later."""

    status: int
    title: str
    close: int = 4400
    retryable: bool = False


CODES: dict[str, Code] = {
    "malformed_json": Code(400, "The body is not JSON"),
    "invalid_field": Code(400, "A field is not acceptable"),
    "malformed_cursor": Code(400, "That is not a cursor"),
    "wrong_session_cursor": Code(400, "The cursor belongs to another session"),
    "idempotency_key_required": Code(400, "An idempotency key is needed"),
    "bad_frame": Code(400, "The frame is not acceptable"),
    "forbidden": Code(403, "This is not allowed here", 4403),
    "origin_not_allowed": Code(403, "This origin is not allowed", 1008),
    "host_not_allowed": Code(403, "This host is not allowed", 1008),
    "not_found": Code(404, "There is nothing here", 4404),
    "session_not_found": Code(404, "There is no such session", 4404),
    "batch_not_found": Code(404, "There is no such batch", 4404),
    "request_not_found": Code(404, "There is no such request", 4404),
    "attachment_not_found": Code(404, "There is no such attachment", 4404),
    "process_not_found": Code(404, "There is no such process", 4404),
    "task_not_found": Code(404, "There is no such task", 4404),
    "not_subscribed": Code(404, "The session is not watched here", 4404),
    "method_not_allowed": Code(405, "This method is not allowed here"),
    "conflict": Code(409, "The state does not allow this", 4400),
    "session_exists": Code(409, "The session exists already"),
    "batch_not_cancellable": Code(409, "The batch cannot be cancelled any more"),
    "already_answered": Code(409, "The request was answered already"),
    "already_subscribed": Code(409, "The session is watched already"),
    "claim_expired": Code(409, "The claim is held by somebody else"),
    "fenced": Code(409, "The session moved on"),
    "process_conflict": Code(409, "The process does not allow this"),
    "process_terminal": Code(409, "The process has ended already"),
    "handle_not_granted": Code(409, "The process is not granted to this session"),
    "handle_not_visible": Code(409, "The session does not see this"),
    "task_conflict": Code(409, "The task does not allow this"),
    "tasks_unavailable": Code(409, "No background work is done here"),
    "store_commit_failed": Code(409, "The session has no store"),
    "session_deleted": Code(410, "The session was deleted", 4410),
    "subscriber_lagged": Code(410, "The subscriber fell behind"),
    "subscription_closed": Code(410, "The subscription is closed"),
    "cursor_gone": Code(410, "The cursor cannot be resumed from"),
    "body_too_large": Code(413, "The body is too large", 4413),
    "frame_too_large": Code(413, "The frame is too large", 4413),
    "command_failed": Code(409, "The command could not be carried out"),
    "unsupported_media_type": Code(415, "The body must be JSON"),
    "idempotency_key_reused": Code(422, "The idempotency key was used with other content"),
    "queue_full": Code(429, "The session's queue is full", 1013, True),
    "too_many_tasks": Code(429, "The session has too many live tasks", 1013, True),
    "too_many_subscriptions": Code(400, "The stream would show too many sessions"),
    "internal": Code(500, "Something went wrong here", 1011),
    "invalid_frame": Code(502, "Another server said what is not of this protocol", 1011),
    "not_implemented": Code(501, "This part is not there yet"),
    "too_many_connections": Code(503, "Too many streams are open", 1013, True),
    "draining": Code(503, "The server is draining", 4503, True),
    "store_unavailable": Code(503, "The store is unavailable", 1013, True),
    "unavailable": Code(503, "Not now", 1013, True),
}


class FieldError(Struct, frozen=True, kw_only=True):
    """One thing wrong with one field."""

    field: str
    detail: str
    value: Any = UNSET


class Problem(Struct, frozen=True, kw_only=True):
    """The body of every refusal. `errors` lists everything found wrong; `field` is the first of them, and of a payload
    `pointer` (RFC 6901) says where in it.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
    field: str | UnsetType = UNSET
    pointer: str | UnsetType = UNSET
    value: Any = UNSET
    errors: tuple[FieldError, ...] | UnsetType = UNSET
    state: str | UnsetType = UNSET
    answer: Any = UNSET
    gap: Any = UNSET
    observation: Any = UNSET
    trace_id: str | UnsetType = UNSET


class ProblemError(Exception):
    """A refusal decided by the gateway itself; `facts` are further members of the problem."""

    def __init__(self, code: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.facts = facts


def problem_of(error: Exception, instance: str, trace_id: str = "") -> Problem:
    """The problem that tells of an error. What is no refusal becomes `internal`, with nothing of its text shown.

    Nor does the client see what a store said: that may name files, hosts and users. The log has it, by the trace id.
    """
    facts: dict[str, Any] = {}
    match error:
        case ProblemError():
            code, detail, facts = error.code, error.detail, dict(error.facts)
        case StoreUnavailable():
            code, detail = error.code, "the store does not answer as it should; try again in a moment"
        case SightlineError() if error.code in CODES and CODES[error.code].status != 500:
            code, detail = error.code, str(error)
        case _:
            code, detail = "internal", "the server failed; its log has the trace id"
    if isinstance(error, InvalidInput):
        field = "payload" if isinstance(error, InvalidPayload) else _written_out(error.field)
        facts["field"] = field
        facts["errors"] = (FieldError(field=field, detail=error.detail),)
        detail = f"{field}: {error.detail}"
    if isinstance(error, InvalidPayload):
        facts["pointer"] = error.pointer
        detail = str(error)
    if isinstance(error, BatchNotCancellable):
        facts["state"] = str(error.state)
    if isinstance(error, AlreadyAnswered):
        facts["answer"] = msgspec.Raw(error.answer.encode())
    if isinstance(error, ProcessTerminal):
        facts["state"] = error.status
    entry = CODES[code]
    if entry.status >= 500 and trace_id:
        facts["trace_id"] = trace_id
    return Problem(
        type=f"urn:sightline:problem:{code}",
        title=entry.title,
        status=entry.status,
        detail=detail,
        instance=instance,
        code=code,
        retryable=entry.retryable,
        **facts,
    )


def _written_out(path: str) -> str:
    """The kernel's path to a field, a pointer without its first slash, as bodies are spoken of: `types[0].name`."""
    first, *parts = (part.replace("~1", "/").replace("~0", "~") for part in path.split("/"))
    return first + "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts)


def problem_response(error: Exception, scope: Scope) -> Response:
    """The answer to a request that failed with `error`. A failure of ours is logged, under the trace id it shows."""
    trace_id = str(scope.get("sightline.request_id", ""))
    problem = problem_of(error, instance_of(scope), trace_id)
    if problem.code == "internal":
        _log.error("request %s failed", trace_id, exc_info=error)
    elif problem.status >= 500:
        _log.warning("request %s is refused, %s: %s", trace_id, problem.code, error)
    headers = {"Cache-Control": "no-store"}
    if problem.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = _retry_after(error)
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type="application/problem+json")


def instance_of(scope: Scope) -> str:
    """The request's path as a URI reference, fit for a log too.

    Made from the path alone: a whole URL could not be made from every request.
    """
    return quote(scope["path"], safe="/:@!$&'()*+,;=~")[:_MAX_INSTANCE]


def _retry_after(error: Exception) -> str:
    milliseconds = error.retry_after_ms if isinstance(error, Unavailable) else 1_000
    return str(max(1, -(-milliseconds // 1000)))


async def refuse(scope: Scope, receive: Receive, send: Send, error: ProblemError) -> None:
    """Answer a request, or a WebSocket's handshake before it is accepted, with the problem.

    A server that cannot answer a handshake closes instead, which the client sees as a bare 403.
    """
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": CODES[error.code].close})
    else:
        await problem_response(error, scope)(scope, receive, send)
