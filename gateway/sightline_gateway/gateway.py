"""What every handler gets: the kernel, the settings, the open streams."""

from __future__ import annotations

from msgspec import Struct

from sightline.kernel import Kernel
from sightline_gateway.settings import Settings
from sightline_gateway.stream.streams import Streams

__all__ = ["Gateway"]


class Gateway(Struct):
    """One per application."""

    kernel: Kernel
    settings: Settings
    streams: Streams
