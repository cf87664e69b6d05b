"""Readers of what happens to tasks: what they get, and what a slow one is told."""

from __future__ import annotations

import asyncio

import pytest

from sightline.tasks.model import NewTask, TaskEvent, TaskFilter, TasksLost
from sightline.tasks.rules import new_record
from sightline.tasks.telling import TaskEvents, TaskReader

pytestmark = pytest.mark.anyio


def event(number: int = 1, session_id: str = "s") -> TaskEvent:
    new = NewTask(task_id=f"t{number}", producer="test")
    record = new_record(session_id, new, flavour="external", generation=number, incarnation=1, now=1)
    return TaskEvent(kind="started", record=record)


async def all_of(reader: TaskReader) -> list[TaskEvent | TasksLost]:
    reader.close()
    return [told async for told in reader]


async def test_each_reader_gets_what_it_wants_in_order_and_nothing_of_others() -> None:
    events = TaskEvents()
    everything, theirs = events.read(TaskFilter()), events.read(TaskFilter(session_id="other"))
    told = [event(1), event(2, "other"), event(3)]
    for each in told:
        events.tell(each)
    assert await all_of(theirs) == [told[1]]
    assert await all_of(everything) == told


async def test_a_slow_reader_is_told_how_much_it_lost_and_goes_on() -> None:
    events = TaskEvents()
    reader = events.read(TaskFilter(), capacity=3)
    for number in range(5):
        events.tell(event(number))
    assert [await anext(reader) for _ in range(2)] == [TasksLost(2), event(2)]
    events.tell(event(5))
    assert await all_of(reader) == [event(3), event(4), event(5)]


async def test_a_reader_waits_until_something_happens_or_it_is_closed() -> None:
    events = TaskEvents()
    reader = events.read(TaskFilter())
    waiting = asyncio.create_task(anext(reader))
    await asyncio.sleep(0)
    events.tell(event())
    assert await waiting == event()
    ended = asyncio.create_task(all_of(events.read(TaskFilter())))
    events.close()
    assert await ended == []
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_a_closed_reader_is_told_nothing_more() -> None:
    events = TaskEvents()
    reader = events.read(TaskFilter())
    reader.close()
    reader.close()
    events.tell(event())
    assert await all_of(reader) == []
