"""How SQLite finds the rows that claiming asks for: by an index, however many batches there are."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatch

import pytest

from sightline.stores.sqlite.statements import MIGRATIONS, QUERIES

CLAIMING = ("claim_*", "claimable_*", "next_due", "*_candidates", "take_*", "held_*")
"""The statements on the way of a claim, and those the runner polls with."""

NAMES = [name for name in QUERIES if any(fnmatch(name, pattern) for pattern in CLAIMING)]


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    """The schema with nothing in it: without statistics the plan is the same for every database."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in MIGRATIONS:
            for statement in script:
                connection.execute(statement)
        yield connection


def plan(db: sqlite3.Connection, statement: str) -> list[str]:
    values = dict.fromkeys(re.findall(r":(\w+)", statement))
    return [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def scans_of_batches(db: sqlite3.Connection, statement: str) -> list[str]:
    """The steps that go through all batches, or through all entries of one of their indexes."""
    aliases = re.findall(r"\bbatches\s+(?:AS\s+)?([a-z]\w*)\b", statement)
    return [step for step in plan(db, statement) if re.match(rf"SCAN ({'|'.join(['batches', *aliases])})\b", step)]


def test_there_are_such_statements() -> None:
    for pattern in ("claim_*", "claimable_*", "next_due"):
        assert any(fnmatch(name, pattern) for name in NAMES), pattern


@pytest.mark.parametrize("name", NAMES)
def test_claiming_looks_batches_up_and_never_goes_through_all_of_them(db: sqlite3.Connection, name: str) -> None:
    steps = plan(db, QUERIES[name])
    assert scans_of_batches(db, QUERIES[name]) == [], steps
    if "batches" in QUERIES[name]:
        assert any(re.match(r"SEARCH \w+ USING (COVERING INDEX|INDEX|INTEGER PRIMARY KEY)\b", step) for step in steps)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM batches WHERE state = 'pending' AND items = :items",
        "SELECT b.batch_id FROM batches AS b WHERE b.items = :items",
        "SELECT session_id FROM batches ORDER BY session_id, enqueue_seq",
    ],
)
def test_a_statement_that_goes_through_all_of_them_is_seen(db: sqlite3.Connection, statement: str) -> None:
    assert scans_of_batches(db, statement) != []
