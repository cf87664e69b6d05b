"""What leases and work promise each other: claims, commits and the end of claims under a session lease."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from sightline.errors import ClaimExpired, HeadConflict, LeaseLost, TurnCommitConflict
from sightline.kernel import KernelStore
from sightline.queue.model import BatchState, Boundary, DeliveryPolicy, Group, NothingClaimed, SlotPolicy
from sightline.session.model import LaneBusy, SessionLease
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    acquire,
    busy,
    claim,
    claim_nothing,
    commit,
    commit_of,
    enqueue,
    everything,
    lease_of,
    lease_request,
    names_of,
    new_session,
    refused,
    run_turn,
)

_URGENT: dict[str, Any] = {"delivery_policy": DeliveryPolicy.EARLIEST_SAFE_BOUNDARY}
_CHECKPOINT: dict[str, Any] = {"boundary": Boundary.ACTIVE_TURN_CHECKPOINT}


# Claims


async def a_claim_can_bring_the_lease_it_is_taken_under(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request("me", token="secret", ttl_ms=100))
    lease = lease_of(held)
    assert (lease.session_id, lease.owner_id, lease.lease_token) == ("s", "me", "secret")
    assert lease.expires_at_ms == NOW + 100
    assert await busy(store, "you") == LaneBusy("me", NOW + 100)
    assert await store.renew_lease(lease, now=NOW, ttl_ms=100) == lease


async def a_claim_without_a_lease_brings_none(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    assert (await claim(store)).lease is None
    await acquire(store, "you")


async def with_nothing_to_take_no_lease_is_acquired(store: KernelStore) -> None:
    await new_session(store)
    before = await acquire(store, "before", ttl_ms=0)
    request = lease_request("me")
    assert await claim_nothing(store, lease=request) == NothingClaimed("empty")
    await enqueue(store, "late", available_at_ms=NOW + 10)
    assert await claim_nothing(store, lease=request) == NothingClaimed("not_yet_available", NOW + 10)
    await enqueue(store, "ready")
    assert (await claim_nothing(store, lease=request, **_CHECKPOINT)).reason == "delivery_boundary_blocked"
    assert (await claim_nothing(store, lease=request, max_batches=0)).reason == "limit_zero"
    assert (await claim_nothing(store, lease=request, batch_ids=["s:late"])).reason == "selection_mismatch"
    await claim(store)
    assert (await claim_nothing(store, lease=request)).reason == "held"
    # Nobody came in between, and the former owner is not superseded.
    await store.renew_lease(before, now=NOW, ttl_ms=0)
    assert (await acquire(store, "you")).generation == before.generation + 1


async def a_busy_lane_is_told_only_when_there_would_be_something_to_take(store: KernelStore) -> None:
    await new_session(store)
    await acquire(store, "you", ttl_ms=100)
    request = lease_request("me")
    assert await claim_nothing(store, lease=request) == NothingClaimed("empty")
    await enqueue(store, "late", available_at_ms=NOW + 10)
    assert await claim_nothing(store, lease=request) == NothingClaimed("not_yet_available", NOW + 10)
    await enqueue(store, "ready")
    assert (await claim_nothing(store, lease=request, **_CHECKPOINT)).reason == "delivery_boundary_blocked"
    assert (await claim_nothing(store, lease=request, max_batches=0)).reason == "limit_zero"
    assert (await claim_nothing(store, lease=request, batch_ids=["s:late"])).reason == "selection_mismatch"
    assert await claim_nothing(store, lease=request) == NothingClaimed("lane_busy", NOW + 100)
    assert await claim_nothing(store, lease=request, batch_ids=["s:ready"]) == NothingClaimed("lane_busy", NOW + 100)


async def a_claim_that_meets_a_busy_lane_takes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await acquire(store, "you", ttl_ms=100)
    before = await everything(store)
    assert (await claim_nothing(store, lease=lease_request("me"))).reason == "lane_busy"
    assert await everything(store) == before
    held = await claim(store, lease=lease_request("me"), now=NOW + 100)
    assert (held.attempt, held.fencing_token) == (1, 1)


async def what_was_claimed_under_a_lease_that_was_taken_over_is_free_for_the_new_owner(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    dead = await claim(store, lease=lease_request("dead", ttl_ms=100), ttl_ms=900_000)
    heir = lease_request("heir", token="new")
    assert (await claim_nothing(store, lease=heir, now=NOW + 99)).reason == "held"
    taken = await claim(store, lease=heir, now=NOW + 100, token="new", turn="t2")
    assert (taken.turn_id, taken.attempt) == (dead.turn_id, 2)
    assert taken.fencing_token > dead.fencing_token
    assert lease_of(taken).generation > lease_of(dead).generation
    await refused(ClaimExpired, store.renew(dead, now=NOW, ttl_ms=100))


async def a_turn_whose_lease_was_taken_over_is_taken_whole_and_before_what_came_later(store: KernelStore) -> None:
    await new_session(store)
    joining: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}
    for name in ("a", "b"):
        await enqueue(store, name, **joining)
    dead = await claim(store, lease=lease_request("dead", ttl_ms=0), ttl_ms=900_000)
    await enqueue(store, "c", **joining)
    taken = await claim(store, lease=lease_request("heir", token="new"), token="new", turn="t2", max_batches=1)
    assert (taken.turn_id, names_of(taken)) == (dead.turn_id, ["s:a", "s:b"])
    assert names_of(await claim(store, lease=taken.lease, token="third", turn="t3")) == ["s:c"]


async def what_is_held_is_told_also_where_something_else_is_still_to_come(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "later", available_at_ms=NOW + 5)
    await enqueue(store, "ready")
    held = await claim(store, lease=lease_request())
    assert names_of(held) == ["s:ready"]
    assert await claim_nothing(store, lease=held.lease) == NothingClaimed("held")


async def an_owner_that_lost_the_answer_to_its_claim_asks_again_and_has_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    lost = await claim(store, lease=lease_request("me", token="first"))
    again = await claim(store, lease=lease_request("me", token="second"), token="second", turn="t2")
    assert (again.turn_id, names_of(again)) == (lost.turn_id, names_of(lost))


async def what_was_claimed_under_the_ruling_lease_stays_held(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "one")
    await enqueue(store, "two")
    held = await claim(store, lease=lease_request(), ttl_ms=100)
    other = await claim(store, lease=held.lease, turn="t2", token="other", ttl_ms=100)
    assert names_of(other) == ["s:two"]
    assert (await claim_nothing(store, lease=held.lease)).reason == "held"
    assert names_of(await claim(store, lease=held.lease, now=NOW + 100)) == ["s:one"]


async def what_was_claimed_without_a_lease_is_protected_by_its_own_time(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await claim(store, ttl_ms=100)
    assert (await claim_nothing(store, lease=lease_request(), now=NOW + 99)).reason == "held"
    await claim(store, lease=lease_request(), now=NOW + 100)


async def whoever_claims_without_a_lease_respects_the_time_of_claims_under_one(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await claim(store, lease=lease_request("dead", ttl_ms=0), ttl_ms=100)
    await acquire(store, "you")
    assert (await claim_nothing(store, now=NOW + 99)).reason == "held"
    await claim(store, now=NOW + 100)


async def a_claim_under_a_lease_that_is_lost_is_refused_and_takes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await acquire(store, "me", token="old", ttl_ms=0)
    current = await acquire(store, "you", token="new")
    before = await everything(store)
    error = await refused(LeaseLost, claim(store, lease=stale))
    assert (error.session_id, error.generation) == ("s", stale.generation)
    await store.release_lease(current)
    await refused(LeaseLost, claim(store, lease=current))
    # The lease is looked at first, also where there is nothing to take.
    await refused(LeaseLost, claim(store, lease=stale, max_batches=0))
    assert await everything(store) == before
    assert (await claim(store)).fencing_token == 1


async def a_claim_under_a_lease_that_expired_and_nobody_took_over_stands(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    lease = await acquire(store, ttl_ms=0)
    held = await claim(store, lease=lease, now=NOW + 10**6)
    assert held.lease == lease
    await commit(store, commit_of(held, revision=0, lease=lease))


async def a_session_that_is_gone_has_nothing_to_claim_under_any_lease(store: KernelStore) -> None:
    ghost = SessionLease(session_id="s", owner_id="me", lease_token="lease", generation=1, expires_at_ms=NOW)
    for lease in (None, lease_request(), ghost):
        assert await claim_nothing(store, lease=lease) == NothingClaimed("empty")
        assert await claim_nothing(store, lease=lease, max_batches=0) == NothingClaimed("limit_zero")
        assert await claim_nothing(store, lease=lease, batch_ids=[]) == NothingClaimed("limit_zero")


# Commits


async def a_commit_frees_the_lane(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request("me"))
    await commit(store, commit_of(held, revision=0, lease=held.lease))
    await refused(LeaseLost, store.renew_lease(lease_of(held), now=NOW, ttl_ms=100))
    assert (await acquire(store, "you")).generation > lease_of(held).generation


async def a_commit_without_a_lease_leaves_the_lane_as_it_is(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    lease = await acquire(store, "me", ttl_ms=100)
    await commit(store, commit_of(held, revision=0))
    assert await busy(store, "you") == LaneBusy("me", NOW + 100)
    assert await store.renew_lease(lease, now=NOW, ttl_ms=100) == lease


async def a_commit_under_a_lease_that_is_lost_writes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await acquire(store, "me", token="old", ttl_ms=0)
    # Its claim still holds: of the two proofs, each must be good by itself.
    held = await claim(store, lease=stale)
    await acquire(store, "you", token="new", ttl_ms=100)
    before = await everything(store)
    error = await refused(LeaseLost, commit(store, commit_of(held, revision=0, lease=stale)))
    assert (error.session_id, error.generation) == ("s", stale.generation)
    assert await everything(store) == before
    assert await busy(store, "me") == LaneBusy("you", NOW + 100)


async def a_commit_under_a_lease_that_was_released_writes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request())
    await store.release_lease(lease_of(held))
    before = await everything(store)
    await refused(LeaseLost, commit(store, commit_of(held, revision=0, lease=held.lease)))
    assert await everything(store) == before


async def a_commit_under_a_lease_that_expired_and_nobody_took_over_stands(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request(ttl_ms=0), ttl_ms=0)
    result = await commit(store, commit_of(held, revision=0, lease=held.lease, now=NOW + 10**9))
    assert result.revision == 1


async def a_refused_commit_keeps_the_lane(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request("me", ttl_ms=100))
    await refused(HeadConflict, commit(store, commit_of(held, revision=7, lease=held.lease)))
    part = structs.replace(held.completion(), batch_ids=())
    await refused(ClaimExpired, commit(store, commit_of(held, revision=0, lease=held.lease, completions=(part,))))
    assert await busy(store, "you") == LaneBusy("me", NOW + 100)
    await commit(store, commit_of(held, revision=0, lease=held.lease))


async def the_lease_is_looked_at_after_the_head_and_before_the_claims(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, lease=lease_request("me", ttl_ms=0))
    await claim(store, lease=lease_request("you", token="new"), token="new")
    await refused(HeadConflict, commit(store, commit_of(stale, revision=7, lease=stale.lease)))
    await refused(LeaseLost, commit(store, commit_of(stale, revision=0, lease=stale.lease)))
    await refused(ClaimExpired, commit(store, commit_of(stale, revision=0)))


async def a_repeated_commit_is_answered_after_its_lease_is_gone_and_frees_nobodys_lane(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request("me"))
    work = commit_of(held, revision=0, lease=held.lease)
    first = await commit(store, work)
    await acquire(store, "you", ttl_ms=100)
    assert await commit(store, work) == first
    assert await busy(store, "me") == LaneBusy("you", NOW + 100)


async def a_superseded_owner_does_not_get_the_commit_of_its_successor_for_its_own(store: KernelStore) -> None:
    """Both ran the same turn and came to the same end. One commit is history, with its own ids and times."""
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, lease=lease_request("me", ttl_ms=10))
    held = await claim(store, token="new", now=NOW + 10, lease=lease_request("you"))
    assert held.turn_id == stale.turn_id
    await commit(store, commit_of(held, revision=0, lease=held.lease))
    before = await everything(store)
    await refused(TurnCommitConflict, commit(store, commit_of(stale, revision=0, lease=stale.lease)))
    assert await everything(store) == before


async def one_commit_ends_the_claims_of_a_turn_and_of_its_checkpoints_under_one_lease(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "question")
    held = await claim(store, lease=lease_request("me"))
    await enqueue(store, "by the way", **_URGENT)
    taken_in = await claim(store, lease=held.lease, token="other", turn=held.turn_id, **_CHECKPOINT)
    assert (taken_in.lease, taken_in.turn_id) == (held.lease, held.turn_id)
    both = (held.completion(), taken_in.completion())
    await commit(store, commit_of(held, revision=0, lease=held.lease, completions=both))
    assert (await store.load_session("s", 1)).open_batches == ()
    await acquire(store, "you")


# Giving back


async def work_given_back_frees_the_lane_with_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request("me", ttl_ms=10**6))
    await abandon(store, held)
    await refused(LeaseLost, store.renew_lease(lease_of(held), now=NOW, ttl_ms=100))
    taken = await claim(store, lease=lease_request("you", token="new"))
    assert (taken.turn_id, taken.attempt) == (held.turn_id, 2)


async def a_claim_that_was_taken_over_gives_back_neither_the_work_nor_the_lane_of_its_successor(
    store: KernelStore,
) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, lease=lease_request("me", ttl_ms=0))
    current = await claim(store, lease=lease_request("you", token="new", ttl_ms=100), token="new")
    before = await everything(store)
    assert await abandon(store, stale) == ()
    assert await everything(store) == before
    assert await busy(store, "me") == LaneBusy("you", NOW + 100)
    await commit(store, commit_of(current, revision=0, lease=current.lease))
    await enqueue(store, "next")
    await run_turn(store, revision=1, turn="t2")


async def a_claim_that_is_lost_frees_the_lane_if_that_is_still_its_owners(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    lost = await claim(store, lease=lease_request("me"), ttl_ms=0)
    await claim(store, lease=lost.lease, token="new")
    assert await abandon(store, lost) == ()
    assert (await store.get_batch("s", "s:work")).state is BatchState.CLAIMED
    await acquire(store, "you")


# What is ready


async def work_claimed_under_a_lease_is_ready_again_when_that_lease_has_ended(store: KernelStore) -> None:
    for name in ("committed", "expired", "released", "ruling", "superseded", "unleased"):
        await new_session(store, name)
        await enqueue(store, session_id=name)
        request = None if name == "unleased" else lease_request("me", ttl_ms=100 if name == "expired" else 1_000)
        held = await claim(store, session_id=name, lease=request, ttl_ms=10**6)
        if name == "committed":
            # The rest of a turn that ended without it.
            await enqueue(store, "rest", session_id=name)
            await claim(store, session_id=name, lease=held.lease, token="rest", turn="t2", ttl_ms=10**6)
            await commit(store, commit_of(held, revision=0, lease=held.lease))
        if name in ("released", "superseded"):
            await store.release_lease(lease_of(held))
        if name == "superseded":
            await acquire(store, "you", session_id=name, ttl_ms=1_000)
    free = ("committed", "released", "superseded")
    assert await store.claimable_sessions(NOW + 99, 10) == free
    assert await store.claimable_sessions(NOW + 100, 10) == ("committed", "expired", "released", "superseded")
    for name in ("committed", "expired", "released", "ruling", "superseded"):
        assert await store.peek_claimable(name, NOW + 99) is (name in free)
    assert await store.peek_claimable("expired", NOW + 100)
    assert not await store.peek_claimable("unleased", NOW + 100)
    assert await store.claimable_sessions(NOW + 10**6, 10) == (
        "committed",
        "expired",
        "released",
        "ruling",
        "superseded",
        "unleased",
    )


async def a_busy_lane_alone_does_not_keep_work_from_being_ready(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await acquire(store, "you")
    assert await store.peek_claimable("s", NOW)
    assert await store.claimable_sessions(NOW, 10) == ("s",)
