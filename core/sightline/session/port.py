"""What the kernel needs from a store of sessions.

Every write takes `then`: a plain function that the store calls with the result on the event loop, exactly once if and
only if the transaction was committed, in commit order, before any waiting caller resumes, also if the caller was
cancelled meanwhile. That is where observers are told, and why they are told in the order in which things became true.
Errors of `sightline.errors` are raised with nothing written. Only `StoreUnavailable` leaves it open: what was asked may
be there all the same, and `then` may have been called. Writes are safe to repeat: by their key, stamp, token or id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sightline.session.model import (
    AgentFrame,
    Attachment,
    LaneBusy,
    MessagePage,
    NewSession,
    SessionEntry,
    SessionLease,
    SessionPage,
    SessionRecord,
    Status,
)

__all__ = ["AttachmentStore", "SessionStore"]


class SessionStore(Protocol):
    """Sessions and their transcripts."""

    async def create_session(self, new: NewSession, now: int, then: Callable[[SessionRecord], None]) -> SessionRecord:
        """Store a new session at revision 0. Raises SessionExists, SessionDeleted (the id is fenced)."""
        ...

    async def list_sessions(self, *, limit: int, after: int | None, status: Status | None) -> SessionPage:
        """Newest activity first; `after` is the number a former page ended with (its `next`)."""
        ...

    async def session_entries(self, session_ids: Sequence[str]) -> tuple[SessionEntry, ...]:
        """The lines of the list for these sessions, in any order; those that are not there are left out."""
        ...

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage:
        """The `limit` messages before the message id `before`; the newest without it.

        Raises SessionNotFound, SessionDeleted, and InvalidInput when `before` names no message of this session.
        """
        ...

    async def list_frames(self, session_id: str) -> tuple[AgentFrame, ...]:
        """The session's agent frames since it was created or reset, the initial one first and the current one last.

        Raises SessionNotFound, SessionDeleted.
        """
        ...

    async def acquire_lease(
        self, session_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
    ) -> SessionLease | LaneBusy:
        """Become the session's one writer, if `sightline.session.leasing` lets this owner.

        The generation grows with each acquisition, across releases and restarts too. Raises SessionNotFound,
        SessionDeleted. An acquisition whose answer was lost is made again under another token.
        """
        ...

    async def renew_lease(self, lease: SessionLease, *, now: int, ttl_ms: int) -> SessionLease:
        """The same lease with a later expiry, also when it had expired and nobody took over.

        Raises LeaseLost when it was taken over or released, also by the session's end.
        """
        ...

    async def release_lease(self, lease: SessionLease) -> None:
        """Free the lane for the next owner at once. A lease that does not rule any more changes nothing."""
        ...


class AttachmentStore(Protocol):
    """Pictures that messages refer to, by session and by what they are: putting one twice is putting it once.

    Not part of any transaction: a picture is stored before the message that shows it, and goes with its session.
    """

    async def put(self, session_id: str, data: bytes, media_type: str) -> Attachment:
        """Keep the bytes; durable when this returns where the store is. Raises StoreUnavailable."""
        ...

    async def get(self, session_id: str, attachment_id: str) -> tuple[Attachment, bytes]:
        """Raises AttachmentNotFound, StoreUnavailable."""
        ...

    async def delete_session(self, session_id: str) -> None:
        """Erase all of a session's. Idempotent. Raises StoreUnavailable."""
        ...
