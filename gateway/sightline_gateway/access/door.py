"""First and last for every request: its id, the Host and Origin check, and the headers that every answer carries.

A page of another site reads our answers only when its origin is on the allow-list (CORS); the others never get here.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.ids import Ids
from sightline_gateway.access.origins import OriginPolicy
from sightline_gateway.problems import ProblemError, refuse

__all__ = ["Door"]

_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_METHODS = "GET, POST, PUT, DELETE"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+)*", re.ASCII)
_PREFLIGHT_SECONDS = "600"


class Door:
    """Wraps the application. `exposed`: the response headers that a page of an allowed origin may read."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy, ids: Ids, exposed: tuple[str, ...]) -> None:
        self._app = app
        self._policy = policy
        self._ids = ids
        self._exposed = ", ".join(exposed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = self._request_id(headers.get("x-request-id"))
        scope["sightline.request_id"] = request_id
        unread = _announces_body(headers)

        async def receive_noted() -> Message:
            nonlocal unread
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                unread = False
            return message

        async def send_marked(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                marked = MutableHeaders(scope=message)
                marked["X-Request-Id"] = request_id
                for name, value in _SECURITY.items():
                    marked.setdefault(name, value)
                self._share(headers, marked)
                if unread:
                    # Answered before the body was there: what is still under way is not read, however long it is.
                    marked["Connection"] = "close"
            await send(message)

        try:
            self._policy.check(headers)
        except ProblemError as error:
            await refuse(scope, receive_noted, send_marked, error)
            return
        if self._is_preflight(scope, headers):
            await _preflight(headers)(scope, receive_noted, send_marked)
        else:
            await self._app(scope, receive_noted, send_marked)

    def _request_id(self, given: str | None) -> str:
        """The client's own id, if it is fit for a header and a log."""
        if given is not None and 1 <= len(given) <= 128 and given.isascii() and given.isprintable():
            return given
        return self._ids.token()

    def _share(self, headers: Headers, marked: MutableHeaders) -> None:
        """Let a page of an allowed origin read the answer."""
        if not self._policy.origins:
            return
        marked.add_vary_header("Origin")
        origin = headers.get("origin", "")
        if self._policy.is_listed(origin):
            marked["Access-Control-Allow-Origin"] = origin
            marked["Access-Control-Expose-Headers"] = self._exposed

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        return (
            scope["type"] == "http"
            and scope["method"] == "OPTIONS"
            and "access-control-request-method" in headers
            and self._policy.is_listed(headers.get("origin", ""))
        )


def _preflight(headers: Headers) -> Response:
    """What a browser asks before a request that is more than a form could send."""
    answer = Response(status_code=204)
    answer.headers["Access-Control-Allow-Methods"] = _METHODS
    answer.headers["Access-Control-Max-Age"] = _PREFLIGHT_SECONDS
    asked = headers.get("access-control-request-headers", "")
    if _HEADER_NAMES.fullmatch(asked):
        answer.headers["Access-Control-Allow-Headers"] = asked
        answer.headers.add_vary_header("Access-Control-Request-Headers")
    return answer


def _announces_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
