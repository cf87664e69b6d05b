"""The example of a standard agent, served, killed and served again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.core.agents.standard.openai_server import calling, openai_server, saying
from tests.gateway.processes import Server, command, serving
from tests.repo.source import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "standard_agent.py"


def wait_until(server: Server, is_so: Callable[[Any], bool]) -> Any:
    """The observation once it is so."""
    path = "/v1/sessions/desk"
    for _ in range(100):
        seen = server.json("GET", path)
        if is_so(seen):
            return seen
        server.json("GET", f"{path}/events?cursor={seen['cursor']}&wait=5")
    raise AssertionError(f"it does not become so: {seen}")


def story(folder: Path, base_url: str) -> dict[str, Any]:
    def served() -> AbstractContextManager[Server]:
        return serving(folder, "--agent", "standard_agent:agent", OPENAI_BASE_URL=base_url, OPENAI_API_KEY="key")

    with served() as server:
        server.json("PUT", "/v1/sessions/desk", {})
        server.json("POST", "/v1/sessions/desk/turns", {"input": "Are there lamps?"}, Idempotency_Key="k")
        [asked] = wait_until(server, lambda seen: bool(seen["requests"]))["requests"]
        server.process.kill()
        server.process.wait()
    with served() as server:
        [again] = wait_until(server, lambda seen: seen["status"] == "waiting" and seen["live"] is not None)["requests"]
        assert again["request_id"] == asked["request_id"]
        answer = {"request_id": asked["request_id"], "answer": "allow"}
        server.json("POST", "/v1/sessions/desk/answers", answer)
        seen = wait_until(server, lambda seen: seen["status"] == "idle")
        server.stop()
    assert isinstance(seen, dict)
    return seen


@pytest.mark.anyio
async def test_an_approval_outlives_the_server_that_asked(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    async with openai_server(
        calling("c1", "stock", '{"item": "lamp"}'),
        calling("c2", "order", '{"item": "lamp",', ' "count": 5}'),
        saying("Ordered."),
    ) as provider:
        seen = await asyncio.to_thread(story, tmp_path, provider.base_url)
    user, assistant = seen["read_view"]["messages"]
    assert (user["content"], assistant["content"], assistant.get("status")) == ("Are there lamps?", "Ordered.", None)
    assert [(part["name"], part["output"]) for part in assistant["parts"] if part["type"] == "tool_call"] == [
        ("stock", 2),
        ("order", "5 × lamp ordered"),
    ]
    assert seen["usage"]["totals"]["requests"] == len(provider.requests) == 3
    assert seen["requests"] == []


def test_an_agent_with_a_tool_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad_agent.py").write_text(
        "from sightline.agents.standard import StandardAgent, tool\n\n@tool\ndef look(thing: object): ...\n"
    )
    finished = command("serve", "--port", "0", "--agent", "bad_agent:agent", cwd=tmp_path)
    [line] = finished.stderr.splitlines()
    assert "tool 'look': its arguments have no JSON schema" in line
    assert finished.returncode != 0
