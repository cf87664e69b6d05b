"""What a turn costs does not grow with the transcript: rows, bytes and pages written, and the bytes of its events."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from sightline.agents.demo import demo
from sightline.kernel import Limits
from sightline.stores.sqlite import SqliteStore
from sightline.testing.conformance.steps import claim, commit, commit_of, enqueue, message, new_session
from tests.core.worlds import World, running, watch

pytestmark = pytest.mark.anyio

DIGITS = 24
"""Counters are written in decimal: one that is a thousand times larger has three digits more, in several places."""


@dataclass
class Cost:
    """Of one turn, from the request to the commit."""

    rows: int
    statements: int
    statement_bytes: int
    wal_bytes: int
    commit_event_bytes: int
    event_bytes: int


async def session_with(store: SqliteStore, count: int) -> None:
    """A session that has so many messages."""
    await new_session(store)
    await enqueue(store)
    names = (f"message-{number:06}" for number in range(count))
    work = commit_of(await claim(store), revision=0)
    await commit(store, msgspec.structs.replace(work, messages=tuple(message(name) for name in names)))


async def turn_costs(world: World, path: Path, name: str) -> Cost:
    assert isinstance(world.store, SqliteStore)
    writer = world.store.writer
    statements: list[str] = []
    await writer.submit(lambda db: db.set_trace_callback(statements.append))
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = await writer.submit(lambda db: db.total_changes)
    watched = await watch(world)
    statements.clear()

    written = await world.send(f"echo {name}", key=f"host:{name}")
    await world.kernel.wait_for_batch("s", written.batch.batch_id, 60.0)

    bare = (re.sub(r"^--.*\n", "", text, flags=re.MULTILINE) for text in statements)
    changes = [text for text in bare if text.startswith(("INSERT", "UPDATE", "DELETE"))]
    wal = wal_bytes(path)
    rows = await writer.submit(lambda db: db.total_changes) - before
    await writer.submit(lambda db: db.set_trace_callback(None))
    sizes = {seen.kind: len(msgspec.json.encode(seen)) for seen in watched.events}
    watched.opening.subscription.close()
    return Cost(
        rows=rows,
        statements=len(changes),
        statement_bytes=sum(len(text.encode()) for text in changes),
        wal_bytes=wal,
        commit_event_bytes=sizes["committed"],
        event_bytes=sum(len(msgspec.json.encode(seen)) for seen in watched.events),
    )


def wal_bytes(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def cost_at(path: Path, count: int) -> Cost:
    store = SqliteStore.open(path, "NORMAL")
    await session_with(store, count)
    async with running(demo, store=store, session_ids=(), limits=Limits(keep_messages=200)) as world:
        assert len((await world.kernel.observe("s", messages=20_000)).read_view.messages) == count
        costs = [await turn_costs(world, path, f"hello {number}") for number in range(5)]
    # A page that is full is split now and then, early and late: the cheapest of a few turns is the cost of a turn.
    return Cost(*(min(getattr(cost, name) for cost in costs) for name in Cost.__dataclass_fields__))


async def test_a_turn_costs_the_same_at_message_ten_and_at_message_ten_thousand(tmp_path: Path) -> None:
    early, late = await cost_at(tmp_path / "early.db", 10), await cost_at(tmp_path / "late.db", 10_000)
    assert late.rows == early.rows
    assert late.statements == early.statements
    assert 0 <= late.statement_bytes - early.statement_bytes <= DIGITS
    assert 0 <= late.commit_event_bytes - early.commit_event_bytes <= DIGITS
    assert 0 <= late.event_bytes - early.event_bytes <= DIGITS
    assert late.wal_bytes <= 1.25 * early.wal_bytes, "one more level of a tree may be touched, not a transcript"


async def test_a_turn_writes_what_it_said_and_little_else(tmp_path: Path) -> None:
    cost = await cost_at(tmp_path / "store.db", 10)
    assert cost.rows <= 12
    assert cost.statement_bytes <= 4_000
    assert cost.commit_event_bytes <= 1_000
