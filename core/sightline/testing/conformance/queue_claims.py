"""What a queue promises to whoever takes work: claims, their end, and their taking over."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import UNSET

from sightline.kernel import KernelStore
from sightline.queue.model import (
    BatchState,
    Boundary,
    Claim,
    DeliveryPolicy,
    Draft,
    Group,
    MergeKey,
    NothingClaimed,
    Payload,
    ProcessWake,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)
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
    request_cancel,
)

_JOIN: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}
_URGENT: dict[str, Any] = {"delivery_policy": DeliveryPolicy.EARLIEST_SAFE_BOUNDARY}


async def a_claim_takes_the_head_and_says_everything_about_it(store: KernelStore) -> None:
    await new_session(store)
    first = await enqueue(store, "first")
    await enqueue(store, "second")
    held = await claim(store, owner="me", turn="t7", token="secret", now=NOW + 1, ttl_ms=900_000)
    assert held.session_id == "s"
    assert (held.owner_id, held.lease_token, held.turn_id, held.attempt) == ("me", "secret", "t7", 1)
    assert (held.claimed_at_epoch_ms, held.expires_at_epoch_ms) == (NOW + 1, NOW + 900_001)
    assert held.claim_id == f"qwc:{first.enqueue_seq}:{held.fencing_token}"
    assert held.cancel_requested is None
    assert names_of(held) == ["s:first"]
    [batch] = held.batches
    assert (batch.state, batch.turn_id, batch.attempts) == (BatchState.CLAIMED, "t7", 1)
    assert await store.get_batch("s", "s:first") == batch
    assert (await store.get_batch("s", "s:second")).turn_id is UNSET


async def work_is_taken_in_order_of_its_sequence(store: KernelStore) -> None:
    await new_session(store)
    for name in ("b", "a", "c"):
        await enqueue(store, name)
    taken = [names_of(await claim(store, turn=name)) for name in ("t1", "t2", "t3")]
    assert taken == [["s:b"], ["s:a"], ["s:c"]]


async def held_work_is_taken_by_nobody_else(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await claim(store, owner="me")
    for owner in ("me", "you"):
        assert (await claim_nothing(store, owner=owner, token="other")).reason == "held"


async def the_reasons_why_nothing_is_taken_are_told_apart(store: KernelStore) -> None:
    await new_session(store)
    assert await claim_nothing(store) == NothingClaimed("empty")
    await enqueue(store, "late", available_at_ms=NOW + 20)
    await enqueue(store, "soon", available_at_ms=NOW + 10)
    assert await claim_nothing(store) == NothingClaimed("not_yet_available", NOW + 10)
    await enqueue(store, "ready")
    assert await claim_nothing(store, max_batches=0) == NothingClaimed("limit_zero")
    blocked = await claim_nothing(store, boundary=Boundary.ACTIVE_TURN_CHECKPOINT)
    assert blocked == NothingClaimed("delivery_boundary_blocked")
    await claim(store)
    assert (await claim_nothing(store)).reason == "held"


async def delayed_work_is_available_at_its_time_not_before(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, available_at_ms=NOW + 10)
    await claim_nothing(store, now=NOW + 9)
    await claim(store, now=NOW + 10)


async def a_delayed_head_does_not_block_what_is_behind_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "delayed", available_at_ms=NOW + 10)
    await enqueue(store, "ready")
    assert names_of(await claim(store)) == ["s:ready"]


async def at_an_idle_session_either_delivery_starts_a_claim(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "patient")
    await enqueue(store, "urgent", **_URGENT)
    assert names_of(await claim(store)) == ["s:patient"]
    assert names_of(await claim(store, turn="t2")) == ["s:urgent"]


async def at_a_checkpoint_only_urgent_work_is_taken_and_a_patient_head_blocks(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "urgent", **_URGENT)
    await enqueue(store, "patient")
    await enqueue(store, "behind", **_URGENT)
    checkpoint: dict[str, Any] = {"boundary": Boundary.ACTIVE_TURN_CHECKPOINT}
    assert names_of(await claim(store, **checkpoint)) == ["s:urgent"]
    assert (await claim_nothing(store, **checkpoint)).reason == "delivery_boundary_blocked"
    assert names_of(await claim(store, turn="t2")) == ["s:patient"]
    assert names_of(await claim(store, turn="t3", **checkpoint)) == ["s:behind"]


async def exclusive_work_is_taken_alone(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "alone", merge_key=Group("g"))
    await enqueue(store, "next", **_JOIN)
    assert names_of(await claim(store)) == ["s:alone"]


async def joining_neighbours_are_taken_together_up_to_the_first_that_differs(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    await enqueue(store, "other", slot_policy=SlotPolicy.JOIN, merge_key=Group("h"))
    await enqueue(store, "c", **_JOIN)
    assert names_of(await claim(store, turn="t1")) == ["s:a", "s:b"]
    assert names_of(await claim(store, turn="t2")) == ["s:other"]
    assert names_of(await claim(store, turn="t3")) == ["s:c"]


async def joining_stops_at_exclusive_work_and_at_another_delivery(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "a", **_JOIN)
    await enqueue(store, "alone", merge_key=Group("g"))
    await enqueue(store, "b", **_JOIN)
    await enqueue(store, "urgent", **_JOIN, **_URGENT)
    taken = [names_of(await claim(store, turn=f"t{number}")) for number in range(4)]
    assert taken == [["s:a"], ["s:alone"], ["s:b"], ["s:urgent"]]


async def neighbours_are_neighbours_among_what_is_eligible(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "held", **_URGENT)
    await claim(store, turn="t1")
    await enqueue(store, "a", **_JOIN)
    await enqueue(store, "delayed", available_at_ms=NOW + 1)
    await enqueue(store, "b", **_JOIN)
    assert names_of(await claim(store, turn="t2")) == ["s:a", "s:b"]
    # A held one in between.
    await new_session(store, "other")
    for name in ("a", "between", "b"):
        options = {} if name == "between" else {**_JOIN, "available_at_ms": NOW + 5}
        await enqueue(store, name, session_id="other", **options)
    await claim(store, session_id="other", turn="t3")
    assert names_of(await claim(store, session_id="other", turn="t4", now=NOW + 5)) == ["other:a", "other:b"]


async def merge_keys_mean_what_they_say(store: KernelStore) -> None:
    wake = WakePayload(
        ProcessWake(
            wake_id="wake",
            target_session_id="s",
            target_scope_id="scope",
            process_id="p",
            sequence=1,
            event_type="done",
            dedupe_key="done",
            input="x",
            created_at_ms=NOW,
        )
    )
    text = TurnInputPayload(TurnInput((TextItem("x"),)))
    cases: tuple[tuple[MergeKey, MergeKey, Payload, bool], ...] = (
        ("never", "never", text, False),
        ("payload_default", "payload_default", text, True),
        ("payload_default", "payload_default", wake, False),
        (Group("g"), Group("g"), text, True),
        (Group("g"), Group("g"), wake, True),
        (Group("g"), Group("h"), text, False),
        (Group("never"), "never", text, False),
        (Group("g"), "payload_default", text, False),
    )
    for number, (first, second, payload, joins) in enumerate(cases):
        session_id = f"session {number}"
        await new_session(store, session_id)
        for name, key, content in (("first", first, text), ("second", second, payload)):
            work = Draft(session_id=session_id, payloads=(content,), slot_policy=SlotPolicy.JOIN, merge_key=key)
            await store.enqueue(work, batch_id=f"{session_id} {name}", now=NOW, max_open=10, then=ignored)
        held = await claim(store, session_id=session_id)
        assert len(held.batches) == (2 if joins else 1), (first, second, payload)


async def a_claim_is_no_larger_than_its_limit(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b", "c"):
        await enqueue(store, name, **_JOIN)
    assert names_of(await claim(store, max_batches=2)) == ["s:a", "s:b"]


async def a_claim_charges_an_attempt_to_each_of_its_batches(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    for attempt in (1, 2, 3):
        held = await claim(store)
        assert held.attempt == attempt
        assert [batch.attempts for batch in held.batches] == [attempt, attempt]
        await abandon(store, held)


async def a_claim_ends_at_its_expiry_not_before(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await claim(store, ttl_ms=10)
    await claim_nothing(store, now=NOW + 9)
    taken_over = await claim(store, token="new", now=NOW + 10)
    assert (taken_over.attempt, taken_over.turn_id) == (2, "t1")


async def a_claim_without_any_time_can_be_taken_over_at_once(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await claim(store, ttl_ms=0)
    assert (await claim(store, token="new")).attempt == 2


async def fencing_tokens_grow_with_every_claim_and_claim_ids_never_repeat(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    claims = []
    for number in range(4):
        claims.append(await claim(store, token=f"token {number}", ttl_ms=0))
        if number % 2:
            await abandon(store, claims[-1])
    fencing = [held.fencing_token for held in claims]
    assert fencing == sorted(set(fencing))
    assert len({held.claim_id for held in claims}) == 4


async def of_many_claimers_at_once_each_piece_of_work_gets_one(store: KernelStore) -> None:
    await new_session(store)
    for number in range(5):
        await enqueue(store, str(number))
    taken = await asyncio.gather(
        *(
            store.claim(
                "s",
                Boundary.IDLE,
                owner_id=f"owner {number}",
                turn_id=f"turn {number}",
                lease_token=f"token {number}",
                now=NOW,
                ttl_ms=60_000,
                max_batches=1,
                then=ignored,
            )
            for number in range(20)
        )
    )
    claims = [held for held in taken if isinstance(held, Claim)]
    assert sorted(name for held in claims for name in names_of(held)) == [f"s:{n}" for n in range(5)]
    for held in claims:
        batch = await store.get_batch("s", held.batches[0].batch_id)
        assert batch.turn_id == held.turn_id


async def abandoned_work_is_pending_at_once_and_keeps_its_turn(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "a", **_JOIN)
    await enqueue(store, "b", **_JOIN)
    given_back = await abandon(store, await claim(store))
    assert [(b.batch_id, b.state, b.turn_id, b.attempts) for b in given_back] == [
        ("s:a", BatchState.PENDING, "t1", 1),
        ("s:b", BatchState.PENDING, "t1", 1),
    ]
    assert await store.list_batches("s", pending_only=True, limit=10) == given_back
    assert await store.claimable_sessions(NOW, 10) == ("s",)


async def work_handed_back_without_a_charge_has_its_attempt_back(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    for _ in range(5):
        held = await claim(store)
        assert held.attempt == 1
        [batch] = await abandon(store, held, charge=False)
        assert batch.attempts == 0


async def a_turn_that_is_taken_again_is_the_same_turn_with_the_same_members(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    await enqueue(store, "delayed", available_at_ms=NOW + 5)
    await enqueue(store, "c", **_JOIN)
    first = await claim(store, turn="t1")
    assert names_of(first) == ["s:a", "s:b", "s:c"]
    await abandon(store, first)
    await enqueue(store, "d", **_JOIN)
    again = await claim(store, turn="t2", token="new", now=NOW + 10)
    assert (again.turn_id, names_of(again)) == ("t1", ["s:a", "s:b", "s:c"])


async def a_turn_that_was_begun_is_ready_for_everybody_whatever_their_clocks_say(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "delayed", available_at_ms=NOW + 50, **_JOIN)
    await enqueue(store, "now", **_JOIN)
    await abandon(store, await claim(store, turn="t1", now=NOW + 50))
    assert await store.peek_claimable("s", NOW)
    assert await store.claimable_sessions(NOW, 10) == ("s",)
    assert await store.next_due(NOW) is None
    again = await claim(store, turn="t2", token="new", now=NOW)
    assert (again.turn_id, names_of(again)) == ("t1", ["s:delayed", "s:now"])


async def a_turn_that_was_begun_is_not_taken_in_by_another_one(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "begun", **_URGENT)
    await abandon(store, await claim(store, turn="t1"))
    await enqueue(store, "behind", **_URGENT)
    checkpoint: dict[str, Any] = {"boundary": Boundary.ACTIVE_TURN_CHECKPOINT}
    assert (await claim_nothing(store, **checkpoint)).reason == "delivery_boundary_blocked"
    assert (await claim(store, turn="t2")).turn_id == "t1"
    assert names_of(await claim(store, turn="t2", token="other", **checkpoint)) == ["s:behind"]


async def a_turn_that_is_taken_again_is_whole_whatever_the_limit(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b", "c"):
        await enqueue(store, name, **_JOIN)
    await abandon(store, await claim(store, max_batches=3))
    assert names_of(await claim(store, max_batches=1)) == ["s:a", "s:b", "s:c"]


async def a_stale_claim_cannot_give_back_what_another_holds(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, token="old", ttl_ms=0)
    current = await claim(store, token="new")
    before = await everything(store)
    assert await abandon(store, stale) == ()
    assert await everything(store) == before
    await commit(store, commit_of(current, revision=0))
    assert await abandon(store, current) == ()


async def the_token_proves_a_claim_and_its_id_alone_does_not(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, token="secret")
    impostor = Claim(**{name: getattr(held, name) for name in Claim.__struct_fields__} | {"lease_token": "?"})
    before = await everything(store)
    assert await abandon(store, impostor) == ()
    assert await everything(store) == before


async def a_later_attempt_finds_the_request_to_cancel_in_its_claim(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    held = await claim(store)
    await request_cancel(store, turn="t1", reason="enough")
    await abandon(store, held, charge=False)
    assert (await claim(store)).cancel_requested == "enough"
