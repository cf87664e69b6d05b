"""The end of a world: the store against the ledger, and every view against the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET

from sightline.observation.model import Observation, SessionState
from sightline.queue.model import BatchState, CommandPayload
from sightline.tasks.model import TasksLost
from sightline.tasks.telling import TaskReader
from tests.sim import laws_of_processes, laws_of_tasks
from tests.sim.laws_of_writing import texts_of
from tests.sim.ledger import Book, Law, Violation, Work
from tests.sim.loop import until

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["audit", "audit_claims", "audit_views"]

_T = TypeVar("_T")
_ALL = 10_000
_MENDING = 0.5
"""Seconds in which a view that has lost touch is read anew."""
_NEWS = 1.5
"""Seconds in which news of processes is told that could not be told at once."""


async def audit(world: World) -> None:
    """What was accepted is in the store, has ended, and is in the transcript exactly once or, if nobody took it, not at
    all.
    """
    ledger = world.ledger
    for batch_id, session_id in world.accepted.items():
        if session_id in ledger.deleted:
            continue
        work = ledger.work(session_id, batch_id)
        if work is None or work.state.is_open:
            raise Violation(Law.DURABLE, f"{batch_id} was accepted, and is {'lost' if work is None else work.state}")
    for book in ledger.books.values():
        state = await read(world, book.session_id)
        if (state.record.revision, list(state.messages)) != (book.revision, book.messages):
            raise Violation(Law.READS, f"{book.session_id} is at {state.record.revision}, not {book.revision}")
        if state.requests:
            raise Violation(Law.ASKED, f"{book.session_id} is at its end, and asks {state.requests}")
        _check_history(book)
        listed = await _in_store(world, world.shared.store.list_tasks(book.session_id, live=False, limit=_ALL))
        laws_of_tasks.are_these(ledger, book.session_id, listed, live=False)
    await _audit_processes(world)
    for session_id, turn_id in ledger.journaled:
        if session_id in ledger.books and (left := await journal_of(world, session_id, turn_id)):
            raise Violation(Law.RECORDED, f"{turn_id} is committed, and {left} is left of its journal")


async def _audit_processes(world: World) -> None:
    """Each wake whose session is there became work, which ended, and whose text `_check_history` has looked for. What
    is done elsewhere ended when whoever does it said so.
    """
    jobs = world.ledger.jobs
    for wake, _ in jobs.wakes:
        book = world.ledger.books.get(wake.target_session_id)
        key = f"process:{wake.process_id}:event:{wake.sequence}:wake"
        if book is not None and (key not in book.keys or book.keys[key].work is None):
            raise Violation(Law.WAKES, f"{wake} was asked for, and is not in the queue of its session")
    for process_id, job in jobs.by_id.items():
        laws_of_processes.as_known(job, await _in_store(world, world.shared.store.get_process(process_id)))
        if job.is_left_alone and job.has_ended:
            raise Violation(Law.ENDED, f"{process_id} is {job.status}, and whoever does it never said so")


def audit_claims(world: World) -> None:
    """Every claim that a process was told of is settled when it has ended in good order."""
    for (life, session_id), claim_ids in world.ledger.unsettled.items():
        if claim_ids and life in world.ended_well:
            raise Violation(Law.SETTLED, f"{life} has settled {claim_ids} of {session_id} in no way")


async def read(world: World, session_id: str) -> SessionState:
    """The session as the store has it."""
    return await _in_store(world, world.shared.store.load_session(session_id, _ALL))


async def journal_of(world: World, session_id: str, turn_id: str) -> dict[str, str]:
    return await _in_store(world, world.shared.store.recall(session_id, turn_id))


async def _in_store(world: World, reading: Awaitable[_T]) -> _T:
    world.loop.enter_thread()
    try:
        return await reading
    finally:
        world.loop.leave_thread()


def _check_history(book: Book) -> None:
    said = [message.content for message in book.history if message.role != "assistant"]
    for work in book.works.values():
        count = sum(1 for text in texts_of(work) for line in said if line == text)
        expected = 1 if work.turn_id is not None and not _is_command(work) else 0
        if count != expected:
            raise Violation(Law.ONE_EFFECT, f"{work.batch_id} ended as {work.state}, its text is there {count} times")
        if work.turn_id is None and work.state is not BatchState.CANCELLED:
            raise Violation(Law.ONE_EFFECT, f"{work.batch_id} is {work.state}, and no turn took it")


def _is_command(work: Work) -> bool:
    return any(isinstance(payload, CommandPayload) for payload in work.draft.payloads)


async def audit_views(world: World) -> None:
    """Whoever watched made of the events what is shown; and where nobody else wrote, that is what is stored."""
    for life in world.living:
        # What went wrong while the store was out is put right by the next round of housekeeping.
        await life.run(life.kernel.sweep())
    # Somebody may have lost its turn to another, and not have noticed yet.
    await until(lambda: not any(life.kernel.running_turns for life in world.living), _MENDING)
    # Not those that are about to have read it: their answer may still be on its way.
    touched = [
        (life, book) for life in world.living for book in world.ledger.books.values() if life.name in book.in_touch
    ]
    await asyncio.sleep(_NEWS if world.plan.processes or world.plan.has_tasks else _MENDING)
    for life in world.living:
        for watcher in life.watchers:
            if watcher.compare() is not None:
                world.ledger.count("watched to the end")
        for session_id, reader in life.readers:
            await _hold_to_one_session(world, session_id, reader)
    for life, book in touched:
        view = await life.run(life.kernel.observe(book.session_id))
        _compare(book, view)
        world.ledger.count("view compared")
        if world.plan.processes and life.name in book.knows_jobs:
            _compare_jobs(world, book, view)
        if world.plan.has_tasks and life.name in book.knows_chores:
            _compare_tasks(world, book, view)


def _compare(book: Book, view: Observation) -> None:
    shown = (
        view.revision,
        list(view.read_view.messages),
        [entry.batch_id for entry in view.queue],
        view.requests,
        view.live,
    )
    if shown != (book.revision, book.messages, [], (), None):
        at = (book.revision, [message.content for message in book.messages])
        raise Violation(Law.FOLD, f"{book.session_id} is shown as {shown}, and is at {at}")


def _compare_jobs(world: World, book: Book, view: Observation) -> None:
    shown = [
        (process["process_id"], process["status"], process["cancel_requested"], process.get("progress", UNSET))
        for process in sorted(view.processes, key=lambda process: str(process["process_id"]))
    ]
    known = world.ledger.jobs.seen_by(book.session_id)
    if shown != known:
        raise Violation(Law.FOLD, f"{book.session_id} is shown to see {shown}, and sees {known}")
    world.ledger.count("view of processes compared")


def _compare_tasks(world: World, book: Book, view: Observation) -> None:
    shown = [
        (
            book.session_id,
            task["task_id"],
            task["state"],
            task.get("progress", UNSET),
            task.get("cancel_reason", UNSET),
            UNSET,
        )
        for task in view.tasks
    ]
    known = world.ledger.chores.live(book.session_id)
    if sorted(shown, key=str) != known:
        raise Violation(Law.FOLD, f"{book.session_id} is shown to have the tasks {shown}, and has {known}")
    world.ledger.count("view of tasks compared")


async def _hold_to_one_session(world: World, session_id: str, reader: TaskReader) -> None:
    """Whoever reads what happens to the tasks of one session has heard of no other's."""
    reader.close()
    async for event in reader:
        if isinstance(event, TasksLost):
            continue
        if event.session_id != session_id:
            raise Violation(Law.OWNS, f"a reader of the tasks of {session_id} is told of {event}")
        world.ledger.count("heard of a task")
