"""A real server that dies while a turn waits: the request stays open, one answer counts, one commit is made."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.chaos.served import Served, serving
from tests.chaos.watching import KINDS, Watcher
from tests.gateway.stream.folding import assert_same_view

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]

EFFECTS = """
import pathlib

async def agent(turn):
    log = pathlib.Path("effects")

    def effect(name):
        with log.open("a") as file:
            file.write(f"{name}\\n")
        return name

    steps = []
    for number in range(20):
        steps.append(await turn.idempotent(f"step {number}", lambda: effect(number)))
        await turn.sleep(0.01)
    answer = await turn.ask("go on?", kind="approval")
    steps.append(await turn.idempotent("end", lambda: effect("end")))
    turn.text(f"{steps} {answer}")
"""


async def view_of(client: httpx.AsyncClient) -> dict[str, Any]:
    view: dict[str, Any] = (await client.get("/v1/sessions/s")).raise_for_status().json()
    return view


async def asked(client: httpx.AsyncClient) -> dict[str, Any]:
    """The request that is open, once one is."""
    async with asyncio.timeout(30):
        cursor = (await view_of(client))["cursor"]
        while not (view := await view_of(client))["requests"]:
            await client.get("/v1/sessions/s/events", params={"cursor": cursor, "wait": 5}, timeout=30)
            cursor = view["cursor"]
    [request] = view["requests"]
    found: dict[str, Any] = request
    return found


async def answer(client: httpx.AsyncClient, request: dict[str, Any], said: Any) -> int:
    body = {"request_id": request["request_id"], "answer": said}
    return (await client.post("/v1/sessions/s/answers", json=body)).status_code


async def ended(client: httpx.AsyncClient) -> dict[str, Any]:
    """The one batch of the session, once it has ended."""
    async with asyncio.timeout(30):
        while True:
            [batch] = (await client.get("/v1/sessions/s/queue?state=all")).json()["batches"]
            if batch["state"] not in ("pending", "claimed"):
                found: dict[str, Any] = batch
                return found
            await client.get(
                "/v1/sessions/s/events", params={"cursor": (await view_of(client))["cursor"], "wait": 1}, timeout=30
            )


async def begin(served: Served, text: str) -> dict[str, Any]:
    async with served.client() as client:
        await client.put("/v1/sessions/s", json={})
        await client.post("/v1/sessions/s/turns", json={"input": text})
        return await asked(client)


async def test_a_request_outlives_kills_and_is_answered_once(tmp_path: Path) -> None:
    async with serving(tmp_path, "--max-attempts", "1") as served:
        request = await begin(served, "ask Which one?")
        watchers = [Watcher(served, "s", transport) for transport in KINDS]
        for watcher in watchers:
            watcher.start()
        for _ in range(4):
            await served.kill()
            await served.start()
            async with served.client() as client:
                assert await asked(client) == request
                assert (await view_of(client))["status"] == "waiting"
        async with served.client() as client:
            came = await asyncio.gather(*(answer(client, request, number) for number in range(8)))
            assert sorted(came) == [200, *[409] * 7]
            assert (await ended(client))["attempts"] == 1
            view = await view_of(client)
            assert view["requests"] == []
            assert (view["revision"], view["status"]) == (1, "idle")
            assert [message["content"] for message in view["read_view"]["messages"]] == [
                "ask Which one?",
                f"answered: {came.index(200)}",
            ]
            for watcher in watchers:
                await watcher.reach(view["cursor"])
                assert_same_view(watcher.story.view(), view)
                await watcher.stop()
    assert "Traceback" not in served.log


async def test_an_answer_that_was_acknowledged_counts_whatever_dies_after_it(tmp_path: Path) -> None:
    chance = Random(7)
    for round_ in range(6):
        folder = tmp_path / str(round_)
        folder.mkdir()
        async with serving(folder) as served:
            request = await begin(served, "ask Which one?")
            async with served.client() as client:
                assert await answer(client, request, "this one") == 200
                await asyncio.sleep(chance.choice((0.0, 0.001, 0.01)))
            await served.kill()
            await served.start()
            async with served.client() as client:
                assert (await ended(client))["state"] == "completed"
                assert await answer(client, request, "another") == 409
                view = await view_of(client)
                assert view["read_view"]["messages"][-1]["content"] == "answered: this one"
                assert view["revision"] == 1


async def test_a_drain_does_not_wait_for_people(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        request = await begin(served, "ask Which one?")
        served.tell(signal.SIGTERM)
        assert await served.ended(10) == 0, "the drain timeout is 20 seconds"
        await served.start()
        async with served.client() as client:
            assert await asked(client) == request
            assert await answer(client, request, "later") == 200
            batch = await ended(client)
            assert (batch["state"], batch["attempts"]) == ("completed", 1)


async def test_effects_that_were_written_down_are_not_repeated_by_any_later_life(tmp_path: Path) -> None:
    (tmp_path / "effecting.py").write_text(EFFECTS)
    chance = Random(11)
    kills = 0
    async with serving(tmp_path, "--agent", "effecting:agent", "--max-attempts", "100") as served:
        async with served.client() as client:
            await client.put("/v1/sessions/s", json={})
            await client.post("/v1/sessions/s/turns", json={"input": "go"})
        for _ in range(8):
            await asyncio.sleep(chance.uniform(0.0, 0.15))
            await served.kill()
            kills += 1
            await served.start()
        async with served.client() as client:
            request = await asked(client)
        await served.kill()
        await served.start()
        async with served.client() as client:
            assert await asked(client) == request
            assert await answer(client, request, True) == 200
            assert (await ended(client))["state"] == "completed"
            view = await view_of(client)
    names = [*(str(number) for number in range(20)), "end"]
    done = (tmp_path / "effects").read_text().split()
    assert list(dict.fromkeys(done)) == names, "in their order, none left out"
    # Who died between an effect and its note has done it once more; nobody has done any other again.
    assert len(done) - len(names) <= kills
    assert view["read_view"]["messages"][-1]["content"] == f"{[*range(20), 'end']} True"
    assert view["revision"] == 1
