"""What a store promises about the end of a session command: what it changes and that it was done are one commit."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from sightline.errors import HeadConflict, InvalidInput, TurnCommitConflict
from sightline.kernel import KernelStore
from sightline.observation.activities import Outcome
from sightline.queue.model import BatchState
from sightline.session.model import Failure, NewSession, Tools, Usage, UsageFigures
from sightline.testing.conformance.steps import (
    NOW,
    claim,
    commit,
    commit_of,
    enqueue,
    everything,
    ignored,
    message,
    names_of,
    new_session,
    refused,
    run_turn,
)

_SILENT: dict[str, Any] = {"messages": (), "usage": Usage(), "title": ""}
_TOOLS = Tools(generation=7, catalog=({"name": "search “x”", "schema": {"n": [1, 2.5, None]}}, {}), error="half of it")


# Without a trace


async def a_commit_that_does_not_advance_leaves_the_head_where_it_is_and_ends_its_work(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "one")
    await run_turn(store, revision=0)
    before = await store.load_session("s", 10)
    await enqueue(store, "command")
    result = await run_turn(store, revision=1, turn="t2", advances=False, now=NOW + 7, **_SILENT)
    assert (result.revision, result.turn_index) == (1, 1)
    after = await store.load_session("s", 10)
    assert after.record == structs.replace(before.record, updated_at_ms=NOW + 7)
    assert after.messages == before.messages
    assert (await store.get_batch("s", "s:command")).state is BatchState.COMPLETED
    await enqueue(store, "next")
    assert (await run_turn(store, revision=1, turn="t3")).revision == 2


async def a_commit_that_does_not_advance_is_stamped_like_any_other(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0, advances=False, **_SILENT)
    first = await commit(store, work)
    await enqueue(store, "next")
    await run_turn(store, revision=0, turn="t2")
    before = await everything(store)
    assert await commit(store, work) == first
    await refused(TurnCommitConflict, commit(store, structs.replace(work, advances=True)))
    assert await everything(store) == before


async def a_command_that_failed_is_settled_and_the_next_work_runs(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "command")
    await enqueue(store, "next")
    failure = Failure("session_command_generation_mismatch", "the tools are of generation 2")
    outcome = Outcome(status="failed", error=failure)
    await run_turn(store, revision=0, outcome=outcome, advances=False, **_SILENT)
    batch = await store.get_batch("s", "s:command")
    assert (batch.state, batch.error) == (BatchState.FAILED, failure)
    assert names_of(await claim(store, turn="t2")) == ["s:next"]


# Reset


async def a_reset_empties_the_transcript_and_keeps_what_the_session_is(store: KernelStore) -> None:
    new = NewSession(session_id="s", policy={"model": "m"}, metadata={"n": 1})
    await store.create_session(new, NOW, ignored)
    await _spoken(store, 3)
    await enqueue(store, "command")
    result = await run_turn(store, revision=3, turn="reset", reset=True, now=NOW + 9, **_SILENT)
    assert (result.revision, result.turn_index) == (4, 0)
    state = await store.load_session("s", 10)
    assert (state.messages, state.truncated) == ((), False)
    record = state.record
    assert (record.revision, record.turn_index, record.title) == (4, 0, "")
    assert (record.policy, record.metadata) == (new.policy, new.metadata)
    assert record.usage.totals == UsageFigures(requests=3)
    assert (record.created_at_ms, record.updated_at_ms) == (NOW, NOW + 9)
    assert (await store.get_batch("s", "s:command")).state is BatchState.COMPLETED
    page = await store.page_messages("s", before=None, limit=10)
    assert (page.messages, page.next) == ((), None)


async def a_reset_that_is_refused_leaves_the_transcript(store: KernelStore) -> None:
    await new_session(store)
    await _spoken(store, 2)
    await enqueue(store, "command")
    held = await claim(store, turn="reset")
    before = await everything(store)
    await refused(HeadConflict, commit(store, commit_of(held, revision=1, reset=True, **_SILENT)))
    assert await everything(store) == before


async def a_reset_is_done_once_however_often_it_is_committed(store: KernelStore) -> None:
    await new_session(store)
    await _spoken(store, 1)
    await enqueue(store, "command")
    work = commit_of(await claim(store, turn="reset"), revision=1, reset=True, **_SILENT)
    first = await commit(store, work)
    await enqueue(store, "next")
    await run_turn(store, revision=2, turn="after")
    before = await everything(store)
    assert await commit(store, work) == first
    await refused(TurnCommitConflict, commit(store, structs.replace(work, reset=False)))
    assert await everything(store) == before


async def the_transcript_begins_anew_after_a_reset(store: KernelStore) -> None:
    await new_session(store)
    await _spoken(store, 3)
    await enqueue(store, "command")
    first = message("first of the new")
    await run_turn(store, revision=3, turn="reset", reset=True, messages=(first,), title="not yet")
    assert (await store.load_session("s", 10)).record.title == ""
    await enqueue(store, "next")
    said = tuple(message(f"new {number}") for number in range(3))
    result = await run_turn(store, revision=4, turn="after", messages=said, title="new title")
    assert (result.revision, result.turn_index) == (5, 1)
    state = await store.load_session("s", 10)
    assert (state.messages, state.truncated, state.record.title) == ((first, *said), False, "new title")
    assert (await store.load_session("s", 3)).truncated


async def messages_are_paged_after_a_reset_as_if_nothing_had_been_before(store: KernelStore) -> None:
    await new_session(store)
    await _spoken(store, 5)
    await enqueue(store, "command")
    await run_turn(store, revision=5, turn="reset", reset=True, **_SILENT)
    await enqueue(store, "next")
    names = [f"new {number}" for number in range(3)]
    await run_turn(store, revision=6, turn="after", messages=tuple(message(name) for name in names))
    newest = await store.page_messages("s", before=None, limit=2)
    oldest = await store.page_messages("s", before=newest.next, limit=2)
    assert [[each.message_id for each in page.messages] for page in (oldest, newest)] == [names[:1], names[1:]]
    assert (newest.next, oldest.next) == (names[1], None)
    error = await refused(InvalidInput, store.page_messages("s", before="said 0", limit=2))
    assert error.field == "before"


async def a_turn_committed_before_a_reset_is_still_known_after_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0)
    first = await commit(store, work)
    await enqueue(store, "command")
    await run_turn(store, revision=1, turn="reset", reset=True, **_SILENT)
    assert await commit(store, work) == first
    assert (await store.load_session("s", 10)).messages == ()


async def a_reset_leaves_the_queue_and_other_sessions_alone(store: KernelStore) -> None:
    await new_session(store, "other")
    await enqueue(store, session_id="other")
    await commit(store, commit_of(await claim(store, session_id="other"), revision=0))
    elsewhere = await store.load_session("other", 10)
    await new_session(store)
    await _spoken(store, 1)
    await enqueue(store, "command")
    await enqueue(store, "behind", key="k")
    await run_turn(store, revision=1, turn="reset", reset=True, **_SILENT)
    assert [batch.batch_id for batch in (await store.load_session("s", 1)).open_batches] == ["s:behind"]
    assert (await store.get_batch("s", "s:work 0")).state is BatchState.COMPLETED
    assert await store.load_session("other", 10) == elsewhere


# Tools


async def tools_are_replaced_whole_and_only_by_a_commit_that_brings_some(store: KernelStore) -> None:
    await new_session(store)
    assert (await store.load_session("s", 1)).record.tools == Tools()
    await enqueue(store, "refresh")
    await run_turn(store, revision=0, turn="t1", tools=_TOOLS, advances=False, **_SILENT)
    assert (await store.load_session("s", 1)).record.tools == _TOOLS
    await enqueue(store, "turn")
    await run_turn(store, revision=0, turn="t2")
    assert (await store.load_session("s", 1)).record.tools == _TOOLS
    await enqueue(store, "reset")
    await run_turn(store, revision=1, turn="t3", reset=True, **_SILENT)
    assert (await store.load_session("s", 1)).record.tools == _TOOLS
    await enqueue(store, "again")
    await run_turn(store, revision=2, turn="t4", tools=Tools(generation=8), advances=False, **_SILENT)
    assert (await store.load_session("s", 1)).record.tools == Tools(generation=8)


async def another_surface_of_tools_under_the_same_turn_is_a_conflict(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0, tools=_TOOLS, advances=False, **_SILENT)
    await commit(store, work)
    await refused(TurnCommitConflict, commit(store, structs.replace(work, tools=Tools(generation=8))))
    assert (await store.load_session("s", 1)).record.tools == _TOOLS


async def _spoken(store: KernelStore, count: int) -> None:
    """A session in which so many turns said one thing each."""
    for number in range(count):
        await enqueue(store, f"work {number}")
        await run_turn(store, revision=number, turn=f"turn {number}", messages=(message(f"said {number}"),))
