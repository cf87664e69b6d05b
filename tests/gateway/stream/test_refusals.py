"""Streams that do not begin: what the client is told on each transport, and that nothing was looked up for it."""

from __future__ import annotations

from typing import Any

import pytest

from sightline_gateway.gateway import Gateway
from tests.gateway.stream.stage import Json, Stage, playing

pytestmark = [
    pytest.mark.usefixtures("way"),
    pytest.mark.anyio,
    pytest.mark.parametrize("transport", ["json", "sse", "websocket"]),
]

GOOD = "sl1:1:0:1:s"
HUGE = 2**63


async def refusal(stage: Stage, transport: str, query: str = "", **options: Any) -> Json:
    """The problem, with the status or close code it came with. The answer is complete and nothing follows it."""
    if transport == "websocket":
        socket = await stage.socket(query, **options)
        [frame] = socket.frames
        assert frame["type"] == "error"
        assert socket.over()
        return {**frame["problem"], "came_with": socket.close_code}
    answer = await (stage.catch_up(query, **options) if transport == "json" else stage.stream(query, **options))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.complete
    assert answer.json["status"] == answer.status
    return {**answer.json, "came_with": answer.status, "headers": answer.headers}


def came_with(transport: str, status: int, close: int) -> int:
    return close if transport == "websocket" else status


class Untouchable:
    """A kernel that nobody may ask for anything."""

    def __init__(self, gateway: Gateway) -> None:
        self.clock = gateway.kernel.clock
        self.ids = gateway.kernel.ids

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the kernel was asked for {name}")


BAD_CURSORS = {
    "empty": "cursor=",
    "nonsense": "cursor=nonsense",
    "prefix": "cursor=sl2:1:0:1:s",
    "prefix alone": "cursor=sl1",
    "session missing": "cursor=sl1:1:0:1",
    "session empty": "cursor=sl1:1:0:1:",
    "negative position": "cursor=sl1:1:0:-1:s",
    "negative revision": "cursor=sl1:1:-1:1:s",
    "signed": "cursor=sl1:1:0:%2B1:s",
    "blank": "cursor=sl1:1:0:%201:s",
    "underscore": "cursor=sl1:1:0:1_0:s",
    "other digits": "cursor=sl1:1:0:%D9%A1:s",
    "position beyond 63 bits": f"cursor=sl1:1:0:{HUGE}:s",
    "revision beyond 63 bits": f"cursor=sl1:1:{HUGE}:1:s",
    "incarnation beyond 63 bits": f"cursor=sl1:{HUGE}:0:1:s",
    "a number of a thousand digits": "cursor=sl1:1:0:" + "1" * 1000 + ":s",
    "too long": "cursor=" + GOOD + "x" * 256,
    "a newline at the end": "cursor=sl1:1:0:1%0A:s",
    "in capitals": "cursor=NOW",
    "the twin": "last_event_id=nonsense",
    "before a good one": f"cursor=nonsense&last_event_id={GOOD}",
}


@pytest.mark.parametrize("session", ["s", "nobody"])
@pytest.mark.parametrize("query", BAD_CURSORS.values(), ids=BAD_CURSORS)
async def test_a_malformed_cursor_is_refused_before_anything_is_looked_up(
    transport: str, query: str, session: str
) -> None:
    async with playing() as stage:
        kernel, stage.gateway.kernel = stage.gateway.kernel, Untouchable(stage.gateway)  # type: ignore[assignment]
        problem = await refusal(stage, transport, query, session=session)
        stage.gateway.kernel = kernel
        assert problem["code"] == "malformed_cursor"
        assert problem["came_with"] == came_with(transport, 400, 4400)
        assert stage.gateway.streams.count == 0


@pytest.mark.parametrize("given", ["nonsense", "sl1:1:0:-1:s", "é", "x" * 300])
async def test_a_malformed_header_is_refused_although_the_query_is_good(transport: str, given: str) -> None:
    async with playing() as stage:
        kernel, stage.gateway.kernel = stage.gateway.kernel, Untouchable(stage.gateway)  # type: ignore[assignment]
        problem = await refusal(stage, transport, f"cursor={GOOD}", last_event_id=given)
        stage.gateway.kernel = kernel
        assert problem["code"] == "malformed_cursor"


