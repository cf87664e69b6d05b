"""The application: routes, the checks before them, the problems after them, and the life of the kernel around it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.errors import Draining
from sightline_gateway.access.door import Door
from sightline_gateway.access.origins import OriginPolicy
from sightline_gateway.gateway import Gateway
from sightline_gateway.http import commands, processes, service, session_processes, sessions, tasks, turns
from sightline_gateway.http.openapi import document
from sightline_gateway.http.operations import APPLIED_THROUGH, Answer, Call, Operation, serve
from sightline_gateway.problems import CODES, ProblemError, instance_of, problem_response, refuse
from sightline_gateway.stream import events, observe, process_events
from sightline_gateway.stream.websocket import events_socket

__all__ = ["OPERATIONS", "create_app"]

_EXPOSED = (
    "Location",
    "ETag",
    "Retry-After",
    "Idempotency-Replayed",
    "Preference-Applied",
    "X-Request-Id",
    APPLIED_THROUGH,
)
_BUSIEST = "/v1/sessions/{session_id}/turns"
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


_STREAMS = (events.OPERATION, observe.OPERATION)


async def _openapi(call: Call) -> Answer:
    return Answer(200, _described())


OPERATIONS = (
    *sessions.OPERATIONS,
    *turns.OPERATIONS,
    *commands.OPERATIONS,
    *tasks.OPERATIONS,
    *_STREAMS,
    *processes.OPERATIONS,
    process_events.OPERATION,
    *session_processes.OPERATIONS,
    *service.OPERATIONS,
    Operation(
        method="GET",
        path="/openapi.json",
        summary="This document",
        handle=_openapi,
        answers={200: dict[str, Any]},
    ),
)


@cache
def _described() -> bytes:
    return msgspec.json.encode(document(OPERATIONS))


def create_app(
    gateway: Gateway, lifespan: Callable[[], contextlib.AbstractAsyncContextManager[None]] | None = None
) -> ASGIApp:
    """The ASGI application on a gateway.

    `lifespan` begins and ends what it stands on; without it that is the caller's affair.
    """

    @contextlib.asynccontextmanager
    async def live(_: Starlette) -> AsyncIterator[None]:
        async with lifespan() if lifespan is not None else contextlib.nullcontext():
            yield

    app = Starlette(
        routes=_routes(gateway),
        exception_handlers={HTTPException: _refused_by_router, Exception: _failed},
        lifespan=live,
    )
    app.router.redirect_slashes = False
    app.router.default = _nothing_here
    settings = gateway.settings
    policy = OriginPolicy(settings.host, settings.allow_host, settings.allow_origin)
    return Door(app, policy, gateway.kernel.ids, _EXPOSED)


def _routes(gateway: Gateway) -> list[BaseRoute]:
    async def stream(request: Request) -> Any:
        return await events.serve_events(gateway, request)

    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        await events_socket(gateway, scope, receive, send)

    async def many(request: Request) -> Any:
        return await observe.serve_observe(gateway, request)

    async def many_socket(scope: Scope, receive: Receive, send: Send) -> None:
        await observe.observe_socket(gateway, scope, receive, send)

    watched = Route(events.OPERATION.path, _Answered(gateway, stream), methods=["GET"])
    # Starlette adds HEAD to every GET. A stream that shows nothing would never end.
    watched.methods = {"GET"}
    routes: list[BaseRoute] = [WebSocketRoute(events.OPERATION.path, _Raw(socket)), watched]
    routes.append(WebSocketRoute(observe.OPERATION.path, _Raw(many_socket)))
    routes.append(Route(observe.OPERATION.path, _Answered(gateway, many), methods=["POST"]))
    paths = dict.fromkeys(operation.path for operation in OPERATIONS if operation not in _STREAMS)
    # Starlette tries one route after the other.
    for path in sorted(paths, key=lambda path: path != _BUSIEST):
        methods = {operation.method: operation for operation in OPERATIONS if operation.path == path}
        route = Route(path, _Answered(gateway, _dispatch(gateway, methods)), methods=list(methods))
        if any(operation.streams for operation in methods.values()):
            route.methods = set(methods)  # without HEAD, as above
        routes.append(route)
        # Other methods are refused here: `…/transfer` is not to be found once more as the id of a `…/{id}`.
        routes.append(Route(path, _Answered(gateway, _refusal(route.methods or ()))))
    routes += [Route(path, _Answered(gateway, _later), methods=methods) for path, methods in service.LATER]
    return routes + _console(gateway, _web_folder())


def _dispatch(gateway: Gateway, methods: dict[str, Operation]) -> Callable[[Request], Any]:
    async def handle(request: Request) -> ASGIApp:
        method = "GET" if request.method == "HEAD" else request.method
        return await serve(methods[method], gateway, request)

    return handle


def _refusal(allowed: Iterable[str]) -> Callable[[Request], Any]:
    async def refused(request: Request) -> Response:
        return await _refused_by_router(request, HTTPException(405, headers={"Allow": ", ".join(allowed)}))

    return refused


async def _later(request: Request) -> Response:
    raise _not_yet(request.scope)


def _not_yet(scope: Scope) -> ProblemError:
    return ProblemError("not_implemented", f"{instance_of(scope)} belongs to a later release")


class _Raw:
    """An ASGI application as an endpoint; starlette would call a function with a WebSocket instead."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Answered:
    """A handler as an endpoint: every error becomes a problem, whatever raised it."""

    def __init__(self, gateway: Gateway, handle: Callable[[Request], Any]) -> None:
        self._gateway = gateway
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            if scope["path"].endswith("\n"):
                # Starlette's patterns end in `$`, which also matches before a last newline.
                raise _not_found(scope)
            answer = await self._handle(request)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            if not self._gateway.drained.is_set():
                raise
            # The server ends and cuts off who still waits, for the rest of a body most likely.
            answer = problem_response(Draining(), scope)
        except Exception as error:
            answer = problem_response(error, scope)
        await answer(scope, receive, send)


