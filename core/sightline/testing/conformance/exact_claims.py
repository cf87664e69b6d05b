"""What a queue promises to whoever asks for batches by their ids: they are the next group, or nothing is taken."""

from __future__ import annotations

from typing import Any

from sightline.kernel import KernelStore
from sightline.queue.model import Boundary, DeliveryPolicy, Group, NothingClaimed, SlotPolicy
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    acquire,
    claim,
    claim_nothing,
    enqueue,
    everything,
    ignored,
    lease_request,
    names_of,
    new_session,
    run_turn,
)

_JOIN: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}
_MISMATCH = NothingClaimed("selection_mismatch")


async def the_next_group_is_taken_by_its_ids_in_their_order(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    await enqueue(store, "alone")
    assert names_of(await claim(store, batch_ids=["s:a", "s:b"])) == ["s:a", "s:b"]
    assert names_of(await claim(store, batch_ids=["s:alone"], turn="t2")) == ["s:alone"]


async def as_many_are_taken_as_were_named_whatever_the_limit(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b", "c"):
        await enqueue(store, name, **_JOIN)
    assert names_of(await claim(store, batch_ids=["s:a", "s:b"], max_batches=0)) == ["s:a", "s:b"]


async def another_selection_than_the_next_group_takes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "done")
    await run_turn(store, revision=0)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    await enqueue(store, "alone")
    before = await everything(store)
    for selection in (
        ["s:b"],
        ["s:alone"],
        ["s:b", "s:a"],
        ["s:a", "s:alone"],
        ["s:a", "s:b", "s:alone"],
        ["s:a", "s:a"],
        ["s:done"],
        ["s:done", "s:a"],
        ["nobody"],
    ):
        assert await claim_nothing(store, batch_ids=selection) == _MISMATCH, selection
    assert await everything(store) == before


async def a_selection_that_failed_leaves_the_fencing_as_it_was(store: KernelStore) -> None:
    await new_session(store)
    head = await enqueue(store, "head")
    await enqueue(store, "behind")
    for _ in range(3):
        assert await claim_nothing(store, batch_ids=["s:behind"]) == _MISMATCH
    held = await claim(store, batch_ids=["s:head"])
    assert (held.claim_id, held.fencing_token, held.attempt) == (f"qwc:{head.enqueue_seq}:1", 1, 1)


async def a_selection_that_failed_acquires_no_lease(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "head")
    assert await claim_nothing(store, batch_ids=["s:other"], lease=lease_request("me")) == _MISMATCH
    await acquire(store, "you")


async def an_empty_selection_takes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    assert await claim_nothing(store, batch_ids=[]) == NothingClaimed("limit_zero")


async def a_turn_that_was_begun_is_selected_whole_or_not_at_all(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    await abandon(store, await claim(store, turn="t1"))
    await enqueue(store, "c", **_JOIN)
    for selection in (["s:a"], ["s:b", "s:a"], ["s:a", "s:b", "s:c"]):
        assert await claim_nothing(store, batch_ids=selection) == _MISMATCH, selection
    held = await claim(store, batch_ids=["s:a", "s:b"], turn="t2")
    assert (held.turn_id, names_of(held)) == ("t1", ["s:a", "s:b"])


async def a_selection_that_nobody_could_have_says_why(store: KernelStore) -> None:
    await new_session(store)
    assert await claim_nothing(store, batch_ids=["s:a"]) == NothingClaimed("empty")
    await enqueue(store, "a", available_at_ms=NOW + 5)
    assert await claim_nothing(store, batch_ids=["s:a"]) == NothingClaimed("not_yet_available", NOW + 5)
    await claim(store, now=NOW + 5, batch_ids=["s:a"])
    assert (await claim_nothing(store, now=NOW + 5, batch_ids=["s:a"])).reason == "held"
    await enqueue(store, "b")
    checkpoint = Boundary.ACTIVE_TURN_CHECKPOINT
    assert (await claim_nothing(store, batch_ids=["s:b"], boundary=checkpoint)).reason == "delivery_boundary_blocked"


async def at_a_checkpoint_urgent_work_can_be_selected(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "urgent", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
    held = await claim(store, batch_ids=["s:urgent"], boundary=Boundary.ACTIVE_TURN_CHECKPOINT)
    assert names_of(held) == ["s:urgent"]


async def selected_work_that_was_cancelled_meanwhile_takes_nothing_of_what_is_behind_it(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name)
    await store.cancel_batch("s", "s:a", now=NOW, then=ignored)
    assert await claim_nothing(store, batch_ids=["s:a"]) == _MISMATCH
    assert names_of(await claim(store, batch_ids=["s:b"])) == ["s:b"]
