"""What the kernel needs from a registry of processes, and what observers need of it.

The registry lives in the same database as the sessions: who sees a process ends with the session that sees it, and a
wake gets into a queue in the transaction that takes it out of the outbox. What an event does is decided by
`sightline.process.appending`, called inside the transaction. `then` is what it is in `sightline.session.port`: whoever
it tells pokes those who wait for work, for ends and for wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sightline.process.model import (
    Appended,
    ExternalRef,
    GrantHolder,
    GrantsEnded,
    HandleGrant,
    NewEvent,
    NewGrant,
    PendingWake,
    ProcessBusy,
    ProcessEvent,
    ProcessLease,
    ProcessPage,
    ProcessRecord,
    ProcessScope,
    ProcessStatus,
    Registered,
    Registration,
    WakeDelivery,
)

__all__ = ["ProcessReader", "ProcessRegistry", "ProcessStore"]


class ProcessRegistry(Protocol):
    """The part of a registry that is read here. May be asked at any time, also while a turn runs."""

    async def list_live_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        """The scope's grants of processes that have not ended. May raise anything; the reader is told."""
        ...

    async def list_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        """The scope's grants, also of processes that have ended."""
        ...


class ProcessReader(Protocol):
    """The part of a registry that those who wait look at."""

    async def get_process(self, process_id: str) -> ProcessRecord:
        """Raises ProcessNotFound."""
        ...

    async def list_process_events(
        self, process_id: str, *, after: int, limit: int, event_type: str | None = None
    ) -> tuple[ProcessEvent, ...]:
        """The events behind that sequence, in order, at most `limit`; of one type only, if one is named.

        Raises ProcessNotFound.
        """
        ...

    async def process_value(self, process_id: str, attachment_id: str) -> bytes:
        """The JSON of a value that the log of the process only names. Raises ProcessNotFound, ProcessValueNotFound."""
        ...


