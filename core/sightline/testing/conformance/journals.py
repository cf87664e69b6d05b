"""What a store promises about the journals of turns: `sightline.turn.journal`."""

from __future__ import annotations

from msgspec import structs

from sightline.errors import HeadConflict, LeaseLost
from sightline.kernel import KernelStore
from sightline.session.model import SessionLease
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    acquire,
    claim,
    commit,
    commit_of,
    enqueue,
    everything,
    ignored,
    lease_of,
    lease_request,
    new_session,
    refused,
)


async def _remember(
    store: KernelStore, lease: SessionLease, key: str, value: str, *, turn: str = "t1", replace: bool = False
) -> str:
    return await store.remember(lease.session_id, turn, key, value, lease=lease, replace=replace)


async def what_is_written_down_first_stays(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    assert await _remember(store, lease, "k", '{"a":[1,null,"ü"]}') == '{"a":[1,null,"ü"]}'
    assert await _remember(store, lease, "k", "2") == '{"a":[1,null,"ü"]}'
    assert await _remember(store, lease, "other", "2") == "2"
    assert await store.recall("s", "t1") == {"k": '{"a":[1,null,"ü"]}', "other": "2"}


async def what_is_written_down_is_replaced_when_that_is_asked_for(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    for value in ("1", "2", "2"):
        assert await _remember(store, lease, "k", value, replace=True) == value
        assert await store.recall("s", "t1") == {"k": value}
    assert await _remember(store, lease, "k", "3") == "2"


async def each_turn_has_a_journal_of_its_own(store: KernelStore) -> None:
    for session_id in ("s", "other"):
        await new_session(store, session_id)
        lease = await acquire(store, session_id=session_id)
        for turn in ("t1", "t2"):
            await _remember(store, lease, "k", f'"{session_id} {turn}"', turn=turn)
    for session_id in ("s", "other"):
        for turn in ("t1", "t2"):
            assert await store.recall(session_id, turn) == {"k": f'"{session_id} {turn}"'}
    assert await store.recall("s", "t3") == {}
    assert await store.recall("nobody", "t1") == {}


async def a_journal_is_there_for_the_next_attempt_under_another_lease(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    first = await claim(store, lease=lease_request("me"))
    await _remember(store, lease_of(first), "k", "1")
    await abandon(store, first)
    second = await claim(store, lease=lease_request("you", token="new"), token="new", turn="t2")
    assert second.turn_id == first.turn_id
    assert await store.recall("s", second.turn_id) == {"k": "1"}
    assert await _remember(store, lease_of(second), "k", "2") == "1"


async def whoever_was_superseded_writes_nothing_down(store: KernelStore) -> None:
    await new_session(store)
    stale = await acquire(store, "me", token="old", ttl_ms=0)
    await _remember(store, stale, "k", "1")
    current = await acquire(store, "you", token="new")
    for key in ("k", "new"):
        for replace in (False, True):
            error = await refused(LeaseLost, _remember(store, stale, key, "2", replace=replace))
            assert (error.session_id, error.generation) == ("s", stale.generation)
    assert await store.recall("s", "t1") == {"k": "1"}
    await store.release_lease(current)
    await refused(LeaseLost, _remember(store, current, "k", "2", replace=True))


async def an_owner_writes_under_an_expired_lease_that_nobody_took_over(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, ttl_ms=0)
    assert await _remember(store, lease, "k", "1") == "1"


async def a_commit_ends_the_journal_of_its_turn_and_of_no_other(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request())
    for turn in (held.turn_id, "t2"):
        await _remember(store, lease_of(held), "k", "1", turn=turn)
    await refused(HeadConflict, commit(store, commit_of(held, revision=7, lease=held.lease)))
    assert await store.recall("s", held.turn_id) == {"k": "1"}
    work = commit_of(held, revision=0, lease=held.lease)
    await commit(store, work)
    assert await store.recall("s", held.turn_id) == {}
    assert await store.recall("s", "t2") == {"k": "1"}
    await refused(LeaseLost, _remember(store, lease_of(held), "k", "2"))
    await commit(store, work)
    assert await store.recall("s", held.turn_id) == {}


async def a_commit_without_a_lease_ends_the_journal_too(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    await _remember(store, await acquire(store), "k", "1", turn=held.turn_id)
    await commit(store, commit_of(held, revision=0))
    assert await store.recall("s", held.turn_id) == {}


async def journals_end_with_their_session(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    await _remember(store, lease, "k", "1")
    await store.delete_session("s", NOW, ignored)
    assert await store.recall("s", "t1") == {}
    await refused(LeaseLost, _remember(store, lease, "k", "2"))
    await refused(LeaseLost, _remember(store, structs.replace(lease, session_id="nobody"), "k", "2"))


async def nothing_else_is_changed_by_a_journal(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request())
    before = await everything(store)
    await _remember(store, lease_of(held), "k", "1")
    assert await everything(store) == before