async def _refused_by_router(request: Request, error: Exception) -> Response:
    """What starlette itself refuses: no such path, no such method, no such file."""
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "internal" if error.status_code >= 500 else "not_found")
    detail = f"{request.method} {instance_of(request.scope)}: {CODES[code].title}"
    response = problem_response(ProblemError(code, detail), request.scope)
    for name, value in (error.headers or {}).items():
        # Starlette keeps the methods in a set, whose order changes from one process to the next.
        response.headers[name] = ", ".join(sorted(value.split(", "))) if name == "Allow" else value
    return response


async def _failed(request: Request, error: Exception) -> Response:
    """What fails outside the endpoints, such as a file that cannot be read. Starlette raises it again, for the log."""
    return problem_response(error, request.scope)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(scope, receive, send, _not_found(scope))


def _not_found(scope: Scope) -> ProblemError:
    return ProblemError("not_found", f"there is nothing at {instance_of(scope)}")


def _web_folder() -> Path:
    """The browser's files: inside the package when installed from a wheel, beside it in the source tree."""
    packaged = Path(__file__).parent / "web"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "web"


def _console(gateway: Gateway, folder: Path) -> list[BaseRoute]:
    async def index(_: Request) -> Response:
        return FileResponse(folder / "console" / "index.html", headers={"Cache-Control": "no-cache"})

    return [
        Route("/", _Answered(gateway, index), methods=["GET"]),
        Mount("/console", _Fresh(StaticFiles(directory=folder / "console"))),
        Mount("/client", _Fresh(StaticFiles(directory=folder / "client"))),
    ]


class _Fresh:
    """Static files that browsers keep but ask about each time: a redeploy is seen at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await refuse(scope, receive, send, _not_found(scope))
            return

        async def send_fresh(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Cache-Control"] = "no-cache"
            await send(message)

        await self._app(scope, receive, send_fresh)
