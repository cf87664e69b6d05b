"""What runs a process, and what it gets.

An engine runs the processes of one kind. It is given one attempt at one process, `ProcessWork`, and returns what the
process came to. It is cancelled by the ordinary asyncio cancellation when somebody wants the end of the process, when
the worker has to go, and when the process turns out to be another worker's; it cleans up and lets `CancelledError`
pass. A process may be run again after a crash, so what an attempt does to the world happens at least once; what it logs
under a replay key is logged once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from msgspec import UNSET

from sightline.clock import Clock
from sightline.errors import ProcessLeaseLost
from sightline.process.awaiting import ProcessWaits, whole_event
from sightline.process.model import (
    Appended,
    AwaitOutput,
    CancelledOutput,
    FailureOutput,
    NewEvent,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    SuccessOutput,
)
from sightline.process.port import ProcessStore

__all__ = ["Engine", "ForgoingEngine", "ProcessWork"]

_PAGE = 256


class Engine(Protocol):
    """Runs the processes of one kind."""

    def knows(self, record: ProcessRecord) -> bool:
        """Whether it can run this one. What it cannot is left to a worker that can. Must not raise."""
        ...

    async def run(self, work: ProcessWork, /) -> SuccessOutput | FailureOutput | CancelledOutput:
        """See the process through. An exception is its failure, unless it says that something is away for now: then
        the process is left to another attempt.
        """
        ...


@runtime_checkable
class ForgoingEngine(Engine, Protocol):
    """An engine whose processes may leave work to go on elsewhere when an attempt at them ends."""

    async def forgo(self, record: ProcessRecord, /) -> None:
        """The process ends, and no attempt will be made any more: see that what it left elsewhere ends as well."""
        ...


class ProcessWork:
    """One attempt at one process, as its engine sees it. `attempt` counts from 1.

    `lose` is called when the process turns out to be another worker's. What is logged goes through `logged`, once it
    is in the store.
    """

    def __init__(
        self,
        record: ProcessRecord,
        lease: ProcessLease,
        *,
        store: ProcessStore,
        waits: ProcessWaits,
        clock: Clock,
        park: Callable[[], None],
        take_place: Callable[[], Awaitable[None]],
        resume: Callable[[], None],
        logged: Callable[[Appended], None],
        lose: Callable[[], None],
    ) -> None:
        self.record = record
        self.clock = clock
        self._lease = lease
        self._store = store
        self._waits = waits
        self._park = park
        self._take_place = take_place
        self._resume = resume
        self._logged = logged
        self._lose = lose
        self.cancelled = False
        """Whether somebody wants the end of the process."""

    @property
    def process_id(self) -> str:
        return self.record.process_id

    @property
    def attempt(self) -> int:
        return self.record.attempts

    @property
    def fencing_token(self) -> int:
        """Which run of the process this is: no two have one number, also where one was given back and not counted."""
        return self._lease.fencing_token

    @property
    def input(self) -> dict[str, Any]:
        return self.record.input

    async def log(self, event_type: str, payload: Any = None, *, key: str | None = None) -> ProcessEvent:
        """Log an event of the process; with a key, once, in whichever attempt.

        Raises what `ProcessStore.append_event` raises: InvalidInput, InvalidPayload, ProcessConflict, ProcessLeaseLost
        when another worker runs the process, which then ends here, StoreUnavailable.
        """
        event = NewEvent(event_type=event_type, payload=payload, replay_key=UNSET if key is None else key)
        try:
            appended = await self._store.append_event(
                self.process_id, event, now=self.clock.now_ms(), then=self._logged, lease=self._lease
            )
        except ProcessLeaseLost:
            self._lose()
            raise
        assert appended.event is not None, "only a request to cancel may come to nothing"
        return appended.event

    async def logged_before(self, event_type: str) -> tuple[ProcessEvent, ...]:
        """All events of that type, in order. Raises StoreUnavailable."""
        found: list[ProcessEvent] = []
        after = 0
        while True:
            page = await self._store.list_process_events(
                self.process_id, after=after, limit=_PAGE, event_type=event_type
            )
            found += [await whole_event(self._store, event) for event in page]
            if len(page) < _PAGE:
                return tuple(found)
            after = page[-1].sequence

    async def end_of(self, process_id: str) -> AwaitOutput:
        """What another process came to, once it has ended. Takes no place from others while it waits.

        Raises ProcessNotFound, StoreUnavailable.
        """
        async with self.waiting():
            return await self._waits.end_of(process_id)

    async def next_event(self, event_type: str, after: int) -> ProcessEvent:
        """The first event of that type behind that sequence of the process's own log. Otherwise like `end_of`."""
        async with self.waiting():
            return await self._waits.next_event(self.process_id, after, event_type)

    async def sleep_until(self, at_ms: int) -> None:
        """Return at that wall time, at once when it has passed. Takes no place from others meanwhile."""
        if at_ms <= self.clock.now_ms():
            return
        async with self.waiting():
            while (left := at_ms - self.clock.now_ms()) > 0:
                await self.clock.sleep(left / 1000)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """While the process only waits for something that goes on elsewhere, it takes no place from others."""
        self._park()
        try:
            try:
                yield
            except Exception:
                await self._take_place()
                raise
            await self._take_place()
        except asyncio.CancelledError:
            self._resume()  # to clean up, or because it has waited long enough: it goes on at once
            raise
