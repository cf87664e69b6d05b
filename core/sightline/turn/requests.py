"""What turns ask of people, and the store that keeps it.

A turn that needs a word from somebody, an approval or the answer to a question, opens a request and waits. The request
is durable: it outlives the attempt that opened it and the process that ran it, and so does its answer. An attempt that
comes to the same place finds the request under the key it has within its turn, and the answer if there is one.

A request is answered once; an approval that offers options, by one of those. What its turn does not need any more,
because it ended otherwise, is withdrawn by the commit in its own transaction; answers are kept for a while, so that a
second one is told that it comes too late.

Waiting is not failing. Whoever has come to an open request has done all there was to do, so the attempts of its turn
are counted from the beginning again: a turn may wait through any number of restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from sightline.session.model import Request, SessionLease

__all__ = ["Asked", "RequestStore"]


class Asked(Struct, frozen=True):
    """A request in the store. `answer`: what somebody said to it, as JSON; none while it is open."""

    request: Request
    answer: str | None = None


class RequestStore(Protocol):
    """The part of the one database that keeps requests. `then` is what it is in `sightline.session.port`."""

    async def open_request(
        self, session_id: str, request: Request, key: str, *, lease: SessionLease, then: Callable[[Asked], None]
    ) -> Asked:
        """Open a request of a turn under a key; where the turn has one of that key, return that one as it stands.

        If the request is open then, no attempt of the turn's open batches is counted any more. Raises LeaseLost when
        the lease does not rule any more, also by the session's end; nothing was written then.
        """
        ...

    async def answer_request(
        self, session_id: str, request_id: str, answer: str, *, then: Callable[[Asked], None]
    ) -> Asked:
        """Raises RequestNotFound (never opened, withdrawn, or forgotten), AlreadyAnswered, SessionNotFound,
        SessionDeleted; InvalidInput for an open request that this is no answer to (`sightline.turn.rules`).
        """
        ...

    async def answers_to(self, request_ids: Sequence[str]) -> dict[str, str]:
        """The answers to those of these requests that have one."""
        ...

    async def purge_requests(self, before: int, limit: int) -> int:
        """Forget answers to requests of turns that were committed before that time, the oldest first and at most so
        many; how many.
        """
        ...
