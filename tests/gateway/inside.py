"""The gateway in process: HTTP requests that meet no socket, on a kernel whose clock moves when told.

Every answer is held against the contract as it passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.types import ASGIApp

from sightline.kernel import Kernel, KernelStore, Limits
from sightline.process.functions import FunctionEngine, Functions
from sightline.process.kinds import FUNCTION
from sightline.stores.memory import MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.faults import Faults, faulty
from sightline.testing.ids import CountingIds
from sightline_gateway.app import create_app
from sightline_gateway.gateway import Gateway
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams
from tests.core.worlds import Puppet, World
from tests.gateway.contract import assert_keeps_the_contract

__all__ = ["Inside", "Json", "opened", "until"]

Json = dict[str, Any]


@dataclass
class Inside:
    """`http` talks to `app` on `gateway` on the kernel of `world`, whose agent is `puppet`. It has no sessions yet."""

    world: World
    gateway: Gateway
    app: ASGIApp
    http: httpx.AsyncClient
    puppet: Puppet

    async def session(self, session_id: str = "s", **body: Any) -> Json:
        """A session, made if it is not there."""
        answer: Json = (await self.http.put(f"/v1/sessions/{session_id}", json=body)).raise_for_status().json()
        return answer

    async def turn(self, text: str = "hello", *, session: str = "s", key: str | None = None, **body: Any) -> Json:
        """An accepted turn: its batch."""
        headers = {} if key is None else {"Idempotency-Key": key}
        response = await self.http.post(f"/v1/sessions/{session}/turns", json={"input": text, **body}, headers=headers)
        answer: Json = response.raise_for_status().json()
        return answer

    async def batch(self, batch_id: str, *, session: str = "s") -> Json:
        answer: Json = (await self.http.get(f"/v1/sessions/{session}/queue/{batch_id}")).raise_for_status().json()
        return answer

    async def running_turn(self, *, session: str = "s", **options: Any) -> Json:
        """A turn whose agent has begun and waits for orders: its batch."""
        before = len(self.puppet.turns)
        batch = await self.turn(session=session, **options)
        await until(lambda: len(self.puppet.turns) > before)
        return await self.batch(batch["batch_id"], session=session)

    async def finished_turn(self, says: str = "hi", *, session: str = "s", **options: Any) -> Json:
        """A turn that the agent answered: its batch."""
        batch = await self.running_turn(session=session, **options)
        await self.puppet.says(says)
        await self.puppet.ends()
        return await self.ended(batch["batch_id"], session=session)

    async def ended(self, batch_id: str, *, session: str = "s") -> Json:
        """The batch, once it has ended."""
        async with asyncio.timeout(10):
            batch = await self.batch(batch_id, session=session)
            while batch["state"] in ("pending", "claimed"):
                await settled()
                batch = await self.batch(batch_id, session=session)
        return batch

    async def events_after(self, cursor: str, *, session: str = "s") -> list[Json]:
        answer = await self.http.get(f"/v1/sessions/{session}/events", params={"cursor": cursor})
        events: list[Json] = answer.raise_for_status().json()["events"]
        return events


async def until(holds: Callable[[], bool]) -> None:
    """Let everything else run until this holds. For what a thread has a part in, which `settled` does not see."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - whatever is waited for has no event to wait on
            await asyncio.sleep(0)


@asynccontextmanager
async def opened(
    *,
    store: KernelStore | None = None,
    limits: Limits | None = None,
    start: bool = True,
    max_streams: int = 100,
    functions: Functions | None = None,
    **settings: Any,
) -> AsyncIterator[Inside]:
    """A running gateway, which runs these functions as processes. `start=False`: nothing is run, so what is enqueued
    stays pending.

    On the way out no task may be left.
    """
    puppet = Puppet()
    async with _world(puppet, store, limits, start, functions or Functions()) as world:
        gateway = Gateway(world.kernel, Settings(**settings), Streams(max_streams, world.clock))
        app = create_app(gateway)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://localhost:8700",
            event_hooks={"response": [_checked]},
        ) as http:
            yield Inside(world, gateway, app, http, puppet)
        assert gateway.streams.count == 0


@asynccontextmanager
async def _world(
    puppet: Puppet, store: KernelStore | None, limits: Limits | None, start: bool, functions: Functions
) -> AsyncIterator[World]:
    # Not `running` of the worlds: a fixture is left by another task than entered it, and there that counts as a leak.
    before = _tasks()
    clock, faults = ManualClock(), Faults()
    store = MemoryStore(clock) if store is None else store
    replay = MemoryReplayStore(clock, store.incarnation)
    kernel = Kernel(
        store=faulty(store, faults),
        replay=replay,
        agent=puppet if start else None,
        engines={FUNCTION: FunctionEngine(functions)},
        clock=clock,
        ids=CountingIds(),
        limits=limits,
    )
    try:
        await kernel.start()
        await settled()
        yield World(kernel, store, replay, clock, faults)
    finally:
        faults.heal()
        await kernel.stop()
        await store.close()
    assert not _tasks() - before


def _tasks() -> set[asyncio.Task[Any]]:
    """Those of this house: the test's own, and the plugin's that runs it, come and go."""
    return {task for task in asyncio.all_tasks() if "TestRunner" not in task.get_coro().__qualname__}  # type: ignore[union-attr]


async def _checked(response: httpx.Response) -> None:
    await response.aread()
    assert_keeps_the_contract(response)
