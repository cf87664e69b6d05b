"""Who may come in: Host and Origin on every request, before all else; what a page of an allowed origin may read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from starlette.datastructures import Headers

from sightline_gateway.access.origins import OriginPolicy
from sightline_gateway.problems import ProblemError
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened


def verdict(policy: OriginPolicy, *headers: tuple[str, str]) -> str | None:
    """The code of the refusal; none when the request may come in."""
    try:
        policy.check(Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in headers]))
    except ProblemError as error:
        return error.code
    return None


LOOPBACK = OriginPolicy("127.0.0.1")
OPEN = OriginPolicy("0.0.0.0", ("sightline.example", "[fd00::7]"), ("https://app.example", "http://other.example:8080"))

# Hosts


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8700",
        "LOCALHOST:8700",
        "LocalHost",
        "localhost.",
        "localhost.:8700",
        "localhost:",
        "app.localhost:8700",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.1.2.3:65535",
        "127.0.0.1.",
        "[::1]",
        "[::1]:8700",
        "[0:0:0:0:0:0:0:1]:8700",
    ],
)
def test_a_loopback_name_is_ours(host: str) -> None:
    assert verdict(LOOPBACK, ("host", host)) is None
    assert verdict(OPEN, ("host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "evil.example",
        "evil.example:8700",
        "localhost.evil.example",
        "notlocalhost",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "evil.example@localhost",
        "localhost@evil.example",
        "user:pass@localhost",
        "@localhost",
        "localhost evil.example",
        "localhost,evil.example",
        "localhost\tevil",
        "localhost/evil",
        "localhost\\evil.example",
        "localhost?x",
        "localhost#x",
        "localhost%00",
        "localhost:8700:8700",
        "localhost:port",
        "localhost:999999",
        "localhost:-1",
        "local\u00adhost",
        "[::1",
        "::1",
        "[::1]evil.example",
        "evil.example[::1]",
        "[::1%25lo]",
        "[localhost]",
        "0.0.0.0",
        "0x7f.1",
        "2130706433",
        "127.1",
        "127.0.0.256",
        "169.254.169.254",
        "192.168.0.1",
        "[::]",
        "[fe80::1]",
        "http://localhost",
        "*",
        "null",
    ],
)
def test_another_name_that_was_pointed_here_is_refused(host: str) -> None:
    assert verdict(LOOPBACK, ("host", host)) == "host_not_allowed"


@pytest.mark.parametrize(
    "host", ["0.0.0.0:8700", "sightline.example", "SIGHTLINE.example:443", "sightline.example.", "[fd00::7]:80"]
)
def test_the_bind_host_and_the_list_are_ours(host: str) -> None:
    assert verdict(OPEN, ("host", host)) is None
    assert verdict(LOOPBACK, ("host", host)) == "host_not_allowed"


@pytest.mark.parametrize(
    "host", ["a.sightline.example", "sightline.example.evil.example", "xsightline.example", "[fd00::8]"]
)
def test_a_name_like_a_listed_one_is_not_listed(host: str) -> None:
    assert verdict(OPEN, ("host", host)) == "host_not_allowed"


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    assert verdict(LOOPBACK) == "host_not_allowed"
    assert verdict(LOOPBACK, ("host", "localhost"), ("host", "localhost")) == "host_not_allowed"
    assert verdict(LOOPBACK, ("host", "localhost"), ("host", "evil.example")) == "host_not_allowed"


# Origins


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8700", "http://localhost:8700"),
        ("localhost:8700", "https://localhost:8700"),
        ("localhost:8700", "http://LOCALHOST:8700"),
        ("LOCALHOST:8700", "http://localhost:8700"),
        ("127.0.0.1:8700", "http://127.0.0.1:8700"),
        ("[::1]:8700", "http://[::1]:8700"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("localhost", "https://localhost"),
        ("localhost:443", "https://localhost"),
        ("sightline.example", "https://sightline.example"),
    ],
)
def test_a_page_of_our_own_may_come_in(host: str, origin: str) -> None:
    assert verdict(OPEN, ("host", host), ("origin", origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://evil.example",
        "http://evil.example:8700",
        "http://localhost",
        "http://localhost:8701",
        "http://127.0.0.1:8700",
        "http://[::1]:8700",
        "http://app.localhost:8700",
        "http://localhost:8700.evil.example",
        "http://localhost:8700@evil.example",
        "http://user@localhost:8700",
        "http://localhost:8700/",
        "http://localhost:8700/path",
        "http://localhost:8700?x",
        "http://localhost:8700#x",
        "http://localhost:8700\\@evil.example",
        "http://localhost:8700 http://evil.example",
        "http://evil.example, http://localhost:8700",
        "//localhost:8700",
        "localhost:8700",
        "file://",
        "file://localhost:8700",
        "ftp://localhost:8700",
        "chrome-extension://localhost",
        "javascript://localhost:8700",
        "http://localhost.:8700",
        "http://evil.example[::1]:8700",
        "*",
    ],
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    assert verdict(LOOPBACK, ("host", "localhost:8700"), ("origin", origin)) == "origin_not_allowed"
    assert verdict(OPEN, ("host", "localhost:8700"), ("origin", origin)) == "origin_not_allowed"


def test_two_origins_are_refused() -> None:
    own = ("origin", "http://localhost:8700")
    assert verdict(LOOPBACK, ("host", "localhost:8700"), own, own) == "origin_not_allowed"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://app.example", None),
        ("https://APP.example", None),
        ("https://app.example:443", None),
        ("http://other.example:8080", None),
        ("http://app.example", "origin_not_allowed"),
        ("https://app.example:8443", "origin_not_allowed"),
        ("http://other.example", "origin_not_allowed"),
        ("https://x.app.example", "origin_not_allowed"),
        ("https://app.example.evil.example", "origin_not_allowed"),
    ],
)
def test_a_listed_origin_is_that_origin_and_no_other(origin: str, expected: str | None) -> None:
    assert verdict(OPEN, ("host", "localhost:8700"), ("origin", origin)) == expected


def test_the_host_is_looked_at_before_the_origin() -> None:
    headers = ("host", "evil.example"), ("origin", "http://evil.example")
    assert verdict(LOOPBACK, *headers) == "host_not_allowed", "a page that believes to be at home is not"


# Over HTTP


@pytest.fixture
async def idle(anyio_backend: str) -> AsyncIterator[Inside]:
    async with opened(start=False) as idle:
        await idle.session()
        yield idle


@pytest.fixture
async def shared(anyio_backend: str) -> AsyncIterator[Inside]:
    """With `https://app.example` on the allow-list."""
    async with opened(start=False, allow_origin=("https://app.example",)) as shared:
        await shared.session()
        yield shared


EVERYWHERE = [
    ("GET", "/"),
    ("GET", "/console/main.js"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/sessions"),
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions/s"),
    ("DELETE", "/v1/sessions/s"),
    ("POST", "/v1/sessions/s/turns"),
    ("POST", "/v1/sessions/s/cancel"),
    ("GET", "/v1/sessions/s/events"),
    ("GET", "/nowhere"),
    ("OPTIONS", "/v1/sessions"),
    ("POST", "/v1/observe"),
]


@pytest.mark.anyio
async def test_every_route_refuses_foreign_hosts_and_origins(idle: Inside) -> None:
    for method, path in EVERYWHERE:
        for headers, code in [
            ({"Host": "evil.example:8700"}, "host_not_allowed"),
            ({"Host": "[::1"}, "host_not_allowed"),
            ({"Origin": "https://evil.example"}, "origin_not_allowed"),
            ({"Origin": "null"}, "origin_not_allowed"),
            ({"Origin": "http://localhost:8701"}, "origin_not_allowed"),
        ]:
            response = await idle.http.request(method, path, headers=headers)
            problem = assert_problem(response, 403, code)
            assert problem["instance"] == path
            assert "access-control-allow-origin" not in response.headers
    assert (await idle.http.get("/v1/sessions/s")).status_code == 200, "nothing was deleted"


@pytest.mark.anyio
async def test_what_is_refused_is_named_and_cut_to_a_length(idle: Inside) -> None:
    response = await idle.http.get("/healthz", headers={"Host": "evil\x1b.example" + "x" * 5_000})

    detail = assert_problem(response, 403, "host_not_allowed")["detail"]
    assert "\\x1b" in detail
    assert len(detail) < 400


@pytest.mark.anyio
async def test_our_own_pages_may_read_and_write(idle: Inside) -> None:
    own = {"Origin": "http://localhost:8700"}

    assert (await idle.http.post("/v1/sessions", json={}, headers=own)).status_code == 201
    assert "access-control-allow-origin" not in (await idle.http.get("/v1/sessions", headers=own)).headers


# Other origins that are allowed


@pytest.mark.anyio
async def test_a_page_of_an_allowed_origin_may_read_answers_and_refusals(shared: Inside) -> None:
    for path in ("/v1/sessions", "/v1/sessions/nobody", "/nowhere", "/healthz"):
        response = await shared.http.get(path, headers={"Origin": "https://app.example"})

        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert "Origin" in response.headers["vary"]
        exposed = response.headers["access-control-expose-headers"].split(", ")
        assert {"Location", "ETag", "Retry-After", "Sightline-Applied-Through", "X-Request-Id"} <= set(exposed)
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.anyio
async def test_nobody_else_is_told_of_it(shared: Inside) -> None:
    for headers in ({}, {"Origin": "http://localhost:8700"}):
        response = await shared.http.get("/v1/sessions", headers=headers)
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["vary"] == "Origin", "a cache must not mix them up"
    refused = await shared.http.get("/v1/sessions", headers={"Origin": "https://evil.example"})
    assert_problem(refused, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/s/turns", "/v1/sessions/s/queue/b"])
async def test_a_browser_that_asks_first_is_told_what_it_may_send(shared: Inside, path: str) -> None:
    response = await shared.http.options(
        path,
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, idempotency-key,x-own",
        },
    )

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert response.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    assert response.headers["access-control-allow-headers"] == "content-type, idempotency-key,x-own"


@pytest.mark.anyio
async def test_headers_that_are_none_are_not_repeated(shared: Inside) -> None:
    response = await shared.http.options(
        "/v1/sessions",
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x: y; <script>",
        },
    )

    assert "access-control-allow-headers" not in response.headers


@pytest.mark.anyio
async def test_asking_first_is_of_no_use_to_others(shared: Inside) -> None:
    asked = {"Access-Control-Request-Method": "POST"}

    refused = await shared.http.options("/v1/sessions", headers={"Origin": "https://evil.example", **asked})
    own = await shared.http.options("/v1/sessions", headers={"Origin": "http://localhost:8700", **asked})
    plain = await shared.http.options("/v1/sessions", headers={"Origin": "https://app.example"})

    assert_problem(refused, 403, "origin_not_allowed")
    assert_problem(own, 405, "method_not_allowed")
    assert_problem(plain, 405, "method_not_allowed")


# WebSockets, before they are accepted


async def handshake(
    idle: Inside, path: str, headers: dict[str, str] | None = None, *, denial: bool = True
) -> tuple[int, Json]:
    """What a refused handshake is answered with: (HTTP status, problem); without `denial`: (close code, nothing)."""
    sent: list[Any] = []
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in ({"host": "localhost:8700"} | (headers or {})).items()]
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": b"",
        "headers": raw,
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}} if denial else {},
    }
    await asyncio.wait_for(idle.app(scope, incoming.get, send), 5)
    assert "websocket.accept" not in [message["type"] for message in sent]
    if not denial:
        [close] = sent
        assert close["type"] == "websocket.close"
        return close["code"], {}
    start, body = sent
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    problem: Json = msgspec.json.decode(body["body"])
    assert problem["status"] == start["status"]
    return start["status"], problem


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"origin": "https://evil.example"}, "origin_not_allowed"),
        ({"origin": "null"}, "origin_not_allowed"),
        ({"origin": "http://localhost:8701"}, "origin_not_allowed"),
        ({"host": "evil.example", "origin": "http://evil.example"}, "host_not_allowed"),
        ({"host": "evil.example"}, "host_not_allowed"),
    ],
)
async def test_a_socket_from_elsewhere_is_refused_before_it_is_accepted(
    idle: Inside, headers: dict[str, str], code: str
) -> None:
    for path in ("/v1/sessions/s/events", "/v1/observe", "/nowhere"):
        status, problem = await handshake(idle, path, headers)
        assert (status, problem["code"], problem["instance"]) == (403, code, path)
        assert await handshake(idle, path, headers, denial=False) == (1008, {})


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/v1/sessions", "/v1/sessions/s", "/v1/sessions/s/events/", "/console/main.js"]
)
async def test_a_socket_to_where_there_is_none_is_refused(idle: Inside, path: str) -> None:
    status, problem = await handshake(idle, path)
    assert (status, problem["code"]) == (404, "not_found")
    assert await handshake(idle, path, denial=False) == (4404, {})
