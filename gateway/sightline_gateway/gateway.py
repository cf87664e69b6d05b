"""What every handler gets: the kernel, the settings, the open streams, and the hub that tells them what is new."""

from __future__ import annotations

import asyncio

from sightline.kernel import Kernel
from sightline_gateway.settings import Settings
from sightline_gateway.stream.hub import Hub
from sightline_gateway.stream.observer import Observer, Pace
from sightline_gateway.stream.streams import Streams

__all__ = ["Gateway"]


class Gateway:
    """One per application. `drained` is set when no turn will end here any more: who waits for one need not."""

    def __init__(self, kernel: Kernel, settings: Settings, streams: Streams) -> None:
        self.kernel = kernel
        self.settings = settings
        self.streams = streams
        self.hub = Hub(kernel, buffer_bytes=settings.buffer_bytes)
        self.drained = asyncio.Event()

    def observer(self, *, pace: Pace | None = None, many: bool = False) -> Observer:
        """A new observer, counted among the streams until it has ended.

        Raises ProblemError (`too_many_connections`, `draining`).
        """
        observer = Observer(self.hub, self.streams.remove, pace=pace, many=many)
        self.streams.add(observer)
        return observer
