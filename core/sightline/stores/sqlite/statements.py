"""The SQL of this store, by name, read from `queries.sql` and `migrations/`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from operator import itemgetter
from typing import Any

__all__ = ["MIGRATIONS", "QUERIES", "first", "run", "run_all", "split"]


def split(script: str) -> list[str]:
    """The statements of a script. Comments stay with the statement they stand before."""
    statements = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    if pending.strip():
        raise ValueError(f"unfinished statement: {pending.strip()[:60]!r}")
    return statements


def _load_queries() -> dict[str, str]:
    text = (files(__package__) / "queries.sql").read_text(encoding="utf-8")
    queries = {}
    for chunk in text.split("-- name: ")[1:]:
        name, _, body = chunk.partition("\n")
        (statement,) = split(body)
        queries[name.strip()] = statement
    return queries


def _load_migrations() -> tuple[tuple[str, ...], ...]:
    folder = files(__package__) / "migrations"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(tuple(split(script.read_text(encoding="utf-8"))) for script in scripts)


_NAME = re.compile(r":([a-z_]+)")
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


def _numbered(query: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    """The query with numbers for names, and what puts its values in their order.

    Names are for readers. Binding by them costs a new string for each value of each execution, which is more than most
    of these statements cost.
    """
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"?{names.index(match[1]) + 1}"

    statement = _NAME.sub(number, _COMMENT.sub("", query))
    if not names:
        return statement, lambda values: ()
    if len(names) == 1:
        [only] = names
        return statement, lambda values: (values[only],)
    return statement, itemgetter(*names)


QUERIES = _load_queries()
_NUMBERED = {name: _numbered(query) for name, query in QUERIES.items()}
MIGRATIONS = _load_migrations()
"""One script for each schema version, from 1; a script brings a database of the version before to its own."""


def run(db: sqlite3.Connection, query: str, **values: Any) -> sqlite3.Cursor:
    """Execute the named query."""
    statement, ordered = _NUMBERED[query]
    return db.execute(statement, ordered(values))


def run_all(db: sqlite3.Connection, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute the named query once for each of these."""
    statement, ordered = _NUMBERED[query]
    db.executemany(statement, map(ordered, rows))


def first(db: sqlite3.Connection, query: str, **values: Any) -> Any:
    """The first row of the named query, or none."""
    return run(db, query, **values).fetchone()
