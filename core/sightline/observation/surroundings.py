"""What a runtime handle finds around it, and the runtime of a session that was loaded from a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from msgspec import structs

from sightline.clock import Clock, SystemClock
from sightline.ids import Ids, SystemIds
from sightline.observation.fold import Fold
from sightline.observation.model import Observation, SessionState
from sightline.observation.runtime import Runtime, ToolRegistry, ToolState, capture, tools_shown
from sightline.process.port import ProcessRegistry
from sightline.queue.model import Batch
from sightline.queue.port import QueueStore
from sightline.queue.runner import QueuedWorkPoke
from sightline.session.model import PersistedState, SessionRecord, Tools, Usage, UsageFigures
from sightline.session.rules import add_figures, revision_of

__all__ = ["BatchWaiters", "LoadedRuntime", "Surroundings", "Writer", "loaded_state"]


def _admit() -> None:
    pass


def _nobody_mends(session_id: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the handles of one host have in common.

    `admit` raises when no more work is taken. `mend` is called with the id of a session whose view may have lost touch
    with the store. `max_open`: how many open batches a session may hold.
    """

    clock: Clock
    ids: Ids
    queue_store: QueueStore | None = None
    queued_work_poke: QueuedWorkPoke | None = None
    process_registry: ProcessRegistry | None = None
    max_open: int = 1_000
    admit: Callable[[], None] = _admit
    mend: Callable[[str], None] = _nobody_mends

    @classmethod
    def alone(cls) -> Surroundings:
        """Of a handle without a host: the system's time and chance."""
        return cls(clock=SystemClock(), ids=SystemIds())


class LoadedRuntime:
    """The runtime of a session that was loaded from a store. Its state is what the events so far add up to."""

    def __init__(self, fold: Callable[[], Fold], around: Surroundings) -> None:
        self._fold = fold
        self._around = around

    @property
    def session_id(self) -> str:
        return self._fold().observation().session_id

    def export_state(self) -> PersistedState:
        return _state_of(self._fold().observation())

    def usage_report(self) -> Usage:
        fold = self._fold()
        usage, live = fold.observation().usage, fold.live_usage
        # Who used which model in a running turn is known when it is committed.
        return usage if live == UsageFigures() else structs.replace(usage, totals=add_figures(usage.totals, live))

    @property
    def tools(self) -> ToolRegistry:
        return _ShownTools(self._fold().observation().tools)

    @property
    def process_registry(self) -> ProcessRegistry | None:
        return self._around.process_registry

    @property
    def queue_store(self) -> QueueStore | None:
        return self._around.queue_store

    @property
    def queued_work_poke(self) -> QueuedWorkPoke | None:
        return self._around.queued_work_poke


class _ShownTools:
    """A tool surface that was read before, with what came of that."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @property
    def generation(self) -> int:
        return self._tools.generation

    def state(self) -> ToolState:
        return ToolState(generation=self._tools.generation, tools=self._tools.catalog)

    def catalog(self) -> tuple[dict[str, Any], ...]:
        if self._tools.error is not None:
            raise RuntimeError(self._tools.error)
        return self._tools.catalog


def _state_of(view: Observation) -> PersistedState:
    """The part of a view that outlives its turn."""
    return PersistedState(
        session_id=view.session_id,
        head_revision=view.revision,
        turn_index=view.read_view.turn_index,
        agent_frame_id=view.read_view.agent_frame_id,
        policy=view.policy,
        metadata=view.metadata,
        usage=view.usage,
        messages=view.read_view.messages,
        truncated=view.read_view.truncated,
    )


def loaded_state(runtime: Runtime) -> SessionState:
    """A runtime as if it had just been loaded. What is in its queue is not known; what comes through its handle is."""
    state = runtime.export_state()
    record = SessionRecord(
        session_id=state.session_id,
        revision=revision_of(state),
        turn_index=state.turn_index,
        agent_frame_id=state.agent_frame_id,
        policy=state.policy,
        metadata=state.metadata,
        usage=state.usage,
        title="",
        created_at_ms=0,
        updated_at_ms=0,
        tools=tools_shown(capture(runtime, state, None)),
    )
    return SessionState(record=record, messages=state.messages, truncated=state.truncated, open_batches=())


class Writer:
    """The session's one place for a writer in this process: `async with handle.writer() as runtime:`.

    Entering waits for whoever writes, and may be cancelled while it does. A turn holds it from its claim to its end.
    """

    def __init__(self, lock: asyncio.Lock, runtime: Runtime) -> None:
        self._lock = lock
        self._runtime = runtime

    @property
    def is_taken(self) -> bool:
        return self._lock.locked()

    async def __aenter__(self) -> Runtime:
        await self._lock.acquire()
        return self._runtime

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class BatchWaiters:
    """Who waits for the end of which batch."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[Batch]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ending_of(self, batch_id: str) -> asyncio.Future[Batch]:
        waiter: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(batch_id, set())
        waiters.add(waiter)

        def leave(_: asyncio.Future[Batch]) -> None:
            waiters.discard(waiter)
            if not waiters and self._waiting.get(batch_id) is waiters:
                del self._waiting[batch_id]

        waiter.add_done_callback(leave)
        return waiter

    def settle(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if not batch.state.is_open:
                for waiter in self._waiting.pop(batch.batch_id, ()):
                    if not waiter.done():
                        waiter.set_result(batch)

    def let_go(self) -> None:
        """Cancel them all."""
        for waiters in list(self._waiting.values()):
            for waiter in list(waiters):
                waiter.cancel()
