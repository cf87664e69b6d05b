"""Finding an agent by its name."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from sightline.agents.demo import demo
from sightline.agents.loading import load_agent
from sightline.startup_errors import (
    AgentNotLoadable,
)

MODULE = """
import functools

class Agent:
    async def __call__(self, turn): ...
    async def run(self, turn): ...
    async def pieces(self, turn): yield "a"
    def not_async(self, turn): ...

async def plain(turn, *, extra=0): ...
async def pieces(turn): yield "a"
def not_async(turn): ...
def words(turn): yield "a"
instance = Agent()
bound = functools.partial(plain, extra=1)
number = 7
text = "plain"
started = words(None)
async def nothing(): ...
def two(turn, other): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported; another one beside it fails when it is."""
    (tmp_path / "some_agents.py").write_text(MODULE)
    (tmp_path / "broken_agents.py").write_text("raise ValueError('not today')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("some_agents", "broken_agents"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "some_agents"


def test_without_a_name_it_is_the_demo_agent() -> None:
    assert load_agent(None) is demo


@pytest.mark.parametrize("attribute", ["plain", "instance", "instance.run", "bound"])
def test_an_async_callable_is_an_agent_as_it_is(module: str, attribute: str) -> None:
    found: object = sys.modules.get(module) or importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    assert load_agent(f"{module}:{attribute}") == found


@pytest.mark.parametrize("attribute", ["pieces", "instance.pieces", "words", "not_async", "instance.not_async"])
def test_generators_and_functions_become_agents(module: str, attribute: str) -> None:
    assert inspect.iscoroutinefunction(load_agent(f"{module}:{attribute}"))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("some_agents", "MODULE:ATTRIBUTE"),
        (":plain", "MODULE:ATTRIBUTE"),
        ("some_agents:", "MODULE:ATTRIBUTE"),
        ("", "MODULE:ATTRIBUTE"),
        ("no_such_module_anywhere:plain", "ModuleNotFoundError"),
        ("broken_agents:plain", "not today"),
        ("some_agents:instance.nothing", "no attribute"),
        ("some_agents:number", "of type int"),
        ("some_agents:text", "of type str"),
        ("some_agents:started", "of type generator"),
        ("some_agents:Agent", "it is a class"),
        ("some_agents:nobody", "no attribute nobody"),
        ("some_agents:nothing", "it takes ()"),
        ("some_agents:two", "it takes (turn, other)"),
    ],
)
def test_what_is_none_is_refused_in_one_line_that_says_why(module: str, target: str, reason: str) -> None:
    with pytest.raises(AgentNotLoadable) as error:
        load_agent(target)
    assert error.value.target == target
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
