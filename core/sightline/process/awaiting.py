"""Waiting for what a process logs: its end, or an event.

Whoever waits may have missed what it waits for, so it looks once it is sure to be told of anything later: first it
listens, then it looks. And being told is a hint only: the writer may be another program. So it looks again by itself,
soon at first, then less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, structs

from sightline.clock import Clock, within
from sightline.process.attaching import attachment_in
from sightline.process.model import (
    AbandonedOutput,
    AwaitOutput,
    CancelledOutput,
    FailureOutput,
    ProcessEvent,
    SuccessOutput,
)
from sightline.process.port import ProcessReader

__all__ = ["ProcessWaits", "whole_event", "whole_output"]

_FIRST_DELAY = 0.025
_LONGEST_DELAY = 1.0

_T = TypeVar("_T")


async def whole_output(store: ProcessReader, process_id: str, output: AwaitOutput) -> AwaitOutput:
    """The output with its values, where the record only names them. Raises StoreUnavailable."""
    match output:
        case SuccessOutput(value=value):
            return structs.replace(output, value=await _whole(store, process_id, value))
        case FailureOutput(raw=raw) | CancelledOutput(raw=raw):
            return structs.replace(output, raw=await _whole(store, process_id, raw))
        case AbandonedOutput():
            return output


async def whole_event(store: ProcessReader, event: ProcessEvent) -> ProcessEvent:
    """The event with its payload, where the log only names that. Raises StoreUnavailable."""
    return structs.replace(event, payload=await _whole(store, event.process_id, event.payload))


async def _whole(store: ProcessReader, process_id: str, value: Any) -> Any:
    attachment = attachment_in(value)
    if attachment is None:
        return value
    return msgspec.json.decode(await store.process_value(process_id, attachment.attachment_id))


class ProcessWaits:
    """On one event loop."""

    def __init__(self, store: ProcessReader, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # In the order in which they came: what is told is told in an order that can be told again.
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    def changed(self, process_id: str) -> None:
        """Something was logged. To be called for each event that was committed; a call that is left out delays."""
        for waiting in self._waiting.get(process_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def end_of(self, process_id: str) -> AwaitOutput:
        """What the process came to, once it has ended; at once if it has. May be cancelled at any time.

        Raises ProcessNotFound, StoreUnavailable.
        """

        async def look() -> AwaitOutput | None:
            output = (await self._store.get_process(process_id)).output
            return None if output is UNSET else output

        return await whole_output(self._store, process_id, await self._until(process_id, look))

    async def next_event(self, process_id: str, after: int, event_type: str | None = None) -> ProcessEvent:
        """The first event behind that sequence, of that type if one is named. May be cancelled at any time.

        A process that has ended may log more, so its end does not end the wait. Raises ProcessNotFound,
        StoreUnavailable.
        """

        async def look() -> ProcessEvent | None:
            events = await self._store.list_process_events(process_id, after=after, limit=1, event_type=event_type)
            return events[0] if events else None

        return await whole_event(self._store, await self._until(process_id, look))

    async def news_of(self, process_id: str, after: int) -> None:
        """Return when the process has logged something behind that sequence, or has ended. May be cancelled.

        Raises ProcessNotFound, StoreUnavailable.
        """

        async def look() -> bool | None:
            record = await self._store.get_process(process_id)
            return True if record.last_sequence > after or record.is_terminal else None

        await self._until(process_id, look)

    async def _until(self, process_id: str, look: Callable[[], Awaitable[_T | None]]) -> _T:
        delay = _FIRST_DELAY
        while True:
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            listeners = self._waiting.setdefault(process_id, {})
            listeners[told] = None
            try:
                found = await look()
                if found is not None:
                    return found
                delay = _FIRST_DELAY if await within(self._clock, delay, told) else min(2 * delay, _LONGEST_DELAY)
            finally:
                del listeners[told]
                if not listeners and self._waiting.get(process_id) is listeners:
                    del self._waiting[process_id]
