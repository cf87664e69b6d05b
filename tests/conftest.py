"""What every test may lean on. Asynchronous tests run on asyncio, by anyio's plugin: `@pytest.mark.anyio`."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
