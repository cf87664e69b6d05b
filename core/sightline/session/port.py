"""What the kernel needs from a store of sessions.

Every write takes `then`: a plain function that the store calls with the result on the event loop, exactly once if and
only if the transaction was committed, in commit order, before any waiting caller resumes, also if the caller was
cancelled meanwhile. That is where observers are told, and why they are told in the order in which things became true.
Errors of `sightline.errors` are raised with nothing written. Only `StoreUnavailable` leaves it open: what was asked may
be there all the same, and `then` may have been called. Writes are safe to repeat: by their key, stamp, token or id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sightline.session.model import MessagePage, NewSession, SessionPage, SessionRecord, Status

__all__ = ["SessionStore"]


class SessionStore(Protocol):
    """Sessions and their transcripts."""

    async def create_session(self, new: NewSession, now: int, then: Callable[[SessionRecord], None]) -> SessionRecord:
        """Store a new session at revision 0. Raises SessionExists, SessionDeleted (the id is fenced)."""
        ...

    async def list_sessions(self, *, limit: int, after: int | None, status: Status | None) -> SessionPage:
        """Newest activity first; `after` is the number a former page ended with (its `next`)."""
        ...

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage:
        """The `limit` messages before the message id `before`; the newest without it.

        Raises SessionNotFound, SessionDeleted, and InvalidInput when `before` names no message of this session.
        """
        ...

    async def delete_session(self, session_id: str, now: int, then: Callable[[None], None]) -> None:
        """Erase the session with its messages, batches and stamps, and fence the id for good.

        Raises SessionNotFound, SessionDeleted.
        """
        ...
