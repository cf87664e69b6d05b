"""A file that an earlier release wrote: everything in it is there for this one, under the promises of this one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from sightline.errors import IdempotencyKeyReused, SessionDeleted
from sightline.queue.model import Batch, BatchState, Cancellation, DeliveryPolicy, Group, SlotPolicy
from sightline.queue.rules import content_hash
from sightline.session.model import Failure, Message, Tools, UsageFigures
from sightline.stores.sqlite import SqliteStore, migrate
from sightline.stores.sqlite import connection as opening
from sightline.stores.sqlite.statements import MIGRATIONS
from sightline.testing.conformance.steps import (
    NOW,
    acquire,
    claim,
    commit,
    commit_of,
    draft,
    enqueue,
    lease_of,
    lease_request,
    names_of,
    new_session,
    offer,
    refused,
    request_cancel,
)

pytestmark = pytest.mark.anyio

FIRST = Path(__file__).with_name("version_1.sql").read_text(encoding="utf-8")

# What the first release wrote of its batches: name, sequence, state, key, and the rest of the row.
BATCHES: tuple[tuple[str, int, str, str | None, dict[str, Any]], ...] = (
    ("done", 11, "completed", "host:done", {"attempts": 1, "turn_id": "t1", "ended_at_ms": 925, "fencing": 2}),
    (
        "broke",
        12,
        "failed",
        "host:broke",
        {"attempts": 3, "turn_id": "t2", "ended_at_ms": 935, "error": '{"code":"c","message":"m"}', "fencing": 3},
    ),
    ("came", 13, "cancelled", "host:came", {"ended_at_ms": 941}),
    (
        "held",
        14,
        "claimed",
        "host:held",
        {
            "attempts": 1,
            "turn_id": "t3",
            "fencing": 5,
            "claim_id": "qwc:14:5",
            "claim_owner_id": "dead",
            "claim_token": "secret",
            "claim_expires_at_ms": 10**12,
            "cancel_requested": "enough",
        },
    ),
    ("waiting", 15, "pending", None, {"slot_policy": "join", "merge_key": '{"group":"g"}'}),
    ("joining", 16, "pending", None, {"slot_policy": "join", "merge_key": '{"group":"g"}'}),
    ("delayed", 17, "pending", "host:delayed", {"available_at_ms": NOW + 50}),
    ("newest", 41, "pending", None, {}),
)


def old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patched:
        patched.setattr(opening, "MIGRATIONS", MIGRATIONS[:1])
        assert migrate(path) == (0, 1)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA foreign_keys = OFF")
        for name, sequence, state, key, rest in BATCHES:
            options: dict[str, Any] = {"available_at_ms": NOW + 50} if name == "delayed" else {}
            row = {
                "enqueue_seq": sequence,
                "batch_id": f"s:{name}",
                "session_id": "s",
                "source_key": key,
                "content_hash": content_hash(draft(name, **options)),
                "state": state,
                "delivery_policy": "after_current_turn_commit",
                "slot_policy": "exclusive",
                "merge_key": '"never"',
                "available_at_ms": 905,
                "enqueued_at_ms": 905,
                "items": f'[{{"item_id":"s:{name}:item:0","payload":{{"type":"turn_input","input":{{"items":'
                f'[{{"type":"text","text":"{name}"}}]}}}}}}]',
                **rest,
            }
            db.execute(f"INSERT INTO batches ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})", row)
        db.executescript(FIRST)
    return path


@asynccontextmanager
async def taken_over(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(path, "NORMAL")
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return old_file(tmp_path / "store.db", monkeypatch)


async def batch(store: SqliteStore, name: str) -> Batch:
    return await store.get_batch("s", f"s:{name}")


def shape(path: Path) -> tuple[dict[str, list[tuple[Any, ...]]], list[tuple[Any, ...]]]:
    """Columns by table, and indexes, of a file that is sound."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: db.execute(f"PRAGMA table_info('{name}')").fetchall() for name in tables}
        return columns, db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()


def test_an_old_file_is_brought_up_to_date_once_and_looks_like_a_new_one(path: Path, tmp_path: Path) -> None:
    assert migrate(path) == (1, len(MIGRATIONS))
    assert migrate(path) == (len(MIGRATIONS), len(MIGRATIONS))
    migrate(tmp_path / "new.db")
    assert shape(path) == shape(tmp_path / "new.db")


async def test_sessions_and_their_transcripts_are_as_they_were(path: Path) -> None:
    async with taken_over(path) as store:
        assert store.incarnation == 5
        state = await store.load_session("s", 10)
        record = state.record
        assert (record.revision, record.turn_index, record.title) == (2, 2, "the title")
        assert (record.policy, record.metadata) == ({"model": "m"}, {"n": [1, None, "ü"]})
        assert (record.created_at_ms, record.updated_at_ms) == (900, 950)
        assert record.usage.totals == UsageFigures(input_tokens=5, requests=2)
        assert record.tools == Tools()
        assert state.messages == (
            Message(message_id="m1", role="user", content="question", at_ms=910),
            Message(
                message_id="m2",
                role="assistant",
                content="answer “ü”",
                parts=[{"type": "text", "text": "x"}],
                at_ms=920,
            ),
            Message(
                message_id="m3",
                role="assistant",
                content="",
                turn_id="t2",
                status="failed",
                error=Failure("c", "m"),
                at_ms=930,
            ),
        )
        page = await store.page_messages("s", before="m3", limit=1)
        assert [message.message_id for message in page.messages] == ["m2"]
        await refused(SessionDeleted, new_session(store, "gone"))


