"""What every handler gets: the kernel, the settings, the open streams."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct, field

from sightline.kernel import Kernel
from sightline_gateway.settings import Settings
from sightline_gateway.stream.hub import Hub
from sightline_gateway.stream.observer import Observer, Pace
from sightline_gateway.stream.streams import Streams

__all__ = ["Gateway"]


class Gateway(Struct):
    """One per application. `drained` is set when no turn will end here any more: who waits for one need not."""

    kernel: Kernel
    settings: Settings
    streams: Streams
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    hub: Any = None

    def __post_init__(self) -> None:
        self.hub = Hub(self.kernel, buffer_bytes=self.settings.buffer_bytes)

    def observer(self, *, pace: Pace | None = None, many: bool = False) -> Observer:
        """A new observer, counted among the streams until it has ended.

        Raises ProblemError (`too_many_connections`, `draining`).
        """
        observer = Observer(self.hub, self.streams.remove, pace=pace, many=many)
        self.streams.add(observer)
        return observer
