"""The adapter: each port method as one operation on the writer's or the reader's connection.

Nothing is decided here that a rule decides; what a method does is its transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from msgspec import UNSET, structs

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
    StartupError,
    StoreUnavailable,
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
from sightline.queue.rules import cancel_outcome, content_hash, new_batch
from sightline.session.model import (
    INITIAL_FRAME,
    MessagePage,
    NewSession,
    SessionEntry,
    SessionPage,
    SessionRecord,
    Status,
    Usage,
)
from sightline.session.rules import add_usage, status_of
from sightline.stores.sqlite.connection import Lock, Synchronous, connect, migrate_schema, transaction, unusable
from sightline.stores.sqlite.rows import batch_of, decode, message_of, record_of, text
from sightline.stores.sqlite.statements import QUERIES
from sightline.stores.sqlite.writer import Writer
from sightline.turn.commit import CommitResult, TurnCommit, batch_end, stamp_hash

__all__ = ["SqliteStore", "Synchronous", "migrate"]

_T = TypeVar("_T")
_NEWEST = 2**63 - 1


def migrate(path: Path) -> tuple[int, int]:
    """Bring a database file to this release's schema, creating it when it is not there: (version before, version after).

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
    """See the ports for what every method promises. Make one with `open`; it holds the file's lock until `close`."""

    def __init__(
        self, lock: Lock, writing: sqlite3.Connection, reading: sqlite3.Connection, incarnation: int
    ) -> None:
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
        opened: list[sqlite3.Connection] = []
        try:
            writing = connect(path, synchronous)
            opened.append(writing)
            migrate_schema(writing, path)
            with transaction(writing):
                incarnation = int(_one(writing, "bump_incarnation")[0])
                writing.execute(QUERIES["void_claims"])
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

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` on the reader's connection, as one consistent view of what is committed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, _read_one, self._reading, work)
        except (sqlite3.Error, RuntimeError) as error:
            raise StoreUnavailable(str(error)) from error

    # Sessions

    async def create_session(
        self, new: NewSession, now: int, then: Callable[[SessionRecord], None]
    ) -> SessionRecord:
        def work(db: sqlite3.Connection) -> SessionRecord:
            if _one(db, "is_deleted", session_id=new.session_id):
                raise SessionDeleted(new.session_id)
            if _one(db, "session_exists", session_id=new.session_id):
                raise SessionExists(new.session_id)
            db.execute(
                QUERIES["insert_session"],
                {
                    "session_id": new.session_id,
                    "agent_frame_id": INITIAL_FRAME,
                    "policy": text(new.policy),
                    "metadata": text(new.metadata),
                    "usage": text(Usage()),
                    "now": now,
                    "touched": _touch(db),
                },
            )
            return record_of(_one(db, "get_session", session_id=new.session_id))

        return await self._writer.submit(work, then)

    async def load_session(self, session_id: str, newest: int) -> SessionState:
        def work(db: sqlite3.Connection) -> SessionState:
            row = _session(db, session_id)
            messages = _messages(db, session_id, _NEWEST, newest)
            return SessionState(
                record=record_of(row),
                messages=tuple(message_of(message) for message in messages),
                truncated=len(messages) < row["message_count"],
                open_batches=_batches(db, "open_batches", session_id=session_id),
            )

        return await self._read(work)

    async def list_sessions(self, *, limit: int, after: int | None, status: Status | None) -> SessionPage:
        def work(db: sqlite3.Connection) -> SessionPage:
            rows = db.execute(
                QUERIES["list_sessions"],
                {"after": _NEWEST if after is None else after, "status": status, "limit": limit + 1},
            ).fetchall()
            page = rows[:limit]
            more = len(rows) > limit
            return SessionPage(
                tuple(_entry(row) for row in page), str(page[-1]["touched"]) if more and page else None
            )

        return await self._read(work)

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage:
        def work(db: sqlite3.Connection) -> MessagePage:
            _session(db, session_id)
            end = _NEWEST
            if before is not None:
                row = _one(db, "message_seq", session_id=session_id, message_id=before)
                if row is None:
                    raise InvalidInput("before", "is no message of this session")
                end = row["seq"]
            rows = _messages(db, session_id, end, limit + 1)
            more = len(rows) > limit
            page = tuple(message_of(row) for row in rows[1 if more else 0 :])
            return MessagePage(page, page[0].message_id if more and page else None)

        return await self._read(work)

    async def delete_session(self, session_id: str, now: int, then: Callable[[None], None]) -> None:
        def work(db: sqlite3.Connection) -> None:
            _session(db, session_id)
            db.execute(QUERIES["delete_session"], {"session_id": session_id})
            db.execute(QUERIES["fence_session"], {"session_id": session_id, "now": now})

        await self._writer.submit(work, then)

    # Queue

    async def enqueue(
        self, draft: Draft, *, batch_id: str, now: int, max_open: int, then: Callable[[Enqueued], None]
    ) -> Enqueued:
        fingerprint = content_hash(draft)
        session_id, key = draft.session_id, draft.source_key

        def work(db: sqlite3.Connection) -> Enqueued:
            _session_there(db, session_id)
            cancelled = False
            if key is not None:
                row = _one(db, "batch_by_key", session_id=session_id, source_key=key)
                if row is not None:
                    if row["content_hash"] != fingerprint:
                        raise IdempotencyKeyReused(key)
                    return Enqueued(batch_of(row), replayed=True)
                cancelled = _one(db, "is_key_cancelled", session_id=session_id, source_key=key) is not None
            if not cancelled and _one(db, "count_open", session_id=session_id)[0] >= max_open:
                raise QueueFull(session_id, max_open)
            batch = new_batch(draft, batch_id=batch_id, enqueue_seq=0, now=now, cancelled=cancelled)
            row = _one(
                db,
                "insert_batch",
                batch_id=batch_id,
                session_id=session_id,
                source_key=key,
                content_hash=fingerprint,
                state=batch.state,
                delivery_policy=batch.delivery_policy,
                slot_policy=batch.slot_policy,
                merge_key=text(batch.merge_key),
                available_at_ms=batch.available_at_ms,
                now=now,
                items=text(batch.items),
                ended_at_ms=now if cancelled else None,
            )
            return Enqueued(structs.replace(batch, enqueue_seq=row["enqueue_seq"]), replayed=False)

        return await self._writer.submit(work, then)

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
        def work(db: sqlite3.Connection) -> Claim | NothingClaimed:
            chosen = _select(db, session_id, boundary, max_batches, now)
            if isinstance(chosen, NothingClaimed):
                return chosen
            rows, head = chosen, chosen[0]
            claim_id = f"qwc:{head['enqueue_seq']}:{head['fencing'] + 1}"
            the_turn = head["turn_id"] or turn_id
            for row in rows:
                changed = db.execute(
                    QUERIES["take_batch"],
                    {
                        "turn_id": the_turn,
                        "claim_id": claim_id,
                        "owner_id": owner_id,
                        "lease_token": lease_token,
                        "expires": now + ttl_ms,
                        "enqueue_seq": row["enqueue_seq"],
                        "now": now,
                    },
                ).rowcount
                if changed != 1:
                    raise ClaimExpired(session_id, claim_id)
            batches = tuple(
                structs.replace(
                    batch_of(row), state=BatchState.CLAIMED, turn_id=the_turn, attempts=row["attempts"] + 1
                )
                for row in rows
            )
            return Claim(
                session_id=session_id,
                claim_id=claim_id,
                owner_id=owner_id,
                lease_token=lease_token,
                fencing_token=head["fencing"] + 1,
                claimed_at_ms=now,
                expires_at_ms=now + ttl_ms,
                turn_id=the_turn,
                attempt=max(batch.attempts for batch in batches),
                batches=batches,
                cancel_requested=next(
                    (row["cancel_requested"] for row in rows if row["cancel_requested"] is not None), None
                ),
            )

        def claimed(result: Claim | NothingClaimed) -> None:
            if isinstance(result, Claim):
                then(result)

        return await self._writer.submit(work, claimed)

    async def abandon(self, claim: Claim, *, charge: bool, then: Callable[[tuple[Batch, ...]], None]) -> None:
        def work(db: sqlite3.Connection) -> tuple[Batch, ...]:
            rows = _held(db, claim.session_id, claim.claim_id, claim.lease_token)
            uncharge = 0 if charge else 1
            for row in rows:
                db.execute(QUERIES["release_batch"], {"enqueue_seq": row["enqueue_seq"], "uncharge": uncharge})
            return tuple(
                structs.replace(batch_of(row), state=BatchState.PENDING, attempts=row["attempts"] - uncharge)
                for row in rows
            )

        await self._writer.submit(work, then)

    async def cancel_batch(
        self, session_id: str, batch_id: str, *, now: int, then: Callable[[Batch], None]
    ) -> Batch:
        def work(db: sqlite3.Connection) -> Batch:
            row = _batch_row(db, session_id, batch_id)
            if row["state"] != BatchState.PENDING:
                raise BatchNotCancellable(batch_id, row["state"])
            return _cancel(db, row, now)

        return await self._writer.submit(work, then)

    async def cancel_from(
        self,
        session_id: str,
        batch_id: str,
        *,
        now: int,
        then: Callable[[tuple[tuple[Batch, ...], tuple[Batch, ...]]], None],
    ) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        def work(db: sqlite3.Connection) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
            first = _batch_row(db, session_id, batch_id)["enqueue_seq"]
            rows = db.execute(
                QUERIES["open_batches_from"], {"session_id": session_id, "first": first}
            ).fetchall()
            cancelled = tuple(_cancel(db, row, now) for row in rows if row["state"] == BatchState.PENDING)
            return cancelled, tuple(batch_of(row) for row in rows if row["state"] == BatchState.CLAIMED)

        return await self._writer.submit(work, then)

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
        def work(db: sqlite3.Connection) -> Cancellation:
            _session_there(db, session_id)
            if source_key is not None:
                row = _one(db, "batch_by_key", session_id=session_id, source_key=source_key)
                if row is None:
                    db.execute(
                        QUERIES["cancel_key"], {"session_id": session_id, "source_key": source_key, "now": now}
                    )
                    return Cancellation(turn_id=None, state="will_cancel")
                rows = [row]
            else:
                rows = [
                    row
                    for row in db.execute(QUERIES["open_batches"], {"session_id": session_id})
                    if (row["state"] == BatchState.CLAIMED if turn_id is None else row["turn_id"] == turn_id)
                ]
            return _request_cancel(db, session_id, rows, turn_id, reason, now)

        return await self._writer.submit(work, then)

    async def get_batch(self, session_id: str, batch_id: str) -> Batch:
        return await self._read(lambda db: batch_of(_batch_row(db, session_id, batch_id)))

    async def list_batches(self, session_id: str, *, pending_only: bool, limit: int) -> tuple[Batch, ...]:
        def work(db: sqlite3.Connection) -> tuple[Batch, ...]:
            _session_there(db, session_id)
            query = "list_pending" if pending_only else "list_all"
            return _batches(db, query, session_id=session_id, limit=limit)

        return await self._read(work)

    async def claimable_sessions(self, now: int, limit: int) -> tuple[str, ...]:
        def work(db: sqlite3.Connection) -> tuple[str, ...]:
            rows = db.execute(QUERIES["claimable_sessions"], {"now": now, "limit": limit})
            return tuple(row["session_id"] for row in rows)

        return await self._read(work)

    async def next_due(self, now: int) -> int | None:
        def work(db: sqlite3.Connection) -> int | None:
            due: int | None = _one(db, "next_due", now=now)[0]
            return due

        return await self._read(work)

    async def purge_ended(self, before: int, limit: int) -> int:
        def work(db: sqlite3.Connection) -> int:
            return db.execute(QUERIES["purge_ended"], {"before": before, "limit": limit}).rowcount

        return await self._writer.submit(work)

    # Commit

    async def commit(self, commit: TurnCommit, then: Callable[[CommitResult], None]) -> CommitResult:
        digest = stamp_hash(commit)

        def work(db: sqlite3.Connection) -> CommitResult:
            head = _session(db, commit.session_id)
            stamp = _one(db, "get_stamp", session_id=commit.session_id, turn_id=commit.turn_id)
            if stamp is not None:
                if stamp["hash"] != digest:
                    raise TurnCommitConflict(commit.session_id, commit.turn_id)
                return CommitResult(
                    revision=stamp["revision"],
                    turn_index=stamp["turn_index"],
                    agent_frame_id=stamp["agent_frame_id"],
                )
            if head["revision"] != commit.expected_revision:
                raise HeadConflict(commit.session_id, commit.expected_revision, head["revision"])
            _complete(db, commit)
            return _write_turn(db, commit, head, digest)

        return await self._writer.submit(work, then)


def _read_one(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        connection.execute("ROLLBACK")


def _one(db: sqlite3.Connection, query: str, **values: Any) -> Any:
    return db.execute(QUERIES[query], values).fetchone()


def _touch(db: sqlite3.Connection) -> int:
    return int(_one(db, "next_touch")[0])


def _session(db: sqlite3.Connection, session_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = _one(db, "get_session", session_id=session_id)
    if row is None:
        raise _absent(db, session_id)
    return row


def _session_there(db: sqlite3.Connection, session_id: str) -> None:
    if _one(db, "session_exists", session_id=session_id) is None:
        raise _absent(db, session_id)


def _absent(db: sqlite3.Connection, session_id: str) -> SessionDeleted | SessionNotFound:
    deleted = _one(db, "is_deleted", session_id=session_id) is not None
    return SessionDeleted(session_id) if deleted else SessionNotFound(session_id)


def _messages(db: sqlite3.Connection, session_id: str, before: int, limit: int) -> list[sqlite3.Row]:
    rows = db.execute(
        QUERIES["newest_messages"], {"session_id": session_id, "before": before, "limit": limit}
    ).fetchall()
    rows.reverse()
    return rows


def _entry(row: sqlite3.Row) -> SessionEntry:
    return SessionEntry(
        session_id=row["session_id"],
        status=status_of(asked=False, live=False, claimed=row["claimed"], pending=row["pending"]),
        revision=row["revision"],
        updated_at_ms=row["updated_at_ms"],
        metadata=decode(row["metadata"], dict),
        pending=row["pending"],
        title=row["title"],
    )


def _batches(db: sqlite3.Connection, query: str, **values: Any) -> tuple[Batch, ...]:
    return tuple(batch_of(row) for row in db.execute(QUERIES[query], values))


def _batch_row(db: sqlite3.Connection, session_id: str, batch_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = _one(db, "batch_by_id", session_id=session_id, batch_id=batch_id)
    if row is None:
        _session_there(db, session_id)
        raise BatchNotFound(session_id, batch_id)
    return row


def _select(
    db: sqlite3.Connection, session_id: str, boundary: Boundary, max_batches: int, now: int
) -> list[sqlite3.Row] | NothingClaimed:
    rows = db.execute(
        QUERIES["claim_candidates"], {"session_id": session_id, "now": now, "limit": max(max_batches, 1)}
    ).fetchall()
    if not rows:
        rows = db.execute(QUERIES["all_candidates"], {"session_id": session_id}).fetchall()
    candidates = [Candidate(batch_of(row), row["claim_expires_at_ms"]) for row in rows]
    chosen = select(candidates, boundary, max_batches, now)
    if isinstance(chosen, NothingClaimed):
        return chosen
    by_id = {row["batch_id"]: row for row in rows}
    return [by_id[batch.batch_id] for batch in chosen]


def _held(db: sqlite3.Connection, session_id: str, claim_id: str, lease_token: str) -> list[sqlite3.Row]:
    return db.execute(
        QUERIES["held_batches"],
        {"session_id": session_id, "claim_id": claim_id, "lease_token": lease_token},
    ).fetchall()


def _end(
    db: sqlite3.Connection, row: sqlite3.Row, state: BatchState, now: int, *, error: str | None, uncharge: int
) -> None:
    db.execute(
        QUERIES["end_batch"],
        {"enqueue_seq": row["enqueue_seq"], "state": state, "error": error, "uncharge": uncharge, "now": now},
    )


def _cancel(db: sqlite3.Connection, row: sqlite3.Row, now: int) -> Batch:
    _end(db, row, BatchState.CANCELLED, now, error=None, uncharge=0)
    return structs.replace(batch_of(row), state=BatchState.CANCELLED)


def _request_cancel(
    db: sqlite3.Connection,
    session_id: str,
    rows: Sequence[sqlite3.Row],
    turn_id: str | None,
    reason: str,
    now: int,
) -> Cancellation:
    if not rows:
        stamp = None if turn_id is None else _one(db, "get_stamp", session_id=session_id, turn_id=turn_id)
        if stamp is None:
            return Cancellation(turn_id=turn_id, state="none")
        return Cancellation(
            turn_id=turn_id, state="cancelled" if stamp["status"] == "cancelled" else "ended"
        )
    head = rows[0]
    state = BatchState(head["state"])
    if head["turn_id"] is not None and state.is_open:
        # A turn took it before: its end belongs into the transcript, so a pending one is not just dropped.
        db.execute(
            QUERIES["mark_cancel_requested"],
            {"session_id": session_id, "turn_id": head["turn_id"], "reason": reason},
        )
        return Cancellation(turn_id=head["turn_id"], state="cancel_requested")
    changed = (_cancel(db, head, now),) if state is BatchState.PENDING else ()
    return Cancellation(turn_id=head["turn_id"], state=cancel_outcome(state), batches=changed)


def _complete(db: sqlite3.Connection, commit: TurnCommit) -> None:
    error = None if commit.outcome.error is UNSET else text(commit.outcome.error)
    for completion in commit.completions:
        rows = _held(db, commit.session_id, completion.claim_id, completion.lease_token)
        if [row["batch_id"] for row in rows] != list(completion.batch_ids):
            raise ClaimExpired(commit.session_id, completion.claim_id)
        for row in rows:
            _end(
                db, row, batch_end(commit.outcome), commit.now, error=error, uncharge=0 if commit.charge else 1
            )


def _write_turn(db: sqlite3.Connection, commit: TurnCommit, head: sqlite3.Row, digest: str) -> CommitResult:
    for seq, message in enumerate(commit.messages, head["message_count"] + 1):
        db.execute(
            QUERIES["insert_message"],
            {
                "session_id": commit.session_id,
                "seq": seq,
                "message_id": message.message_id,
                "body": text(message),
            },
        )
    db.execute(
        QUERIES["update_head"],
        {
            "session_id": commit.session_id,
            "expected": commit.expected_revision,
            "appended": len(commit.messages),
            "usage": text(add_usage(decode(head["usage"], Usage), commit.usage)),
            "title": commit.title,
            "now": commit.now,
            "touched": _touch(db),
        },
    )
    result = CommitResult(
        revision=head["revision"] + 1,
        turn_index=head["turn_index"] + 1,
        agent_frame_id=head["agent_frame_id"],
    )
    db.execute(
        QUERIES["insert_stamp"],
        {
            "session_id": commit.session_id,
            "turn_id": commit.turn_id,
            "hash": digest,
            "status": commit.outcome.status,
            "revision": result.revision,
            "turn_index": result.turn_index,
            "agent_frame_id": result.agent_frame_id,
        },
    )
    return result
