"""One published event as the live log keeps it."""

from __future__ import annotations

from typing import Any

__all__ = ["Entry"]


class Entry:
    """One published event: its place, and its JSON encoded once for everybody.

    `framed` is for whoever writes events to connections, `merged` for whoever joins them: what the first needed, the
    others find here. `merged` is how many entries from this one on are joined, and what they are joined to.
    `bytes_through` is the log's: how many bytes it was given up to and with this entry.
    """

    __slots__ = (
        "bytes_through",
        "cursor",
        "framed",
        "kind",
        "merged",
        "payload",
        "position",
        "published_at",
        "revision",
    )

    def __init__(self, position: int, cursor: str, revision: int, kind: str, payload: bytes) -> None:
        self.position = position
        self.cursor = cursor
        self.revision = revision
        self.kind = kind
        self.payload = payload
        self.published_at = 0.0
        self.bytes_through = 0
        self.framed: Any = None
        self.merged: tuple[int, Entry | None] | None = None
