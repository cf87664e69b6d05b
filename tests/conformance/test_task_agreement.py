"""Both stores make the same of the same history of tasks, step by step."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from sightline.errors import SightlineError
from sightline.kernel import KernelStore
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.tasks.model import (
    CancelRequest,
    Ending,
    NewTask,
    Progress,
    TaskAttempt,
    TaskName,
    TaskRecord,
    Unfolding,
)
from sightline.testing.clock import ManualClock
from sightline.testing.conformance.steps import NOW, ignored, new_session

SESSIONS = ("s", "other")
Step = Callable[[KernelStore, int], Awaitable[Any]]

sessions = st.sampled_from((*SESSIONS, "nobody"))
ids = st.sampled_from(("a", "b", "c"))
names = st.builds(TaskName, sessions, ids) | st.integers(1, 6)
changes = st.sampled_from(
    (
        Unfolding("running"),
        Unfolding("waiting"),
        Progress("half"),
        CancelRequest("enough"),
        Ending(state="completed", summary="done"),
        Ending(state="failed", summary="boom"),
    )
)


def register(session_id: str, task_id: str, flavour: Any, key: str) -> Step:
    attempt = TaskAttempt(idempotency_key=key) if key else TaskAttempt()
    new = NewTask(task_id=task_id, producer="test", attempt=attempt)
    return lambda store, now: store.register_task(session_id, new, flavour=flavour, max_live=2, now=now, then=ignored)


def change(task: TaskName | int, what: Any) -> Step:
    return lambda store, now: store.change_task(task, what, now=now, then=ignored)


def transfer(source: str, target: str, task_ids: list[str]) -> Step:
    return lambda store, now: store.transfer_tasks(source, target, task_ids, now=now, then=ignored)


def remove(task: TaskName) -> Step:
    return lambda store, now: store.remove_task(task, then=ignored)


def purge(back: int, limit: int) -> Step:
    return lambda store, now: store.purge_tasks(now - back, limit)


def delete(session_id: str) -> Step:
    return lambda store, now: store.delete_session(session_id, now, ignored)


steps = st.one_of(
    st.builds(register, sessions, ids, st.sampled_from(("managed", "external")), st.sampled_from(("", "k"))),
    st.builds(change, names, changes),
    st.builds(change, names, changes),
    st.builds(transfer, sessions, sessions, st.lists(ids, max_size=3)),
    st.builds(remove, st.builds(TaskName, sessions, ids)),
    st.builds(purge, st.integers(0, 5), st.integers(1, 3)),
    st.builds(delete, st.just("other")),
)


def plain(found: Any) -> Any:
    """What was found, without the number of the store's life, which is each store's own."""
    if isinstance(found, TaskRecord):
        return structs.replace(found, incarnation=0)
    if isinstance(found, tuple):
        return tuple(plain(each) for each in found)
    if isinstance(found, SightlineError):
        return type(found), found.args
    if hasattr(found, "__struct_fields__"):
        return tuple(plain(getattr(found, name)) for name in found.__struct_fields__)
    return found


async def tried(work: Awaitable[Any]) -> Any:
    try:
        return plain(await work)
    except SightlineError as error:
        return plain(error)


async def everything(store: KernelStore) -> Any:
    return [
        await tried(store.list_tasks(session_id, live=live, limit=limit))
        for session_id in SESSIONS
        for live in (True, False)
        for limit in (2, 9)
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=25))
def test_the_stores_agree_on_tasks(history: list[Step]) -> None:
    async def compare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            memory, sqlite = MemoryStore(ManualClock()), SqliteStore.open(Path(folder) / "store.db", "NORMAL")
            try:
                for session_id in SESSIONS:
                    await new_session(memory, session_id)
                    await new_session(sqlite, session_id)
                for number, step in enumerate(history):
                    now = NOW + number
                    assert await tried(step(memory, now)) == await tried(step(sqlite, now))
                    assert await everything(memory) == await everything(sqlite)
            finally:
                await sqlite.close()

    asyncio.run(compare())
