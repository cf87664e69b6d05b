"""Who may write to a session: the rules of its lease.

A session has one lane. Who wants to run its work acquires the lane's lease and renews it while the work goes on. An
owner that dies stops renewing, and once its lease has expired anybody may take over. Nothing tells the old owner; it is
stopped by the generation: each acquisition has a larger one, and a commit under an older one is refused.

The clock decides only who may *begin*. It never ends an authority: a lease that has expired and that nobody took over
still commits. So clocks that disagree cost a turn that is run twice, never a transcript that has it twice.

An owner may acquire its own lane again at any time, because within one owner there is one drive per session; that too
is a new generation. Whoever released a lease, or never had one, holds nothing.
"""

from __future__ import annotations

from msgspec import Struct

from sightline.session.model import LaneBusy, SessionLease

__all__ = ["Lane", "acquired", "is_lost", "renewed"]


class Lane(Struct, frozen=True):
    """A session's lane as a store keeps it. A free one has no owner; its generation stays for the next."""

    generation: int = 0
    owner_id: str | None = None
    lease_token: str | None = None
    expires_at_ms: int = 0

    def released(self) -> Lane:
        return Lane(self.generation)

    @property
    def settled_generation(self) -> int:
        """The newest generation under which nothing can be committed any more, if nobody takes over."""
        return self.generation if self.owner_id is None else self.generation - 1


def acquired(
    lane: Lane, session_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> SessionLease | LaneBusy:
    """The lease that `owner_id` gets, or who stands in its way. Equal counts as expired."""
    if lane.owner_id is not None and lane.owner_id != owner_id and lane.expires_at_ms > now:
        return LaneBusy(lane.owner_id, lane.expires_at_ms)
    return SessionLease(
        session_id=session_id,
        owner_id=owner_id,
        lease_token=lease_token,
        generation=lane.generation + 1,
        expires_at_ms=now + ttl_ms,
    )


def is_lost(lane: Lane, lease: SessionLease) -> bool:
    """Whether the lease is not the lane's any more."""
    return (lane.generation, lane.lease_token) != (lease.generation, lease.lease_token)


def renewed(lane: Lane, lease: SessionLease, *, now: int, ttl_ms: int) -> SessionLease:
    """The lease with a later expiry than its lane has; never an earlier one, whatever a clock that was set back says,
    and whether or not the owner heard of the renewal before.
    """
    return SessionLease(
        session_id=lease.session_id,
        owner_id=lease.owner_id,
        lease_token=lease.lease_token,
        generation=lease.generation,
        expires_at_ms=max(lane.expires_at_ms, now + ttl_ms),
    )
