"""The log of a process: page by page, waited for, and as a stream that grows, resumes and ends with the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message

from sightline.process.model import NewEvent, NewGrant
from sightline.testing.clock import settled
from sightline.testing.conformance.process_steps import HERE, NOTE, external
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened
from tests.gateway.stream.stage import ServerSent, parse_server_sent

pytestmark = pytest.mark.anyio

PATH = "/v1/processes/p/events"


@asynccontextmanager
async def noted(notes: int = 0, **options: Any) -> AsyncIterator[Inside]:
    """A gateway with a process that is done elsewhere and has logged so many notes."""
    async with opened(start=False, **options) as inside:
        await inside.session()
        processes = inside.world.kernel.processes
        await processes.start_process(external(event_types=(NOTE,)), (NewGrant(scope=HERE),))
        await log(inside, *range(1, notes + 1))
        yield inside


async def log(inside: Inside, *payloads: Any) -> None:
    for payload in payloads:
        await inside.world.kernel.processes.append("p", NewEvent(event_type="note", payload=payload))
    await settled()


class Reader:
    """A client that takes what it is sent, until it leaves."""

    def __init__(self, inside: Inside, *, after: int | None = None, last_event_id: str | None = None) -> None:
        self.body = b""
        self.ended = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.reads = asyncio.Event()
        self.reads.set()
        headers = [(b"host", b"localhost:8700"), (b"accept", b"text/event-stream")]
        if last_event_id is not None:
            headers.append((b"last-event-id", last_event_id.encode()))
        scope = {
            "type": "http",
            "method": "GET",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"" if after is None else b"after=%d" % after,
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 8700),
            "scheme": "http",
            "http_version": "1.1",
        }
        self._left = asyncio.Event()
        self._answering = asyncio.ensure_future(inside.app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    @property
    def sent(self) -> list[ServerSent]:
        return parse_server_sent(self.body.decode())

    @property
    def payloads(self) -> list[Any]:
        return [json.loads(event.data or "")["payload"] for event in self.sent if event.event == "process_event"]

    async def leave(self) -> None:
        self._left.set()
        await self._answering


# Pages


async def test_the_log_is_read_page_by_page() -> None:
    async with noted(3) as inside:
        first = (await inside.http.get(PATH, params={"limit": 2})).json()
        rest = (await inside.http.get(PATH, params={"limit": 2, "after": first["next"]})).json()
        nothing = (await inside.http.get(PATH, params={"after": rest["next"]})).json()

        assert [event["payload"] for event in (*first["events"], *rest["events"])] == [1, 2, 3]
        assert first["events"][0].keys() == {"sequence", "event_type", "payload", "occurred_at_ms"}
        assert nothing == {"events": [], "next": 3}


async def test_a_page_is_waited_for_until_something_is_logged_or_the_process_has_ended() -> None:
    async with noted(1) as inside:
        waiting = asyncio.create_task(inside.http.get(PATH, params={"after": 1, "wait": 30}))
        await settled()
        await log(inside, "late")
        assert [event["payload"] for event in (await waiting).json()["events"]] == ["late"]

        waiting = asyncio.create_task(inside.http.get(PATH, params={"after": 2, "wait": 30}))
        await settled()
        await inside.world.kernel.processes.complete("p", 7)
        [end] = (await waiting).json()["events"]
        assert end["output"] == {"type": "success", "value": 7}
        assert (await inside.http.get(PATH, params={"after": 3, "wait": 30})).json()["events"] == []


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", "wait=61", "from=1"])
async def test_a_page_is_asked_for_rightly(query: str) -> None:
    async with noted() as inside:
        assert_problem(await inside.http.get(f"{PATH}?{query}"), 400, "invalid_field")


# Streams


async def test_a_stream_shows_what_was_logged_what_is_logged_and_ends_with_the_process() -> None:
    async with noted(2) as inside:
        reader = Reader(inside)
        await settled()
        assert (reader.status, reader.headers[b"cache-control"]) == (200, b"no-store, no-transform")
        assert reader.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert reader.body.startswith(b"retry: 2000\n")
        assert reader.payloads == [1, 2]
        await log(inside, "three\nlines")
        assert [event.id for event in reader.sent] == ["1", "2", "3"]
        assert inside.gateway.streams.count == 1
        await inside.world.kernel.processes.complete("p", "done")
        await settled()
        last = json.loads(reader.sent[-1].data or "")
        assert (last["event_type"], last["output"]) == ("process.completed", {"type": "success", "value": "done"})
        assert reader.ended
        assert inside.gateway.streams.count == 0
        await reader.leave()


async def test_a_stream_is_resumed_behind_the_last_event_that_came() -> None:
    async with noted(4) as inside:
        for reader in (
            Reader(inside, after=2),
            Reader(inside, last_event_id="2"),
            Reader(inside, after=0, last_event_id="2"),
        ):
            await settled()
            assert reader.payloads == [3, 4]
            await reader.leave()
        answer = await inside.http.get(PATH, headers={"Accept": "text/event-stream", "Last-Event-ID": "x"})
        assert assert_problem(answer, 400, "invalid_field")["field"] == "Last-Event-ID"


async def test_who_comes_back_to_a_process_that_has_ended_is_told_that_there_is_no_more() -> None:
    async with noted(1) as inside:
        await inside.world.kernel.processes.complete("p")
        whole = await inside.http.get(PATH, headers={"Accept": "text/event-stream"})
        assert [event.id for event in parse_server_sent(whole.text)] == ["1", "2"]
        over = await inside.http.get(PATH, headers={"Accept": "text/event-stream", "Last-Event-ID": "2"})
        assert (over.status_code, over.content) == (204, b"")


async def test_what_is_logged_after_the_end_is_shown_to_who_comes_then() -> None:
    async with noted() as inside:
        await inside.world.kernel.processes.complete("p")
        await log(inside, "late")
        reader = Reader(inside)
        await settled()
        assert ([event.id for event in reader.sent], reader.ended) == (["1", "2"], True)
        await reader.leave()


async def test_a_long_log_comes_whole() -> None:
    async with noted(600) as inside:
        reader = Reader(inside)
        await settled()
        assert reader.payloads == list(range(1, 601))
        await reader.leave()


async def test_a_quiet_stream_says_that_it_lives_and_ends_after_a_while_to_be_resumed() -> None:
    async with noted(1) as inside:
        reader = Reader(inside)
        await inside.world.clock.run_for(31)
        assert [event.comment for event in reader.sent if event.comment] == ["keep-alive", "keep-alive"]
        await inside.world.clock.run_for(800)
        goodbye = json.loads(reader.sent[-1].data or "")
        assert (reader.sent[-1].event, goodbye["reason"], goodbye["code"]) == ("goodbye", "rotated", 4504)
        assert reader.ended
        await reader.leave()


async def test_a_server_that_drains_says_goodbye() -> None:
    async with noted(1) as inside:
        reader = Reader(inside)
        await settled()
        draining = asyncio.create_task(inside.gateway.streams.drain(1.0))
        await inside.world.clock.run_for(2)
        await draining
        goodbye: Json = json.loads(reader.sent[-1].data or "")
        assert (goodbye["reason"], goodbye["retry_after_ms"], reader.ended) == ("draining", 1_000, True)
        assert_problem(await inside.http.get(PATH, headers={"Accept": "text/event-stream"}), 503, "draining")
        await reader.leave()


async def test_a_reader_that_leaves_leaves_nothing() -> None:
    async with noted(1, max_streams=1) as inside:
        reader = Reader(inside)
        await settled()
        refused = await inside.http.get(PATH, headers={"Accept": "text/event-stream"})
        assert_problem(refused, 503, "too_many_connections")
        await reader.leave()
        assert inside.gateway.streams.count == 0
        assert not reader.ended


async def test_a_stream_that_loses_the_store_ends_and_can_be_resumed() -> None:
    async with noted(1) as inside:
        reader = Reader(inside)
        await settled()
        inside.world.faults.fail_before("get_process")
        await inside.world.clock.run_for(1)
        assert (reader.ended, reader.payloads) == (True, [1])
        await reader.leave()
        inside.world.faults.fail_before("get_process")
        refused = await inside.http.get(PATH, headers={"Accept": "text/event-stream", "Last-Event-ID": "1"})
        assert_problem(refused, 503, "store_unavailable")
        again = Reader(inside, last_event_id="1")
        await log(inside, 2)
        assert again.payloads == [2]
        await again.leave()


async def test_a_reader_that_does_not_read_is_left_after_half_a_minute() -> None:
    async with noted(1) as inside:
        reader = Reader(inside)
        await settled()
        reader.reads.clear()
        await log(inside, 2)
        await inside.world.clock.run_for(29)
        assert inside.gateway.streams.count == 1
        await inside.world.clock.run_for(3)
        assert (inside.gateway.streams.count, reader.payloads) == (0, [1])
        await reader.leave()


async def test_a_head_of_the_log_is_refused() -> None:
    async with noted() as inside:
        assert (await inside.http.head(PATH)).status_code == 405
