"""What a store of sessions promises: `sightline.session.port` and `sightline.observation.port`."""

from __future__ import annotations

import asyncio

from sightline.errors import InvalidInput, SessionDeleted, SessionExists, SessionNotFound, SightlineError
from sightline.kernel import KernelStore
from sightline.queue.model import Boundary
from sightline.session.model import INITIAL_FRAME, NewSession, Usage
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    acquire,
    claim,
    claim_nothing,
    commit,
    commit_of,
    draft,
    enqueue,
    everything,
    ignored,
    message,
    new_session,
    offer,
    refused,
    request_cancel,
    run_turn,
)


async def a_new_session_is_empty_at_revision_zero(store: KernelStore) -> None:
    record = await new_session(store)
    state = await store.load_session("s", 10)
    assert (record.revision, record.turn_index, record.agent_frame_id) == (0, 0, INITIAL_FRAME)
    assert (record.usage, record.title) == (Usage(), "")
    assert (record.created_at_ms, record.updated_at_ms) == (NOW, NOW)
    assert state.record == record
    assert (state.messages, state.truncated, state.open_batches) == ((), False, ())


async def what_a_session_was_given_comes_back(store: KernelStore) -> None:
    policy = {"model": "m", "limits": {"turns": 3, "share": 0.5}, "tags": ["a", None, True]}
    metadata = {"title": "Grüße, 世界 🌍", "empty": {}}
    await store.create_session(NewSession(session_id="s", policy=policy, metadata=metadata), NOW, ignored)
    record = (await store.load_session("s", 10)).record
    assert record.policy == policy
    assert record.metadata == metadata


async def an_existing_session_is_refused_and_stays_as_it_is(store: KernelStore) -> None:
    await store.create_session(NewSession(session_id="s", metadata={"n": 1}), NOW, ignored)
    before = await everything(store)
    again = NewSession(session_id="s", metadata={"n": 2})
    error = await refused(SessionExists, store.create_session(again, NOW + 1, ignored))
    assert error.session_id == "s"
    assert await everything(store) == before


async def ids_are_any_text_and_never_taken_for_each_other(store: KernelStore) -> None:
    ids = ["a:b", "a", "a:b:c", "A", "ä", "%", "_", "'; --", "世界"]
    for session_id in ids:
        await new_session(store, session_id)
        await enqueue(store, "work", session_id=session_id)
    for session_id in ids:
        state = await store.load_session(session_id, 10)
        assert state.record.session_id == session_id
        assert [batch.session_id for batch in state.open_batches] == [session_id]


async def a_session_that_never_was_is_not_found(store: KernelStore) -> None:
    for error in await _errors_of_every_method(store, "nobody"):
        assert isinstance(error, SessionNotFound), error
        assert error.session_id == "nobody"
    assert (await claim_nothing(store, session_id="nobody")).reason == "empty"


async def a_deleted_session_is_gone_for_every_method(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "one")
    await run_turn(store, revision=0)
    held_work = await enqueue(store, "two")
    held = await claim(store)
    await store.delete_session("s", NOW, ignored)
    for error in await _errors_of_every_method(store, "s", held_work.batch_id):
        assert isinstance(error, SessionDeleted), error
    await refused(SessionDeleted, commit(store, commit_of(held, revision=1)))
    assert await abandon(store, held) == ()
    assert (await claim_nothing(store)).reason == "empty"
    assert await store.claimable_sessions(NOW + 10**9, 10) == ()
    assert await store.next_due(0) is None
    assert (await store.list_sessions(limit=10, after=None, status=None)).sessions == ()


async def a_deleted_id_never_means_another_session(store: KernelStore) -> None:
    await new_session(store)
    await store.delete_session("s", NOW, ignored)
    error = await refused(SessionDeleted, new_session(store))
    assert error.session_id == "s"
    await refused(SessionDeleted, store.delete_session("s", NOW, ignored))


async def deleting_a_session_leaves_the_others_alone(store: KernelStore) -> None:
    await new_session(store, "other")
    await enqueue(store, "work", session_id="other", key="k")
    await new_session(store)
    await enqueue(store, "work", key="k")
    before = await store.load_session("other", 10)
    await store.delete_session("s", NOW, ignored)
    assert await store.load_session("other", 10) == before
    assert await store.claimable_sessions(NOW, 10) == ("other",)


