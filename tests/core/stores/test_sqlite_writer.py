"""The writer thread: one transaction for all who wait, savepoints where they are needed, and no trouble that outlives
its group.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import ClaimExpired, SessionExists, StoreUnavailable
from sightline.observation.model import SessionState
from sightline.queue.model import Enqueued
from sightline.stores.sqlite import SqliteStore
from sightline.stores.sqlite.connection import Connection
from sightline.stores.sqlite.writer import Writer
from sightline.testing.clock import settled
from sightline.testing.conformance.steps import (
    NOW,
    claim,
    commit,
    commit_of,
    draft,
    enqueue,
    everything,
    new_session,
)

pytestmark = pytest.mark.anyio


class Disk:
    """What a connection's statements meet. `breaks` tells which execution of a statement fails, counted from now."""

    def __init__(self) -> None:
        self.executed: list[str] = []
        self._breaks: tuple[str, int] | None = None

    def breaks(self, statement: str, at: int) -> None:
        self._breaks = statement, at

    def execute(self, statement: str) -> None:
        self.executed.append(statement)
        if self._breaks is not None and self._breaks[0] == statement:
            left = self._breaks[1] - 1
            self._breaks = (statement, left) if left else None
            if not left:
                raise sqlite3.OperationalError("disk I/O error")


