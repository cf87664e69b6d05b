"""What a queue promises to whoever works long: `renew` of `sightline.queue.port`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from sightline.errors import ClaimExpired
from sightline.kernel import KernelStore
from sightline.queue.model import Claim, Group, SlotPolicy
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    claim,
    claim_nothing,
    commit,
    commit_of,
    enqueue,
    everything,
    ignored,
    names_of,
    new_session,
    refused,
)

_JOIN: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}


async def a_renewed_claim_is_the_same_claim_with_a_later_expiry(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    held = await claim(store, ttl_ms=100)
    longer = await store.renew(held, now=NOW + 50, ttl_ms=100)
    assert longer == structs.replace(held, expires_at_epoch_ms=NOW + 150)
    assert (await claim_nothing(store, now=NOW + 149)).reason == "held"
    assert names_of(await claim(store, now=NOW + 150)) == ["s:a", "s:b"]


async def a_claim_is_renewed_as_often_as_its_turn_needs_and_then_committed(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, ttl_ms=900_000)
    for third in range(1, 10):
        held = await store.renew(held, now=NOW + third * 300_000, ttl_ms=900_000)
        assert (await claim_nothing(store, now=NOW + third * 300_000 + 899_999)).reason == "held"
    await commit(store, commit_of(held, revision=0))


async def a_claim_that_expired_and_nobody_took_over_can_be_renewed(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, ttl_ms=0)
    longer = await store.renew(held, now=NOW + 10**6, ttl_ms=100)
    assert longer.expires_at_epoch_ms == NOW + 10**6 + 100
    assert (await claim_nothing(store, now=NOW + 10**6)).reason == "held"


async def renewing_a_claim_shows_nowhere(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, ttl_ms=100)
    before = await everything(store)
    await store.renew(held, now=NOW + 1, ttl_ms=100)
    assert await everything(store) == before


async def a_claim_that_was_taken_over_cannot_be_renewed_and_its_successor_is_not_extended(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, token="old", ttl_ms=0)
    await claim(store, token="new", ttl_ms=100)
    error = await refused(ClaimExpired, store.renew(stale, now=NOW, ttl_ms=10**6))
    assert (error.session_id, error.claim_id) == ("s", stale.claim_id)
    await claim(store, now=NOW + 100)


async def of_a_claim_that_holds_a_part_of_what_it_names_nothing_is_extended(store: KernelStore) -> None:
    partial, _ = await _holding_a_part(store)
    await refused(ClaimExpired, store.renew(partial, now=NOW, ttl_ms=10**6))
    assert names_of(await claim(store, token="third", now=partial.expires_at_epoch_ms)) == ["s:b"]


async def of_a_claim_that_holds_a_part_of_what_it_names_nothing_is_completed(store: KernelStore) -> None:
    partial, other = await _holding_a_part(store)
    before = await everything(store)
    whole = partial.completion()
    for batch_ids in (whole.batch_ids, ("s:a",)):
        part = structs.replace(whole, batch_ids=batch_ids)
        await refused(ClaimExpired, commit(store, commit_of(partial, revision=0, completions=(part,))))
    assert await everything(store) == before
    await commit(store, commit_of(other, revision=0))


async def of_a_claim_that_holds_a_part_of_what_it_names_that_part_is_given_back(store: KernelStore) -> None:
    partial, other = await _holding_a_part(store)
    assert [batch.batch_id for batch in await abandon(store, partial)] == ["s:b"]
    await commit(store, commit_of(other, revision=0))
    assert [batch.batch_id for batch in (await store.load_session("s", 1)).open_batches] == ["s:b"]


async def work_that_was_given_back_or_has_ended_cannot_be_renewed(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    given_back = await claim(store, token="first")
    await abandon(store, given_back)
    await refused(ClaimExpired, store.renew(given_back, now=NOW, ttl_ms=100))
    ended = await claim(store, token="second")
    await commit(store, commit_of(ended, revision=0))
    await refused(ClaimExpired, store.renew(ended, now=NOW, ttl_ms=100))
    assert (await claim_nothing(store)).reason == "empty"


async def a_claim_is_renewed_by_its_token_and_not_by_its_id_alone(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, token="secret", ttl_ms=100)
    await refused(ClaimExpired, store.renew(structs.replace(held, lease_token="guess"), now=NOW, ttl_ms=10**6))
    await claim(store, token="new", now=NOW + 100)


async def a_clock_that_went_back_never_shortens_a_claim(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    first = await claim(store, ttl_ms=100)
    assert await store.renew(first, now=NOW - 50, ttl_ms=100) == first
    longer = await store.renew(first, now=NOW + 50, ttl_ms=100)
    # The answer to that renewal was lost: the owner still has the claim as it was before.
    assert await store.renew(first, now=NOW + 10, ttl_ms=100) == longer
    assert (await claim_nothing(store, now=NOW + 149)).reason == "held"


async def a_claim_ends_with_its_session(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    await store.delete_session("s", NOW, ignored)
    await refused(ClaimExpired, store.renew(held, now=NOW, ttl_ms=100))


async def _holding_a_part(store: KernelStore) -> tuple[Claim, Claim]:
    """A claim that names `a` and `b` and holds only `b`, and the one that holds `a`."""
    await new_session(store)
    await enqueue(store, "a")
    await enqueue(store, "b")
    other = await claim(store, token="other", turn="t1")
    partial = await claim(store, token="partial", turn="t2", ttl_ms=100)
    assert (names_of(other), names_of(partial)) == (["s:a"], ["s:b"])
    return structs.replace(partial, batches=(*other.batches, *partial.batches)), other
