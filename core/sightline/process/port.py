"""What observers need from a registry of processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sightline.process.model import HandleGrant, ProcessScope

__all__ = ["ProcessRegistry"]


class ProcessRegistry(Protocol):
    """The part of a registry that is read here. May be asked at any time, also while a turn runs."""

    async def list_live_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        """The scope's grants of processes that have not ended. May raise anything; the reader is told."""
        ...

    async def list_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        """The scope's grants, also of processes that have ended."""
        ...
