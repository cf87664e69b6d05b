"""Compressed messages (RFC 7692, permessage-deflate), each for itself.

Neither side keeps its window from one message to the next: a connection costs no memory for it, and one compressed
message serves everybody who agreed to the same window.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["FULL_WINDOW", "SMALLEST_WINDOW", "Agreement", "Undecipherable", "agree", "deflate", "inflate"]

FULL_WINDOW = 15
"""What a client can always read that did not ask for less. Binary logarithm of bytes, like every window here."""
SMALLEST_WINDOW = 9
"""zlib does not write a window of 8."""
_MEMORY_LEVEL = 5
_TAIL = b"\x00\x00\xff\xff"
_PARAMETER = re.compile(r'([a-z_]+)(?:\s*=\s*("?)(\d+)\2)?', re.ASCII)


class Agreement(NamedTuple):
    """What was agreed with one client."""

    window: int
    answer: str
    """For the response's `Sec-WebSocket-Extensions`."""


class Undecipherable(Exception):
    """The bytes are no compressed message; `too_large` when what they stand for is longer than the limit."""

    def __init__(self, *, too_large: bool) -> None:
        super().__init__(too_large)
        self.too_large = too_large


def agree(offers: Iterable[str]) -> Agreement | None:
    """The first offer in these `Sec-WebSocket-Extensions` that can be taken."""
    for offer in (offer for header in offers for offer in header.split(",")):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == "permessage-deflate" and (agreed := _take(parameters)) is not None:
            return agreed
    return None


def _take(parameters: list[str]) -> Agreement | None:
    answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    window = FULL_WINDOW
    seen = set()
    for parameter in parameters:
        matched = _PARAMETER.fullmatch(parameter)
        if matched is None or matched[1] in seen:
            return None
        name, value = matched[1], matched[3]
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                if value is not None:
                    return None
            case "client_max_window_bits":
                # A hint that the client could do with less. Ours to inflate are messages of any window.
                if value is not None and not 8 <= int(value) <= FULL_WINDOW:
                    return None
            case "server_max_window_bits":
                if value is None or not SMALLEST_WINDOW <= int(value) <= FULL_WINDOW:
                    return None
                window = int(value)
                answer += f"; server_max_window_bits={window}"
            case _:
                return None
    return Agreement(window, answer)


def deflate(payload: bytes, window: int = FULL_WINDOW) -> bytes:
    """The payload of a compressed message."""
    compressor = zlib.compressobj(wbits=-window, memLevel=_MEMORY_LEVEL)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


def inflate(payload: bytes, limit: int) -> bytes:
    """What a compressed message stands for. Raises Undecipherable, before more than `limit` bytes are there."""
    decompressor = zlib.decompressobj(wbits=-FULL_WINDOW)
    try:
        inflated = decompressor.decompress(payload + _TAIL, limit + 1)
    except zlib.error:
        raise Undecipherable(too_large=False) from None
    if len(inflated) > limit:
        raise Undecipherable(too_large=True)
    # A sender may mark its last block as the last one of all; nothing but an empty block can come after that.
    if decompressor.eof and decompressor.unused_data not in (b"", b"\x00" + _TAIL):
        raise Undecipherable(too_large=False)
    return inflated
