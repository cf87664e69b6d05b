"""What every test may lean on. Asynchronous tests run on asyncio, by anyio's plugin: `@pytest.mark.anyio`."""

from __future__ import annotations

import pytest
from hypothesis import settings

# `--hypothesis-profile=long`: for the tests that say themselves what it is worth to them.
settings.register_profile("long", max_examples=2_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=30, help="SIGKILLs of a server under load; `make chaos` asks for 200")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
