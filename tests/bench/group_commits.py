"""How many group commits, and so how many waits for the disk, a request costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx

from sightline.agents.demo import demo
from sightline.clock import SystemClock
from sightline.kernel import Kernel
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.stores.sqlite import SqliteStore
from sightline_gateway.app import create_app
from sightline_gateway.gateway import Gateway
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.page import Column, Section, Target
from tests.bench.processes import folder

__all__ = ["SECTION", "of_posts", "of_turns"]

ALONE = "a POST that is accepted, alone"


@asynccontextmanager
async def _inside(sessions: int, *, runs: bool) -> AsyncIterator[tuple[httpx.AsyncClient, SqliteStore]]:
    """A gateway in this process on a store on disk, with its sessions; without `runs` it only accepts work."""
    with folder() as place:
        clock = SystemClock()
        store = SqliteStore.open(place / "bench.db", "FULL")
        replay = MemoryReplayStore(clock, store.incarnation)
        kernel = Kernel(store=store, replay=replay, agent=demo if runs else None, clock=clock)
        app = create_app(Gateway(kernel, Settings(), Streams(1, clock)))
        await kernel.start()
        try:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8700", timeout=60) as http:
                for number in range(sessions):
                    (await http.put(f"/v1/sessions/s{number}", json={})).raise_for_status()
                yield http, store
        finally:
            await kernel.stop()
            await store.close()


async def _turn(http: httpx.AsyncClient, session_id: str, wait: bool) -> None:
    headers = {"Prefer": "wait=60"} if wait else {}
    answer = await http.post(f"/v1/sessions/{session_id}/turns", json={"input": "echo hello"}, headers=headers)
    assert answer.status_code == (200 if wait else 202), answer.text


async def of_posts(times: int) -> Sample:
    """One after the other, so that no two share a commit."""
    async with _inside(1, runs=False) as (http, store):
        before = store.writer.groups
        for _ in range(times):
            await _turn(http, "s0", wait=False)
        return {"groups": (store.writer.groups - before) / times}


async def of_turns(times: int, at_once: int) -> Sample:
    """Rounds of turns that are asked for at the same moment, each in a session of its own."""
    async with _inside(at_once, runs=True) as (http, store):
        before = store.writer.groups
        for _ in range(times):
            await asyncio.gather(*(_turn(http, f"s{number}", wait=True) for number in range(at_once)))
        return {"groups": (store.writer.groups - before) / times / at_once}


def subjects(options: Options) -> list[Subject]:
    return [
        Subject(ALONE, partial(of_posts, options.requests)),
        Subject("a whole turn, alone", partial(of_turns, options.requests, 1)),
        Subject(
            f"a whole turn, {options.sessions} at once",
            partial(of_turns, max(1, options.requests // 10), options.sessions),
        ),
    ]


SECTION = Section(
    name="commits",
    title="Waits for the disk",
    method="""\
Writes that wait at the same moment share one transaction, a group commit, which is one wait for the disk under
`FULL`. Counted are the store's group commits, for one request: through the whole gateway in one process, without a
socket. A turn has three writes: it is enqueued, claimed, committed.""",
    subjects=subjects,
    heading="",
    columns=(Column("groups", "group commits for one"),),
    amount=lambda options: f"{options.requests} requests each, of those at once more",
    targets=(
        Target(
            "a POST that is accepted costs one group commit",
            lambda rows: rows.median(ALONE, "groups"),
            at_least=1,
            at_most=1,
        ),
    ),
)