class ProcessStore(ProcessRegistry, ProcessReader, Protocol):
    """Processes, their logs, and who sees and runs them.

    Methods that name a process raise ProcessNotFound when it is not there, unless they say otherwise.
    """

    # Processes

    async def register_process(
        self,
        registration: Registration,
        *,
        grants: Sequence[NewGrant] = (),
        now: int,
        then: Callable[[Registered], None],
    ) -> Registered:
        """Store the process and its grants, all or nothing, or find the one that the same registration brought before;
        then no grants are made: whoever was to see it does, unless that has been changed since.

        Raises InvalidInput (`process.rules.checked`), ProcessConflict when the id came with other content, and
        SessionNotFound, SessionDeleted for a grant to a session that is not there.
        """
        ...

    async def list_processes(
        self, *, limit: int, after: int | None, status: ProcessStatus | None = None, kind: str | None = None
    ) -> ProcessPage:
        """The newest registration first; `after` is the number a former page ended with (its `next`)."""
        ...

    async def runnable_processes(
        self, *, now: int, limit: int, after: str = "", host_profile_id: str | None = None
    ) -> tuple[ProcessRecord, ...]:
        """Those that run, are run here, and that nobody has now, in the order of their ids behind `after`.

        Owner-bound ones whose owner is gone are among them: there is something to do about them. With a profile, those
        of that profile only.
        """
        ...

    async def set_external_ref(
        self, process_id: str, ref: ExternalRef, *, now: int, then: Callable[[ProcessRecord], None]
    ) -> ProcessRecord:
        """Say how the process is called elsewhere; a later word replaces an earlier one. Raises InvalidInput."""
        ...

    # The log

    async def append_event(
        self,
        process_id: str,
        event: NewEvent,
        *,
        now: int,
        then: Callable[[Appended], None],
        lease: ProcessLease | None = None,
        seen_from: Sequence[ProcessScope] | None = None,
    ) -> Appended:
        """Log the event, and do what it means, in one transaction: status and output, the lease's end with the
        process's, and the wake into the outbox.

        `lease`: under which process lease. `seen_from`: only if the process is granted to one of these scopes. What is
        raised, and in which order, is told in `process.appending`; before all of it comes HandleNotVisible.
        """
        ...

    async def abandon_process(
        self, process_id: str, *, found_by: str, now: int, then: Callable[[Appended], None]
    ) -> Appended:
        """End an owner-bound process whose owner is gone. Raises ProcessTerminal, ProcessNotYours without evidence."""
        ...

    # Who runs it

    async def acquire_process_lease(
        self, process_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
    ) -> ProcessLease | ProcessBusy:
        """Become the process's owner, if `process.leasing` lets this one. Raises ProcessTerminal, ProcessNotYours."""
        ...

    async def renew_process_lease(
        self, lease: ProcessLease, *, now: int, ttl_ms: int, waits: bool = False
    ) -> ProcessLease:
        """The same lease with a later expiry; when the process `waits`, earlier attempts do not count any more.

        Raises ProcessLeaseLost when it expired, was taken over or ended.
        """
        ...

    async def release_process_lease(self, lease: ProcessLease, *, charge: bool = True) -> None:
        """Free the process for the next owner at once; without `charge` the attempt is not counted.

        A lease that does not rule any more changes nothing. Raises nothing of its own.
        """
        ...

    # Who sees it

    async def grant_process(
        self, process_id: str, scope: ProcessScope, descriptor: dict[str, Any], *, then: Callable[[HandleGrant], None]
    ) -> HandleGrant:
        """Let the scope see the process; granted again, it is called anew.

        Raises InvalidInput for a descriptor that cannot be stored, SessionNotFound, SessionDeleted.
        """
        ...

    async def revoke_process(self, process_id: str, scope: ProcessScope, *, then: Callable[[bool], None]) -> bool:
        """Whether there was a grant, which there is not any more. The process goes on. Raises nothing of its own."""
        ...

    async def transfer_grants(
        self,
        source: ProcessScope,
        target: ProcessScope,
        process_ids: Sequence[str],
        *,
        then: Callable[[tuple[HandleGrant, ...]], None],
    ) -> tuple[HandleGrant, ...]:
        """Hand processes over, all or none, each by the name it had; by process id. Of none it does nothing.

        Where the target sees one already, it is called there as it was here. Raises HandleNotGranted, and
        SessionNotFound, SessionDeleted for a target that is not there.
        """
        ...

    async def cancel_unreferenced(
        self, scope: ProcessScope, keep: Sequence[str], *, reason: str, now: int, then: Callable[[GrantsEnded], None]
    ) -> GrantsEnded:
        """Take from the scope all processes but these, and ask for the end of those that nobody else sees."""
        ...

    async def end_grants(
        self, session_id: str, *, reason: str, now: int, then: Callable[[GrantsEnded], None]
    ) -> GrantsEnded:
        """Take from a session, and all its frames, all processes, and ask for the end of those that nobody else sees.

        Raises nothing of its own.
        """
        ...

    async def delete_session(self, session_id: str, now: int, then: Callable[[GrantsEnded], None]) -> GrantsEnded:
        """Erase the session with its messages, batches, keys, lease, stamps, journals and requests, fence the id for
        good, and do what `end_grants` does, all in one transaction.

        Raises SessionNotFound, SessionDeleted.
        """
        ...

    async def grants_of_process(self, process_id: str) -> tuple[GrantHolder, ...]:
        """All who see it, by session and frame. Nobody is legal, and so is a process that is not there."""
        ...

    # Wakes

    async def pending_wakes(self, *, limit: int, after: int = 0) -> tuple[PendingWake, ...]:
        """Wakes that are to be put into a queue, in the order in which they were asked for."""
        ...

    async def deliver_wake(
        self, position: int, *, batch_id: str, now: int, max_open: int, then: Callable[[WakeDelivery], None]
    ) -> WakeDelivery:
        """Put the wake into the queue of its target and take it out of the outbox, in one transaction and for good.

        Where the target is gone it is discarded. Of one that is not in the outbox any more nothing is done, so wakes
        may be delivered from several places at once. Raises QueueFull when `max_open` batches are open there.
        """
        ...
