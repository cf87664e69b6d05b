"""The adapter: each port method as one synchronous step, so it is atomic by construction.

Everything that could fail is decided before anything is changed. `then` is called before the caller resumes, as the
ports want it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sightline.clock import Clock
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
from sightline.queue.model import Batch, Boundary, Cancellation, Claim, Draft, Enqueued, NothingClaimed
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
from sightline.stores.memory import (
    batches,
    cancelling,
    claims,
    commits,
    granting,
    journals,
    processes,
    requests,
    sessions,
    tasks,
    waking,
)
from sightline.stores.memory.state import State
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
from sightline.turn.commit import CommitResult, TurnCommit
from sightline.turn.requests import Asked

__all__ = ["MemoryStore"]


class MemoryStore:
    """See the ports for what every method promises."""

    def __init__(self, clock: Clock) -> None:
        # Where nothing is kept, the time of creation is the only number that grows from life to life.
        self.incarnation = clock.now_ms()
        self._state = State()

    async def close(self) -> None:
        pass

    # Sessions

    async def create_session(self, new: NewSession, now: int, then: Callable[[SessionRecord], None]) -> SessionRecord:
        record = sessions.create_session(self._state, new, now)
        then(record)
        return record

    async def load_session(self, session_id: str, newest: int) -> SessionState:
        session = granting.with_processes(self._state, sessions.load_session(self._state, session_id, newest))
        return tasks.with_tasks(self._state, session)

    async def list_sessions(self, *, limit: int, after: int | None, status: Status | None) -> SessionPage:
        return sessions.list_sessions(self._state, limit, after, status)

    async def session_entries(self, session_ids: Sequence[str]) -> tuple[SessionEntry, ...]:
        return sessions.session_entries(self._state, session_ids)

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage:
        return sessions.page_messages(self._state, session_id, before, limit)

    async def list_frames(self, session_id: str) -> tuple[AgentFrame, ...]:
        return sessions.list_frames(self._state, session_id)

    async def delete_session(self, session_id: str, now: int, then: Callable[[GrantsEnded], None]) -> GrantsEnded:
        ended = sessions.delete_session(self._state, session_id, now)
        then(ended)
        return ended

    async def acquire_lease(
        self, session_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
    ) -> SessionLease | LaneBusy:
        return sessions.acquire_lease(self._state, session_id, owner_id, lease_token, now, ttl_ms)

    async def renew_lease(self, lease: SessionLease, *, now: int, ttl_ms: int) -> SessionLease:
        return sessions.renew_lease(self._state, lease, now, ttl_ms)

    async def release_lease(self, lease: SessionLease) -> None:
        sessions.release_lease(self._state, lease)

    # Queue

    async def enqueue(
        self, draft: Draft, *, batch_id: str, now: int, max_open: int, then: Callable[[Enqueued], None]
    ) -> Enqueued:
        stored = batches.enqueue(self._state, draft, batch_id, now, max_open)
        then(stored)
        return stored

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
        claim = claims.claim(
            self._state,
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
        if isinstance(claim, Claim):
            then(claim)
        return claim

    async def renew(self, claim: Claim, *, now: int, ttl_ms: int) -> Claim:
        return claims.renew(self._state, claim, now, ttl_ms)

    async def abandon(self, claim: Claim, *, charge: bool, then: Callable[[tuple[Batch, ...]], None]) -> None:
        then(claims.abandon(self._state, claim, charge))

    async def cancel_batch(self, session_id: str, batch_id: str, *, now: int, then: Callable[[Batch], None]) -> Batch:
        batch = cancelling.cancel_batch(self._state, session_id, batch_id, now)
        then(batch)
        return batch

    async def cancel_from(
        self,
        session_id: str,
        batch_id: str,
        *,
        now: int,
        then: Callable[[tuple[tuple[Batch, ...], tuple[Batch, ...]]], None],
    ) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        both = cancelling.cancel_from(self._state, session_id, batch_id, now)
        then(both)
        return both

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
        answer = cancelling.request_cancel(
            self._state, session_id, turn_id=turn_id, source_key=source_key, reason=reason, now=now
        )
        then(answer)
        return answer

    async def get_batch(self, session_id: str, batch_id: str) -> Batch:
        return self._state.row(session_id, batch_id).batch

    async def list_batches(self, session_id: str, *, pending_only: bool, limit: int) -> tuple[Batch, ...]:
        return batches.list_batches(self._state, session_id, pending_only, limit)

    async def peek_claimable(self, session_id: str, now: int) -> bool:
        return batches.peek_claimable(self._state, session_id, now)

    async def claimable_sessions(self, now: int, limit: int, after: str = "") -> tuple[str, ...]:
        return batches.claimable_sessions(self._state, now, limit, after)

    async def next_due(self, now: int) -> int | None:
        return batches.next_due(self._state, now)

    async def purge_ended(self, before: int, limit: int) -> int:
        return batches.purge_ended(self._state, before, limit)

    async def purge_keys(self, before: int, limit: int) -> int:
        return batches.purge_keys(self._state, before, limit)

    # Commit

    async def commit(self, commit: TurnCommit, then: Callable[[CommitResult], None]) -> CommitResult:
        result = commits.commit_turn(self._state, commit)
        then(result)
        return result

    async def turn_usage(self, session_id: str, turn_id: str) -> Usage:
        return commits.turn_usage(self._state, session_id, turn_id)

    async def count_usage(self, session_id: str, key: str, usage: Usage, *, then: Callable[[bool], None]) -> bool:
        counted = commits.count_usage(self._state, session_id, key, usage)
        then(counted)
        return counted

    # The turn's journal

    async def remember(
        self, session_id: str, turn_id: str, key: str, value: str, *, lease: SessionLease, replace: bool
    ) -> str:
        return journals.remember(self._state, session_id, turn_id, key, value, lease, replace)

    async def recall(self, session_id: str, turn_id: str) -> dict[str, str]:
        return journals.recall(self._state, session_id, turn_id)

    # Requests

    async def open_request(
        self, session_id: str, request: Request, key: str, *, lease: SessionLease, then: Callable[[Asked], None]
    ) -> Asked:
        asked = requests.open_request(self._state, session_id, request, key, lease)
        then(asked)
        return asked

    async def answer_request(
        self, session_id: str, request_id: str, answer: str, *, then: Callable[[Asked], None]
    ) -> Asked:
        asked = requests.answer_request(self._state, session_id, request_id, answer)
        then(asked)
        return asked

    async def answers_to(self, request_ids: Sequence[str]) -> dict[str, str]:
        return requests.answers_to(self._state, request_ids)

    async def purge_requests(self, before: int, limit: int) -> int:
        return requests.purge_requests(self._state, before, limit)

    # Processes

    async def register_process(
        self,
        registration: Registration,
        *,
        grants: Sequence[NewGrant] = (),
        now: int,
        then: Callable[[Registered], None],
    ) -> Registered:
        registered = granting.register_process(self._state, registration, grants, now)
        then(registered)
        return registered

    async def get_process(self, process_id: str) -> ProcessRecord:
        return self._state.processes.process(process_id).record

    async def list_processes(
        self, *, limit: int, after: int | None, status: ProcessStatus | None = None, kind: str | None = None
    ) -> ProcessPage:
        return processes.list_processes(self._state.processes, limit, after, status, kind)

    async def runnable_processes(
        self, *, now: int, limit: int, after: str = "", host_profile_id: str | None = None
    ) -> tuple[ProcessRecord, ...]:
        return processes.runnable_processes(self._state.processes, now, limit, after, host_profile_id)

    async def set_external_ref(
        self, process_id: str, ref: ExternalRef, *, now: int, then: Callable[[ProcessRecord], None]
    ) -> ProcessRecord:
        record = processes.set_external_ref(self._state.processes, process_id, ref, now)
        then(record)
        return record

    async def list_process_events(
        self, process_id: str, *, after: int, limit: int, event_type: str | None = None
    ) -> tuple[ProcessEvent, ...]:
        return processes.list_process_events(self._state.processes, process_id, after, limit, event_type)

    async def process_value(self, process_id: str, attachment_id: str) -> bytes:
        return processes.process_value(self._state.processes, process_id, attachment_id)

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
        result = processes.append_event(
            self._state.processes, process_id, event, now=now, lease=lease, seen_from=seen_from
        )
        then(result)
        return result

    async def abandon_process(
        self, process_id: str, *, found_by: str, now: int, then: Callable[[Appended], None]
    ) -> Appended:
        result = processes.abandon_process(self._state.processes, process_id, found_by, now)
        then(result)
        return result

    async def acquire_process_lease(
        self, process_id: str, *, owner_id: str, lease_token: str, now: int, ttl_ms: int
    ) -> ProcessLease | ProcessBusy:
        return processes.acquire_process_lease(self._state.processes, process_id, owner_id, lease_token, now, ttl_ms)

    async def renew_process_lease(
        self, lease: ProcessLease, *, now: int, ttl_ms: int, waits: bool = False
    ) -> ProcessLease:
        return processes.renew_process_lease(self._state.processes, lease, now, ttl_ms, waits)

    async def release_process_lease(self, lease: ProcessLease, *, charge: bool = True) -> None:
        processes.release_process_lease(self._state.processes, lease, charge)

    async def grant_process(
        self, process_id: str, scope: ProcessScope, descriptor: dict[str, Any], *, then: Callable[[HandleGrant], None]
    ) -> HandleGrant:
        granted = granting.grant_process(self._state, process_id, scope, descriptor)
        then(granted)
        return granted

    async def revoke_process(self, process_id: str, scope: ProcessScope, *, then: Callable[[bool], None]) -> bool:
        revoked = granting.revoke_process(self._state, process_id, scope)
        then(revoked)
        return revoked

    async def transfer_grants(
        self,
        source: ProcessScope,
        target: ProcessScope,
        process_ids: Sequence[str],
        *,
        then: Callable[[tuple[HandleGrant, ...]], None],
    ) -> tuple[HandleGrant, ...]:
        moved = granting.transfer_grants(self._state, source, target, process_ids)
        then(moved)
        return moved

    async def cancel_unreferenced(
        self, scope: ProcessScope, keep: Sequence[str], *, reason: str, now: int, then: Callable[[GrantsEnded], None]
    ) -> GrantsEnded:
        ended = granting.cancel_unreferenced(self._state, scope, keep, reason, now)
        then(ended)
        return ended

    async def end_grants(
        self, session_id: str, *, reason: str, now: int, then: Callable[[GrantsEnded], None]
    ) -> GrantsEnded:
        ended = granting.end_grants(self._state, session_id, reason, now)
        then(ended)
        return ended

    async def grants_of_process(self, process_id: str) -> tuple[GrantHolder, ...]:
        return granting.grants_of_process(self._state, process_id)

    async def list_live_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        return granting.list_grants(self._state, scope, live=True)

    async def list_handle_grants(self, scope: ProcessScope) -> Sequence[HandleGrant]:
        return granting.list_grants(self._state, scope, live=False)

    async def pending_wakes(self, *, limit: int, after: int = 0) -> tuple[PendingWake, ...]:
        return processes.pending_wakes(self._state.processes, limit, after)

    async def deliver_wake(
        self, position: int, *, batch_id: str, now: int, max_open: int, then: Callable[[WakeDelivery], None]
    ) -> WakeDelivery:
        delivery = waking.deliver_wake(self._state, position, batch_id, now, max_open)
        then(delivery)
        return delivery

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
        registered = tasks.register_task(self._state, session_id, new, flavour, self.incarnation, max_live, now)
        then(registered)
        return registered

    async def change_task(
        self, task: TaskName | int, change: TaskChange, *, now: int, then: Callable[[ChangedTask | None], None]
    ) -> ChangedTask | None:
        result = tasks.change_task(self._state, task, change, now)
        then(result)
        return result

    async def get_task(self, task: TaskName | int) -> TaskRecord:
        return tasks.get_task(self._state, task)

    async def list_tasks(self, session_id: str, *, live: bool, limit: int) -> tuple[TaskRecord, ...]:
        return tasks.list_tasks(self._state, session_id, live, limit)

    async def live_tasks_of_kind(self, kind: TaskKind) -> tuple[TaskRecord, ...]:
        return tasks.live_tasks_of_kind(self._state, kind)

    async def transfer_tasks(
        self,
        source: str,
        target: str,
        task_ids: Sequence[str],
        *,
        now: int,
        then: Callable[[tuple[Transferred, ...]], None],
    ) -> tuple[Transferred, ...]:
        moved = tasks.transfer_tasks(self._state, source, target, task_ids, now)
        then(moved)
        return moved

    async def remove_task(self, task: TaskName, *, then: Callable[[TaskRecord | None], None]) -> TaskRecord | None:
        removed = tasks.remove_task(self._state, task)
        then(removed)
        return removed

    async def lose_tasks(self, *, now: int, then: Callable[[tuple[TaskRecord, ...]], None]) -> tuple[TaskRecord, ...]:
        ended = tasks.lose_tasks(self._state, self.incarnation, now)
        then(ended)
        return ended

    async def purge_tasks(self, before: int, limit: int) -> int:
        return tasks.purge_tasks(self._state, before, limit)

    async def put_monitor(self, record: MonitorRecord, *, then: Callable[[None], None]) -> None:
        tasks.put_monitor(self._state, record)
        then(None)

    async def monitored_sessions(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, session in self._state.sessions.items() if session.monitors))

    async def list_monitors(self, session_id: str) -> tuple[MonitorRecord, ...]:
        return tasks.list_monitors(self._state, session_id, self.incarnation)