async def the_list_shows_the_newest_activity_first(store: KernelStore) -> None:
    for session_id in ("a", "b", "s"):
        await new_session(store, session_id)
    assert await _listed(store) == ["s", "b", "a"]
    await enqueue(store, "work", session_id="a")
    held = await claim(store, session_id="a")
    await commit(store, commit_of(held, revision=0))
    assert await _listed(store) == ["a", "s", "b"]


async def the_list_comes_in_pages_that_neither_skip_nor_repeat(store: KernelStore) -> None:
    names = [f"session-{number}" for number in range(7)]
    for name in names:
        await new_session(store, name)
    found: list[str] = []
    after: int | None = None
    sizes = []
    while True:
        page = await store.list_sessions(limit=3, after=after, status=None)
        found += [entry.session_id for entry in page.sessions]
        sizes.append(len(page.sessions))
        if page.next is None:
            break
        after = int(page.next)
    assert found == names[::-1]
    assert sizes == [3, 3, 1]


async def a_full_last_page_has_no_next(store: KernelStore) -> None:
    for name in ("a", "b"):
        await new_session(store, name)
    assert (await store.list_sessions(limit=2, after=None, status=None)).next is None


async def the_list_derives_the_status_and_filters_by_it(store: KernelStore) -> None:
    for name in ("idle", "queued", "running"):
        await new_session(store, name)
    await enqueue(store, "first", session_id="queued")
    await enqueue(store, "second", session_id="queued")
    await enqueue(store, "first", session_id="running")
    await enqueue(store, "second", session_id="running")
    await claim(store, session_id="running")
    page = await store.list_sessions(limit=10, after=None, status=None)
    assert {entry.session_id: (entry.status, entry.pending) for entry in page.sessions} == {
        "idle": ("idle", 0),
        "queued": ("queued", 2),
        "running": ("running", 1),
    }
    for status in ("idle", "queued", "running"):
        page = await store.list_sessions(limit=10, after=None, status=status)
        assert [entry.session_id for entry in page.sessions] == [status]
    assert (await store.list_sessions(limit=10, after=None, status="waiting")).sessions == ()


async def the_lines_of_the_list_can_be_asked_for_by_session(store: KernelStore) -> None:
    for name in ("idle", "queued", "running", "gone"):
        await new_session(store, name)
    await enqueue(store, "first", session_id="queued")
    await enqueue(store, "first", session_id="running")
    await claim(store, session_id="running")
    await store.delete_session("gone", 2, ignored)
    listed = (await store.list_sessions(limit=10, after=None, status=None)).sessions
    asked = await store.session_entries(["running", "gone", "idle", "never there"])
    assert {entry.session_id: entry for entry in asked} == {
        entry.session_id: entry for entry in listed if entry.session_id in ("running", "idle")
    }
    assert await store.session_entries([]) == ()


async def a_session_keeps_the_first_title_it_is_given(store: KernelStore) -> None:
    await new_session(store)
    for revision, title in enumerate(["", "first", "second"]):
        await enqueue(store, f"work {revision}")
        await run_turn(store, revision=revision, turn=f"t{revision}", title=title)
    assert (await store.load_session("s", 10)).record.title == "first"
    assert (await store.list_sessions(limit=1, after=None, status=None)).sessions[0].title == "first"


async def loading_gives_the_newest_messages_oldest_first(store: KernelStore) -> None:
    names = await _transcript(store, 5)
    for newest, expected in ((10, names), (5, names), (3, names[2:]), (1, names[4:]), (0, [])):
        state = await store.load_session("s", newest)
        assert [message.message_id for message in state.messages] == expected
        assert state.truncated is (newest < 5)


async def messages_come_in_pages_towards_the_oldest(store: KernelStore) -> None:
    names = await _transcript(store, 5)
    newest = await store.page_messages("s", before=None, limit=2)
    middle = await store.page_messages("s", before=newest.next, limit=2)
    oldest = await store.page_messages("s", before=middle.next, limit=2)
    pages = [[message.message_id for message in page.messages] for page in (oldest, middle, newest)]
    assert pages == [names[:1], names[1:3], names[3:]]
    assert (newest.next, middle.next, oldest.next) == (names[3], names[1], None)


async def nothing_is_before_the_oldest_message(store: KernelStore) -> None:
    names = await _transcript(store, 2)
    page = await store.page_messages("s", before=names[0], limit=2)
    assert (page.messages, page.next) == ((), None)


async def paging_before_a_message_of_nobody_is_refused(store: KernelStore) -> None:
    await _transcript(store, 1)
    await new_session(store, "other")
    for session_id, before in (("s", "unknown"), ("other", "m0")):
        error = await refused(InvalidInput, store.page_messages(session_id, before=before, limit=2))
        assert error.field == "before"


