"""The example agents, unchanged, in a real server: killed, cancelled, and watched by somebody who keeps coming back.

The model is a server on this machine that speaks OpenAI's protocol by script.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.served import Served, serving
from tests.chaos.watching import KINDS, Watcher
from tests.docs.model_server import ModelServer, serving_model
from tests.gateway.stream.folding import assert_same_view
from tests.gateway.stream.stories import Story
from tests.repo.source import ROOT

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.timeout(180)]

FOLDER = ROOT / "docs" / "examples"
WORDS = [f"word-{number} " for number in range(30)]
QUESTION = "".join(WORDS).strip()
ENOUGH = 10
"""So many pieces of the answer have been shown when something happens to it."""
BY_MODEL = ("openai_agent", "pydantic_ai_agent", "langgraph_agent")
AGENTS = ("generator_agent", *BY_MODEL)

each_agent = pytest.mark.parametrize("name", AGENTS)
Json = dict[str, Any]


@asynccontextmanager
async def stage(name: str, folder: Path, pause: float = 0.05) -> AsyncIterator[tuple[Served, ModelServer]]:
    """A server with that example as its agent, and the model that it asks; the session is s."""
    async with serving_model(WORDS, pause) as model:
        variables = {**model.environment, "PYTHONPATH": str(FOLDER)}
        async with serving(folder, "--agent", f"{name}:agent", variables=variables) as served:
            async with served.client() as client:
                await client.put("/v1/sessions/s", json={})
            yield served, model


async def ask(served: Served) -> Json:
    async with served.client() as client:
        answer = await client.post("/v1/sessions/s/turns", json={"input": QUESTION})
        batch: Json = answer.raise_for_status().json()
        return batch


async def view(client: httpx.AsyncClient) -> Json:
    shown: Json = (await client.get("/v1/sessions/s?messages=100")).json()
    return shown


async def begun(served: Served) -> str:
    """What has been said, once it is enough."""
    async with served.client() as client, asyncio.timeout(60):
        while True:
            live = (await view(client))["live"]
            text = "" if live is None else str(live["text"])
            if text.count("word-") >= ENOUGH:
                return text
            await asyncio.sleep(0.01)


async def idle(served: Served) -> Json:
    async with served.client() as client, asyncio.timeout(60):
        while (shown := await view(client))["status"] != "idle":  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.01)
        return shown


def whole(name: str) -> str:
    if name in BY_MODEL:
        return "".join(WORDS)
    lines = "".join(f"{number}: {word}\n" for number, word in enumerate(QUESTION.split(), start=1))
    return f"{lines}That was {len(WORDS)} words."


@each_agent
async def test_killed_in_the_middle_it_is_run_again_and_its_answer_is_there_once(tmp_path: Path, name: str) -> None:
    async with stage(name, tmp_path) as (served, _):
        watchers = [Watcher(served, "s", transport) for transport in KINDS]
        for watcher in watchers:
            watcher.start()
        batch = await ask(served)
        await begun(served)
        await served.kill()
        await served.start()
        shown = await idle(served)
        question, answer = shown["read_view"]["messages"]
        assert (question["content"], answer["content"]) == (QUESTION, whole(name))
        assert "status" not in answer
        async with served.client() as client:
            ended = (await client.get(f"/v1/sessions/s/queue/{batch['batch_id']}")).json()
        assert (ended["state"], ended["attempts"], ended["turn_id"]) == ("completed", 2, answer["turn_id"])
        for watcher in watchers:
            await watcher.reach(shown["cursor"])
            await watcher.stop()
            assert_same_view(watcher.story.view(), shown)


@each_agent
async def test_cancelled_it_stops_keeps_what_was_said_and_lets_go_of_the_model(tmp_path: Path, name: str) -> None:
    async with stage(name, tmp_path) as (served, model):
        await ask(served)
        said = await begun(served)
        assert model.answering == (name in BY_MODEL)
        async with served.client() as client:
            await client.post("/v1/sessions/s/cancel", json={})
        answer = (await idle(served))["read_view"]["messages"][-1]
        assert answer["status"] == "cancelled"
        assert answer["content"].startswith(said)
        assert whole(name).startswith(answer["content"])
        assert answer["content"] != whole(name)
        async with asyncio.timeout(10):
            while model.answering:  # noqa: ASYNC110 - another process lets go of it
                await asyncio.sleep(0.01)
        assert model.left == (name in BY_MODEL)


@each_agent
async def test_who_comes_and_goes_misses_nothing_of_it(tmp_path: Path, name: str) -> None:
    async with stage(name, tmp_path, pause=0.02) as (served, _):
        visits = [asyncio.create_task(come_and_go(served, transport)) for transport in KINDS]
        await ask(served)
        stories = await asyncio.gather(*visits)
        shown = await idle(served)
        assert shown["read_view"]["messages"][-1]["content"] == whole(name)
        for story in stories:
            assert story.connections > 3
            assert (story.gaps, story.resumed) == (0, story.connections - 1)
            assert_same_view(story.view(), shown)


async def come_and_go(served: Served, transport: str) -> Story:
    """Watch the session until a turn is committed, never for long."""
    story, committed = Story(), False
    async with asyncio.timeout(60):
        while not committed:
            wire = await KINDS[transport].connected(served.port)
            story.connect()
            await wire.open("/v1/sessions/s/events", cursor=story.cursor)
            for _ in range(6):
                for frame in await wire.read():
                    story.take(frame)
                    committed = committed or frame.get("kind") == "committed"
                if committed:
                    break
            wire.close()
    return story


async def test_the_openai_agent_looks_back_and_accounts_for_what_it_used(tmp_path: Path) -> None:
    async with stage("openai_agent", tmp_path, pause=0) as (served, model):
        for _ in range(2):
            await ask(served)
            shown = await idle(served)
        roles = [[message["role"] for message in request["messages"]] for request in model.requests]
        assert roles == [["user"], ["user", "assistant", "user"]]
        totals = shown["usage"]["totals"]
        assert (totals["output_tokens"], totals["requests"]) == (2 * len(WORDS), 2)


async def test_the_pydantic_ai_agent_shows_the_tools_it_calls(tmp_path: Path) -> None:
    async with stage("pydantic_ai_agent", tmp_path, pause=0) as (served, _):
        await ask(served)
        parts = (await idle(served))["read_view"]["messages"][-1]["parts"]
        assert [part["type"] for part in parts] == ["tool_call", "text"]
        assert (parts[0]["name"], parts[0]["args"], parts[0]["output"]) == ("stock", {"item": "tea"}, 3)


def test_they_are_short() -> None:
    for name in AGENTS:
        lines = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) < 40, name
