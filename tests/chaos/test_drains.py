"""SIGTERM: streams are told, turns end or are handed back, and the process ends with 0."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.chaos.served import Served, serving
from tests.chaos.watching import KINDS, Watcher
from tests.gateway.stream.folding import assert_same_view

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]


async def begin(served: Served, client: httpx.AsyncClient, text: str) -> dict[str, Watcher]:
    """A turn under way, watched by streams of both kinds."""
    await client.put("/v1/sessions/s", json={})
    watchers = {transport: Watcher(served, "s", transport) for transport in KINDS}
    for watcher in watchers.values():
        watcher.start()
    await client.post("/v1/sessions/s/turns", json={"input": text})
    await asyncio.gather(*(watcher.see(5) for watcher in watchers.values()))
    return watchers


async def test_a_drain_says_goodbye_on_every_transport_and_lets_the_turn_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with served.client() as client:
            watchers = await begin(served, client, "stream 60 every 20")
            await client.put("/v1/sessions/quiet", json={})
            polling = asyncio.create_task(client.get("/v1/sessions/quiet/events?cursor=now&wait=60"))
            await asyncio.sleep(0.1)
            served.tell(signal.SIGTERM)
            for watcher in watchers.values():
                await watcher.said_goodbye()
            answer = await polling
            assert (answer.status_code, answer.json()["events"]) == (200, [])
        assert await served.ended() == 0
        await served.start()
        async with served.client() as client:
            view = (await client.get("/v1/sessions/s")).json()
            [batch] = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
        assert (batch["state"], batch["attempts"]) == ("completed", 1)
        said = re.findall(r"seq=(\d+)", view["read_view"]["messages"][1]["content"])
        assert said == [str(number) for number in range(60)]
        for watcher in watchers.values():
            await watcher.reach(view["cursor"])
            assert_same_view(watcher.story.view(), view)
            assert watcher.story.goodbyes == ["draining"]
            await watcher.stop()
    assert "Traceback" not in served.log


async def test_a_turn_that_does_not_end_in_time_is_handed_back_uncharged(tmp_path: Path) -> None:
    async with serving(tmp_path, "--drain-timeout", "0.3") as served:
        async with served.client() as client:
            watchers = await begin(served, client, "stream 30 every 50")
        served.tell(signal.SIGTERM)
        for watcher in watchers.values():
            await watcher.said_goodbye()
        assert await served.ended(10) == 0
        await served.start()
        async with served.client() as client:
            while (view := (await client.get("/v1/sessions/s")).json())["status"] != "idle":
                assert view["live"] is None or view["live"]["attempt"] == 1
                await asyncio.sleep(0.05)
            [batch] = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
        assert (batch["state"], batch["attempts"]) == ("completed", 1)
        said = re.findall(r"seq=(\d+)", view["read_view"]["messages"][1]["content"])
        assert said == [str(number) for number in range(30)]
        for watcher in watchers.values():
            await watcher.reach(view["cursor"])
            assert_same_view(watcher.story.view(), view)
            await watcher.stop()
    assert "Traceback" not in served.log


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with served.client() as client:
            watchers = await begin(served, client, "stream 1000 every 50")
        loop = asyncio.get_running_loop()
        served.tell(signal.SIGTERM)
        for watcher in watchers.values():
            await watcher.said_goodbye()
        assert served.running
        told = loop.time()
        served.tell(signal.SIGTERM)
        await served.ended(10)
        assert loop.time() - told < 5
        for watcher in watchers.values():
            await watcher.stop()
    assert "Traceback" not in served.log


async def test_a_drain_with_many_watchers_tells_them_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with served.client() as client:
            await client.put("/v1/sessions/s", json={})
            await client.post("/v1/sessions/s/turns", json={"input": "stream 20 every 10"})
        watchers = [Watcher(served, "s", transport) for transport in KINDS for _ in range(100)]
        for watcher in watchers:
            watcher.start()
        await asyncio.gather(*(watcher.begun() for watcher in watchers))
        served.tell(signal.SIGTERM)
        await asyncio.gather(*(watcher.said_goodbye() for watcher in watchers))
        assert await served.ended() == 0
        for watcher in watchers:
            assert watcher.story.goodbyes == ["draining"]
            await watcher.stop()


async def test_clients_that_do_not_read_hold_no_drain_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        wires = [await kind.connected(served.port, 4096) for kind in KINDS.values()]
        async with served.client() as client:
            await client.put("/v1/sessions/s", json={})
            for wire in wires:
                await wire.open("/v1/sessions/s/events")
            # More than the sockets of both sides hold.
            turn = {"input": "stream 100 size 100000"}
            answer = await client.post("/v1/sessions/s/turns", json=turn, headers={"Prefer": "wait=9"})
            assert answer.status_code == 200
        loop = asyncio.get_running_loop()
        told = loop.time()
        served.tell(signal.SIGTERM)
        assert await served.ended() == 0
        assert loop.time() - told < 2.5
        for wire in wires:
            wire.close()
    assert "Traceback" not in served.log
