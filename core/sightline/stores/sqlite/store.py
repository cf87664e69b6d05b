"""The adapter: each port method as one transaction on the writer's connection, or one view on the reader's.

Nothing is decided here that a rule decides; what a method does is its transaction, in its subject's module.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sightline.errors import (
    StoreUnavailable,
)
from sightline.observation.model import SessionState
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
from sightline.process.rules import SESSION_DELETED, checked
from sightline.queue.model import Batch, Boundary, Cancellation, Claim, Draft, Enqueued, NothingClaimed
from sightline.queue.rules import check_draft, content_hash
from sightline.session.model import (
    AgentFrame,
    LaneBusy,
    LeaseRequest,
    MessagePage,
    NewSession,
    Request,
    SessionEntry,
    SessionLease,
    SessionPage,
    SessionRecord,
    Status,
    Usage,
)
from sightline.startup_errors import (
    StartupError,
)
from sightline.stores.sqlite import (
    batches,
    cancelling,
    claims,
    commits,
    granting,
    journals,
    leases,
    processes,
    requests,
    sessions,
    tasks,
    waking,
)
from sightline.stores.sqlite.connection import (
    Connection,
    Lock,
    Synchronous,
    connect,
    migrate_schema,
    transaction,
    unusable,
)
from sightline.stores.sqlite.statements import first, run
from sightline.stores.sqlite.writer import Writer
from sightline.tasks.model import (
    ChangedTask,
    Flavour,
    NewTask,
    RegisteredTask,
    TaskChange,
    TaskKind,
    TaskName,
    TaskRecord,
    Transferred,
)
from sightline.tasks.monitoring import MonitorRecord
from sightline.turn.commit import CommitResult, TurnCommit, stamp_hash
from sightline.turn.requests import Asked

__all__ = ["SqliteStore", "Synchronous", "migrate"]

_T = TypeVar("_T")
_P = ParamSpec("_P")


def migrate(path: Path) -> tuple[int, int]:
    """Bring a database file to this release's schema, creating it if need be: (version before, version after).

    Raises StartupError: the file is in use, cannot be used, or is newer.
    """
    lock = Lock(path)
    try:
        connection = connect(path, "FULL")
        try:
            return migrate_schema(connection, path)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise unusable(path, error) from None
    finally:
        lock.release()


class SqliteStore:
    """See the ports for what every method promises. Made with `open`; holds the file's lock until `close`."""

    def __init__(self, lock: Lock, writing: Connection, reading: Connection, incarnation: int) -> None:
        self.incarnation = incarnation
        self._lock = lock
        self._writer = Writer(writing)
        self._reading = reading
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sightline sqlite reader")
        self._writer.start()

    @classmethod
    def open(cls, path: Path, synchronous: Synchronous = "FULL") -> SqliteStore:
        """Take the file, bring its schema up to date, and void the claims of former owners.

        Raises StartupError with nothing left open.
        """
        lock = Lock(path)
        opened: list[Connection] = []
        try:
            writing = connect(path, synchronous)
            opened.append(writing)
            migrate_schema(writing, path)
            with transaction(writing):
                incarnation = int(first(writing, "bump_incarnation")[0])
                run(writing, "void_claims")
                run(writing, "void_leases")
                run(writing, "lapse_process_leases")
                writing.last_touch = first(writing, "last_touch")[0] or 0
            reading = connect(path, synchronous, read_only=True)
            opened.append(reading)
        except (sqlite3.Error, OSError, StartupError) as error:
            for connection in opened:
                connection.close()
            lock.release()
            if isinstance(error, StartupError):
                raise
            raise unusable(path, error) from None
        return cls(lock, writing, reading, incarnation)

    @property
    def writer(self) -> Writer:
        """The writer, for its counters."""
        return self._writer

    async def close(self) -> None:
        """Finish what was submitted and let the file go. Idempotent."""
        await self._writer.stop()
        self._reader.shutdown(wait=True)
        self._reading.close()
        self._lock.release()

    async def _read(
        self,
        work: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run `work` on the reader's connection, as one consistent view of what is committed and has been told."""

        def view() -> _T:
            self._reading.execute("BEGIN")
            try:
                return work(self._reading, *args, **kwargs)
            finally:
                self._reading.execute("ROLLBACK")

        try:
            reading = asyncio.get_running_loop().run_in_executor(self._reader, view)
        except RuntimeError:
            raise StoreUnavailable("it is closed") from None
        try:
            return await reading
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error
        finally:
            await self._writer.all_told()

    # Sessions

    async def create_session(self, new: NewSession, now: int, then: Callable[[SessionRecord], None]) -> SessionRecord:
        return await self._writer.submit(lambda db: sessions.create_session(db, new, now), then)

    async def load_session(self, session_id: str, newest: int) -> SessionState:
        return await self._read(tasks.load_session, session_id, newest)

    async def list_sessions(self, *, limit: int, after: int | None, status: Status | None) -> SessionPage:
        return await self._read(sessions.list_sessions, limit, after, status)

    async def session_entries(self, session_ids: Sequence[str]) -> tuple[SessionEntry, ...]:
        return await self._read(sessions.session_entries, session_ids)

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage:
        return await self._read(sessions.page_messages, session_id, before, limit)

    async def list_frames(self, session_id: str) -> tuple[AgentFrame, ...]:
        return await self._read(sessions.list_frames, session_id)

    async def delete_session(self, session_id: str, now: int, then: Callable[[GrantsEnded], None]) -> GrantsEnded:
        def work(db: Connection) -> GrantsEnded:
            # Grants are made to sessions that are there: of another one, none is taken away.
            ended = granting.end_grants(db, session_id, SESSION_DELETED, now)
            sessions.delete_session(db, session_id, now)
            return ended

        return await self._writer.submit(work, then)

    async def acquire_lease(
        self, session_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
    ) -> SessionLease | LaneBusy:
        return await self._writer.submit(
            lambda db: leases.acquire_lease(db, session_id, owner_id, lease_token, now, ttl_ms)
        )

    async def renew_lease(self, lease: SessionLease, *, now: int, ttl_ms: int) -> SessionLease:
        return await self._writer.submit(lambda db: leases.renew_lease(db, lease, now, ttl_ms))

    async def release_lease(self, lease: SessionLease) -> None:
        await self._writer.submit(lambda db: leases.release_lease(db, lease))

    # Queue

    async def enqueue(
        self, draft: Draft, *, batch_id: str, now: int, max_open: int, then: Callable[[Enqueued], None]
    ) -> Enqueued:
        check_draft(draft)
        fingerprint = content_hash(draft)
        return await self._writer.submit(
            lambda db: batches.enqueue(db, draft, fingerprint, batch_id, now, max_open), then
        )

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
        def work(db: Connection) -> Claim | NothingClaimed:
            return claims.claim(
                db,
                session_id,
                boundary,
                owner_id=owner_id,
                turn_id=turn_id,
                lease_token=lease_token,
                now=now,
                ttl_ms=ttl_ms,
                max_batches=max_batches,
                lease=lease,
                batch_ids=batch_ids,
            )

        def claimed(result: Claim | NothingClaimed) -> None:
            if isinstance(result, Claim):
                then(result)

        return await self._writer.submit(work, claimed)

    async def renew(self, claim: Claim, *, now: int, ttl_ms: int) -> Claim:
        return await self._writer.submit(lambda db: claims.renew(db, claim, now, ttl_ms))

    async def abandon(self, claim: Claim, *, charge: bool, then: Callable[[tuple[Batch, ...]], None]) -> None:
        await self._writer.submit(lambda db: claims.abandon(db, claim, charge), then)

    async def cancel_batch(self, session_id: str, batch_id: str, *, now: int, then: Callable[[Batch], None]) -> Batch:
        return await self._writer.submit(lambda db: cancelling.cancel_batch(db, session_id, batch_id, now), then)

    async def cancel_from(
        self,
        session_id: str,
        batch_id: str,
        *,
        now: int,
        then: Callable[[tuple[tuple[Batch, ...], tuple[Batch, ...]]], None],
    ) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        return await self._writer.submit(lambda db: cancelling.cancel_from(db, session_id, batch_id, now), then)

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
        def work(db: Connection) -> Cancellation:
            return cancelling.request_cancel(
                db, session_id, turn_id=turn_id, source_key=source_key, reason=reason, now=now
            )

        return await self._writer.submit(work, then)

    async def get_batch(self, session_id: str, batch_id: str) -> Batch:
        return await self._read(batches.get_batch, session_id, batch_id)

    async def list_batches(self, session_id: str, *, pending_only: bool, limit: int) -> tuple[Batch, ...]:
        return await self._read(batches.list_batches, session_id, pending_only, limit)

    async def peek_claimable(self, session_id: str, now: int) -> bool:
        return await self._read(batches.peek_claimable, session_id, now)

    async def claimable_sessions(self, now: int, limit: int, after: str = "") -> tuple[str, ...]:
        return await self._read(batches.claimable_sessions, now, limit, after)

    async def next_due(self, now: int) -> int | None:
        return await self._read(batches.next_due, now)

    async def purge_ended(self, before: int, limit: int) -> int:
        return await self._writer.submit(lambda db: batches.purge_ended(db, before, limit))

    async def purge_keys(self, before: int, limit: int) -> int:
        return await self._writer.submit(lambda db: batches.purge_keys(db, before, limit))

    # Commit

    async def commit(self, commit: TurnCommit, then: Callable[[CommitResult], None]) -> CommitResult:
        digest = stamp_hash(commit)
        return await self._writer.submit(lambda db: commits.commit_turn(db, commit, digest), then)

    async def turn_usage(self, session_id: str, turn_id: str) -> Usage:
        return await self._read(commits.turn_usage, session_id, turn_id)

    async def count_usage(self, session_id: str, key: str, usage: Usage, *, then: Callable[[bool], None]) -> bool:
        return await self._writer.submit(lambda db: commits.count_usage(db, session_id, key, usage), then)

    # The turn's journal

    async def remember(
        self, session_id: str, turn_id: str, key: str, value: str, *, lease: SessionLease, replace: bool
    ) -> str:
        return await self._writer.submit(
            lambda db: journals.remember(db, session_id, turn_id, key, value, lease, replace)
        )

    async def recall(self, session_id: str, turn_id: str) -> dict[str, str]:
        return await self._read(journals.recall, session_id, turn_id)

    # Requests

    async def open_request(
        self, session_id: str, request: Request, key: str, *, lease: SessionLease, then: Callable[[Asked], None]
    ) -> Asked:
        return await self._writer.submit(lambda db: requests.open_request(db, session_id, request, key, lease), then)

    async def answer_request(
        self, session_id: str, request_id: str, answer: str, *, then: Callable[[Asked], None]
    ) -> Asked:
        return await self._writer.submit(lambda db: requests.answer_request(db, session_id, request_id, answer), then)

    async def answers_to(self, request_ids: Sequence[str]) -> dict[str, str]:
        return await self._read(requests.answers_to, request_ids)

    async def purge_requests(self, before: int, limit: int) -> int:
        return await self._writer.submit(lambda db: requests.purge_requests(db, before, limit))

    # Processes

    async def register_process(
        self,
        registration: Registration,
        *,
        grants: Sequence[NewGrant] = (),
        now: int,
        then: Callable[[Registered], None],
    ) -> Registered:
        whole = checked(registration)
        return await self._writer.submit(lambda db: granting.register_process(db, whole, grants, now), then)

    async def get_process(self, process_id: str) -> ProcessRecord:
        return await self._read(processes.get_process, process_id)

    async def list_processes(
        self, *, limit: int, after: int | None, status: ProcessStatus | None = None, kind: str | None = None
    ) -> ProcessPage:
        return await self._read(processes.list_processes, limit, after, status, kind)

    async def runnable_processes(
        self, *, now: int, limit: int, after: str = "", host_profile_id: str | None = None
    ) -> tuple[ProcessRecord, ...]:
        return await self._read(processes.runnable_processes, now, limit, after, host_profile_id)

    async def set_external_ref(
        self, process_id: str, ref: ExternalRef, *, now: int, then: Callable[[ProcessRecord], None]
    ) -> ProcessRecord:
        return await self._writer.submit(lambda db: processes.set_external_ref(db, process_id, ref, now), then)

    async def list_process_events(
        self, process_id: str, *, after: int, limit: int, event_type: str | None = None
    ) -> tuple[ProcessEvent, ...]:
        return await self._read(processes.list_process_events, process_id, after, limit, event_type)

    async def process_value(self, process_id: str, attachment_id: str) -> bytes:
        return await self._read(processes.process_value, process_id, attachment_id)

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
        return await self._writer.submit(
            lambda db: processes.append_event(db, process_id, event, now=now, lease=lease, seen_from=seen_from), then
        )

    async def abandon_process(
        self, process_id: str, *, found_by: str, now: int, then: Callable[[Appended], None]
    ) -> Appended:
        return await self._writer.submit(lambda db: processes.abandon_process(db, process_id, found_by, now), then)

    async def acquire_process_lease(
        self, process_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
    ) -> ProcessLease | ProcessBusy:
        return await self._writer.submit(
            lambda db: processes.acquire_process_lease(db, process_id, owner_id, lease_token, now, ttl_ms)
        )

    async def renew_process_lease(
        self, lease: ProcessLease, *, now: int, ttl_ms: int, waits: bool = False
    ) -> ProcessLease:
        return await self._writer.submit(lambda db: processes.renew_process_lease(db, lease, now, ttl_ms, waits))

    async def release_process_lease(self, lease: ProcessLease, *, charge: bool = True) -> None:
        await self._writer.submit(lambda db: processes.release_process_lease(db, lease, charge))

    async def grant_process(
        self, process_id: str, scope: ProcessScope, descriptor: dict[str, Any], *, then: Callable[[HandleGrant], None]
    ) -> HandleGrant:
        return await self._writer.submit(lambda db: granting.grant_process(db, process_id, scope, descriptor), then)

    async def revoke_process(self, process_id: str, scope: ProcessScope, *, then: Callable[[bool], None]) -> bool:
        return await self._writer.submit(lambda db: granting.revoke_process(db, process_id, scope), then)

    async def transfer_grants(
        self,
        source: ProcessScope,
        target: ProcessScope,
        process_ids: Sequence[str],
        *,
        then: Callable[[tuple[HandleGrant, ...]], None],
    ) -> tuple[HandleGrant, ...]:
        return await self._writer.submit(lambda db: granting.transfer_grants(db, source, target, process_ids), then)

    async def cancel_unreferenced(
        self, scope: ProcessScope, keep: Sequence[str], *, reason: str, now: int, then: Callable[[GrantsEnded], None]
    ) -> GrantsEnded:
        return await self._writer.submit(lambda db: granting.cancel_unreferenced(db, scope, keep, reason, now), then)

    async def end_grants(
        self, session_id: str, *, reason: str, now: int, then: Callable[[GrantsEnded], None]
    ) -> GrantsEnded:
        return await self._writer.submit(lambda db: granting.end_grants(db, session_id, reason, now), then)

    async def grants_of_process(self, process_id: str) -> tuple[GrantHolder, ...]:
        return await self._read(granting.grants_of_process, process_id)

    async def list_live_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        return await self._read(granting.list_grants, scope, live=True)

    async def list_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        return await self._read(granting.list_grants, scope, live=False)

    async def pending_wakes(self, *, limit: int, after: int = 0) -> tuple[PendingWake, ...]:
        return await self._read(processes.pending_wakes, limit, after)

    async def deliver_wake(
        self, position: int, *, batch_id: str, now: int, max_open: int, then: Callable[[WakeDelivery], None]
    ) -> WakeDelivery:
        return await self._writer.submit(lambda db: waking.deliver_wake(db, position, batch_id, now, max_open), then)

    # Tasks

    async def register_task(
        self,
        session_id: str,
        new: NewTask,
        *,
        flavour: Flavour,
        max_live: int,
        now: int,
        then: Callable[[RegisteredTask], None],
    ) -> RegisteredTask:
        return await self._writer.submit(
            lambda db: tasks.register_task(db, session_id, new, flavour, self.incarnation, max_live, now), then
        )

    async def change_task(
        self, task: TaskName | int, change: TaskChange, *, now: int, then: Callable[[ChangedTask | None], None]
    ) -> ChangedTask | None:
        return await self._writer.submit(lambda db: tasks.change_task(db, task, change, now), then)

    async def get_task(self, task: TaskName | int) -> TaskRecord:
        return await self._read(tasks.get_task, task)

    async def list_tasks(self, session_id: str, *, live: bool, limit: int) -> tuple[TaskRecord, ...]:
        return await self._read(tasks.list_tasks, session_id, live, limit)

    async def live_tasks_of_kind(self, kind: TaskKind) -> tuple[TaskRecord, ...]:
        return await self._read(tasks.live_tasks_of_kind, kind)

    async def transfer_tasks(
        self,
        source: str,
        target: str,
        task_ids: Sequence[str],
        *,
        now: int,
        then: Callable[[tuple[Transferred, ...]], None],
    ) -> tuple[Transferred, ...]:
        return await self._writer.submit(lambda db: tasks.transfer_tasks(db, source, target, task_ids, now), then)

    async def remove_task(self, task: TaskName, *, then: Callable[[TaskRecord | None], None]) -> TaskRecord | None:
        return await self._writer.submit(lambda db: tasks.remove_task(db, task), then)

    async def lose_tasks(self, *, now: int, then: Callable[[tuple[TaskRecord, ...]], None]) -> tuple[TaskRecord, ...]:
        return await self._writer.submit(lambda db: tasks.lose_tasks(db, self.incarnation, now), then)

    async def purge_tasks(self, before: int, limit: int) -> int:
        return await self._writer.submit(lambda db: tasks.purge_tasks(db, before, limit))

    async def put_monitor(self, record: MonitorRecord, *, then: Callable[[None], None]) -> None:
        await self._writer.submit(lambda db: tasks.put_monitor(db, record), then)

    async def monitored_sessions(self) -> tuple[str, ...]:
        return await self._read(tasks.monitored_sessions)

    async def list_monitors(self, session_id: str) -> tuple[MonitorRecord, ...]:
        return await self._read(tasks.list_monitors, session_id, self.incarnation)
