"""What every handler gets: the kernel, the settings, the open streams."""

from __future__ import annotations

import asyncio

from msgspec import Struct, field

from sightline.kernel import Kernel
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams

__all__ = ["Gateway"]


class Gateway(Struct):
    """One per application. `drained` is set when no turn will end here any more: who waits for one need not."""

    kernel: Kernel
    settings: Settings
    streams: Streams
    drained: asyncio.Event = field(default_factory=asyncio.Event)
