"""Requests that are not what they should be, before their body: paths, methods, ids, query strings, headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from sightline_gateway.app import OPERATIONS
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, opened

pytestmark = pytest.mark.anyio

ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
PATHS = sorted({operation.path for operation in OPERATIONS})
SESSION_PATHS = [path for path in PATHS if "{session_id}" in path]


@pytest.fixture
async def idle(anyio_backend: str) -> AsyncIterator[Inside]:
    async with opened(start=False) as idle:
        await idle.session()
        yield idle


def filled(path: str, session: str = "s", batch: str = "b") -> str:
    names = {"session_id": session, "batch_id": batch, "attachment_id": "a", "process_id": "p", "task_id": "t"}
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    return path


# Paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/sessions/",
        "/v1/sessions/s/",
        "/v1/sessions/s/turns/",
        "/v1/sessions/s/queue/",
        "//v1/sessions",
        "/v1//sessions",
        "/V1/sessions",
        "/v1/sessions%0A",
        "/healthz%0A",
        "/healthz/",
        "/v1/sessions/s/nothing",
        "/v1/sessions/a/b/turns",
        "/v1/sessions/a%2Fb",
        "/v1/sessions/..%2Fs",
        "/v2/sessions",
        "/console/nothing.js",
        "/console/../../pyproject.toml",
        "/console/%2e%2e/%2e%2e/pyproject.toml",
        "/console/..%2f..%2fpyproject.toml",
        "/client/%2e%2e/package.json",
        "/favicon.ico",
    ],
)
async def test_where_there_is_nothing_nothing_is_found(idle: Inside, path: str) -> None:
    problem = assert_problem(await idle.http.get(path), 404, "not_found")

    assert problem["instance"].isascii()


@pytest.mark.parametrize("path", PATHS)
async def test_another_method_is_refused_with_those_that_are_allowed(idle: Inside, path: str) -> None:
    allowed = {operation.method for operation in OPERATIONS if operation.path == path}
    # A stream has no HEAD: without a body it would never end.
    also = {"HEAD"} if "GET" in allowed and not path.endswith("/events") else set()

    for method in ALL_METHODS:
        if method not in allowed | also:
            response = await idle.http.request(method, filled(path))
            if method != "HEAD":
                assert_problem(response, 405, "method_not_allowed")
            assert response.headers["allow"] == ", ".join(sorted(allowed | also))


async def test_a_method_nobody_has_heard_of_is_refused(idle: Inside) -> None:
    assert_problem(await idle.http.request("FROBNICATE", "/v1/sessions"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/v1/sessions", "/v1/sessions/s", "/v1/sessions/s/queue", "/healthz", "/openapi.json", "/"]
)
async def test_head_answers_as_get_does(idle: Inside, path: str) -> None:
    got, asked = await idle.http.get(path), await idle.http.head(path)

    assert asked.status_code == got.status_code == 200
    for name in ("content-type", "content-length", "etag", "cache-control"):
        assert asked.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/tickets"),
        ("GET", "/metrics"),
        ("GET", "/asyncapi.json"),
        ("GET", "/docs"),
    ],
)
async def test_what_the_wire_has_and_the_server_has_not_yet_is_said_so(idle: Inside, method: str, path: str) -> None:
    assert_problem(await idle.http.request(method, path, json={}), 501, "not_implemented")


# Ids

ODD_IDS = [
    "a b",
    "a,b",
    "a%20b",
    "%00",
    "a%00",
    "a%0A",
    "%0Aa",
    "a%0D%0Ab",
    "caf%C3%A9",
    "%ED%A0%80",
    "a%25",
    "a;b",
    "a" * 129,
]


@pytest.mark.parametrize("path", SESSION_PATHS)
@pytest.mark.parametrize("odd", ODD_IDS)
async def test_a_session_id_outside_the_alphabet_is_refused_on_every_route(idle: Inside, path: str, odd: str) -> None:
    for operation in OPERATIONS:
        if operation.path == path:
            response = await idle.http.request(operation.method, filled(path, session=odd), json={})
            problem = assert_problem(response)
            if odd == "a%0A" and path.endswith("{session_id}"):
                assert problem["code"] == "not_found"
            else:
                assert (response.status_code, problem["code"], problem["field"]) == (400, "invalid_field", "session_id")


@pytest.mark.parametrize("odd", ["a b", "%00", "caf%C3%A9", "b" * 201])
async def test_a_batch_id_outside_the_alphabet_is_refused(idle: Inside, odd: str) -> None:
    for method in ("GET", "DELETE"):
        response = await idle.http.request(method, f"/v1/sessions/s/queue/{odd}")
        assert assert_problem(response, 400, "invalid_field")["field"] == "batch_id"


@pytest.mark.parametrize("odd", ["a b", "a/b", "", "a\n", "\n", "a\x00", "é", "a" * 129, "😀", "a%2Fb", "a?b", "a#b"])
async def test_a_session_id_outside_the_alphabet_is_refused_in_a_body(idle: Inside, odd: str) -> None:
    response = await idle.http.post("/v1/sessions", json={"session_id": odd})

    assert assert_problem(response, 400, "invalid_field")["field"] == "session_id"


@pytest.mark.parametrize("fine", ["a" * 128, ".", "..", "~", "-", "_", ":", "@", "A.z_0~:@-9", "now", "null"])
async def test_a_session_id_of_the_alphabet_is_taken(fine: str) -> None:
    async with opened(start=False) as idle:
        response = await idle.http.post("/v1/sessions", json={"session_id": fine})

        assert response.status_code == 201
        assert response.headers["location"] == f"/v1/sessions/{fine}"


# Query strings

NUMBERS = [
    ("/v1/sessions", "limit", 1, 1_000),
    ("/v1/sessions", "after", 0, 2**63 - 1),
    ("/v1/sessions/s", "messages", 0, 10_000),
    ("/v1/sessions/s/messages", "limit", 1, 1_000),
    ("/v1/sessions/s/events", "limit", 1, 10_000),
    ("/v1/sessions/s/events", "messages", 0, 10_000),
]
ODD_NUMBERS = [
    "",
    " ",
    "-1",
    "%2B1",
    "+1",
    "1_0",
    "１",
    "1.5",
    "1.0",
    "1e2",
    "0x10",
    "abc",
    "null",
    "true",
    "NaN",
    "9" * 20,
    "9" * 5_000,
]


@pytest.mark.parametrize(("path", "name", "low", "high"), NUMBERS)
async def test_a_number_in_a_query_is_plain_and_in_range(
    idle: Inside, path: str, name: str, low: int, high: int
) -> None:
    for odd in (*ODD_NUMBERS, str(low - 1), str(high + 1)):
        problem = assert_problem(await idle.http.get(f"{path}?{name}={odd}"), 400, "invalid_field")
        assert problem["field"] == name
    for fine in (low, high):
        assert (await idle.http.get(f"{path}?{name}={fine}")).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_unknown_query_parameters_are_refused_each_by_its_name(idle: Inside, path: str) -> None:
    for operation in OPERATIONS:
        if operation.path == path:
            response = await idle.http.request(operation.method, filled(path) + "?limt=1&Limit=2&=3", json={})
            problem = assert_problem(response, 400, "invalid_field")
            assert [error["field"] for error in problem["errors"]][:3] == ["limt", "Limit", ""]


async def test_everything_wrong_in_a_query_is_listed(idle: Inside) -> None:
    response = await idle.http.get("/v1/sessions?limit=0&after=x&status=busy&limit=5&what=1")

    problem = assert_problem(response, 400, "invalid_field")

    assert [error["field"] for error in problem["errors"]] == ["limit", "after", "status", "limit", "what"]


async def test_a_parameter_that_comes_twice_is_refused_even_if_both_agree(idle: Inside) -> None:
    problem = assert_problem(await idle.http.get("/v1/sessions?limit=5&limit=5"), 400, "invalid_field")

    assert problem["errors"] == [{"field": "limit", "detail": "given twice"}]


@pytest.mark.parametrize(
    "query",
    ["before=%FF", "before=%ED%A0%80", "%FF=1", "before=", "before=" + "x" * 201, "&".join(["a=1"] * 200)],
)
async def test_a_query_that_cannot_be_read_is_refused(idle: Inside, query: str) -> None:
    assert_problem(await idle.http.get(f"/v1/sessions/s/messages?{query}"), 400, "invalid_field")


async def test_a_query_of_bytes_that_are_no_text_is_refused(idle: Inside) -> None:
    # An HTTP parser may let them through; httpx would not.
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("there is no body to ask for")

    async def send(message: Any) -> None:
        sent.append(message)

    for path in ("/v1/sessions", "/v1/sessions/s", "/v1/sessions/s/events"):
        for query in (b"limit=\xff", b"\xc3\x28", "☃".encode()):
            headers = [(b"host", b"localhost")]
            scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": headers}
            await idle.app(scope, receive, send)
            start, body = sent
            sent.clear()
            assert start["status"] == 400
            assert msgspec.json.decode(body["body"])["code"] == "invalid_field"


@pytest.mark.parametrize("state", ["", "Pending", "claimed", "pending,all"])
async def test_an_unknown_word_is_refused(idle: Inside, state: str) -> None:
    problem = assert_problem(await idle.http.get(f"/v1/sessions/s/queue?state={state}"), 400, "invalid_field")

    assert problem["field"] == "state"


# Headers


async def test_a_request_id_is_echoed(idle: Inside) -> None:
    for given in ("abc", "x" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"):
        response = await idle.http.get("/healthz", headers={"X-Request-Id": given})
        assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("odd", [b"", b"x" * 129, b"a\tb", b"\x7f", "é".encode(), b"a\x1b[2Jb"])
async def test_a_request_id_that_a_log_should_not_hold_is_replaced(idle: Inside, odd: bytes) -> None:
    response = await idle.http.get("/healthz", headers=[(b"X-Request-Id", odd)])

    assert response.headers["x-request-id"].startswith("token-")


async def test_answers_are_not_kept_by_caches(idle: Inside) -> None:
    for path in ("/v1/sessions", "/v1/sessions/s/messages", "/v1/sessions/nobody", "/healthz"):
        assert (await idle.http.get(path)).headers["cache-control"] == "no-store"
    for path in ("/v1/sessions/s", "/v1/sessions/s/queue"):
        assert (await idle.http.get(path)).headers["cache-control"] == "no-cache"


async def test_every_answer_says_what_a_browser_may_do_with_it(idle: Inside) -> None:
    for path in ("/", "/healthz", "/v1/sessions/nobody", "/nowhere", "/console/main.js"):
        headers = (await idle.http.get(path)).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