@asynccontextmanager
async def writer_on(path: Path, disk: Disk | None = None) -> AsyncIterator[Writer]:
    the_disk = disk or Disk()

    class Broken(Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            the_disk.execute(sql)
            return super().execute(sql, *args)

    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Broken, timeout=0.0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS notes (note TEXT NOT NULL, big BLOB)")
    the_disk.executed.clear()
    writer = Writer(connection)
    writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


def note(text: str) -> Callable[[sqlite3.Connection], str]:
    def work(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO notes (note) VALUES (?)", (text,))
        return text

    return work


def note_and_raise(text: str, error: Exception) -> Callable[[sqlite3.Connection], str]:
    def work(db: sqlite3.Connection) -> str:
        note(text)(db)
        raise error

    return work


def notes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT note FROM notes ORDER BY rowid")]


@asynccontextmanager
async def one_group(writer: Writer) -> AsyncIterator[None]:
    """What is submitted inside is one group: the thread is kept busy meanwhile."""
    entered, leave = threading.Event(), threading.Event()

    def busy(db: sqlite3.Connection) -> None:
        entered.set()
        leave.wait()

    keeping = asyncio.create_task(writer.submit(busy))
    await asyncio.to_thread(entered.wait)
    try:
        yield
        # Whoever was started inside has its first step now, which puts its work into the queue.
        await asyncio.sleep(0)
    finally:
        leave.set()
    await keeping


def submit(writer: Writer, *works: Callable[[sqlite3.Connection], Any]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(writer.submit(work)) for work in works]


async def test_operations_that_wait_at_one_moment_share_a_transaction(tmp_path: Path) -> None:
    disk = Disk()
    async with writer_on(tmp_path / "w.db", disk) as writer:
        async with one_group(writer):
            tasks = submit(writer, *(note(str(number)) for number in range(50)))
        assert await asyncio.gather(*tasks) == [str(number) for number in range(50)]
        assert (writer.groups, writer.operations) == (2, 51)
        assert disk.executed.count("COMMIT") == 2
    assert notes(tmp_path / "w.db") == [str(number) for number in range(50)]


async def test_a_lonely_operation_does_not_wait_for_company(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        for number in range(3):
            await writer.submit(note(str(number)))
        assert (writer.groups, writer.operations) == (3, 3)


async def test_a_refusal_in_a_group_undoes_its_own_work_and_nobody_elses(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        async with one_group(writer):
            tasks = submit(
                writer,
                note("a"),
                note_and_raise("refused", SessionExists("s")),
                note("b"),
                note_and_raise("bug", ValueError("a bug")),
                lambda db: db.execute("INSERT INTO notes (note) VALUES (NULL)"),
                note("c"),
            )
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, SessionExists, str, ValueError, StoreUnavailable, str]
    assert notes(tmp_path / "w.db") == ["a", "b", "c"]


def counted(
    work: Callable[[sqlite3.Connection], Any], runs: list[str], name: str
) -> Callable[[sqlite3.Connection], Any]:
    def counting(db: sqlite3.Connection) -> Any:
        runs.append(name)
        return work(db)

    return counting


def refuse(error: Exception) -> Callable[[sqlite3.Connection], Any]:
    """Decides before it writes, as operations do."""

    def work(db: sqlite3.Connection) -> Any:
        db.execute("SELECT count(*) FROM notes").fetchone()
        raise error

    return work


async def test_a_refusal_that_wrote_nothing_costs_its_group_nothing(tmp_path: Path) -> None:
    disk, runs = Disk(), list[str]()
    async with writer_on(tmp_path / "w.db", disk) as writer:
        works = (note("a"), refuse(SessionExists("s")), note("b"), refuse(ValueError("a bug")), note("c"))
        async with one_group(writer):
            tasks = submit(writer, *(counted(work, runs, str(number)) for number, work in enumerate(works)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, SessionExists, str, ValueError, str]
    assert runs == ["0", "1", "2", "3", "4"]
    assert not [statement for statement in disk.executed if "SAVEPOINT" in statement or "ROLLBACK" in statement]
    assert notes(tmp_path / "w.db") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("spoils", "told"),
    [
        (note_and_raise("half", SessionExists("s")), SessionExists),
        (note_and_raise("half", ValueError("a bug")), ValueError),
        (lambda db: db.execute("INSERT INTO notes (note) VALUES ('half'), (NULL)"), StoreUnavailable),
        (lambda db: db.execute("no SQL at all"), StoreUnavailable),
    ],
    ids=["refused", "bug", "constraint", "statement"],
)
async def test_an_operation_that_fails_after_it_has_written_leaves_nothing_and_spoils_nobodys_work(
    tmp_path: Path, spoils: Callable[[sqlite3.Connection], Any], told: type[Exception]
) -> None:
    disk, runs, heard = Disk(), list[str](), list[str]()
    works = (note("a"), refuse(SessionExists("s")), spoils, note("b"), spoils, note("c"))
    async with writer_on(tmp_path / "w.db", disk) as writer:
        async with one_group(writer):
            tasks = [
                asyncio.create_task(writer.submit(counted(work, runs, str(number)), heard.append))
                for number, work in enumerate(works)
            ]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [str, SessionExists, told, str, told, str]
        # Up to the one that failed, taken back, and then all of them once more.
        assert runs == ["0", "1", "2", "0", "1", "2", "3", "4", "5"]
        assert heard == ["a", "b", "c"]
        assert (writer.groups, writer.operations) == (2, 7)
        assert await writer.submit(note("after")) == "after"
    assert notes(tmp_path / "w.db") == ["a", "b", "c", "after"]


async def test_an_operation_sees_nothing_of_what_was_taken_back(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(db: sqlite3.Connection) -> None:
        seen.append([row[0] for row in db.execute("SELECT note FROM notes ORDER BY rowid")])

    async with writer_on(tmp_path / "w.db") as writer:
        async with one_group(writer):
            tasks = submit(writer, note("a"), note_and_raise("half", SessionExists("s")), look, note("b"), look)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert seen == [["a"], ["a", "b"]]


async def test_an_operation_that_was_run_twice_is_answered_by_what_came_of_it_the_second_time(tmp_path: Path) -> None:
    runs: list[str] = []

    def wavers(db: sqlite3.Connection) -> str:
        runs.append("run")
        if len(runs) == 1:
            raise SessionExists("s")
        return note("b")(db)

    async with writer_on(tmp_path / "w.db") as writer:
        async with one_group(writer):
            tasks = submit(writer, note("a"), wavers, note_and_raise("half", SessionExists("s")))
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, str, SessionExists]
    assert notes(tmp_path / "w.db") == ["a", "b"]


async def test_a_commit_that_is_refused_late_spoils_nothing_of_what_waited_with_it(tmp_path: Path) -> None:
    """Through the store: of two claims the first is completed before the second turns out to be lost."""
    store = SqliteStore.open(tmp_path / "store.db")
    await new_session(store)
    for name in ("mine", "lost"):
        await enqueue(store, name)
    mine = await claim(store, turn="t1", token="mine")
    lost = await claim(store, turn="t2", token="old", ttl_ms=0)
    await claim(store, token="new")
    both = commit_of(mine, revision=0, completions=(mine.completion(), lost.completion()))
    told: list[object] = []
    before = await everything(store)
    redone: list[int] = []
    apart = store.writer._perform_apart

    def perform_apart(group: list[Any]) -> None:
        redone.append(len(group))
        apart(group)

    store.writer._perform_apart = perform_apart  # type: ignore[method-assign]
    async with one_group(store.writer):
        first = asyncio.create_task(store.enqueue(draft("a"), batch_id="a", now=NOW, max_open=9, then=told.append))
        refusal = asyncio.create_task(store.commit(both, told.append))
        last = asyncio.create_task(store.enqueue(draft("b"), batch_id="b", now=NOW, max_open=9, then=told.append))
    results = await asyncio.gather(first, refusal, last, return_exceptions=True)
    assert redone == [3]
    assert isinstance(results[1], ClaimExpired)
    assert told == [results[0], results[2]]
    state, batches, *_ = await everything(store)
    assert isinstance(state, SessionState)
    assert isinstance(batches, tuple)
    assert (state.messages, state.record.revision) == ((), 0)
    assert before[1] == batches[:2]
    assert [batch.batch_id for batch in batches[2:]] == ["a", "b"]
    # What is counted outside of the database has not lost its order.
    await new_session(store, "newer")
    page = await store.list_sessions(limit=10, after=None, status=None)
    assert [entry.session_id for entry in page.sessions] == ["newer", "s"]
    await commit(store, commit_of(mine, revision=0))
    await store.close()


async def test_nobody_hears_of_success_before_it_is_durable(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        seen: list[list[str]] = []
        await asyncio.gather(
            *(writer.submit(note(text), lambda _: seen.append(notes(tmp_path / "w.db"))) for text in ("a", "b", "c"))
        )
    for number, durable in enumerate(seen):
        assert len(durable) > number


# Of the commits from then on, the first is that of the operation that keeps the thread busy.
@pytest.mark.parametrize(("statement", "at"), [("BEGIN IMMEDIATE", 1), ("COMMIT", 2)])
async def test_trouble_with_a_whole_group_is_told_to_all_of_it_and_the_writer_lives_on(
    tmp_path: Path, statement: str, at: int
) -> None:
    disk = Disk()
    async with writer_on(tmp_path / "w.db", disk) as writer:
        told: list[str] = []
        async with one_group(writer):
            tasks = [asyncio.create_task(writer.submit(note(text), told.append)) for text in ("a", "b")]
            tasks += submit(writer, note_and_raise("refused", SessionExists("s")))
            disk.breaks(statement, at)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * 3
        assert told == []
        assert await writer.submit(note("after")) == "after"
    assert notes(tmp_path / "w.db") == ["after"]


async def test_a_full_disk_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    def fill(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO notes (note, big) VALUES ('big', zeroblob(1000000))")

    path = tmp_path / "w.db"
    async with writer_on(path) as writer:
        await writer.submit(note("before"))
        pages = await writer.submit(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await writer.submit(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 5}").fetchone())
        async with one_group(writer):
            tasks = submit(writer, note("a"), fill, note("b"))
        first, big, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(big, StoreUnavailable)
        assert "full" in str(big)
        confirmed = [result for result in (first, last) if isinstance(result, str)]
        assert notes(path) == ["before", *confirmed]
        await writer.submit(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        await writer.submit(fill)
        await writer.submit(note("after"))
    assert notes(path)[-2:] == ["big", "after"]


async def test_a_file_that_somebody_else_has_locked_is_unavailable_for_the_moment(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    async with writer_on(path) as writer:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await writer.submit(note("a"))
            other.execute("ROLLBACK")
        await writer.submit(note("b"))
    assert notes(path) == ["b"]


async def test_then_is_called_in_commit_order_before_any_caller_goes_on(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        order: list[str] = []

        async def call(text: str) -> None:
            await writer.submit(note(text), lambda result: order.append(f"then {result}"))
            order.append(f"caller {text}")

        async with one_group(writer):
            tasks = [asyncio.create_task(call(text)) for text in ("a", "b", "c")]
        await asyncio.gather(*tasks)
    assert order == ["then a", "then b", "then c", "caller a", "caller b", "caller c"]


async def test_a_caller_that_left_still_has_then_called(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        told: list[str] = []
        async with one_group(writer):
            task = asyncio.create_task(writer.submit(note("a"), told.append))
            await asyncio.sleep(0)
            task.cancel()
        assert (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        await writer.submit(note("b"))
        assert told == ["a"]
    assert notes(tmp_path / "w.db") == ["a", "b"]


async def test_a_caller_that_left_a_write_that_failed_leaves_no_complaint(tmp_path: Path) -> None:
    """An exception that nobody retrieves would be logged by the loop, and fail this test as a warning."""
    async with writer_on(tmp_path / "w.db") as writer:
        async with one_group(writer):
            task = asyncio.create_task(writer.submit(note_and_raise("a", SessionExists("s"))))
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writer.submit(note("b"))


async def test_a_then_that_fails_does_not_undo_the_commit_nor_keep_anybody_waiting(tmp_path: Path) -> None:
    def fail(_: str) -> None:
        raise ValueError("a bug")

    async with writer_on(tmp_path / "w.db") as writer:
        async with one_group(writer):
            tasks = [asyncio.create_task(writer.submit(note(text), fail)) for text in ("a", "b")]
        assert await asyncio.gather(*tasks) == ["a", "b"]
    assert notes(tmp_path / "w.db") == ["a", "b"]


async def test_what_was_submitted_before_the_stop_is_done_and_nothing_after(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        tasks = submit(writer, *(note(str(number)) for number in range(20)))
        await asyncio.sleep(0)
        await writer.stop()
        assert await asyncio.gather(*tasks) == [str(number) for number in range(20)]
        with pytest.raises(StoreUnavailable, match="closed"):
            await writer.submit(note("late"))
        await writer.stop()
    assert len(notes(tmp_path / "w.db")) == 20


def test_a_loop_that_ended_before_the_answer_does_not_hurt_the_writer(tmp_path: Path) -> None:
    """The writes of one loop are answered on it; another loop's end is its own affair."""
    path = tmp_path / "w.db"
    entered, leave = threading.Event(), threading.Event()

    def busy(db: sqlite3.Connection) -> None:
        entered.set()
        leave.wait()
        note("left behind")(db)

    async def leaves_early(writer: Writer) -> None:
        task = asyncio.create_task(writer.submit(busy))
        await asyncio.to_thread(entered.wait)
        task.cancel()

    async def whole() -> None:
        async with writer_on(path) as writer:
            await asyncio.to_thread(asyncio.run, leaves_early(writer))
            leave.set()
            await writer.submit(note("after"))

    asyncio.run(whole())
    assert notes(path) == ["left behind", "after"]


async def test_a_group_is_not_larger_than_it_may_be(tmp_path: Path) -> None:
    async with writer_on(tmp_path / "w.db") as writer:
        async with one_group(writer):
            tasks = submit(writer, *(note(str(number)) for number in range(1_030)))
        await asyncio.gather(*tasks)
        assert (writer.groups, writer.operations) == (4, 1_031)
    assert len(notes(tmp_path / "w.db")) == 1_030


async def test_nobody_reads_a_write_before_its_observers_were_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(tmp_path / "x.db")
    await new_session(store)
    tell, held = store.writer._settle, list[Any]()
    monkeypatch.setattr(store.writer, "_settle", lambda *news: held.append(news))
    told: list[Enqueued] = []
    writing = asyncio.create_task(store.enqueue(draft("work"), batch_id="b", now=NOW, max_open=10, then=told.append))
    while not held:  # noqa: ASYNC110 - a thread has a part in it and there is no event to wait on
        await asyncio.sleep(0)
    reading = asyncio.create_task(store.get_batch("s", "b"))
    await asyncio.sleep(0)
    await asyncio.get_running_loop().run_in_executor(store._reader, lambda: None)
    await settled()
    assert not reading.done()
    tell(*held.pop())
    assert (await reading).batch_id == "b"
    assert len(told) == 1
    await writing
    monkeypatch.undo()
    await store.close()