async def a_message_comes_back_with_all_its_fields(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    whole = message(
        "m",
        content="line\n\ttab “quoted” \\ 🌍 \u2028 \x00",
        parts=[{"type": "tool_call", "args": {"n": [1, 2.5, None]}, "output": "x"}],
        origin={"source_key": "host:k"},
        turn_id="t1",
        status="cancelled",
    )
    await run_turn(store, revision=0, messages=(whole,))
    assert (await store.load_session("s", 10)).messages == (whole,)
    assert (await store.page_messages("s", before=None, limit=10)).messages == (whole,)


async def then_is_called_once_with_the_result_before_the_caller_goes_on(store: KernelStore) -> None:
    told: list[object] = []
    record = await store.create_session(NewSession(session_id="s"), NOW, told.append)
    assert told == [record]
    enqueued = await store.enqueue(draft(key="k"), batch_id="b", now=NOW, max_open=10, then=told.append)
    assert told == [record, enqueued]
    replayed = await store.enqueue(draft(key="k"), batch_id="c", now=NOW, max_open=10, then=told.append)
    assert told == [record, enqueued, replayed]
    ended = await store.delete_session("s", NOW, told.append)
    assert told == [record, enqueued, replayed, ended]


async def then_is_not_called_for_a_refusal(store: KernelStore) -> None:
    told: list[object] = []
    await refused(
        SessionNotFound,
        store.enqueue(draft(), batch_id="b", now=NOW, max_open=10, then=told.append),
    )
    await new_session(store)
    await refused(SessionExists, store.create_session(NewSession(session_id="s"), NOW, told.append))
    await refused(SightlineError, store.enqueue(draft(), batch_id="b", now=NOW, max_open=0, then=told.append))
    await store.claim(
        "s",
        Boundary.IDLE,
        owner_id="o",
        turn_id="t",
        lease_token="l",
        now=NOW,
        ttl_ms=1,
        max_batches=1,
        then=told.append,
    )
    assert told == []


async def then_is_called_in_the_order_in_which_things_became_true(store: KernelStore) -> None:
    await new_session(store)
    told: list[int] = []
    await asyncio.gather(
        *(
            store.enqueue(
                draft(str(number)),
                batch_id=str(number),
                now=NOW,
                max_open=1_000,
                then=lambda result: told.append(result.batch.enqueue_seq),
            )
            for number in range(50)
        )
    )
    assert len(told) == 50
    assert told == sorted(told)


async def a_caller_that_was_cancelled_leaves_then_to_be_called_all_the_same(store: KernelStore) -> None:
    await new_session(store)
    told: list[str] = []
    callers = [
        asyncio.create_task(
            store.enqueue(
                draft(name),
                batch_id=name,
                now=NOW,
                max_open=1_000,
                then=lambda result: told.append(result.batch.batch_id),
            )
        )
        for name in ("a", "b", "c")
    ]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    # A write behind the others, whose answer comes behind theirs.
    last = await enqueue(store, "last")
    batches = await store.list_batches("s", pending_only=False, limit=10)
    assert sorted(told) == sorted(batch.batch_id for batch in batches if batch.batch_id != last.batch_id)


async def _errors_of_every_method(store: KernelStore, session_id: str, batch_id: str = "b") -> list[Exception]:
    return [
        await refused(SightlineError, work)
        for work in (
            store.load_session(session_id, 10),
            store.page_messages(session_id, before=None, limit=10),
            store.delete_session(session_id, NOW, ignored),
            acquire(store, session_id=session_id),
            offer(store, draft(session_id=session_id)),
            store.cancel_batch(session_id, batch_id, now=NOW, then=ignored),
            store.cancel_from(session_id, batch_id, now=NOW, then=ignored),
            request_cancel(store, session_id=session_id),
            request_cancel(store, session_id=session_id, key="k"),
            store.get_batch(session_id, batch_id),
            store.list_batches(session_id, pending_only=False, limit=10),
        )
    ]


async def _listed(store: KernelStore) -> list[str]:
    page = await store.list_sessions(limit=100, after=None, status=None)
    return [entry.session_id for entry in page.sessions]


async def _transcript(store: KernelStore, count: int) -> list[str]:
    """A session with so many messages; their ids, oldest first."""
    await new_session(store)
    await enqueue(store)
    names = [f"m{number}" for number in range(count)]
    await run_turn(store, revision=0, messages=tuple(message(name) for name in names))
    return names
