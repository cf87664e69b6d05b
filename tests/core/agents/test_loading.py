"""Finding an agent by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.agents.demo import demo
from sightline.agents.loading import load_agent
from sightline.errors import AgentNotLoadable

MODULE = """
import functools

class Agent:
    async def __call__(self, turn): ...
    async def run(self, turn): ...

async def plain(turn): ...
def not_async(turn): ...
instance = Agent()
bound = functools.partial(plain, extra=1)
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported; another one beside it fails when it is."""
    (tmp_path / "some_agents.py").write_text(MODULE)
    (tmp_path / "broken_agents.py").write_text("raise ValueError('not today')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "some_agents"


def test_without_a_name_it_is_the_demo_agent() -> None:
    assert load_agent(None) is demo


@pytest.mark.parametrize("attribute", ["plain", "instance", "instance.run", "bound"])
def test_an_async_callable_is_an_agent(module: str, attribute: str) -> None:
    assert callable(load_agent(f"{module}:{attribute}"))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("some_agents", "MODULE:ATTRIBUTE"),
        (":plain", "MODULE:ATTRIBUTE"),
        ("some_agents:", "MODULE:ATTRIBUTE"),
        ("", "MODULE:ATTRIBUTE"),
        ("no_such_module_anywhere:plain", "ModuleNotFoundError"),
        ("broken_agents:plain", "not today"),
        ("some_agents:nothing", "no attribute nothing"),
        ("some_agents:instance.nothing", "no attribute"),
        ("some_agents:not_async", "async"),
        ("some_agents:number", "async"),
        ("some_agents:Agent", "async"),
    ],
)
def test_what_is_none_is_refused_in_one_line_that_says_why(module: str, target: str, reason: str) -> None:
    with pytest.raises(AgentNotLoadable) as error:
        load_agent(target)
    assert error.value.target == target
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
