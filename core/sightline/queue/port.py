"""What the kernel needs from a store of work, and the runner from whoever can run it.

The store lives in the same database as the sessions, because one commit completes claims and writes the transcript.
Selection of work is `sightline.queue.claiming`, called inside the claim's transaction. `then` is what it is in
`sightline.session.port`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sightline.queue.drive import QueuedWorkRunOutcome, QueuedWorkRunRequest
from sightline.queue.model import Batch, Boundary, Cancellation, Claim, Draft, Enqueued, NothingClaimed
from sightline.session.model import LeaseRequest, SessionLease

__all__ = ["QueueStore", "QueuedWorkHost"]


class QueuedWorkHost(Protocol):
    """Whoever owns the queue and can run what is in it."""

    async def run_queued_work(self, request: QueuedWorkRunRequest) -> QueuedWorkRunOutcome:
        """Run the next work of the session, or of any if none is named, or begin to; then say what there was.

        May raise anything: it is tried again later, unless the error's `retryable` is false. What makes two runs of one
        piece of work harmless is the claim in the store, not the runner. Must settle what it holds when it is
        cancelled.
        """
        ...


class QueueStore(Protocol):
    """Batches of work by session, in order.

    All methods that name a session raise SessionNotFound or SessionDeleted when it is not there, unless they say
    otherwise.
    """

    async def enqueue(
        self, draft: Draft, *, batch_id: str, now: int, max_open: int, then: Callable[[Enqueued], None]
    ) -> Enqueued:
        """Store the draft, or find the batch its source key brought before, also when that one has ended, or has been
        forgotten since: a key is remembered longer than its work (`purge_keys`).

        Raises InvalidInput (`queue.rules.check_draft`), IdempotencyKeyReused when the key came with other content,
        QueueFull when `max_open` batches are open. A draft whose key was cancelled in advance is stored as cancelled.
        `enqueue_seq` grows and is never reused.
        """
        ...

    async def claim(
        self,
        session_id: str,
        boundary: Boundary,
        *,
        owner_id: str,
        turn_id: str,
        lease_token: str,
        now: int,
        ttl_ms: int,
        max_batches: int,
        then: Callable[[Claim], None],
        lease: SessionLease | LeaseRequest | None = None,
        batch_ids: Sequence[str] | None = None,
    ) -> Claim | NothingClaimed:
        """Take the next group of batches, all or none, and charge one attempt to each.

        `turn_id` is for batches that no turn took before; others keep theirs, and are taken whole whatever
        `max_batches`. `batch_ids` takes exactly these, if they are the next group.

        `lease`: under which session lease. With a SessionLease the claim is refused when it does not rule any more
        (LeaseLost). With a LeaseRequest one is acquired in the same transaction, if there is something to take
        (`lane_busy` if it cannot be had), and comes with the claim. What was claimed under an earlier lease is free
        then. Without, only the claim's own time protects it.

        `then` is called only for a claim. A session that is gone has nothing to claim.
        """
        ...

    async def renew(self, claim: Claim, *, now: int, ttl_ms: int) -> Claim:
        """The claim with a later expiry, same token and fencing, also when it had expired and nobody took over.

        Raises ClaimExpired, with nothing written, unless all of its batches are still held by it.
        """
        ...

    async def abandon(self, claim: Claim, *, charge: bool, then: Callable[[tuple[Batch, ...]], None]) -> None:
        """Give the claim's batches back as pending, and its session lease with them; without `charge` the attempt is
        not counted.

        Fencing counters stay. Of a stale claim nothing is given back, and `then` is called with no batches; the lease
        is released all the same, if it still rules.
        """
        ...

    async def cancel_batch(self, session_id: str, batch_id: str, *, now: int, then: Callable[[Batch], None]) -> Batch:
        """Cancel a pending batch that no turn has taken. Raises BatchNotFound, BatchNotCancellable."""
        ...

    async def cancel_from(
        self,
        session_id: str,
        batch_id: str,
        *,
        now: int,
        then: Callable[[tuple[tuple[Batch, ...], tuple[Batch, ...]]], None],
    ) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        """Cancel a batch and every later pending one: (cancelled, kept), by sequence.

        A batch that a turn has taken is kept. Raises BatchNotFound; a batch that has ended already is the start of the
        range and nothing else.
        """
        ...

    async def request_cancel(
        self,
        session_id: str,
        *,
        turn_id: str | None,
        source_key: str | None,
        reason: str,
        now: int,
        then: Callable[[Cancellation], None],
    ) -> Cancellation:
        """Ask for the end of a turn: by its id, by the key of its work, or (neither given) the one that runs.

        Durable: an attempt that begins later finds the request in its claim. Work known only by its key that has not
        arrived yet is cancelled when it does (`will_cancel`). Idempotent.
        """
        ...

    async def get_batch(self, session_id: str, batch_id: str) -> Batch:
        """Also ended ones, within the retention window. Raises BatchNotFound."""
        ...

    async def list_batches(self, session_id: str, *, pending_only: bool, limit: int) -> tuple[Batch, ...]:
        """By sequence, the newest `limit`; `pending_only`: those nobody has taken, delayed ones too."""
        ...

    async def peek_claimable(self, session_id: str, now: int) -> bool:
        """Whether a claim at an idle session could take something now, the session lease aside. False for a session
        that is gone.
        """
        ...

    async def claimable_sessions(self, now: int, limit: int, after: str = "") -> tuple[str, ...]:
        """Sessions of which `peek_claimable` is true, in the order of their ids behind `after`, at most `limit`.

        Batches whose claim was taken under a lease that has expired or been superseded count as not held.
        """
        ...

    async def next_due(self, now: int) -> int | None:
        """When the earliest pending batch that is still delayed becomes available, in wall milliseconds.

        Delayed is what was to wait when it came; not what a caller whose clock is behind cannot have yet.
        """
        ...

    async def purge_ended(self, before: int, limit: int) -> int:
        """Forget batches that ended before that time, the earliest first, at most `limit`; how many.

        Of those that had a source key, the key stays, with how they ended.
        """
        ...

    async def purge_keys(self, before: int, limit: int) -> int:
        """Forget source keys whose work was forgotten, or never came, and that were last used before that time."""
        ...
