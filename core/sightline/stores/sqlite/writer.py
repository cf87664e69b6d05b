"""The writer thread: all writes go through one connection; those that wait at one moment share a transaction.

A durable commit costs one sync of the disk, however much it holds; so the more callers wait, the cheaper each is.
A refusal takes back its own work and nobody else's. Operations decide before they write, so nearly always there is
nothing to take back; when there is, the group is rolled back and done again with a savepoint for each. So an operation
may run twice, and touches nothing but the database.

Results are handed to the event loop once per group, in commit order.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sightline.errors import SightlineError, StoreUnavailable
from sightline.stores.sqlite.connection import Connection

__all__ = ["Writer"]

_log = logging.getLogger("sightline.stores.sqlite")
_T = TypeVar("_T")

_MAX_GROUP = 512


class _Operation(Generic[_T]):
    __slots__ = ("error", "future", "loop", "result", "then", "work")

    def __init__(self, work: Callable[[Connection], _T], then: Callable[[_T], None] | None) -> None:
        self.work = work
        self.then = then
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[_T] = self.loop.create_future()
        self.result: _T | None = None
        self.error: Exception | None = None

    def settle(self) -> None:
        """On the loop: tell what came of it, first `then`, then whoever waits."""
        if self.error is None and self.then is not None:
            try:
                self.then(self.result)  # type: ignore[arg-type]
            except Exception:
                _log.exception("what follows a commit failed; the commit stands")
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)  # type: ignore[arg-type]
        else:
            self.future.set_exception(self.error)


class Writer:
    """Owns the connection from `start` to `stop`. `submit` is called on an event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[_Operation[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sightline sqlite writer", daemon=True)
        self._stopped = False
        self._begun = 0
        self._told = 0
        self._listeners: list[asyncio.Future[None]] = []
        self.groups = 0
        self.operations = 0

    def start(self) -> None:
        self._thread.start()

    async def submit(self, work: Callable[[Connection], _T], then: Callable[[_T], None] | None = None) -> _T:
        """Run `work` inside a transaction and return its result once that is durable.

        A cancelled caller does not stop the work; `then` is called all the same. Raises what `work` raises;
        StoreUnavailable for trouble with the database, after which the work may or may not be there.
        """
        if self._stopped:
            raise StoreUnavailable("it is closed")
        operation = _Operation(work, then)
        self._queue.put(operation)
        # Nothing is shielded: a caller that leaves takes its future along, and the work is done all the same.
        return await operation.future

    async def all_told(self) -> None:
        """Return when everything that may have been committed by now has been told to whoever follows it.

        A reader that saw a commit waits for this, so that nobody learns of a write before the observers do.
        """
        begun = self._begun
        while self._told < begun and not self._stopped:
            listener: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._listeners.append(listener)
            await listener

    async def stop(self) -> None:
        """Finish what was submitted, then end the thread and close the connection. Idempotent."""
        if not self._stopped:
            self._stopped = True
            self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        last = False
        while not last:
            group: list[_Operation[Any]] = []
            entry = self._queue.get()
            while entry is not None:
                group.append(entry)
                if len(group) == _MAX_GROUP:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            last = entry is None
            if group:
                self._perform(group)
        self._connection.close()

    def _perform(self, group: list[_Operation[Any]]) -> None:
        self._begun += 1
        try:
            if not self._perform_together(group):
                self._perform_apart(group)
        except Exception as error:
            _log.error("a group of %d writes failed: %s", len(group), error)
            for operation in group:
                operation.error = StoreUnavailable(str(error))
            self._roll_back()
        self.groups += 1
        self.operations += len(group)
        loops = {operation.loop for operation in group}
        for loop in loops:
            try:
                mine = [operation for operation in group if operation.loop is loop]
                loop.call_soon_threadsafe(self._settle, mine, self._begun)
            except RuntimeError:
                _log.warning("the event loop ended before %d writes were answered", len(group))

    def _perform_together(self, group: list[_Operation[Any]]) -> bool:
        """The usual way, without savepoints: operations decide before they write, so a refusal leaves nothing behind.

        False when one failed after it had written: then nothing of the group was done.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for operation in group:
            written = connection.total_changes
            try:
                operation.result = operation.work(connection)
            except Exception as error:
                if connection.total_changes != written or isinstance(error, sqlite3.Error):
                    self._roll_back()
                    return False
                operation.error = error
        connection.execute("COMMIT")
        return True

    def _perform_apart(self, group: list[_Operation[Any]]) -> None:
        """The same once more, each operation behind a savepoint of its own."""
        self._connection.execute("BEGIN IMMEDIATE")
        for operation in group:
            operation.error = None
            self._perform_one(operation)
        self._connection.execute("COMMIT")

    def _perform_one(self, operation: _Operation[Any]) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT operation")
        try:
            operation.result = operation.work(connection)
        except SightlineError as error:
            operation.error = error
        except sqlite3.Error as error:
            if not connection.in_transaction:
                raise  # a full or broken disk takes the whole transaction with it
            operation.error = StoreUnavailable(str(error))
        except Exception as error:
            operation.error = error
        if operation.error is not None:
            connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")

    def _settle(self, operations: list[_Operation[Any]], group: int) -> None:
        for operation in operations:
            operation.settle()
        self._told = max(self._told, group)
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if not listener.done():
                listener.set_result(None)

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            _log.error("rollback failed: %s", error)
