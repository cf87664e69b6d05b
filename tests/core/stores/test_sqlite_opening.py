"""Opening a database file: whose it is, what is done to it, and what is refused in one line."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from sightline.errors import (
    LeaseLost,
    StoreUnavailable,
)
from sightline.queue.model import BatchState
from sightline.session.model import NewSession
from sightline.startup_errors import (
    SchemaTooNew,
    StartupError,
    StoreLocked,
    StoreUnusable,
)
from sightline.stores.sqlite import SqliteStore, migrate
from sightline.stores.sqlite.connection import Synchronous
from sightline.stores.sqlite.rows import BATCH_COLUMNS
from sightline.stores.sqlite.statements import MIGRATIONS, QUERIES, split
from sightline.testing.conformance.steps import (
    NOW,
    claim,
    commit_of,
    draft,
    enqueue,
    everything,
    ignored,
    lease_of,
    lease_request,
    new_session,
    offer,
    refused,
    request_cancel,
    run_turn,
)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(path: Path, synchronous: Synchronous = "NORMAL") -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(path, synchronous)
    try:
        yield store
    finally:
        await store.close()


async def setting(store: SqliteStore, name: str) -> object:
    return await store.writer.submit(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])


def database(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
    return path


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


# The file


async def test_a_new_file_is_created_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a b?#%&ü.db"
    async with opened(path) as store:
        await new_session(store)
    assert path.exists()
    async with opened(path) as store:
        assert (await store.load_session("s", 1)).record.session_id == "s"


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
async def test_a_file_is_written_ahead_and_synced_as_it_was_asked_for(
    tmp_path: Path, synchronous: Synchronous, level: int
) -> None:
    async with opened(tmp_path / "store.db", synchronous) as store:
        assert await setting(store, "journal_mode") == "wal"
        assert await setting(store, "synchronous") == level
        assert await setting(store, "foreign_keys") == 1
        assert await setting(store, "busy_timeout") == 15_000


def test_a_file_is_durable_unless_told_otherwise() -> None:
    assert SqliteStore.open.__defaults__ == ("FULL",)


async def test_everything_is_there_after_it_was_closed_and_opened(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        metadata = {"title": "Grüße 🌍", "n": [1, None, 2.5]}
        await store.create_session(NewSession(session_id="s", metadata=metadata), NOW, ignored)
        await enqueue(store, "done", key="k")
        await run_turn(store, revision=0)
        await enqueue(store, "waiting", key="l", available_at_ms=NOW + 5)
        await request_cancel(store, key="later")
        await new_session(store, "gone")
        await store.delete_session("gone", NOW, ignored)
        before = await everything(store)
    async with opened(tmp_path / "store.db") as store:
        assert await everything(store) == before
        assert (await offer(store, draft("done", key="k"))).replayed
        assert (await offer(store, draft("late", key="later"))).batch.state is BatchState.CANCELLED
        with pytest.raises(Exception, match="was deleted"):
            await new_session(store, "gone")


async def test_each_opening_is_another_incarnation(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        async with opened(tmp_path / "store.db") as store:
            seen.append(store.incarnation)
    assert seen == sorted(set(seen))


async def test_claims_of_a_former_owner_are_void_and_everything_else_about_them_stays(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await new_session(store)
        await enqueue(store)
        held = await claim(store, turn="t1")
        await request_cancel(store, turn="t1", reason="enough")
    async with opened(tmp_path / "store.db") as store:
        [batch] = await store.list_batches("s", pending_only=True, limit=10)
        assert (batch.state, batch.turn_id, batch.attempts) == (BatchState.PENDING, "t1", 1)
        again = await claim(store, turn="t2", token="token")
        assert (again.turn_id, again.attempt, again.cancel_requested) == ("t1", 2, "enough")
        assert again.fencing_token > held.fencing_token
        with pytest.raises(Exception, match="held by somebody else"):
            await store.commit(commit_of(held, revision=0), ignored)


async def test_leases_of_a_former_owner_are_void_and_their_generations_stay(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await new_session(store)
        await enqueue(store)
        held = await claim(store, lease=lease_request("dead", ttl_ms=10**9), ttl_ms=10**9)
    async with opened(tmp_path / "store.db") as store:
        # A restart resumes at once: nobody else can be alive.
        assert await store.claimable_sessions(NOW, 10) == ("s",)
        again = await claim(store, lease=lease_request("heir", token="new"), token="new")
        assert (again.turn_id, again.attempt) == (held.turn_id, 2)
        assert lease_of(again).generation > lease_of(held).generation
        await refused(LeaseLost, store.renew_lease(lease_of(held), now=NOW, ttl_ms=1))
        await refused(LeaseLost, store.commit(commit_of(held, revision=0, lease=held.lease), ignored))


async def test_words_that_nobody_knows_are_an_error_and_never_a_default(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await new_session(store)
        for name in ("delivery_policy", "slot_policy", "merge_key"):
            await enqueue(store, name)
    for name in ("delivery_policy", "slot_policy", "merge_key"):
        database(path, f"UPDATE batches SET {name} = '\"later\"' WHERE batch_id = 's:{name}'")
    async with opened(path) as store:
        for name in ("delivery_policy", "slot_policy", "merge_key"):
            with pytest.raises(ValueError, match=r"later|Invalid"):
                await store.get_batch("s", f"s:{name}")
        with pytest.raises(ValueError, match="later"):
            await claim(store)


async def test_a_closed_store_says_that_it_is_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await new_session(store)
    await store.close()
    for work in (store.load_session("s", 1), new_session(store, "other"), store.next_due(0)):
        with pytest.raises(StoreUnavailable):
            await work


# What is refused


async def test_a_file_that_another_server_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path):
        for opening in (SqliteStore.open, migrate):
            with pytest.raises(StoreLocked, match="one server per SQLite file"):
                opening(path)
    async with opened(path):
        pass


HOLDER = """
import sys
from pathlib import Path
from sightline.stores.sqlite import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_process_that_is_killed_lets_the_file_go_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert await holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLocked):
            SqliteStore.open(path)
    finally:
        holder.kill()
        await holder.communicate()
    async with opened(path) as store:
        assert store.incarnation == 2


