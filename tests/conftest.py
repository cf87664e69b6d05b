"""What every test may lean on. Asynchronous tests run on asyncio, by anyio's plugin: `@pytest.mark.anyio`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=30, help="SIGKILLs of a server under load; `make chaos` asks for 200")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
