"""Every store keeps the promises of the ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sightline.kernel import KernelStore
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock
from sightline.testing.conformance import STORE_CHECKS, StoreCheck

pytestmark = pytest.mark.anyio


def memory(_: Path) -> KernelStore:
    return MemoryStore(ManualClock())


def sqlite(folder: Path) -> KernelStore:
    return SqliteStore.open(folder / "store.db", "NORMAL")


@asynccontextmanager
async def closing(store: KernelStore) -> AsyncIterator[KernelStore]:
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("make", [memory, sqlite], ids=lambda make: make.__name__)
@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_a_store_promises(make: Callable[[Path], KernelStore], check: StoreCheck, tmp_path: Path) -> None:
    async with closing(make(tmp_path)) as store:
        await check(store)
