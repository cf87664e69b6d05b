"""Opening the file: the lock, the pragmas, the schema.

The lock is an exclusive `flock` on a file beside the database. It goes with the process, however that ends, so a
server that is started again takes over at once, and a second one on the same file is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from sightline.startup_errors import (
    SchemaTooNew,
    StoreLocked,
    StoreUnusable,
)
from sightline.stores.sqlite.statements import MIGRATIONS

__all__ = ["Connection", "Lock", "Synchronous", "connect", "migrate_schema", "transaction", "unusable"]

Synchronous = Literal["FULL", "NORMAL"]

_APPLICATION_ID = 0x534C4E31
_BUSY_TIMEOUT_MS = 15_000
_WAL_ATTEMPTS = 50


class Connection(sqlite3.Connection):
    """A connection, and on the writer's the number of the last activity.

    The order in which sessions were active is counted here and not in a row: one server has the file, and a number that
    a transaction took back is only left out.
    """

    last_touch = 0

    def touch(self) -> int:
        """The next number of the order of activity."""
        self.last_touch += 1
        return self.last_touch


class Lock:
    """Ownership of one database file. Raises StoreLocked, StoreUnusable."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(f"{path}.lock", "ab")  # noqa: SIM115 - held open as long as the lock
        except OSError as error:
            raise StoreUnusable(str(path), error.strerror or str(error)) from None
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if isinstance(error, BlockingIOError):
                raise StoreLocked(str(path)) from None
            raise StoreUnusable(str(path), error.strerror or str(error)) from None
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def connect(path: Path, synchronous: Synchronous, *, read_only: bool = False) -> Connection:
    """A connection for one thread. Transactions are begun by hand: nothing is opened behind our back."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=Connection,
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # The busy handler does not cover this switch, so it is tried again by hand.
    for attempt in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if attempt + 1 == _WAL_ATTEMPTS or "locked" not in str(error):
                raise
            connection.execute("SELECT 1")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, immediate from the start: a read that becomes a write later could fail for good."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def migrate_schema(connection: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Bring the schema to this release's version, forward only: (version before, version after).

    Each step is one transaction with its version number. Raises SchemaTooNew, StoreUnusable.
    """
    with transaction(connection):
        before = int(connection.execute("PRAGMA user_version").fetchone()[0])
        owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
        if owner != _APPLICATION_ID:
            if owner or before or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                raise StoreUnusable(str(path), "it is the database of another program")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    if before > len(MIGRATIONS):
        raise SchemaTooNew(str(path), before, len(MIGRATIONS))
    # Only now, because the switch is written into the file, and a file that is not ours stays as it is.
    _switch_to_wal(connection)
    for version, script in enumerate(MIGRATIONS[before:], before + 1):
        with transaction(connection):
            for statement in script:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
    return before, len(MIGRATIONS)


def unusable(path: Path, error: Exception) -> StoreUnusable:
    """The refusal for what SQLite or the system said of the file."""
    reason = str(error)
    if "unable to open" in reason and path.parent.exists() and not os.access(path.parent, os.W_OK):
        reason = f"{path.parent} is not writable"
    return StoreUnusable(str(path), reason)