def test_a_file_of_a_newer_release_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path)
    database(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    for opening in (SqliteStore.open, migrate):
        with pytest.raises(SchemaTooNew) as error:
            opening(path)
        assert (error.value.found, error.value.known) == (len(MIGRATIONS) + 1, len(MIGRATIONS))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 3"]
)
def test_a_file_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, statement: str) -> None:
    path = database(tmp_path / "theirs.db", statement)
    before = path.read_bytes()
    for opening in (SqliteStore.open, migrate):
        with pytest.raises(StoreUnusable, match="another program"):
            opening(path)
    assert path.read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(("-wal", "-journal"))]


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 1_000)
    with pytest.raises(StoreUnusable, match="not a database"):
        SqliteStore.open(path)
    assert path.read_text() == "dear diary, " * 1_000


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable):
        SqliteStore.open(tmp_path)


def test_a_place_where_nothing_can_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "store.db", Path("/proc/sightline/store.db")):
        for opening in (SqliteStore.open, migrate):
            with pytest.raises(StoreUnusable) as error:
                opening(path)
            assert str(path) in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StoreUnusable, match=r"[Pp]ermission|not writable"):
        SqliteStore.open(folder / "store.db")


async def test_a_refusal_leaves_the_file_to_the_next_who_comes(tmp_path: Path) -> None:
    path = database(tmp_path / "store.db", "PRAGMA user_version = 3")
    for _ in range(2):
        with pytest.raises(StartupError):
            SqliteStore.open(path)
    path.unlink()
    async with opened(path):
        pass


# The schema


def test_a_file_is_migrated_once_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    assert migrate(path) == (0, len(MIGRATIONS))
    before = schema(path)
    assert migrate(path) == (len(MIGRATIONS), len(MIGRATIONS))
    assert schema(path) == before


async def test_opening_a_file_migrates_it_to_the_same_schema(tmp_path: Path) -> None:
    migrate(tmp_path / "migrated.db")
    async with opened(tmp_path / "opened.db"):
        pass
    assert schema(tmp_path / "migrated.db") == schema(tmp_path / "opened.db")


async def test_a_migration_that_was_interrupted_is_done_at_the_next_opening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as db:
        ours = db.execute("PRAGMA application_id").fetchone()[0]
    path.unlink()
    database(path, f"PRAGMA application_id = {ours}")
    async with opened(path) as store:
        await new_session(store)
    assert len(schema(path)) > 5


# The statements


def test_every_statement_fits_the_schema(tmp_path: Path) -> None:
    migrate(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        for name, statement in QUERIES.items():
            names = [part.split(")")[0].split(",")[0].split()[0].strip("();,") for part in statement.split(":")[1:]]
            try:
                db.execute(f"EXPLAIN {statement}", dict.fromkeys(names))
            except sqlite3.Error as error:
                raise AssertionError(f"{name}: {error}") from error


def test_a_batch_is_read_from_the_first_columns_of_its_table(tmp_path: Path) -> None:
    migrate(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(batches)")]
    assert tuple(columns[: len(BATCH_COLUMNS)]) == BATCH_COLUMNS


def test_every_statement_is_used_somewhere() -> None:
    folder = Path(SqliteStore.__init__.__code__.co_filename).parent
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in code] == []


@pytest.mark.parametrize(
    "name",
    [
        "open_batches",
        "claim_candidates",
        "turn_candidates",
        "a_held_batch",
        "soonest_batch",
        "held_batch",
        "renew_batch",
        "complete_batch",
        "claimed_batch",
        "batch_of_turn",
        "close_batches",
        "get_key",
        "get_lane",
        "get_head",
        "update_head",
        "touch_session",
        "batch_by_id",
        "list_pending",
        "list_all",
        "peek_claimable",
        "claimable_sessions",
        "next_due",
        "newest_messages",
        "message_seq",
        "get_stamp",
        "ended_batches",
        "purge_keys",
        "list_sessions",
        "session_entries",
    ],
)
def test_what_is_asked_often_is_found_by_an_index(tmp_path: Path, name: str) -> None:
    """No plan looks at every row of a table that grows."""
    migrate(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:
        words = re.sub(r"[(),;]", " ", QUERIES[name]).split()
        values = {word[1:]: 1 for word in words if word.startswith(":")}
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
    walked = ("busy", "asked", "CONSTANT ROW", "(subquery")
    assert not [
        step
        for step in plan
        if step.startswith("SCAN") and "USING" not in step and not any(word in step for word in walked)
    ], plan


def test_a_script_is_split_at_the_ends_of_its_statements_and_nowhere_else() -> None:
    script = "-- first; with a comment\nCREATE TABLE a (x TEXT DEFAULT ';');\n\nINSERT INTO a\nVALUES ('b;\n');\n"
    assert split(script) == [
        "-- first; with a comment\nCREATE TABLE a (x TEXT DEFAULT ';');",
        "INSERT INTO a\nVALUES ('b;\n');",
    ]
    with pytest.raises(ValueError, match="unfinished"):
        split("SELECT 1")
