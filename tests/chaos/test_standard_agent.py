"""SIGKILL in the turns of a standard agent: they go on from where they were, and end as if nothing had been."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.served import serving
from tests.core.agents.standard.openai_server import Answer, OpenAIServer, chunk, openai_serving, usage

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]

AGENT = """
from pathlib import Path

from sightline import Turn
from sightline.agents.standard import Patience, StandardAgent, tool
from sightline.agents.standard.providers import ProviderModels


@tool
async def note(turn: Turn, text: str) -> str:
    def do() -> str:
        with open("effects", "a") as effects:
            effects.write(f"{turn.input[0].content} {text}\\n")
        return f"noted {text}"

    await turn.sleep(0.03)
    return await turn.idempotent(text, do)


agent = StandardAgent(
    model="some-model",
    client=ProviderModels(base_url=Path("base_url").read_text()),
    tools=[note],
    patience=Patience(attempts=20, first_pause=0.05),
)
"""
EXPECTED = ["text", "tool_call", "tool_call", "text", "tool_call", "text"]


def call(index: int, text: str) -> dict[str, Any]:
    function = {"name": "note", "arguments": json.dumps({"text": text})}
    return {"index": index, "id": f"c{index}", "type": "function", "function": function}


def answering(request: dict[str, Any]) -> Answer:
    """What comes next in the turn that the conversation shows; it takes its time."""
    roles = [message["role"] for message in request["messages"]]
    said = roles[len(roles) - roles[::-1].index("user") :].count("assistant")
    pieces = [
        [chunk(content="One. "), chunk(tool_calls=[call(0, "a"), call(1, "b")]), chunk("tool_calls")],
        [chunk(content="Two. "), chunk(tool_calls=[call(0, "c")]), chunk("tool_calls")],
        [chunk(content="All "), chunk(content="done."), chunk("stop")],
    ][said]

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for piece in (*pieces, usage(1, 1), b"data: [DONE]\n\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each kill takes the start of a server."""
    kills: int = metafunc.config.getoption("--turn-kills")
    metafunc.parametrize("kills", [pytest.param(kills, marks=pytest.mark.timeout(120 + 30 * kills))])


async def test_turns_of_a_standard_agent_end_once_whatever_dies(kills: int, tmp_path: Path) -> None:
    chance = Random(5)
    texts: list[str] = []
    (tmp_path / "noting.py").write_text(AGENT)
    async with openai_serving(OpenAIServer(answering)) as provider:
        (tmp_path / "base_url").write_text(provider.base_url)
        async with serving(tmp_path, "--agent", "noting:agent", "--max-attempts", "100") as served:
            async with served.client() as client:
                (await client.put("/v1/sessions/s", json={})).raise_for_status()
            for number in range(kills):
                texts.append(f"turn-{number}")
                async with served.client() as client:
                    (await client.post("/v1/sessions/s/turns", json={"input": texts[-1]})).raise_for_status()
                await asyncio.sleep(chance.uniform(0, 0.8))
                await served.kill()
                await served.start()
            async with served.client() as client:
                view: dict[str, Any] = {}
                while view.get("status") != "idle":
                    view = (await client.get("/v1/sessions/s?messages=10000")).json()
                    await client.get(f"/v1/sessions/s/events?cursor={view['cursor']}&wait=2")
    messages = view["read_view"]["messages"]
    assert [message["content"] for message in messages if message["role"] == "user"] == texts
    answers = [message for message in messages if message["role"] == "assistant"]
    assert [answer["content"] for answer in answers] == ["One. Two. All done."] * kills
    assert all([part["type"] for part in answer["parts"]] == EXPECTED for answer in answers)
    effects = Counter((tmp_path / "effects").read_text().splitlines())
    assert set(effects) == {f"{text} {note}" for text in texts for note in "abc"}
    # Who dies between an effect and its record does it again; whose result was recorded does not.
    assert effects.total() <= 3 * kills + 2 * kills
    assert view["usage"]["totals"]["requests"] >= 3 * kills
    assert "Traceback" not in served.log
