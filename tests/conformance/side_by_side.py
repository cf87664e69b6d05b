"""Memory and SQLite side by side: every question is put to both, and every answer compared."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sightline.kernel import KernelStore
from sightline.queue.model import Boundary
from sightline.session.model import SessionLease, Status
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock

__all__ = ["SideBySide"]

_T = TypeVar("_T")
_MEMORY_DISK = Path("/dev/shm")
_WITHOUT_THEN = {
    "acquire_lease",
    "renew_lease",
    "release_lease",
    "renew",
    "purge_ended",
    "purge_keys",
    "purge_requests",
    "remember",
    "recall",
    "answers_to",
    "acquire_process_lease",
    "renew_process_lease",
    "release_process_lease",
}
_STATUSES: tuple[Status | None, ...] = (None, "idle", "queued", "running", "waiting")


class SideBySide:
    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(dir=_MEMORY_DISK if _MEMORY_DISK.is_dir() else None)
        self._runner = asyncio.Runner()
        self.memory: KernelStore = MemoryStore(ManualClock())
        self.sqlite: KernelStore = SqliteStore.open(Path(self._folder) / "store.db", "NORMAL")

    def close(self) -> None:
        self._runner.run(self.sqlite.close())
        self._runner.close()
        shutil.rmtree(self._folder)

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call both, compare all they tell, and return the result; none for a refusal."""

        async def both() -> tuple[tuple[object, ...], tuple[object, ...]]:
            return await _told(self.memory, method, *args, **kwargs), await _told(self.sqlite, method, *args, **kwargs)

        memory, sqlite = self._runner.run(both())
        assert sqlite == memory
        return memory[0] if len(memory) == 2 else None

    def compare(self, session_ids: Sequence[str], leases: Sequence[SessionLease], now: int) -> dict[str, Any]:
        """Compare all that can be read, and which of the leases rule; the states of the sessions that are there."""

        async def both() -> tuple[list[object], list[object]]:
            return await _read(self.memory, session_ids, leases, now), await _read(
                self.sqlite, session_ids, leases, now
            )

        memory, sqlite = self._runner.run(both())
        assert sqlite == memory
        return {session_id: state for session_id, state in zip(session_ids, memory, strict=False) if _is_there(state)}

    def look(self, read: Callable[[KernelStore], Awaitable[_T]]) -> _T:
        """Read both in the same way, compare, and return what was found."""

        async def both() -> tuple[_T, _T]:
            return await read(self.memory), await read(self.sqlite)

        memory, sqlite = self._runner.run(both())
        assert sqlite == memory
        return memory


async def _told(store: KernelStore, method: str, *args: Any, **kwargs: Any) -> tuple[object, ...]:
    """What a call tells, by any of its ways: its result or its error, and what `then` got."""
    heard: list[object] = []
    if method not in _WITHOUT_THEN:
        kwargs["then"] = heard.append
    try:
        return await getattr(store, method)(*args, **kwargs), heard
    except Exception as error:
        return type(error), error.args, heard


async def _read(
    store: KernelStore, session_ids: Sequence[str], leases: Sequence[SessionLease], now: int
) -> list[object]:
    works: list[Awaitable[object]] = [store.load_session(session_id, 2) for session_id in session_ids]
    for session_id in session_ids:
        works += [
            store.list_batches(session_id, pending_only=False, limit=1_000),
            store.list_batches(session_id, pending_only=False, limit=3),
            store.list_batches(session_id, pending_only=True, limit=3),
            store.peek_claimable(session_id, now),
            _two_pages(store, session_id),
        ]
    works += [
        store.claimable_sessions(now, 10),
        store.claimable_sessions(now, 1, min(session_ids)),
        store.next_due(now),
        *(store.list_sessions(limit=1, after=None, status=status) for status in _STATUSES),
        _entries(store, session_ids),
        *(_rules(store, lease, now) for lease in leases),
    ]
    return list(await asyncio.gather(*map(_answer, works)))


async def _entries(store: KernelStore, session_ids: Sequence[str]) -> object:
    return sorted(await store.session_entries(session_ids), key=lambda entry: entry.session_id)


async def _two_pages(store: KernelStore, session_id: str) -> object:
    newest = await store.page_messages(session_id, before=None, limit=2)
    return newest, await store.page_messages(session_id, before=newest.next, limit=1)


async def _rules(store: KernelStore, lease: SessionLease, now: int) -> object:
    """Whether a lease rules, asked in a way that changes nothing: by a claim of no batch."""
    return await store.claim(
        lease.session_id,
        Boundary.IDLE,
        owner_id="probe",
        turn_id="probe",
        lease_token="probe",
        now=now,
        ttl_ms=0,
        max_batches=0,
        then=lambda _: None,
        lease=lease,
    )


async def _answer(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception as error:
        return type(error), error.args


def _is_there(state: object) -> bool:
    return not isinstance(state, tuple)
