"""Ids without chance: the same in every run, and telling in a failure message."""

from __future__ import annotations

import hashlib

__all__ = ["CountingIds"]


class CountingIds:
    """See `sightline.ids.Ids`. Ids count up and sort in that order; `uniform` follows from the seed alone."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._ids = 0
        self._tokens = 0
        self._draws = 0

    def new(self) -> str:
        self._ids += 1
        return f"{self._seed}id-{self._ids:06}"

    def token(self) -> str:
        self._tokens += 1
        return f"{self._seed}token-{self._tokens:06}"

    def uniform(self) -> float:
        self._draws += 1
        digest = hashlib.sha256(f"{self._seed}:{self._draws}".encode()).digest()
        return (int.from_bytes(digest[:8]) >> 11) / (1 << 53)
