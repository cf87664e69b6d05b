"""The gateway in process, on each store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sightline.stores.sqlite import SqliteStore
from tests.gateway.inside import Inside, opened


@pytest.fixture(params=["memory", "sqlite"])
async def inside(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Inside]:
    store = SqliteStore.open(tmp_path / "sightline.db", "NORMAL") if request.param == "sqlite" else None
    async with opened(store=store) as inside:
        yield inside


@pytest.fixture(params=["memory", "sqlite"])
async def idle(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Inside]:
    """Like `inside`, but nobody runs anything: what is enqueued stays pending."""
    store = SqliteStore.open(tmp_path / "sightline.db", "NORMAL") if request.param == "sqlite" else None
    async with opened(store=store, start=False) as inside:
        yield inside