async def test_the_order_of_activity_goes_on_where_it_was(path: Path) -> None:
    async with taken_over(path) as store:
        await new_session(store, "new")
        page = await store.list_sessions(limit=10, after=None, status=None)
        assert [entry.session_id for entry in page.sessions] == ["new", "quiet", "s"]
        await enqueue(store, "more")
        page = await store.list_sessions(limit=10, after=None, status=None)
        assert [entry.session_id for entry in page.sessions] == ["s", "new", "quiet"]


async def test_work_that_has_ended_is_as_it_ended(path: Path) -> None:
    async with taken_over(path) as store:
        done, broke, came = [await batch(store, name) for name in ("done", "broke", "came")]
        assert (done.state, done.attempts, done.turn_id, done.enqueue_seq) == (BatchState.COMPLETED, 1, "t1", 11)
        assert (broke.state, broke.attempts, broke.error) == (BatchState.FAILED, 3, Failure("c", "m"))
        assert (came.state, came.turn_id) == (BatchState.CANCELLED, UNSET)
        assert await store.purge_ended(926, 10) == 1
        assert (await offer(store, draft("done", key="host:done"))).batch == done


async def test_waiting_work_is_taken_in_its_order_with_what_it_was(path: Path) -> None:
    async with taken_over(path) as store:
        waiting = await batch(store, "waiting")
        assert (waiting.merge_key, waiting.slot_policy) == (Group("g"), SlotPolicy.JOIN)
        assert waiting.delivery_policy is DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
        assert waiting.items[0].item_id == "s:waiting:item:0"
        assert await store.claimable_sessions(NOW, 10) == ("s",)
        assert await store.next_due(NOW) == NOW + 50
        taken = [names_of(await claim(store, turn=f"t{number}", now=NOW + 50)) for number in (4, 5, 6)]
        assert taken == [["s:held"], ["s:waiting", "s:joining"], ["s:delayed"]]


async def test_work_that_was_held_waits_for_its_next_attempt_as_the_same_turn(path: Path) -> None:
    async with taken_over(path) as store:
        held = await batch(store, "held")
        assert (held.state, held.attempts, held.turn_id) == (BatchState.PENDING, 1, "t3")
        again = await claim(store, turn="t4", lease=lease_request())
        assert (again.turn_id, again.attempt, again.cancel_requested) == ("t3", 2, "enough")
        assert (again.fencing_token, again.claim_id) == (6, "qwc:14:6")
        result = await commit(store, commit_of(again, revision=2, lease=again.lease))
        assert (result.revision, result.turn_index) == (3, 3)
        assert (await acquire(store, "next")).generation > lease_of(again).generation


async def test_keys_bring_the_work_they_brought_before(path: Path) -> None:
    async with taken_over(path) as store:
        for name in ("done", "broke", "came", "held"):
            again = await offer(store, draft(name, key=f"host:{name}"))
            assert again.replayed, name
            assert again.batch == await batch(store, name)
            await refused(IdempotencyKeyReused, offer(store, draft("other", key=f"host:{name}")))
        delayed = draft("delayed", key="host:delayed", available_at_ms=NOW + 50)
        assert (await offer(store, delayed)).replayed


async def test_keys_are_as_old_as_their_work_and_wishes_as_old_as_they_are(path: Path) -> None:
    async with taken_over(path) as store:
        await store.purge_ended(10**13, 10)
        assert await store.purge_keys(905, 10) == 0
        assert await store.purge_keys(906, 10) == 3  # done, broke and came; the others have their work
        assert await store.purge_keys(940, 10) == 0
        assert await store.purge_keys(941, 10) == 1  # later


async def test_a_key_that_was_cancelled_before_its_work_came_still_is(path: Path) -> None:
    async with taken_over(path) as store:
        assert (await request_cancel(store, key="host:later")).state == "will_cancel"
        assert (await offer(store, draft("later", key="host:later"))).batch.state is BatchState.CANCELLED
        assert await request_cancel(store, key="host:came") == Cancellation(turn_id=None, state="cancelled")


async def test_turns_that_were_committed_still_say_how_they_ended(path: Path) -> None:
    async with taken_over(path) as store:
        assert (await request_cancel(store, turn="t1")).state == "ended"
        assert (await request_cancel(store, turn="t2")).state == "cancelled"


async def test_no_sequence_is_used_again_also_where_its_work_is_gone(path: Path) -> None:
    async with taken_over(path) as store:
        assert (await enqueue(store, "new")).enqueue_seq == 42
    async with taken_over(path) as store:
        assert (await enqueue(store, "newer")).enqueue_seq == 43


async def test_an_old_file_without_any_work_begins_its_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MIGRATIONS", MIGRATIONS[:1])
    migrate(tmp_path / "store.db")
    monkeypatch.undo()
    async with taken_over(tmp_path / "store.db") as store:
        await new_session(store)
        assert (await enqueue(store)).enqueue_seq == 1
        assert (await enqueue(store, "next")).enqueue_seq == 2


async def test_deleting_a_session_of_an_old_file_takes_all_of_it(path: Path) -> None:
    async with taken_over(path) as store:
        await store.delete_session("s", NOW, lambda _: None)
    with closing(sqlite3.connect(path)) as db:
        for table in ("messages", "batches", "turns", "source_keys"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
