"""Small decisions of the queue: sameness, summaries, cancels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from sightline.queue.model import (
    Batch,
    BatchState,
    DeliveryPolicy,
    Draft,
    Group,
    ImageItem,
    InputItem,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.queue.rules import cancel_outcome, content_hash, may_drop, new_batch, summary_of, text_of

items = st.lists(st.builds(TextItem, st.text()) | st.builds(ImageItem, st.text()), max_size=3).map(tuple)
blobs = st.just(UNSET) | st.dictionaries(st.text(), st.binary(max_size=9), max_size=2)
payloads = st.lists(st.builds(TurnInputPayload, st.builds(TurnInput, items, blobs)), min_size=1, max_size=2)
drafts = st.builds(
    Draft,
    session_id=st.sampled_from("ab"),
    payloads=payloads.map(tuple),
    source_key=st.none() | st.sampled_from("kl"),
    delivery_policy=st.sampled_from(DeliveryPolicy),
    slot_policy=st.sampled_from(SlotPolicy),
    merge_key=st.sampled_from(("never", "payload_default")) | st.builds(Group, st.sampled_from("gh")),
    available_at_ms=st.integers(0, 3),
)


def text_draft(*texts: str, **fields: object) -> Draft:
    inputs: tuple[InputItem, ...] = tuple(TextItem(text) for text in texts)
    plain = Draft(session_id="s", payloads=(TurnInputPayload(TurnInput(inputs)),))
    return structs.replace(plain, **fields)


def stored(draft: Draft) -> Batch:
    return new_batch(draft, batch_id="b", enqueue_seq=1, now=50, cancelled=False)


@given(drafts, drafts)
def test_two_drafts_have_the_same_fingerprint_exactly_when_their_author_chose_the_same(
    first: Draft, second: Draft
) -> None:
    chosen = [structs.replace(draft, session_id="", source_key=None) for draft in (first, second)]
    assert (content_hash(first) == content_hash(second)) is (chosen[0] == chosen[1])


def test_a_fingerprint_is_the_same_in_every_release() -> None:
    """What an older release stored must be found again by a newer one, or a repeated request becomes a conflict."""
    draft = text_draft("Grüße, 世界", merge_key=Group("g"), available_at_ms=5)
    assert content_hash(draft) == "1:e9ac1be290eaf8f255c7bbe18afafff4e184137971c9b0798ea81b6e7a6fcd32"


def test_a_batch_begins_pending_with_named_items_at_the_time_it_came() -> None:
    draft = structs.replace(text_draft("a"), payloads=text_draft("a").payloads * 2, source_key="k")
    batch = stored(draft)
    assert (batch.state, batch.available_at_ms, batch.enqueued_at_ms) == (BatchState.PENDING, 50, 50)
    assert [item.item_id for item in batch.items] == ["b:item:0", "b:item:1"]
    assert (batch.source_key, batch.turn_id, batch.attempts) == ("k", UNSET, 0)
    assert stored(text_draft("a")).source_key is UNSET
    assert stored(text_draft("a", available_at_ms=7)).available_at_ms == 7


def test_the_text_of_a_batch_is_its_texts_line_by_line() -> None:
    two = structs.replace(text_draft("a", "", "b"), payloads=text_draft("a", "", "b").payloads * 2)
    assert text_of(stored(two)) == "a\nb\na\nb"
    pictures = TurnInputPayload(TurnInput((ImageItem("i"), TextItem("t"))))
    assert text_of(stored(Draft(session_id="s", payloads=(pictures,)))) == "t"


def test_a_summary_previews_the_text_and_leaves_the_payload_out() -> None:
    assert summary_of(stored(text_draft("x" * 200))).preview == "x" * 200
    assert summary_of(stored(text_draft("x" * 201))).preview == "x" * 199 + "…"
    summary = summary_of(stored(text_draft("a", source_key="k")))
    assert (summary.kind, summary.source_key, summary.turn_id) == ("turn_input", "k", UNSET)


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (BatchState.PENDING, "cancelled"),
        (BatchState.CLAIMED, "cancel_requested"),
        (BatchState.COMPLETED, "ended"),
        (BatchState.CANCELLED, "cancelled"),
        (BatchState.FAILED, "ended"),
    ],
)
def test_what_a_cancel_answers_follows_from_the_state(state: BatchState, answer: str) -> None:
    assert cancel_outcome(state) == answer


def test_only_pending_work_that_no_turn_has_taken_may_be_dropped() -> None:
    fresh = stored(text_draft("a"))
    assert may_drop(fresh)
    assert not may_drop(structs.replace(fresh, turn_id="t"))
    for state in BatchState:
        assert may_drop(structs.replace(fresh, state=state)) is (state is BatchState.PENDING)


def test_only_pending_and_claimed_work_is_open() -> None:
    assert [state for state in BatchState if state.is_open] == [BatchState.PENDING, BatchState.CLAIMED]
