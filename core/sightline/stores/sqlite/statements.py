"""The SQL of this store, by name, read from `queries.sql` and `migrations/`."""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from typing import Any

__all__ = ["MIGRATIONS", "QUERIES", "first", "run", "split"]


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


QUERIES = _load_queries()
MIGRATIONS = _load_migrations()
"""One script for each schema version, from 1; a script brings a database of the version before to its own."""


def run(db: sqlite3.Connection, query: str, **values: Any) -> sqlite3.Cursor:
    """Execute the named query."""
    return db.execute(QUERIES[query], values)


def first(db: sqlite3.Connection, query: str, **values: Any) -> Any:
    """The first row of the named query, or none."""
    return run(db, query, **values).fetchone()
