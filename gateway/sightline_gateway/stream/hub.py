"""The hub: one pass per turn of the event loop tells all observers of this process what is new.

First the channels in which something happened, each in one pass over its parked feeds; then, for a few milliseconds,
the connections that have something of their own to say: a beginning, something missed, an answer. What is left of those
waits for the next turn, so that a herd that comes back does not hold up who is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sightline.errors import SessionDeleted
from sightline.kernel import Kernel
from sightline_gateway.stream.asking import Place
from sightline_gateway.stream.channel import Channel
from sightline_gateway.stream.clockwork import Clockwork, Timer
from sightline_gateway.stream.feed import Feed, Watcher
from sightline_gateway.stream.index import Index

if TYPE_CHECKING:
    from sightline_gateway.stream.observer import Observer

__all__ = ["Hub", "HubCounts"]

_log = logging.getLogger("sightline.gateway.stream")

_OWN_SECONDS = 0.004
"""How long a pass may be busy with single connections before the event loop has its turn."""

_WARM_SECONDS = 2.0
"""How long a channel keeps what it has made for somebody who came back, for the others who do."""


class HubCounts(Struct):
    """What the hub did so far, counted once per pass and not per event.

    `deliveries`: passes of channels; `writes`: what they handed to lines; `pumps`: turns of connections that had
    something of their own to say; `stalls`: clients that stopped reading.
    """

    passes: int = 0
    deliveries: int = 0
    writes: int = 0
    pumps: int = 0
    gaps: int = 0
    stalls: int = 0
    slow_consumers: int = 0


class Hub:
    """One per gateway, on its event loop. `buffer_bytes`: how much a pass or a pump writes to one client at most."""

    def __init__(self, kernel: Kernel, *, buffer_bytes: int) -> None:
        self.kernel = kernel
        self.clock = kernel.clock
        self.clockwork = Clockwork(kernel.clock)
        self.buffer_bytes = buffer_bytes
        self.counts = HubCounts()
        self._channels: dict[str, Channel] = {}
        self._dirty: list[Channel] = []
        self._warm: dict[Channel, None] = {}
        self._cooling: Timer | None = None
        self._ready: deque[Observer] = deque()
        self.index = Index(kernel, self.spawn)
        self._due: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(
        self,
        watcher: Watcher,
        session_id: str,
        place: Place,
        *,
        messages: int,
        kinds: frozenset[str] | None,
    ) -> Feed:
        """A feed that has begun; the caller closes it. Raises SessionNotFound, SessionDeleted, StoreUnavailable."""
        async with self.kernel.opened(session_id) as handle:
            # Nothing is awaited from here on: the channel is found, and the place taken, in one moment.
            if handle.closed_reason is not None:
                raise SessionDeleted(session_id)
            channel = self._channels.get(session_id)
            if channel is None:
                channel = self._channels[session_id] = Channel(
                    handle,
                    buffer_bytes=self.buffer_bytes,
                    dirty=self._is_dirty,
                    warm=self._is_warm,
                    empty=self._is_empty,
                )
            feed = Feed(self.kernel, channel, watcher, messages=messages, kinds=kinds)
            feed.begin(place)
            return feed

    def ready(self, observer: Observer) -> None:
        """The observer has something to say."""
        self._ready.append(observer)
        self._soon()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that has to wait for the store."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_dirty(self, channel: Channel) -> None:
        self._dirty.append(channel)
        self._soon()

    def _is_warm(self, channel: Channel) -> None:
        """What it keeps for a herd is let go after a moment."""
        if not self._warm:
            self._cooling = self.clockwork.after(_WARM_SECONDS, self._cool)
        self._warm[channel] = None

    def _cool(self) -> None:
        for channel in self._warm:
            channel.cool()
        self._warm.clear()

    def _is_empty(self, channel: Channel) -> None:
        del self._channels[channel.session_id]
        self._warm.pop(channel, None)
        if not self._warm:
            self.clockwork.cancel(self._cooling)

    def _soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        self._due = None
        now = self.clock.monotonic()
        counts = self.counts
        counts.passes += 1
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            counts.writes += channel.deliver(now)
        counts.deliveries += len(dirty)
        loop = asyncio.get_running_loop()
        until = loop.time() + _OWN_SECONDS
        for _ in range(len(self._ready)):
            observer = self._ready.popleft()
            counts.pumps += 1
            observer.pump(now)
            if loop.time() > until:
                break
        if self._ready or self._dirty:
            self._soon()
