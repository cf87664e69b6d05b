"""The table of codes is complete, and failures of ours are told without being shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
from starlette.staticfiles import StaticFiles

from sightline.errors import (
    SightlineError,
    StoreUnavailable,
)
from sightline.startup_errors import (
    StartupError,
)
from sightline_gateway.app import OPERATIONS
from sightline_gateway.http.operations import Operation
from sightline_gateway.problems import CODES
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, opened

# What wire.md says of the codes that this release knows.
WIRE = {
    400: {"malformed_json", "invalid_field", "malformed_cursor", "wrong_session_cursor"},
    403: {"origin_not_allowed", "host_not_allowed"},
    404: {"session_not_found", "batch_not_found"},
    409: {"session_exists", "batch_not_cancellable", "claim_expired", "fenced"},
    410: {"session_deleted", "cursor_gone"},
    413: {"body_too_large"},
    415: {"unsupported_media_type"},
    422: {"idempotency_key_reused"},
    429: {"queue_full"},
    503: {"too_many_connections", "draining", "store_unavailable"},
}


def errors(base: type[SightlineError] = SightlineError) -> Iterator[type[SightlineError]]:
    for error in base.__subclasses__():
        if error.__module__.startswith(("sightline.errors.", "sightline.startup_errors")):
            yield error
            yield from errors(error)


@pytest.mark.parametrize("error", list(errors()), ids=lambda error: error.__name__)
def test_the_table_knows_every_error_that_can_reach_a_client(error: type[SightlineError]) -> None:
    if issubclass(error, StartupError):
        assert error.code not in CODES, "it ends the process before anybody can ask"
    else:
        assert error.code in CODES
        assert error.retryable == CODES[error.code].retryable


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_an_operation_refuses_with_codes_of_the_table(operation: Operation) -> None:
    assert set(operation.problems) <= CODES.keys()
    assert len(set(operation.problems)) == len(operation.problems)


def test_the_table_says_what_the_wire_says() -> None:
    assert {status: {code for code in codes if CODES[code].status == status} for status, codes in WIRE.items()} == WIRE


def test_a_code_tells_the_same_story_on_each_transport() -> None:
    for code, entry in CODES.items():
        assert entry.title
        assert code == code.lower()
        # 4000-4499 mean: do not retry as is. 1013 and 4500-4999 mean: come back.
        assert entry.retryable is (entry.close == 1013 or 4500 <= entry.close <= 4999), code
        assert entry.retryable is (entry.status in (429, 503)), code


# Failures of ours


@pytest.mark.anyio
async def test_an_unforeseen_failure_is_in_the_log_under_the_trace_id_and_nowhere_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(start=False) as idle:
        idle.world.faults.fail_before("list_sessions", error=RuntimeError("password of db.internal is hunter2"))

        response = await idle.http.get("/v1/sessions", headers={"X-Request-Id": "trace-me"})

    problem = assert_problem(response, 500, "internal")
    assert problem["trace_id"] == "trace-me"
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text
    [record] = [record for record in caplog.records if "trace-me" in record.getMessage()]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


@pytest.mark.anyio
async def test_what_a_store_says_is_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(start=False) as idle:
        idle.world.faults.fail_before("list_sessions", error=StoreUnavailable("cannot reach db.internal as admin"))

        response = await idle.http.get("/v1/sessions")

    problem = assert_problem(response, 503, "store_unavailable")
    assert "db.internal" not in response.text
    [record] = [record for record in caplog.records if problem["trace_id"] in record.getMessage()]
    assert "db.internal" in record.getMessage()
    assert record.levelno == logging.WARNING


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "code"), [("/metrics", "not_implemented"), ("/readyz", "draining")])
async def test_every_refusal_with_a_trace_id_is_in_the_log(
    caplog: pytest.LogCaptureFixture, path: str, code: str
) -> None:
    async with opened(start=False) as idle:
        await idle.world.kernel.drain(0)

        problem = assert_problem(await idle.http.get(path), code=code)

    assert [record for record in caplog.records if problem["trace_id"] in record.getMessage()]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/nothing/%1B[2J%0D%0Afake%20line", "/v1/nothing/%1B[2Jcleared"])
async def test_a_path_cannot_write_into_a_log(path: str) -> None:
    async with opened(start=False) as idle:
        problem = assert_problem(await idle.http.get(path), code="not_found")

    assert "nothing" in problem["instance"]
    assert problem["instance"].isprintable()


@pytest.mark.anyio
async def test_a_refusal_that_is_the_clients_own_doing_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(start=False) as idle:
        await idle.http.get("/v1/sessions/nobody")
        await idle.http.post("/v1/sessions", content=b"{")

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.anyio
async def test_a_file_that_cannot_be_read_is_a_problem_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise OSError("disk of rack 7")

    monkeypatch.setattr(StaticFiles, "get_response", broken)
    async with opened(start=False) as idle:
        transport = httpx.ASGITransport(app=idle.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            response = await http.get("/console/main.js")

    problem = assert_problem(response, 500, "internal")
    assert "rack 7" not in response.text
    assert [record for record in caplog.records if problem["trace_id"] in record.getMessage()]


@pytest.mark.anyio
async def test_the_instance_is_the_path_as_a_uri(idle: Inside) -> None:
    for sent, instance in [
        ("/v1/sessions/nobody?limit=1", "/v1/sessions/nobody"),
        ("/a%20b%3Fc%23d%25", "/a%20b%3Fc%23d%25"),
        ("/caf%C3%A9%0A%00", "/caf%C3%A9%0A%00"),
        ("/a:b@c~d,e;f=g&h", "/a:b@c~d,e;f=g&h"),
        ("/" + "x" * 3_000, "/" + "x" * 499),
    ]:
        assert (await idle.http.get(sent)).json()["instance"] == instance