@pytest.mark.parametrize("cursor", ["sl1:1:0:1:other", "sl1:1:0:1:s:s", "sl1:1:0:1:S"])
@pytest.mark.parametrize("session", ["s", "nobody"])
async def test_a_cursor_of_another_session_is_refused_before_anything_is_looked_up(
    transport: str, cursor: str, session: str
) -> None:
    async with playing() as stage:
        kernel, stage.gateway.kernel = stage.gateway.kernel, Untouchable(stage.gateway)  # type: ignore[assignment]
        problem = await refusal(stage, transport, f"cursor={cursor}", session=session)
        stage.gateway.kernel = kernel
        assert problem["code"] == "wrong_session_cursor"
        assert problem["came_with"] == came_with(transport, 400, 4400)


@pytest.mark.parametrize("session", ["a b", "é", "x" * 129, "a,b"])
async def test_an_id_that_cannot_be_one_is_refused_before_anything_is_looked_up(transport: str, session: str) -> None:
    async with playing() as stage:
        kernel, stage.gateway.kernel = stage.gateway.kernel, Untouchable(stage.gateway)  # type: ignore[assignment]
        problem = await refusal(stage, transport, session=session)
        stage.gateway.kernel = kernel
        assert (problem["code"], problem["field"]) == ("invalid_field", "session_id")
        assert problem["came_with"] == came_with(transport, 400, 4400)


@pytest.mark.parametrize("query", ["", "cursor=now", "cursor=sl1:1:0:1:nobody"])
async def test_a_session_that_does_not_exist_is_said_to_be_missing(transport: str, query: str) -> None:
    async with playing() as stage:
        problem = await refusal(stage, transport, query, session="nobody")
        assert problem["code"] == "session_not_found"
        assert problem["came_with"] == came_with(transport, 404, 4404)
        assert stage.gateway.streams.count == 0


@pytest.mark.parametrize("query", ["", "cursor=now", "cursor=sl1:1:0:1:s"])
async def test_a_session_that_was_deleted_is_said_to_be_gone(transport: str, query: str) -> None:
    async with playing() as stage:
        await stage.delete()
        problem = await refusal(stage, transport, query)
        assert problem["code"] == "session_deleted"
        assert problem["came_with"] == came_with(transport, 410, 4410)
        assert stage.gateway.streams.count == 0


async def test_one_stream_more_than_allowed_is_refused_and_allowed_again_when_one_ends(transport: str) -> None:
    async with playing(max_streams=2) as stage:
        first, _ = await stage.stream(), await stage.socket()
        problem = await refusal(stage, transport, "cursor=now")
        assert problem["code"] == "too_many_connections"
        assert problem["retryable"] is True
        assert problem["came_with"] == came_with(transport, 503, 1013)
        if transport != "websocket":
            assert int(problem["headers"]["retry-after"]) >= 1
        await first.vanish()
        assert (await stage.catch_up("cursor=now")).status == 200
        assert (await stage.stream()).types() == ["observation", "caught_up"]


async def test_a_draining_server_takes_no_new_streams(transport: str) -> None:
    async with playing() as stage:
        await stage.gateway.streams.drain(0)
        problem = await refusal(stage, transport, "cursor=now")
        assert problem["code"] == "draining"
        assert problem["came_with"] == came_with(transport, 503, 4503)
        if transport != "websocket":
            assert int(problem["headers"]["retry-after"]) >= 1


async def test_a_store_that_does_not_answer_is_a_refusal_that_can_be_tried_again(transport: str) -> None:
    async with playing(session_ids=()) as stage:
        stage.world.faults.fail_before("load_session", times=1)
        problem = await refusal(stage, transport)
        assert problem["code"] == "store_unavailable"
        assert problem["retryable"] is True
        assert problem["came_with"] == came_with(transport, 503, 1013)
        assert stage.gateway.streams.count == 0
