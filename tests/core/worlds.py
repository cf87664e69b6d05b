"""A kernel in a world that a test holds in its hands: memory or SQLite, faults on demand, and a clock that moves when
told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from sightline.agents.engines.session_turn import SessionTurnEngine
from sightline.kernel import Kernel, KernelStore, Limits, Written
from sightline.observation.events import Event, ProcessChanged, QueueChanged, TaskChanged, TurnActivity, from_wire
from sightline.observation.handle import Opening, RuntimeHandle
from sightline.observation.model import Observation, shown_request
from sightline.process.engine import Engine
from sightline.process.functions import FunctionEngine, Functions
from sightline.process.kinds import FUNCTION, SESSION_TURN
from sightline.queue.model import Batch, Draft, TextItem, TurnInput, TurnInputPayload
from sightline.session.port import AttachmentStore
from sightline.stores.memory import MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.clock import ManualClock, settled
from sightline.testing.faults import Faults, faulty
from sightline.testing.ids import CountingIds
from sightline.turn.agent import Agent, Turn
from sightline.turn.commands import ToolSource


@dataclass
class World:
    """`store` is the store itself, past the faults that the kernel meets."""

    kernel: Kernel
    store: KernelStore
    replay: MemoryReplayStore
    clock: ManualClock
    faults: Faults

    async def send(self, text: str, *, session_id: str = "s", key: str | None = None, **options: object) -> Written:
        """Enqueue work, in a new session if it is not there yet."""
        written = await self.kernel.enqueue(draft(text, session_id=session_id, key=key, **options))
        await settled()
        return written

    async def view(self, session_id: str = "s") -> Observation:
        await settled()
        return await self.kernel.observe(session_id)


def draft(text: str, *, session_id: str = "s", key: str | None = None, **options: object) -> Draft:
    payload = TurnInputPayload(TurnInput((TextItem(text),)))
    return Draft(session_id=session_id, payloads=(payload,), source_key=key, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    agent: Agent | None,
    *,
    tools: ToolSource | None = None,
    functions: Functions | None = None,
    attachments: AttachmentStore | None = None,
    store: KernelStore | None = None,
    limits: Limits | None = None,
    bounds: ReplayBounds | None = None,
    session_ids: tuple[str, ...] = ("s",),
    start: bool = True,
) -> AsyncIterator[World]:
    """A started kernel with these sessions, which runs these functions as processes. On the way out it is stopped, and
    no task may be left.
    """
    before = asyncio.all_tasks()
    clock, faults = ManualClock(), Faults()
    store = MemoryStore(clock) if store is None else store
    replay = MemoryReplayStore(clock, store.incarnation, bounds)
    engines: dict[str, Engine] = {} if functions is None else {FUNCTION: FunctionEngine(functions)}
    kernel = Kernel(
        store=faulty(store, faults),
        replay=replay,
        agent=agent,
        tools=tools,
        engines=engines,
        attachments=attachments,
        clock=clock,
        ids=CountingIds(),
        limits=limits,
    )
    if functions is not None:
        engines[SESSION_TURN] = SessionTurnEngine(kernel)
    world = World(kernel, store, replay, clock, faults)
    try:
        for session_id in session_ids:
            await kernel.create_session(session_id)
        if start:
            await kernel.start()
            await settled()
        yield world
    finally:
        faults.heal()
        await kernel.stop()
        await store.close()
    left = asyncio.all_tasks() - before
    assert not left, left


@dataclass
class Puppet:
    """An agent that does what the test tells it, order by order, and waits in between."""

    turns: list[Turn] = field(default_factory=list)
    cancelled: int = 0
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    _orders: asyncio.Queue[Callable[[Turn], Awaitable[None] | None] | None] = field(default_factory=asyncio.Queue)

    async def __call__(self, turn: Turn) -> None:
        self.turns.append(turn)
        self._begun.set()
        try:
            while True:
                order = await self._orders.get()
                if order is None:
                    return
                work = order(turn)
                if work is not None:
                    await work
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def begun(self) -> None:
        """Wait for the first turn; for stores that take real time."""
        await self._begun.wait()

    async def does(self, order: Callable[[Turn], Awaitable[None] | None]) -> None:
        """Let the agent do this in the turn it is in, or in its next one."""
        self._orders.put_nowait(order)
        await settled()

    async def says(self, text: str) -> None:
        await self.does(lambda turn: turn.text(text))

    async def fails(self, error: BaseException) -> None:
        def fail(turn: Turn) -> None:
            raise error

        await self.does(fail)

    async def ends(self) -> None:
        self._orders.put_nowait(None)
        await settled()


@dataclass
class Watched:
    """One session as an observer with a good memory saw it."""

    handle: RuntimeHandle
    opening: Opening
    views: list[Observation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def look(self) -> None:
        entries = self.opening.subscription.take(1 << 30)
        assert not isinstance(entries, str), entries
        if entries:
            self.events += [from_wire(msgspec.json.decode(entry.payload)) for entry in entries]
            self.views.append(self.handle.view)
            assert not self.opening.subscription.take(1 << 30), "everything of a publication is there at once"

    @property
    def told(self) -> list[str]:
        """What happened, one word for each event."""
        return [_word(event) for event in self.events]


async def watch(world: World, session_id: str = "s") -> Watched:
    watched: list[Watched] = []
    handle, opening = await world.kernel.subscribe(session_id, None, lambda: watched[0].look())
    watched.append(Watched(handle, opening))
    assert opening.observation is not None
    watched[0].views.append(opening.observation)
    watched[0].look()
    return watched[0]


def _word(event: Event) -> str:
    match event.data:
        case TurnActivity(event=activity):
            return str(type(activity).__struct_config__.tag or "unknown")
        case QueueChanged(kind=kind):
            return kind
        case ProcessChanged(kind=kind):
            return f"process {kind}"
        case TaskChanged(kind=kind):
            return f"task {kind}"
        case _:
            return event.kind


async def only_batch(world: World, session_id: str = "s") -> Batch:
    [batch] = await world.store.list_batches(session_id, pending_only=False, limit=10)
    return batch


async def said(world: World) -> list[tuple[str, str]]:
    """The transcript as the store has it, which is also what observers see."""
    stored = (await world.store.load_session("s", 100)).messages
    assert (await world.view()).read_view.messages == stored
    return [(message.role, message.content) for message in stored]


async def in_step(world: World, watched: Watched) -> None:
    """What observers were told adds up to what is stored."""
    view = await world.view()
    state = await world.store.load_session("s", 100)
    assert view == watched.handle.view
    assert (view.revision, view.read_view.messages) == (state.record.revision, state.messages)
    assert [summary.batch_id for summary in view.queue] == [batch.batch_id for batch in state.open_batches]
    assert view.requests == tuple(shown_request(request) for request in state.requests)
