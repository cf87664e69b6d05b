"""The store in memory: the specification that other stores are compared with. Nothing survives the process.

Each operation is one synchronous step, so it is atomic by construction; everything that could fail is decided before
anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import UNSET, Struct, structs

from sightline.clock import Clock
from sightline.errors import (
    BatchNotCancellable,
    BatchNotFound,
    ClaimExpired,
    HeadConflict,
    IdempotencyKeyReused,
    InvalidInput,
    QueueFull,
    SessionDeleted,
    SessionExists,
    SessionNotFound,
    TurnCommitConflict,
)
from sightline.observation.model import SessionState
from sightline.queue.claiming import Candidate, select
from sightline.queue.model import (
    Batch,
    BatchState,
    Boundary,
    Cancellation,
    Claim,
    Draft,
    Enqueued,
    NothingClaimed,
)
from sightline.queue.rules import cancel_outcome, content_hash, may_drop, new_batch
from sightline.session.model import (
    INITIAL_FRAME,
    Message,
    MessagePage,
    NewSession,
    SessionEntry,
    SessionPage,
    SessionRecord,
    Status,
    Usage,
)
from sightline.session.rules import add_usage, status_of
from sightline.turn.commit import CommitResult, TurnCommit, stamp_hash
from sightline.turn.rules import batch_end

__all__ = ["MemoryStore"]


class _Row(Struct):
    """A batch with what only the store knows of it."""

    batch: Batch
    content_hash: str
    fencing: int = 0
    claim_id: str | None = None
    lease_token: str | None = None
    held_until_ms: int | None = None
    cancel_requested: str | None = None
    ended_at_ms: int | None = None

    def release(self) -> None:
        self.claim_id = self.lease_token = self.held_until_ms = None


class _Stamp(Struct, frozen=True):
    hash: str
    status: str
    result: CommitResult


class _Session(Struct):
    record: SessionRecord
    touched: int
    messages: list[Message]
    rows: dict[str, _Row]
    by_key: dict[str, str]
    stamps: dict[str, _Stamp]
    cancelled_keys: dict[str, int]

    def open_rows(self) -> Iterable[_Row]:
        return (row for row in self.rows.values() if row.batch.state.is_open)


class MemoryStore:
    """See the ports for what every method promises."""

    def __init__(self, clock: Clock) -> None:
        # Where nothing is kept, the time of creation is the only number that grows from life to life.
        self.incarnation = clock.now_ms()
        self._sessions: dict[str, _Session] = {}
        self._deleted: set[str] = set()
        self._sequence = 0
        self._touches = 0

    async def close(self) -> None:
        pass

    # Sessions

    async def create_session(self, new: NewSession, now: int, then: Callable[[SessionRecord], None]) -> SessionRecord:
        if new.session_id in self._deleted:
            raise SessionDeleted(new.session_id)
        if new.session_id in self._sessions:
            raise SessionExists(new.session_id)
        record = SessionRecord(
            session_id=new.session_id,
            revision=0,
            turn_index=0,
            agent_frame_id=INITIAL_FRAME,
            policy=new.policy,
            metadata=new.metadata,
            usage=Usage(),
            title="",
            created_at_ms=now,
            updated_at_ms=now,
        )
        self._sessions[new.session_id] = _Session(record, self._touch(), [], {}, {}, {}, {})
        then(record)
        return record

    async def load_session(self, session_id: str, newest: int) -> SessionState:
        session = self._session(session_id)
        kept = session.messages[max(0, len(session.messages) - newest) :]
        return SessionState(
            record=session.record,
            messages=tuple(kept),
            truncated=len(kept) < len(session.messages),
            open_batches=tuple(row.batch for row in session.open_rows()),
        )

    async def list_sessions(self, *, limit: int, after: int | None, status: Status | None) -> SessionPage:
        found = [
            (session.touched, entry)
            for session in sorted(self._sessions.values(), key=lambda session: -session.touched)
            if after is None or session.touched < after
            if status is None or self._entry(session).status == status
            for entry in (self._entry(session),)
        ]
        page = found[:limit]
        more = len(found) > limit
        return SessionPage(tuple(entry for _, entry in page), str(page[-1][0]) if more and page else None)

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage:
        messages = self._session(session_id).messages
        end = len(messages)
        if before is not None:
            places = (place for place, message in enumerate(messages) if message.message_id == before)
            end = next(places, -1)
            if end < 0:
                raise InvalidInput("before", "is no message of this session")
        page = tuple(messages[max(0, end - limit) : end])
        return MessagePage(page, page[0].message_id if page and end > len(page) else None)

    async def delete_session(self, session_id: str, now: int, then: Callable[[None], None]) -> None:
        self._session(session_id)
        del self._sessions[session_id]
        self._deleted.add(session_id)
        then(None)

    # Queue

    async def enqueue(
        self, draft: Draft, *, batch_id: str, now: int, max_open: int, then: Callable[[Enqueued], None]
    ) -> Enqueued:
        session = self._session(draft.session_id)
        fingerprint = content_hash(draft)
        key = draft.source_key
        if key is not None and key in session.by_key:
            row = session.rows[session.by_key[key]]
            if row.content_hash != fingerprint:
                raise IdempotencyKeyReused(key)
            found = Enqueued(row.batch, replayed=True)
            then(found)
            return found
        cancelled = key in session.cancelled_keys
        if not cancelled and sum(1 for _ in session.open_rows()) >= max_open:
            raise QueueFull(draft.session_id, max_open)
        self._sequence += 1
        batch = new_batch(draft, batch_id=batch_id, enqueue_seq=self._sequence, now=now, cancelled=cancelled)
        session.record = structs.replace(session.record, updated_at_ms=now)
        session.touched = self._touch()
        session.rows[batch_id] = _Row(batch, fingerprint, ended_at_ms=now if cancelled else None)
        if key is not None:
            session.by_key[key] = batch_id
        stored = Enqueued(batch, replayed=False)
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
    ) -> Claim | NothingClaimed:
        session = self._sessions.get(session_id)
        open_rows = () if session is None else session.open_rows()
        candidates = [Candidate(row.batch, row.held_until_ms) for row in open_rows]
        chosen = select(candidates, boundary, max_batches, now)
        if isinstance(chosen, NothingClaimed):
            return chosen
        assert session is not None, "of nothing, nothing was chosen"
        rows = [session.rows[batch.batch_id] for batch in chosen]
        head = rows[0]
        claim_id = f"qwc:{head.batch.enqueue_seq}:{head.fencing + 1}"
        the_turn = turn_id if head.batch.turn_id is UNSET else str(head.batch.turn_id)
        for row in rows:
            row.fencing += 1
            row.claim_id, row.lease_token, row.held_until_ms = claim_id, lease_token, now + ttl_ms
            row.batch = structs.replace(
                row.batch, state=BatchState.CLAIMED, turn_id=the_turn, attempts=row.batch.attempts + 1
            )
        claim = Claim(
            session_id=session_id,
            claim_id=claim_id,
            owner_id=owner_id,
            lease_token=lease_token,
            fencing_token=head.fencing,
            claimed_at_ms=now,
            expires_at_ms=now + ttl_ms,
            turn_id=the_turn,
            attempt=max(row.batch.attempts for row in rows),
            batches=tuple(row.batch for row in rows),
            cancel_requested=next((row.cancel_requested for row in rows if row.cancel_requested is not None), None),
        )
        then(claim)
        return claim

    async def abandon(self, claim: Claim, *, charge: bool, then: Callable[[tuple[Batch, ...]], None]) -> None:
        session = self._sessions.get(claim.session_id)
        rows = [] if session is None else _held(session, claim.claim_id, claim.lease_token)
        for row in rows:
            row.release()
            attempts = row.batch.attempts if charge else row.batch.attempts - 1
            row.batch = structs.replace(row.batch, state=BatchState.PENDING, attempts=attempts)
        then(tuple(row.batch for row in rows))

    async def cancel_batch(self, session_id: str, batch_id: str, *, now: int, then: Callable[[Batch], None]) -> Batch:
        row = self._row(session_id, batch_id)
        if not may_drop(row.batch):
            raise BatchNotCancellable(batch_id, row.batch.state)
        batch = _end(row, BatchState.CANCELLED, now)
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
        first = self._row(session_id, batch_id).batch.enqueue_seq
        later = [row for row in self._session(session_id).open_rows() if row.batch.enqueue_seq >= first]
        kept = tuple(row.batch for row in later if not may_drop(row.batch))
        cancelled = tuple(_end(row, BatchState.CANCELLED, now) for row in later if may_drop(row.batch))
        then((cancelled, kept))
        return cancelled, kept

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
        session = self._session(session_id)
        if source_key is not None and source_key not in session.by_key:
            session.cancelled_keys.setdefault(source_key, now)
            answer = Cancellation(turn_id=None, state="will_cancel")
        else:
            answer = self._request_cancel(session, turn_id, source_key, reason, now)
        then(answer)
        return answer

    def _request_cancel(
        self, session: _Session, turn_id: str | None, source_key: str | None, reason: str, now: int
    ) -> Cancellation:
        if source_key is not None:
            rows = [session.rows[session.by_key[source_key]]]
        elif turn_id is not None:
            rows = [row for row in session.open_rows() if row.batch.turn_id == turn_id]
        else:
            rows = [row for row in session.open_rows() if row.batch.state is BatchState.CLAIMED]
        if not rows:
            stamp = None if turn_id is None else session.stamps.get(turn_id)
            if stamp is None:
                return Cancellation(turn_id=turn_id, state="none")
            return Cancellation(turn_id=turn_id, state="cancelled" if stamp.status == "cancelled" else "ended")
        head = rows[0].batch
        named = None if head.turn_id is UNSET else str(head.turn_id)
        if named is not None and head.state.is_open:
            # A turn took it before: its end belongs into the transcript, so a pending one is not just dropped.
            for row in session.open_rows():
                if row.batch.turn_id == named and row.cancel_requested is None:
                    row.cancel_requested = reason
            return Cancellation(turn_id=named, state="cancel_requested")
        state = cancel_outcome(head.state)
        changed = (_end(rows[0], BatchState.CANCELLED, now),) if head.state is BatchState.PENDING else ()
        return Cancellation(turn_id=named, state=state, batches=changed)

    async def get_batch(self, session_id: str, batch_id: str) -> Batch:
        return self._row(session_id, batch_id).batch

    async def list_batches(self, session_id: str, *, pending_only: bool, limit: int) -> tuple[Batch, ...]:
        batches = [
            row.batch
            for row in self._session(session_id).rows.values()
            if not pending_only or row.batch.state is BatchState.PENDING
        ]
        return tuple(batches[max(0, len(batches) - limit) :])

    async def claimable_sessions(self, now: int, limit: int) -> tuple[str, ...]:
        ready: dict[str, int] = {}
        for session_id, session in self._sessions.items():
            for row in session.open_rows():
                if Candidate(row.batch, row.held_until_ms).is_eligible(now):
                    ready[session_id] = row.batch.enqueue_seq
                    break
        return tuple(sorted(ready, key=lambda session_id: ready[session_id])[:limit])

    async def next_due(self, now: int) -> int | None:
        return min(
            (
                row.batch.available_at_ms
                for session in self._sessions.values()
                for row in session.open_rows()
                if row.batch.state is BatchState.PENDING and row.batch.available_at_ms > now
            ),
            default=None,
        )

    async def purge_ended(self, before: int, limit: int) -> int:
        for session in self._sessions.values():
            for key in [key for key, at_ms in session.cancelled_keys.items() if at_ms < before]:
                del session.cancelled_keys[key]
        ended = [
            (row.ended_at_ms, row.batch.enqueue_seq, session, row.batch)
            for session in self._sessions.values()
            for row in session.rows.values()
            if row.ended_at_ms is not None and row.ended_at_ms < before
        ]
        ended.sort(key=lambda entry: entry[:2])
        for _, _, session, batch in ended[:limit]:
            del session.rows[batch.batch_id]
            if batch.source_key is not UNSET:
                session.by_key.pop(str(batch.source_key), None)
        return len(ended[:limit])

    # Commit

    async def commit(self, commit: TurnCommit, then: Callable[[CommitResult], None]) -> CommitResult:
        session = self._session(commit.session_id)
        digest = stamp_hash(commit)
        stamp = session.stamps.get(commit.turn_id)
        if stamp is not None:
            if stamp.hash != digest:
                raise TurnCommitConflict(commit.session_id, commit.turn_id)
            then(stamp.result)
            return stamp.result
        record = session.record
        if record.revision != commit.expected_revision:
            raise HeadConflict(commit.session_id, commit.expected_revision, record.revision)
        rows: list[_Row] = []
        for completion in commit.completions:
            held = _held(session, completion.claim_id, completion.lease_token)
            if [row.batch.batch_id for row in held] != list(completion.batch_ids):
                raise ClaimExpired(commit.session_id, completion.claim_id)
            rows.extend(held)
        for row in rows:
            _end(row, batch_end(commit.outcome), commit.now)
            attempts = row.batch.attempts if commit.charge else row.batch.attempts - 1
            row.batch = structs.replace(row.batch, attempts=attempts, error=commit.outcome.error)
        session.messages.extend(commit.messages)
        session.record = structs.replace(
            record,
            revision=record.revision + 1,
            turn_index=record.turn_index + 1,
            usage=add_usage(record.usage, commit.usage),
            title=record.title or commit.title,
            updated_at_ms=commit.now,
        )
        session.touched = self._touch()
        result = CommitResult(
            revision=session.record.revision,
            turn_index=session.record.turn_index,
            agent_frame_id=session.record.agent_frame_id,
        )
        session.stamps[commit.turn_id] = _Stamp(digest, commit.outcome.status, result)
        then(result)
        return result

    # Inside

    def _session(self, session_id: str) -> _Session:
        if session_id in self._deleted:
            raise SessionDeleted(session_id)
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    def _row(self, session_id: str, batch_id: str) -> _Row:
        row = self._session(session_id).rows.get(batch_id)
        if row is None:
            raise BatchNotFound(session_id, batch_id)
        return row

    def _touch(self) -> int:
        self._touches += 1
        return self._touches

    def _entry(self, session: _Session) -> SessionEntry:
        states = [row.batch.state for row in session.open_rows()]
        pending = states.count(BatchState.PENDING)
        record = session.record
        return SessionEntry(
            session_id=record.session_id,
            status=status_of(asked=False, live=False, claimed=len(states) - pending, pending=pending),
            revision=record.revision,
            updated_at_ms=record.updated_at_ms,
            metadata=record.metadata,
            pending=pending,
            title=record.title,
        )


def _held(session: _Session, claim_id: str, lease_token: str) -> list[_Row]:
    return [row for row in session.open_rows() if row.claim_id == claim_id and row.lease_token == lease_token]


def _end(row: _Row, state: BatchState, now: int) -> Batch:
    row.release()
    row.ended_at_ms = now
    row.batch = structs.replace(row.batch, state=state)
    return row.batch
