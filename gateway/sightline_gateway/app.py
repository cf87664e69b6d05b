"""The application: routes, the checks before them, the problems after them, and the life of the kernel around it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.ids import Ids
from sightline_gateway.access.origins import OriginPolicy
from sightline_gateway.gateway import Gateway
from sightline_gateway.http import service, sessions, turns
from sightline_gateway.http.openapi import document
from sightline_gateway.http.operations import APPLIED_THROUGH, Operation, serve
from sightline_gateway.problems import CODES, ProblemError, problem_of, retry_after_of
from sightline_gateway.stream import events
from sightline_gateway.stream.websocket import events_socket

__all__ = ["OPERATIONS", "create_app"]

_log = logging.getLogger("sightline.gateway")

OPERATIONS = (*sessions.OPERATIONS, *turns.OPERATIONS, events.OPERATION, *service.OPERATIONS)
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_EXPOSED = [
    "Location",
    "ETag",
    "Retry-After",
    "Idempotency-Replayed",
    "Preference-Applied",
    "X-Request-Id",
    APPLIED_THROUGH,
]
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(
    gateway: Gateway, lifespan: Callable[[], contextlib.AbstractAsyncContextManager[None]] | None = None
) -> ASGIApp:
    """The ASGI application on a gateway. `lifespan` begins and ends what it stands on; without it that is the caller's affair."""

    @contextlib.asynccontextmanager
    async def live(_: Starlette) -> AsyncIterator[None]:
        async with lifespan() if lifespan is not None else contextlib.nullcontext():
            yield

    settings = gateway.settings
    middleware = []
    if settings.allow_origin:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.allow_origin),
                allow_methods=["GET", "POST", "PUT", "DELETE"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
            )
        )
    app = Starlette(
        routes=_routes(gateway),
        middleware=middleware,
        exception_handlers={HTTPException: _http_exception},
        lifespan=live,
    )
    app.router.redirect_slashes = False
    policy = OriginPolicy(settings.host, settings.allow_host, settings.allow_origin)
    return _Door(app, policy, gateway.kernel.ids)


def _routes(gateway: Gateway) -> list[BaseRoute]:
    described = msgspec.json.encode(document(OPERATIONS))

    async def openapi(_: Request) -> Response:
        return Response(described, media_type="application/json")

    async def stream(request: Request) -> Any:
        return await events.serve_events(gateway, request)

    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        await events_socket(gateway, scope, receive, send)

    routes: list[BaseRoute] = [
        WebSocketRoute(events.OPERATION.path, _Raw(socket)),
        Route(events.OPERATION.path, _Answered(stream), methods=["GET"]),
    ]
    for path in dict.fromkeys(operation.path for operation in OPERATIONS if operation is not events.OPERATION):
        methods = {operation.method: operation for operation in OPERATIONS if operation.path == path}
        routes.append(Route(path, _Answered(_dispatch(gateway, methods)), methods=list(methods)))
    routes.append(Route("/openapi.json", openapi, methods=["GET"]))
    routes += [Route(path, _Answered(_later), methods=methods) for path, methods in service.LATER]
    return routes + _console(_web_folder())


def _dispatch(gateway: Gateway, methods: dict[str, Operation]) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await serve(methods[method], gateway, request)

    return handle


async def _later(request: Request) -> Response:
    raise ProblemError("not_implemented", f"{request.url.path} belongs to a later release")


class _Raw:
    """An ASGI application as an endpoint; starlette would call a function with a WebSocket instead."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Answered:
    """A handler as an endpoint: every error becomes a problem, whatever raised it."""

    def __init__(self, handle: Callable[[Request], Any]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            answer = await self._handle(request)
        except ClientDisconnect:
            return
        except Exception as error:
            answer = _problem_response(request, error)
        await answer(scope, receive, send)


def _problem_response(request: Request, error: Exception) -> Response:
    trace_id = str(request.scope.get("sightline.request_id", ""))
    problem = problem_of(error, request.url.path, trace_id)
    if problem.code == "internal":
        _log.exception("request %s failed", trace_id, exc_info=error)
    headers = {"Cache-Control": "no-store"}
    retry_after = retry_after_of(error, problem.status)
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    if problem.code == "body_too_large":
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(msgspec.json.encode(problem), problem.status, headers, media_type="application/problem+json")


async def _http_exception(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "internal" if error.status_code >= 500 else "not_found")
    response = _problem_response(
        request, ProblemError(code, f"{request.method} {request.url.path}: {CODES[code].title}")
    )
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


class _Door:
    """First and last for every request: its id, the Host and Origin check, the security headers."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy, ids: Ids) -> None:
        self._app = app
        self._policy = policy
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = self._request_id(headers.get("x-request-id"))
        scope["sightline.request_id"] = request_id

        async def send_marked(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                marked = MutableHeaders(scope=message)
                marked["X-Request-Id"] = request_id
                for name, value in _SECURITY.items():
                    marked.setdefault(name, value)
            await send(message)

        try:
            self._policy.check(headers)
        except ProblemError as error:
            await _refuse(scope, receive, send_marked, error)
            return
        await self._app(scope, receive, send_marked)

    def _request_id(self, given: str | None) -> str:
        """The client's own id, if it is fit for a header and a log."""
        if given is not None and 1 <= len(given) <= 128 and given.isascii() and given.isprintable():
            return given
        return self._ids.token()


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ProblemError) -> None:
    if scope["type"] == "http":
        await _problem_response(Request(scope), error)(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        body = msgspec.json.encode(problem_of(error, scope["path"]))
        await send(
            {
                "type": "websocket.http.response.start",
                "status": CODES[error.code].status,
                "headers": [
                    (b"content-type", b"application/problem+json"),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
        )
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": CODES[error.code].close})


def _web_folder() -> Path:
    """The browser's files: inside the package when installed from a wheel, beside it in the source tree."""
    packaged = Path(__file__).parent / "web"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "web"


def _console(folder: Path) -> list[BaseRoute]:
    async def index(_: Request) -> Response:
        return FileResponse(folder / "console" / "index.html", headers={"Cache-Control": "no-cache"})

    return [
        Route("/", index, methods=["GET"]),
        Mount("/console", _Fresh(StaticFiles(directory=folder / "console"))),
        Mount("/client", _Fresh(StaticFiles(directory=folder / "client"))),
    ]


class _Fresh:
    """Static files that browsers keep but ask about each time: a redeploy is seen at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_fresh(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Cache-Control"] = "no-cache"
            await send(message)

        await self._app(scope, receive, send_fresh)
