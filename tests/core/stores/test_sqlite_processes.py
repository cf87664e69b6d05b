"""Processes in a file: what a restarted server finds, and how rows are found among many."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import UNSET

from sightline.errors import ProcessTerminal
from sightline.process.model import AbandonedOutput, ProcessLease, ProcessScope, Provenance, SuccessOutput
from sightline.stores.sqlite import SqliteStore
from sightline.stores.sqlite.statements import MIGRATIONS, QUERIES
from sightline.testing.conformance.process_steps import (
    HERE,
    append,
    end,
    everything_of,
    external,
    grant,
    granted_to,
    hold,
    log_of,
    offer_process,
    register,
    wakes,
)
from sightline.testing.conformance.steps import NOW, ignored, new_session

pytestmark = pytest.mark.anyio


def opened(folder: Path) -> SqliteStore:
    return SqliteStore.open(folder / "store.db", "NORMAL")


async def test_all_of_a_process_is_there_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await new_session(store)
    await register(store)
    await grant(store)
    await append(store, "report", {"text": "ä \x00 \U0001f600", "more": [1.0, None, 2**60]}, key="k")
    before = await everything_of(store)
    await store.close()
    store = opened(tmp_path)
    assert await everything_of(store) == before
    assert await granted_to(store) == ["p"]
    again = await append(store, "report", {"text": "ä \x00 \U0001f600", "more": [1.0, None, 2**60]}, key="k")
    assert again.replayed
    await store.close()


async def test_a_wake_whose_server_died_behind_the_event_is_in_the_outbox_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await register(store)
    await append(store, "report", {"text": "look"}, key="k")
    await store.close()
    for _ in range(2):
        store = opened(tmp_path)
        # The worker that runs the process again says it again.
        assert (await append(store, "report", {"text": "look"}, key="k")).replayed
        assert await wakes(store) == [("s", "look")]
        await store.close()


async def test_after_a_restart_a_rerunnable_process_is_taken_over_at_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await register(store)
    lease = await hold(store, ttl_ms=10**9)
    await store.close()
    store = opened(tmp_path)
    assert [record.process_id for record in await store.runnable_processes(now=NOW, limit=9)] == ["p"]
    successor = await hold(store, "you")
    assert successor.fencing_token == lease.fencing_token + 1
    assert (await store.get_process("p")).attempts == 2
    await end(store, lease=successor)
    assert await log_of(store) == ["process.completed"]
    await store.close()


async def test_after_a_restart_an_owner_bound_process_is_abandoned_and_others_are_untouched(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in ("running", "waiting"):
        await register(store, name, disposition="owner_bound")
    await offer_process(store, external("elsewhere"))
    await hold(store, process_id="running", ttl_ms=10**9)
    await store.close()
    store = opened(tmp_path)
    found = await store.runnable_processes(now=NOW, limit=9)
    assert [record.process_id for record in found] == ["running", "waiting"]
    left = await store.abandon_process("running", found_by="you", now=NOW, then=ignored)
    assert left.record.status == "abandoned"
    assert isinstance(left.record.output, AbandonedOutput)
    assert left.record.output.expired_at_ms == NOW, "which is when its owner was found to be gone"
    await hold(store, "you", process_id="waiting")
    assert (await end(store, SuccessOutput(value=1), process_id="elsewhere")).record.status == "completed"
    await store.close()


async def test_two_workers_and_one_process_a_thousand_times(tmp_path: Path) -> None:
    """Each process is run once, however many try: by one lease, and one end."""
    store = opened(tmp_path)
    names = [f"p{number:04}" for number in range(1_000)]
    await asyncio.gather(*(register(store, name, event_types=()) for name in names))
    runs: dict[str, int] = dict.fromkeys(names, 0)

    async def work(owner: str) -> None:
        after = ""
        while page := await store.runnable_processes(now=NOW, limit=100, after=after):
            for record in page:
                name = after = record.process_id
                try:
                    lease = await store.acquire_process_lease(
                        name, owner_id=f"{owner} {name}", lease_token=owner, now=NOW, ttl_ms=30_000
                    )
                except ProcessTerminal:
                    continue
                if isinstance(lease, ProcessLease):
                    runs[name] += 1
                    await end(store, process_id=name, lease=lease)

    await asyncio.gather(work("me"), work("you"))
    assert set(runs.values()) == {1}
    page = await store.list_processes(limit=2_000, after=None, status="completed")
    assert [record.last_sequence for record in page.processes] == [1] * 1_000
    assert await store.runnable_processes(now=NOW, limit=9) == ()
    await store.close()


async def test_a_process_without_an_owner_stays_one(tmp_path: Path) -> None:
    store = opened(tmp_path)
    record = (await offer_process(store, external(provenance=Provenance(), event_types=()))).record
    assert record.provenance.owner_scope is UNSET
    assert (await store.get_process("p")).provenance.owner_scope is UNSET
    assert await granted_to(store, HERE) == await granted_to(store, ProcessScope("")) == []
    await store.close()


# How rows are found

PROCESSES = [name for name in QUERIES if re.search(r"\bprocess(es|_events|_grants|_wakes)\b", QUERIES[name])]


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in MIGRATIONS:
            for statement in script:
                connection.execute(statement)
        yield connection


@pytest.mark.parametrize("name", PROCESSES)
def test_processes_are_looked_up_and_never_gone_through(db: sqlite3.Connection, name: str) -> None:
    if name == "lapse_process_leases":
        return  # once, when the file is opened
    values = dict.fromkeys(re.findall(r":(\w+)", QUERIES[name]))
    steps = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
    assert [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step] == [], steps


def test_what_a_worker_polls_with_reads_the_index_of_what_can_be_run(db: sqlite3.Connection) -> None:
    values = dict.fromkeys(re.findall(r":(\w+)", QUERIES["runnable_processes"]))
    [step] = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {QUERIES['runnable_processes']}", values)]
    assert "processes_runnable" in step
