"""What every test may lean on. Asynchronous tests run on asyncio, by anyio's plugin: `@pytest.mark.anyio`."""

from __future__ import annotations

import pytest
from hypothesis import settings

# `--hypothesis-profile=long`: for the tests that say themselves what it is worth to them.
settings.register_profile("long", max_examples=2_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=15, help="SIGKILLs of a server under load; `make chaos` asks for 200")
    parser.addoption("--turn-kills", type=int, default=3, help="SIGKILLs in mid-turn; `make kills` asks for 100")
    parser.addoption(
        "--processes", type=int, default=10, help="of each kind, killed with their server; `make kills`: 100"
    )
    parser.addoption("--cuts", type=int, default=1_800, help="streams cut at a random byte, over all transports")
    parser.addoption("--stalled", type=int, default=20, help="observers that stop reading; `make slow` asks for 100")
    parser.addoption("--megabytes", type=int, default=30, help="what goes past them; `make slow` asks for 1000")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
