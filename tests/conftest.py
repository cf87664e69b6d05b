"""What every test may lean on. Asynchronous tests run on asyncio, by anyio's plugin: `@pytest.mark.anyio`."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# Everything that tests talk to is on this machine, where no proxy leads. (The lower case counts before the upper.)
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"

# `--hypothesis-profile=long`: for the tests that say themselves what it is worth to them.
settings.register_profile("long", max_examples=2_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=15, help="SIGKILLs of a server under load; `make chaos` asks for 200")
    parser.addoption("--turn-kills", type=int, default=3, help="SIGKILLs in mid-turn; `make kills` asks for 100")
    parser.addoption("--worlds", type=int, default=5_000, help="simulated worlds; `make sim` has as many as you like")
    parser.addoption(
        "--processes", type=int, default=10, help="of each kind, killed with their server; `make kills`: 100"
    )
    parser.addoption("--cuts", type=int, default=1_800, help="streams cut at a random byte, over all transports")
    parser.addoption("--stalled", type=int, default=20, help="observers that stop reading; `make slow` asks for 100")
    parser.addoption("--megabytes", type=int, default=30, help="what goes past them; `make slow` asks for 1000")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was logged while a test ran goes from process to process as UTF-8, and may not be any."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
