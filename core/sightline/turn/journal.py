"""The turn's journal: what a turn has to know of its earlier attempts, and the store it is kept in.

A turn whose owner died is run again from the start. What it has done to the world by then it must not do twice, so it
writes down what came of it: a value under a key. The journal belongs to the turn, not to the attempt: the next attempt
reads it before it does anything anew. It is no history: the turn's commit deletes it in its own transaction, as does
the end of the session.

Only the session's one writer may write into it, which its lease proves. So an owner that was superseded cannot slip
something under the attempt that runs now.

Between an effect and the note that it took place lies a window: who dies in it has done what nobody knows of, and the
next attempt does it again. No store can close it from here; what must not happen twice at all needs a receiver that
knows the key.
"""

from __future__ import annotations

from typing import Protocol

from sightline.session.model import SessionLease

__all__ = ["JournalStore"]


class JournalStore(Protocol):
    """The part of the one database that keeps journals. Values are JSON texts."""

    async def remember(
        self, session_id: str, turn_id: str, key: str, value: str, *, lease: SessionLease, replace: bool
    ) -> str:
        """Write down a value, durably, and return what is written under the key: where there was something already,
        that stays, unless `replace`.

        Raises LeaseLost when the lease does not rule any more, also by the session's end; nothing was written then.
        """
        ...

    async def recall(self, session_id: str, turn_id: str) -> dict[str, str]:
        """All that the turn has written down, in no order. Nothing for a turn or session that is not there."""
        ...
