"""Tasks in a file that outlives those who did them, and how it finds them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import UNSET

from sightline.stores.sqlite import SqliteStore
from sightline.stores.sqlite.statements import MIGRATIONS, QUERIES
from sightline.tasks.model import Ending, NewTask, TaskName
from sightline.testing.conformance.steps import NOW, ignored, new_session

pytestmark = pytest.mark.anyio

STATEMENTS = [name for name in QUERIES if "task" in name]
ALL_LIVE = "SCAN tasks USING INDEX tasks_managed"
"""At the start of a life, all that is live and managed is gone through, and nothing else."""


def opened(folder: Path) -> SqliteStore:
    return SqliteStore.open(folder / "store.db", "NORMAL")


async def test_after_a_restart_the_list_is_there_and_says_who_lost_its_owner(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await new_session(store)
    for task_id, flavour in (("mine", "managed"), ("ended", "managed"), ("elsewhere", "external")):
        new = NewTask(task_id=task_id, producer="test")
        await store.register_task("s", new, flavour=flavour, max_live=9, now=NOW, then=ignored)  # type: ignore[arg-type]
    await store.change_task(TaskName("s", "ended"), Ending(state="completed"), now=NOW, then=ignored)
    before = await store.list_tasks("s", live=False, limit=9)
    await store.close()
    store = opened(tmp_path)
    assert await store.list_tasks("s", live=False, limit=9) == before
    [lost] = await store.lose_tasks(now=NOW + 5, then=ignored)
    assert (lost.task_id, lost.state, lost.completed_at_ms) == ("mine", "failed", NOW + 5)
    assert lost.failure is not UNSET
    assert lost.failure.code == "owner_lost"
    assert await store.list_tasks("s", live=False, limit=9) == (lost, before[1], before[2])
    assert await store.lose_tasks(now=NOW + 6, then=ignored) == ()
    again = NewTask(task_id="mine", producer="test")
    registered = await store.register_task("s", again, flavour="managed", max_live=9, now=NOW, then=ignored)
    assert registered.record.generation > max(each.generation for each in before)
    await store.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_tasks_are_looked_up_and_never_gone_through(name: str) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for script in MIGRATIONS:
            for statement in script:
                db.execute(statement)
        values = dict.fromkeys(re.findall(r":(\w+)", QUERIES[name]))
        steps = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values)]
    assert [step for step in steps if step != ALL_LIVE and ("SCAN" in step or "TEMP B-TREE" in step)] == []
