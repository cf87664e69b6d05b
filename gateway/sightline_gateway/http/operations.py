"""What a route is: one declaration from which requests are parsed, answers encoded, and the OpenAPI document made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sightline_gateway.http.bodies import object_from, parse_object, parse_query, read_body
from sightline_gateway.problems import ProblemError

if TYPE_CHECKING:
    from sightline_gateway.gateway import Gateway

__all__ = [
    "APPLIED_THROUGH",
    "KEY_FORM",
    "Answer",
    "Call",
    "NoQuery",
    "Operation",
    "check_session_id",
    "conditional",
    "matches",
    "response_of",
    "serve",
]

APPLIED_THROUGH = "Sightline-Applied-Through"
KEY_FORM = r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?"
"""An idempotency key: what every HTTP library can send and every proxy leaves alone."""

_SESSION_ID = re.compile(r"[A-Za-z0-9._~:@-]{1,128}", re.ASCII)
_OPAQUE_ID = re.compile(r"[A-Za-z0-9._~:@-]{1,200}", re.ASCII)


class NoQuery(Struct, frozen=True):
    """A route without query parameters."""


class _Nothing(Struct, forbid_unknown_fields=True):
    """What a body may hold where none is needed."""


class Call(Struct):
    """A request after parsing: path ids checked, query and body in the shapes the operation declares.

    `gone` returns once the client has closed its connection.
    """

    gateway: Any
    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Headers
    gone: Callable[[], Coroutine[Any, Any, None]]

    @property
    def session_id(self) -> str:
        return self.path["session_id"]


class Answer(Struct):
    """A response: `body` is encoded as JSON unless it is bytes already or none."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path.

    `answers` maps each good status to the type of its body, `problems` lists the codes it may refuse with. `headers`:
    request headers with a meaning of their own; `streams`: the answer may also be an event stream; `media`: what a good
    answer is when it is not JSON. `handle` returns the answer, or an application that gives it piece by piece.
    """

    method: str
    path: str
    summary: str
    handle: Callable[[Call], Awaitable[Answer | ASGIApp]]
    query: type[Struct] = NoQuery
    body: type[Struct] | None = None
    answers: Mapping[int, Any]
    problems: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    streams: bool = False
    media: tuple[str, ...] = ()


def check_session_id(session_id: str, field: str = "session_id") -> str:
    """The id, if it is one that URLs may carry. Raises ProblemError `invalid_field`."""
    return _check_id(session_id, field, _SESSION_ID, 128)


def _check_id(value: str, name: str, form: re.Pattern[str], longest: int) -> str:
    if not form.fullmatch(value):
        raise ProblemError(
            "invalid_field",
            f"{name} must be 1 to {longest} characters of A-Z a-z 0-9 . _ ~ : @ -",
            field=name,
        )
    return value


async def serve(operation: Operation, gateway: Gateway, request: Request) -> ASGIApp:
    """Parse, call, encode. Errors travel on; the application turns them into problems."""
    path = dict(request.path_params)
    for name, value in path.items():
        if name == "session_id":
            check_session_id(value)
        else:
            _check_id(value, name, _OPAQUE_ID, 200)
    query = parse_query(request.scope["query_string"], operation.query)
    body = None
    if operation.body is not None:
        body = object_from(parse_object(await read_body(request, gateway.settings.max_body)), operation.body)
    elif operation.method == "POST" and (raw := await read_body(request, gateway.settings.max_body)).strip():
        object_from(parse_object(raw), _Nothing)
    answer = await operation.handle(
        Call(
            gateway=gateway,
            path=path,
            query=query,
            body=body,
            headers=request.headers,
            gone=lambda: _gone(request),
        )
    )
    return response_of(answer) if isinstance(answer, Answer) else answer


def conditional(call: Call, body: Any) -> Answer:
    """The body with a tag of its content; nothing but the tag for who has it already."""
    content = msgspec.json.encode(body)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # no-cache: keep it, but ask again.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    return Answer(304, None, headers) if matches(call, tag) else Answer(200, content, headers)


def matches(call: Call, tag: str) -> bool:
    """Whether the client says that it has what goes by this tag."""
    given = call.headers.getlist("if-none-match")
    tags = {part.strip().removeprefix("W/") for line in given for part in line.split(",")}
    return tag in tags or "*" in tags


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def response_of(answer: Answer) -> Response:
    if answer.body is None:
        return Response(status_code=answer.status, headers=answer.headers)
    content = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
    headers = {"Cache-Control": "no-store", **answer.headers}
    return Response(content, answer.status, headers, media_type=headers.pop("Content-Type", "application/json"))
