"""The programs in docs/examples do what the pages say they do."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from sightline.agents.loading import load_agent
from sightline.agents.standard import agent as standard
from sightline.observation.activities import Activity, AssistantProseDelta
from sightline.observation.fold import Fold
from sightline.process.functions import FUNCTIONS
from sightline.queue.materializing import InputMessage
from sightline.testing.clock import ManualClock, settled
from sightline.testing.models import ScriptedModel, calling, saying
from sightline.turn.agent import Turn
from sightline_gateway.problems import CODES
from tests.core.worlds import running, said
from tests.docs.test_agent_examples import AGENTS
from tests.repo.source import ROOT

EXAMPLES = ROOT / "docs" / "examples"
VECTORS = json.loads((ROOT / "tests" / "vectors" / "fold.json").read_text(encoding="utf-8"))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "embedded",
        "my_agent",
        "background_agent",
        "careful_agent",
        "standard_agent",  # in tests/gateway/test_standard_agent.py
        "watch",
        *AGENTS,
    }


@pytest.mark.anyio
async def test_the_embedded_kernel_runs_work_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await example("embedded").main(tmp_path / "x.db")
    shown = capsys.readouterr().out.splitlines()
    assert "the work is completed" in shown
    assert shown[-2:] == ["user: say something", "assistant: quietly said"]
    assert shown.count("  turn_activity assistant_prose_delta") == 2
    assert shown.count("  committed ") == 1


@pytest.mark.anyio
async def test_the_readmes_agent_answers_as_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ((said, answered),) = re.findall(r'^\$ .*send desk "(.*)" --wait \d+\n(.*)$', readme, re.MULTILINE)
    monkeypatch.setitem(sys.modules, "my_agent", example("my_agent"))
    async with running(load_agent("my_agent:agent")) as world:
        await world.send(said)
        await world.clock.run_for(10)
        user, assistant = (await world.view()).read_view.messages
    assert (user.content, assistant.content.strip()) == (said, answered)
    assert [part["type"] for part in assistant.parts or ()] == ["text", "tool_call", "text"]


@pytest.mark.anyio
async def test_the_careful_agent_run_twice_under_one_turn_id_orders_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = example("careful_agent")
    database = tmp_path / "orders.db"
    monkeypatch.setattr(careful, "DATABASE", str(database))
    clock, spoke = ManualClock(), asyncio.Event()

    def emit(activity: Activity, correlation: str) -> None:
        if isinstance(activity, AssistantProseDelta):
            spoke.set()

    async def begun(attempt: int) -> tuple[Turn, asyncio.Task[None]]:
        turn = Turn(
            session_id="s",
            turn_id="t",
            attempt=attempt,
            input=(InputMessage(role="user", content="tea"),),
            policy={},
            clock=clock,
            emit=emit,
            history=no_history,
        )
        spoke.clear()
        task = asyncio.create_task(careful.agent(turn))
        await spoke.wait()
        await settled()
        return turn, task

    first, died = await begun(1)
    died.cancel()
    await asyncio.wait({died})
    second, lived = await begun(2)
    clock.advance(1)
    await lived

    assert first.answer == "Attempt 1: ordered tea."
    assert second.answer == "Attempt 2: an earlier attempt had ordered tea. Done."
    with closing(sqlite3.connect(database)) as orders:
        assert orders.execute("SELECT * FROM orders").fetchall() == [("t", "tea")]


@pytest.mark.anyio
async def test_the_agent_that_works_in_the_background_tells_of_the_backup_an_hour_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ScriptedModel(calling(("start_backup", {"folder": "/home"})), saying("It runs."), saying("It is done."))
    monkeypatch.setattr(standard, "_providers", lambda: model)
    agent = example("background_agent").agent
    async with running(agent, functions=FUNCTIONS) as world:
        await world.send("Back up /home, please.")
        await world.clock.run_for(3590)
        [shown] = (await world.view()).processes
        assert (shown["label"], shown["progress"]) == ("backup", {"percent": 75})
        await world.clock.run_for(20)
        answers = [content for role, content in await said(world) if role == "assistant"]
        assert answers == ["It runs.", "It is done."]


async def no_history(newest: int) -> tuple[()]:
    return ()


def as_sent(fold: Fold) -> Any:
    return msgspec.json.decode(msgspec.json.encode(fold.observation()))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_watcher_arrives_where_every_fold_arrives(vector: dict[str, Any]) -> None:
    watcher = example("watch").Watcher("http://127.0.0.1:8700", "s")
    watcher.take({"type": "observation", "observation": vector["snapshot"]})
    for event in vector["events"]:
        watcher.take({**event, "type": "event"})
    assert as_sent(watcher.state) == vector["expect"]


def test_a_gap_replaces_what_the_watcher_had_and_unknown_frames_change_nothing() -> None:
    watcher = example("watch").Watcher("http://127.0.0.1:8700", "s")
    old, new = VECTORS[0]["snapshot"], {**VECTORS[0]["snapshot"], "revision": 9}
    watcher.take({"type": "observation", "observation": old})
    watcher.take({"type": "gap", "observation": new})
    watcher.take({"type": "invented later"})
    assert as_sent(watcher.state) == new


def test_only_having_caught_up_forgives_the_watchers_failures() -> None:
    watcher = example("watch").Watcher("http://127.0.0.1:8700", "s")
    watcher.failures = 3
    watcher.take({"type": "observation", "observation": VECTORS[0]["snapshot"]})
    assert watcher.failures == 3
    watcher.take({"type": "caught_up"})
    assert watcher.failures == 0


@pytest.mark.parametrize(("url", "scheme"), [("http://h:1", "ws://h:1"), ("https://h", "wss://h")])
def test_the_watcher_asks_the_streams_address_with_the_urls_security(url: str, scheme: str) -> None:
    assert example("watch").Watcher(url, "s").address == f"{scheme}/v1/sessions/s/events"


def test_the_watcher_starts_afresh_on_codes_that_exist() -> None:
    assert CODES.keys() >= example("watch").UNUSABLE
