"""A runtime that a test holds in its hands, with tools and processes that fail when told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from sightline.observation.handle import RuntimeHandle
from sightline.observation.replay import LiveReplayStore
from sightline.observation.runtime import ToolState
from sightline.observation.surroundings import Surroundings
from sightline.process.model import HandleGrant, ProcessScope
from sightline.process.port import ProcessRegistry
from sightline.queue.port import QueueStore
from sightline.queue.runner import QueuedWorkPoke
from sightline.session.model import Message, PersistedState, Usage
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.clock import ManualClock
from sightline.testing.ids import CountingIds


def no_state(**fields: Any) -> PersistedState:
    plain = PersistedState(
        session_id="s",
        head_revision=0,
        turn_index=0,
        agent_frame_id="initial",
        policy={"p": [1]},
        metadata={},
        usage=Usage(),
        messages=(),
    )
    return structs.replace(plain, **fields)


def message(name: str) -> Message:
    return Message(message_id=name, role="assistant", content=name, at_ms=1)


@dataclass
class Tools:
    """`captured` counts how often the tools were looked at."""

    generation: int = 1
    entries: tuple[dict[str, Any], ...] = ({"name": "add"},)
    captured: int = 0
    state_fails: Exception | None = None
    catalog_fails: Exception | None = None

    def state(self) -> ToolState:
        self.captured += 1
        if self.state_fails is not None:
            raise self.state_fails
        return ToolState(generation=self.generation, tools=self.entries)

    def catalog(self) -> Sequence[dict[str, Any]]:
        if self.catalog_fails is not None:
            raise self.catalog_fails
        return self.entries


@dataclass
class Registry:
    """Grants by scope; a scope may have an exception instead. `asked` is what was read."""

    grants: dict[ProcessScope, list[HandleGrant] | Exception] = field(default_factory=dict)
    asked: list[ProcessScope] = field(default_factory=list)

    async def list_live_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        return [grant for grant in await self.list_handle_grants(scope) if grant.status == "running"]

    async def list_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        self.asked.append(scope)
        found = self.grants.get(scope, [])
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class OwnRuntime:
    """What a host brings: everything may be changed by whoever writes."""

    state: PersistedState = field(default_factory=no_state)
    live_usage: Usage | None = None
    tools: Tools | None = field(default_factory=Tools)
    process_registry: ProcessRegistry | None = None
    queue_store: QueueStore | None = None
    queued_work_poke: QueuedWorkPoke | None = None

    @property
    def session_id(self) -> str:
        return self.state.session_id

    def export_state(self) -> PersistedState:
        return self.state

    def usage_report(self) -> Usage:
        return self.live_usage or self.state.usage

    def becomes(self, **fields: Any) -> None:
        self.state = structs.replace(self.state, **fields)

    def commits(self, *names: str) -> None:
        """A turn ends that left these messages."""
        self.becomes(
            head_revision=(self.state.head_revision or 0) + 1,
            turn_index=self.state.turn_index + 1,
            messages=(*self.state.messages, *(message(name) for name in names)),
        )


def log(**bounds: Any) -> MemoryReplayStore:
    return MemoryReplayStore(ManualClock(), 7, ReplayBounds(**bounds))


def around(**parts: Any) -> Surroundings:
    return Surroundings(clock=ManualClock(), ids=CountingIds(), **parts)


def handle_over(
    runtime: OwnRuntime, replay: LiveReplayStore | None = None, *, admit: Callable[[], None] | None = None
) -> RuntimeHandle:
    return RuntimeHandle.over(runtime, replay or log(), around=around(**({} if admit is None else {"admit": admit})))
