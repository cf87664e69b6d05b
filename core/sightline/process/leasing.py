"""Who may run a process: the rules of its lease.

A worker acquires the lease, renews it while it runs, and ends it with the process, in the transaction of the terminal
event. A worker that dies stops renewing, and what then may happen is the process's disposition: a `rerunnable` one is
taken by the next worker; an `owner_bound` one by nobody, it can only be abandoned; an `externally_owned` one has no
lease at all.

The fencing token grows with each acquisition and never goes back, also across releases. An owner may acquire its own
lease again, and what it had before is lost; so each attempt is an owner of its own, or two of them would fence each
other.

The clock decides who may begin, and who may go on: at its expiry a lease can be taken over and cannot be renewed. It
does not decide who may write: what is written under a lease that has expired and that nobody took over stands, because
the token, compared in the transaction that writes, is what makes two writers impossible, however clocks disagree.

Waiting is not crashing: a process that waits, perhaps for days, outlives many workers and must not use up its attempts
by that. So a renewal while it waits counts no attempt but this one.

An acquisition is charged as an attempt. A worker that hands the process back without having had a chance (it drains, or
something it needs is down) releases uncharged.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, structs

from sightline.errors import ProcessLeaseLost, ProcessNotYours, ProcessTerminal
from sightline.process.model import AbandonedOutput, ProcessBusy, ProcessLease, ProcessRecord

__all__ = ["Hold", "abandonment", "acquired", "check_rules", "forgiven", "is_free", "released", "renewed"]


class Hold(Struct, frozen=True):
    """A process's lease as a store keeps it. A free one has no owner; its fencing token stays for the next."""

    fencing_token: int = 0
    owner_id: str | None = None
    lease_token: str | None = None
    claimed_at_ms: int = 0
    expires_at_ms: int = 0

    @classmethod
    def of(cls, lease: ProcessLease) -> Hold:
        return cls(lease.fencing_token, lease.owner_id, lease.lease_token, lease.claimed_at_ms, lease.expires_at_ms)

    def freed(self) -> Hold:
        return Hold(self.fencing_token)


def is_free(hold: Hold, now: int) -> bool:
    """Whether there is something to do for a worker: nobody has it, or whoever had it is gone. Equal is expired."""
    return hold.owner_id is None or hold.expires_at_ms <= now


def acquired(
    record: ProcessRecord, hold: Hold, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
) -> tuple[ProcessRecord, ProcessLease] | ProcessBusy:
    """The record with one more attempt and the lease that `owner_id` gets, or who stands in its way.

    Raises ProcessTerminal, ProcessNotYours for one that is not run here.
    """
    if record.is_terminal:
        raise ProcessTerminal(record.process_id, record.status)
    if record.disposition == "externally_owned":
        raise ProcessNotYours(record.process_id, "is run by those who do its work elsewhere")
    if hold.owner_id is not None and hold.owner_id != owner_id:
        lapsed = hold.expires_at_ms <= now
        if not lapsed or record.disposition == "owner_bound":
            return ProcessBusy(hold.owner_id, hold.expires_at_ms)
    lease = ProcessLease(
        process_id=record.process_id,
        owner_id=owner_id,
        lease_token=lease_token,
        fencing_token=hold.fencing_token + 1,
        claimed_at_ms=now,
        expires_at_ms=now + ttl_ms,
    )
    started = now if record.started_at_ms is UNSET else record.started_at_ms
    return structs.replace(record, attempts=record.attempts + 1, started_at_ms=started), lease


def check_rules(hold: Hold, lease: ProcessLease) -> None:
    """Raises ProcessLeaseLost when the lease is not the process's any more."""
    if not _is(hold, lease):
        raise ProcessLeaseLost(lease.process_id, lease.fencing_token)


def renewed(hold: Hold, lease: ProcessLease, *, now: int, ttl_ms: int) -> ProcessLease:
    """The lease with a later expiry than its process has; never an earlier one, whatever a clock says that was set
    back.

    Raises ProcessLeaseLost also when it had expired: what runs under it may have been given up already.
    """
    check_rules(hold, lease)
    if hold.expires_at_ms <= now:
        raise ProcessLeaseLost(lease.process_id, lease.fencing_token)
    return structs.replace(lease, expires_at_ms=max(hold.expires_at_ms, now + ttl_ms))


def forgiven(record: ProcessRecord) -> ProcessRecord:
    """The record of a process that waits: of its attempts only the one under way counts."""
    return structs.replace(record, attempts=min(record.attempts, 1))


def released(
    record: ProcessRecord, hold: Hold, lease: ProcessLease, *, charge: bool
) -> tuple[ProcessRecord, Hold] | None:
    """The record and its free lease; none when the lease does not rule any more, and nothing is to be done."""
    if not _is(hold, lease):
        return None
    attempts = record.attempts if charge else record.attempts - 1
    started = UNSET if attempts == 0 else record.started_at_ms
    return structs.replace(record, attempts=attempts, started_at_ms=started), hold.freed()


def abandonment(record: ProcessRecord, hold: Hold, *, found_by: str, now: int) -> AbandonedOutput:
    """What an owner-bound process comes to whose owner let its lease lapse; that lease is the evidence.

    Raises ProcessTerminal, ProcessNotYours without evidence.
    """
    if record.is_terminal:
        raise ProcessTerminal(record.process_id, record.status)
    if record.disposition != "owner_bound":
        raise ProcessNotYours(record.process_id, f"is {record.disposition}: it cannot be abandoned")
    if hold.owner_id is None:
        raise ProcessNotYours(record.process_id, "is not abandoned: it has no owner that could be gone")
    if hold.expires_at_ms > now:
        raise ProcessNotYours(record.process_id, f"is not abandoned: {hold.owner_id!r} has it")
    return AbandonedOutput(
        message=f"its owner {hold.owner_id} is gone",
        owner_id=hold.owner_id,
        fencing_token=hold.fencing_token,
        # A lease that was ended because its owner's program was gone has no time but this one.
        expired_at_ms=hold.expires_at_ms or now,
        found_by=found_by,
    )


def _is(hold: Hold, lease: ProcessLease) -> bool:
    return (hold.fencing_token, hold.owner_id, hold.lease_token) == (
        lease.fencing_token,
        lease.owner_id,
        lease.lease_token,
    )
