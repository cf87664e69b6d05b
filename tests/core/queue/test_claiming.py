"""Which work a claim takes: by examples of each rule, and by what holds for every queue."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from sightline.queue.claiming import Candidate, select
from sightline.queue.model import (
    Batch,
    BatchState,
    Boundary,
    CommandPayload,
    DeliveryPolicy,
    Group,
    Item,
    NothingClaimed,
    ResetSession,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)

NOW = 100
URGENT = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
PATIENT = DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
JOIN = SlotPolicy.JOIN
CHECKPOINT = Boundary.ACTIVE_TURN_CHECKPOINT


def candidate(seq: int, *, held_until: int | None = None, generation: int | None = None, **fields: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "delivery_policy": PATIENT,
        "slot_policy": SlotPolicy.EXCLUSIVE,
        "merge_key": "never",
        "available_at_ms": 0,
        "items": (Item(f"b{seq}:item:0", TurnInputPayload(TurnInput((TextItem("x"),)))),),
        "state": BatchState.PENDING if held_until is None else BatchState.CLAIMED,
    }
    batch = Batch(
        batch_id=f"b{seq}",
        session_id="s",
        enqueue_seq=seq,
        enqueued_at_ms=0,
        **{**defaults, **fields},
    )
    return Candidate(batch, held_until, generation)


def command(seq: int, **fields: Any) -> Candidate:
    items = (Item(f"b{seq}:item:0", CommandPayload(ResetSession(reason="afresh"))),)
    return candidate(seq, items=items, **fields)


def taken(
    *candidates: Candidate, boundary: Boundary = Boundary.IDLE, max_batches: int = 64, now: int = NOW, **options: Any
) -> list[int] | str:
    """The sequences that are chosen, or the reason why none are."""
    chosen = select(candidates, boundary, max_batches, now, **options)
    if isinstance(chosen, NothingClaimed):
        return chosen.reason
    return [batch.enqueue_seq for batch in chosen]


@pytest.mark.parametrize(
    ("boundary", "delivery", "expected"),
    [
        (Boundary.IDLE, PATIENT, [1]),
        (Boundary.IDLE, URGENT, [1]),
        (CHECKPOINT, URGENT, [1]),
        (CHECKPOINT, PATIENT, "delivery_boundary_blocked"),
    ],
)
def test_the_head_is_taken_where_its_delivery_allows(
    boundary: Boundary, delivery: DeliveryPolicy, expected: list[int] | str
) -> None:
    assert taken(candidate(1, delivery_policy=delivery), boundary=boundary) == expected


def test_at_a_checkpoint_a_patient_head_blocks_the_urgent_work_behind_it() -> None:
    head, urgent = candidate(1), candidate(2, delivery_policy=URGENT)
    assert taken(head, urgent, boundary=CHECKPOINT) == "delivery_boundary_blocked"


def test_a_head_that_is_held_or_delayed_does_not_block() -> None:
    urgent = candidate(2, delivery_policy=URGENT)
    assert taken(candidate(1, held_until=NOW + 1), urgent, boundary=CHECKPOINT) == [2]
    assert taken(candidate(1, available_at_ms=NOW + 1), urgent, boundary=CHECKPOINT) == [2]


def test_a_claim_that_has_just_expired_no_longer_holds() -> None:
    assert taken(candidate(1, held_until=NOW + 1)) == "held"
    assert taken(candidate(1, held_until=NOW)) == [1]


def test_work_that_a_turn_has_taken_before_is_not_delayed_any_more() -> None:
    assert taken(candidate(1, available_at_ms=NOW + 1, turn_id="t"), candidate(2)) == [1]


def test_delayed_work_is_eligible_at_its_time_and_the_earliest_is_named() -> None:
    later, sooner = candidate(1, available_at_ms=NOW + 9), candidate(2, available_at_ms=NOW + 4)
    nothing = select((later, sooner), Boundary.IDLE, 64, NOW)
    assert nothing == NothingClaimed("not_yet_available", NOW + 4)
    assert taken(later, sooner, now=NOW + 4) == [2]
    assert taken(later, sooner, now=NOW + 9) == [1]


def test_a_key_of_never_joins_nothing_not_even_its_like() -> None:
    assert taken(candidate(1, slot_policy=JOIN), candidate(2, slot_policy=JOIN)) == [1]


def test_the_default_key_joins_payloads_of_one_type() -> None:
    pair = [candidate(seq, slot_policy=JOIN, merge_key="payload_default") for seq in (1, 2)]
    assert taken(*pair) == [1, 2]


def test_groups_join_their_equals_and_stop_at_the_first_that_differs() -> None:
    mine = [candidate(seq, slot_policy=JOIN, merge_key=Group("g")) for seq in (1, 2, 4)]
    other = candidate(3, slot_policy=JOIN, merge_key=Group("h"))
    assert taken(mine[0], mine[1], other, mine[2]) == [1, 2]


def test_joining_stops_at_another_delivery_and_at_exclusive_work() -> None:
    head = candidate(1, slot_policy=JOIN, merge_key=Group("g"))
    urgent = candidate(2, slot_policy=JOIN, merge_key=Group("g"), delivery_policy=URGENT)
    alone = candidate(2, merge_key=Group("g"))
    assert taken(head, urgent) == [1]
    assert taken(head, alone) == [1]


def test_neighbours_are_neighbours_among_what_is_eligible() -> None:
    first, last = (candidate(seq, slot_policy=JOIN, merge_key=Group("g")) for seq in (1, 3))
    assert taken(first, candidate(2, held_until=NOW + 1), last) == [1, 3]
    assert taken(first, candidate(2, available_at_ms=NOW + 1), last) == [1, 3]


def test_a_turn_begun_before_is_taken_again_with_its_members_and_no_others() -> None:
    group: dict[str, Any] = {"slot_policy": JOIN, "merge_key": Group("g")}
    begun = [candidate(seq, turn_id="t", **group) for seq in (1, 3)]
    assert taken(begun[0], candidate(2, **group), begun[1], candidate(4, **group), max_batches=1) == [1, 3]


def test_work_of_a_turn_begun_before_joins_no_other_claim() -> None:
    group: dict[str, Any] = {"slot_policy": JOIN, "merge_key": Group("g")}
    assert taken(candidate(1, **group), candidate(2, turn_id="t", **group), candidate(3, **group)) == [1]


@pytest.mark.parametrize("max_batches", [0, -1])
def test_a_claim_of_no_batches_takes_none(max_batches: int) -> None:
    assert taken(candidate(1), max_batches=max_batches) == "limit_zero"


def test_an_empty_queue_is_told_from_one_that_is_held() -> None:
    assert taken() == "empty"
    assert taken(candidate(1, held_until=NOW + 1), candidate(2, available_at_ms=NOW + 1)) == "held"


def test_a_command_that_waits_for_the_turns_end_is_told_from_other_work_that_does() -> None:
    assert taken(command(1), boundary=CHECKPOINT) == "command_at_head"
    assert taken(command(1)) == [1]
    assert taken(command(1, held_until=NOW + 1), boundary=CHECKPOINT) == "held"
    assert taken(command(1, delivery_policy=URGENT), boundary=CHECKPOINT) == [1]
    assert taken(candidate(1), command(2), boundary=CHECKPOINT) == "delivery_boundary_blocked"


def test_a_command_of_a_turn_begun_before_is_not_for_another_turns_checkpoint() -> None:
    assert taken(command(1, turn_id="t", delivery_policy=URGENT), boundary=CHECKPOINT) == "command_at_head"


# Exactly


def test_a_selection_is_taken_when_it_is_the_next_group_in_its_order() -> None:
    pair = [candidate(seq, slot_policy=JOIN, merge_key=Group("g")) for seq in (1, 2)]
    assert taken(*pair, candidate(3), only=["b1", "b2"]) == [1, 2]
    assert taken(*pair, only=["b1"]) == [1]
    for selection in (["b2"], ["b2", "b1"], ["b1", "b3"], ["b1", "b2", "b3"], ["b1", "b1"], ["nobody"]):
        assert taken(*pair, candidate(3), only=selection) == "selection_mismatch"


def test_a_selection_names_its_own_limit() -> None:
    assert taken(candidate(1), only=["b1"], max_batches=0) == [1]
    assert taken(candidate(1), only=[], max_batches=64) == "limit_zero"


def test_a_selection_never_skips_earlier_work_but_what_nobody_could_have() -> None:
    assert taken(candidate(1), candidate(2), only=["b2"]) == "selection_mismatch"
    assert taken(candidate(1, held_until=NOW + 1), candidate(2), only=["b2"]) == [2]
    assert taken(candidate(1, available_at_ms=NOW + 1), candidate(2), only=["b2"]) == [2]


def test_a_turn_begun_before_is_selected_whole() -> None:
    begun = [candidate(seq, turn_id="t") for seq in (1, 3)]
    assert taken(begun[0], candidate(2), begun[1], only=["b1", "b3"]) == [1, 3]
    assert taken(begun[0], candidate(2), begun[1], only=["b1"]) == "selection_mismatch"


def test_why_nothing_at_all_could_be_taken_comes_before_a_selection_that_does_not_fit() -> None:
    assert taken(only=["b1"]) == "empty"
    assert taken(candidate(1, held_until=NOW + 1), only=["b2"]) == "held"
    assert taken(candidate(1, available_at_ms=NOW + 1), only=["b2"]) == "not_yet_available"
    assert taken(candidate(1), only=["b2"], boundary=CHECKPOINT) == "delivery_boundary_blocked"


# Generations


def test_what_was_claimed_under_another_generation_than_the_ruling_one_is_free() -> None:
    later = NOW + 1
    assert taken(candidate(1, held_until=later, generation=3), generation=3) == "held"
    assert taken(candidate(1, held_until=later, generation=3), generation=4) == [1]
    # An older one never gets here: its lease is lost, and the claim is refused before.
    assert taken(candidate(1, held_until=later, generation=3), generation=2) == [1]


def test_a_generation_frees_nothing_that_was_claimed_without_one_and_nobody_who_asks_without_one() -> None:
    later = NOW + 1
    assert taken(candidate(1, held_until=later), generation=4) == "held"
    assert taken(candidate(1, held_until=later, generation=3)) == "held"


def test_time_frees_whatever_the_generation() -> None:
    for generation in (None, 3):
        assert taken(candidate(1, held_until=NOW, generation=3), generation=generation) == [1]


def test_what_is_free_by_its_generation_is_in_the_way_like_other_work() -> None:
    begun = candidate(1, held_until=NOW + 1, generation=3, turn_id="t", delivery_policy=URGENT)
    behind = candidate(2, delivery_policy=URGENT)
    assert taken(begun, behind, boundary=CHECKPOINT, generation=3) == [2]
    assert taken(begun, behind, boundary=CHECKPOINT, generation=4) == "delivery_boundary_blocked"


def test_nothing_is_held_by_a_batch_that_is_not_claimed() -> None:
    assert not Candidate(candidate(1).batch, held_until_ms=NOW + 1).is_held(NOW)
    assert not Candidate(candidate(1, held_until=NOW + 1).batch).is_held(NOW)


# Whatever is in the queue


candidates = st.lists(
    st.fixed_dictionaries(
        {
            "held_until": st.sampled_from((None, None, NOW, NOW + 1)),
            "delivery_policy": st.sampled_from(DeliveryPolicy),
            "slot_policy": st.sampled_from((JOIN, JOIN, SlotPolicy.EXCLUSIVE)),
            "merge_key": st.sampled_from(("never", "payload_default", Group("g"), Group("h"))),
            "available_at_ms": st.sampled_from((0, NOW, NOW + 1)),
            "turn_id": st.sampled_from((UNSET, UNSET, UNSET, "t1", "t2")),
            "generation": st.sampled_from((None, 1, 2)),
        }
    ),
    max_size=8,
).map(lambda rows: [candidate(seq, **row) for seq, row in enumerate(rows, 1)])


@given(candidates, st.sampled_from(Boundary), st.integers(1, 9), st.sampled_from((None, 1, 2)))
def test_whatever_is_in_the_queue_only_its_eligible_head_decides(
    queue: list[Candidate], boundary: Boundary, max_batches: int, generation: int | None
) -> None:
    eligible = [entry.batch for entry in queue if entry.is_eligible(NOW, generation)]
    chosen = select(queue, boundary, max_batches, NOW, generation=generation)
    if isinstance(chosen, NothingClaimed):
        blocked = (
            bool(eligible)
            and boundary is CHECKPOINT
            and (eligible[0].delivery_policy is PATIENT or eligible[0].turn_id is not UNSET)
        )
        assert (chosen.reason == "delivery_boundary_blocked") is blocked
        assert blocked or not eligible
        return
    head = eligible[0]
    assert chosen[0] is head
    if head.turn_id is not UNSET:
        assert list(chosen) == [batch for batch in eligible if batch.turn_id == head.turn_id]
        return
    assert list(chosen) == eligible[: len(chosen)], "nothing is jumped over, nothing overtakes"
    assert len(chosen) <= max_batches
    for batch in chosen[1:]:
        assert head.slot_policy is batch.slot_policy is JOIN
        assert (batch.merge_key, batch.delivery_policy) == (head.merge_key, head.delivery_policy)
        assert head.merge_key != "never"
        assert batch.turn_id is UNSET
    if 1 <= len(chosen) < max_batches and len(chosen) < len(eligible) and head.slot_policy is JOIN:
        follower = eligible[len(chosen)]
        differs = (
            follower.slot_policy is not JOIN
            or follower.turn_id is not UNSET
            or follower.merge_key != head.merge_key
            or follower.delivery_policy is not head.delivery_policy
        )
        assert differs or head.merge_key == "never", "a group is as large as it may be"


@given(candidates, st.sampled_from(Boundary), st.lists(st.integers(1, 8).map("b{}".format), min_size=1, max_size=3))
def test_a_selection_takes_exactly_itself_or_nothing(
    queue: list[Candidate], boundary: Boundary, selection: list[str]
) -> None:
    chosen = select(queue, boundary, 0, NOW, only=selection)
    anyway = select(queue, boundary, len(selection), NOW)
    if isinstance(chosen, NothingClaimed):
        assert chosen == anyway or chosen.reason == "selection_mismatch"
    else:
        assert [batch.batch_id for batch in chosen] == selection
        assert chosen == anyway
