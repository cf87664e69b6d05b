"""What a store promises about who may write to a session: the leases of `sightline.session.port`."""

from __future__ import annotations

import asyncio

from msgspec import structs

from sightline.errors import LeaseLost, SessionDeleted, SessionNotFound
from sightline.kernel import KernelStore
from sightline.session.model import LaneBusy, SessionLease
from sightline.testing.conformance.steps import (
    NOW,
    acquire,
    busy,
    enqueue,
    everything,
    ignored,
    new_session,
    refused,
)


async def a_lease_says_whose_it_is_and_until_when(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me", token="secret", now=NOW + 1, ttl_ms=100)
    assert (lease.session_id, lease.owner_id, lease.lease_token) == ("s", "me", "secret")
    assert lease.expires_at_ms == NOW + 101
    assert lease.generation >= 1


async def while_one_owner_has_the_lane_another_is_told_who_and_until_when(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me", ttl_ms=100)
    assert await busy(store, "you") == LaneBusy("me", NOW + 100)
    # Nor did the question change anything.
    assert (await store.renew_lease(lease, now=NOW, ttl_ms=100)).generation == lease.generation


async def a_lease_ends_at_its_expiry_not_before(store: KernelStore) -> None:
    await new_session(store)
    first = await acquire(store, "me", ttl_ms=100)
    await busy(store, "you", now=NOW + 99)
    second = await acquire(store, "you", now=NOW + 100)
    assert second.generation > first.generation


async def a_lease_without_any_time_can_be_taken_over_at_once(store: KernelStore) -> None:
    await new_session(store)
    await acquire(store, "me", ttl_ms=0)
    assert (await acquire(store, "you")).owner_id == "you"


async def an_owner_may_begin_again_and_what_it_had_before_is_lost(store: KernelStore) -> None:
    await new_session(store)
    first = await acquire(store, "me", token="first")
    second = await acquire(store, "me", token="second")
    assert second.generation > first.generation
    await refused(LeaseLost, store.renew_lease(first, now=NOW, ttl_ms=100))
    await store.renew_lease(second, now=NOW, ttl_ms=100)


async def generations_grow_from_owner_to_owner_and_across_releases(store: KernelStore) -> None:
    await new_session(store)
    leases = []
    for number, ttl_ms in enumerate((0, 100, 0, 100)):
        leases.append(await acquire(store, f"owner {number}", ttl_ms=ttl_ms))
        if ttl_ms:
            await store.release_lease(leases[-1])
    generations = [lease.generation for lease in leases]
    assert generations == sorted(set(generations))


async def each_session_has_a_lane_of_its_own(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    mine = await acquire(store, "me", token="same")
    yours = await acquire(store, "you", session_id="other", token="same")
    await store.release_lease(yours)
    await busy(store, "you")
    assert (await acquire(store, "me", session_id="other")).session_id == "other"
    await store.renew_lease(mine, now=NOW, ttl_ms=100)


async def of_many_owners_at_once_one_gets_the_lane(store: KernelStore) -> None:
    await new_session(store)
    answers = await asyncio.gather(
        *(
            store.acquire_lease("s", owner_id=f"owner {number}", lease_token=f"token {number}", now=NOW, ttl_ms=100)
            for number in range(20)
        )
    )
    [lease] = [answer for answer in answers if isinstance(answer, SessionLease)]
    others = [answer for answer in answers if isinstance(answer, LaneBusy)]
    assert others == [LaneBusy(lease.owner_id, NOW + 100)] * 19


async def a_renewed_lease_is_the_same_lease_with_a_later_expiry(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me", ttl_ms=100)
    longer = await store.renew_lease(lease, now=NOW + 50, ttl_ms=100)
    assert longer == structs.replace(lease, expires_at_ms=NOW + 150)
    assert await busy(store, "you", now=NOW + 149) == LaneBusy("me", NOW + 150)
    await acquire(store, "you", now=NOW + 150)


async def a_lease_that_expired_and_nobody_took_over_can_be_renewed(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me", ttl_ms=100)
    longer = await store.renew_lease(lease, now=NOW + 10**6, ttl_ms=100)
    assert longer == structs.replace(lease, expires_at_ms=NOW + 10**6 + 100)
    await busy(store, "you", now=NOW + 10**6)


async def a_lease_that_was_taken_over_is_lost_and_its_successor_is_not_touched(store: KernelStore) -> None:
    await new_session(store)
    stale = await acquire(store, "me", token="old", ttl_ms=0)
    current = await acquire(store, "you", token="new", ttl_ms=100)
    error = await refused(LeaseLost, store.renew_lease(stale, now=NOW, ttl_ms=10**6))
    assert (error.session_id, error.generation) == ("s", stale.generation)
    await store.release_lease(stale)
    assert await busy(store, "me") == LaneBusy("you", NOW + 100)
    assert await store.renew_lease(current, now=NOW, ttl_ms=100) == current


async def a_lease_that_expired_once_more_under_its_successor_is_lost_all_the_same(store: KernelStore) -> None:
    await new_session(store)
    stale = await acquire(store, "me", token="old", ttl_ms=0)
    await acquire(store, "you", token="new", ttl_ms=0)
    await refused(LeaseLost, store.renew_lease(stale, now=NOW + 10**6, ttl_ms=100))


async def a_released_lane_is_free_at_once_and_its_lease_is_lost(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me", ttl_ms=10**6)
    await store.release_lease(lease)
    await refused(LeaseLost, store.renew_lease(lease, now=NOW, ttl_ms=100))
    await store.release_lease(lease)
    await acquire(store, "you")


async def a_lease_is_proved_by_its_token_and_its_generation_together(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me", token="secret", ttl_ms=100)
    for impostor in (
        structs.replace(lease, lease_token="guess"),
        structs.replace(lease, generation=lease.generation - 1),
        structs.replace(lease, generation=lease.generation + 1),
    ):
        await refused(LeaseLost, store.renew_lease(impostor, now=NOW, ttl_ms=10**6))
        await store.release_lease(impostor)
    assert await busy(store, "you") == LaneBusy("me", NOW + 100)


async def a_clock_that_went_back_never_shortens_a_lease(store: KernelStore) -> None:
    await new_session(store)
    first = await acquire(store, "me", ttl_ms=100)
    assert await store.renew_lease(first, now=NOW - 50, ttl_ms=100) == first
    longer = await store.renew_lease(first, now=NOW + 50, ttl_ms=100)
    # The answer to that renewal was lost: the owner still has the lease as it was before.
    assert await store.renew_lease(first, now=NOW + 10, ttl_ms=100) == longer
    assert await busy(store, "you", now=NOW + 149) == LaneBusy("me", NOW + 150)


async def nothing_of_a_lease_shows_in_the_session(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    before = await everything(store)
    lease = await acquire(store)
    assert await everything(store) == before
    await store.renew_lease(lease, now=NOW + 1, ttl_ms=100)
    await store.release_lease(lease)
    assert await everything(store) == before


async def a_session_is_read_with_the_newest_generation_that_is_settled(store: KernelStore) -> None:
    """Whoever still has the lane, be it expired, may write once more: that is not settled."""
    await new_session(store)
    assert (await store.load_session("s", 1)).generation == 0
    first = await acquire(store, "me", ttl_ms=10)
    assert (await store.load_session("s", 1)).generation == 0
    await store.release_lease(first)
    assert (await store.load_session("s", 1)).generation == 1
    await acquire(store, "me", ttl_ms=10)
    await acquire(store, "you", now=NOW + 10)
    assert (await store.load_session("s", 1)).generation == 2


async def a_lease_ends_with_its_session(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store, "me")
    await store.delete_session("s", NOW, ignored)
    error = await refused(LeaseLost, store.renew_lease(lease, now=NOW, ttl_ms=100))
    assert (error.session_id, error.generation) == ("s", lease.generation)
    await store.release_lease(lease)
    await refused(SessionDeleted, acquire(store, "me"))


async def a_session_that_never_was_has_no_lane(store: KernelStore) -> None:
    await refused(SessionNotFound, acquire(store, session_id="nobody"))
    ghost = SessionLease(session_id="nobody", owner_id="me", lease_token="lease", generation=1, expires_at_ms=NOW)
    await refused(LeaseLost, store.renew_lease(ghost, now=NOW, ttl_ms=100))
    await store.release_lease(ghost)
