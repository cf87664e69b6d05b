"""Small decisions of the queue: what may come, sameness, summaries, cancels."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from sightline.errors import InvalidInput
from sightline.queue.model import (
    Batch,
    BatchState,
    CommandPayload,
    DeliveryPolicy,
    Draft,
    Group,
    ImageItem,
    InputItem,
    ProcessWake,
    RefreshToolSurface,
    ResetSession,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)
from sightline.queue.rules import (
    cancel_outcome,
    check_draft,
    content_hash,
    digest,
    end_of,
    may_drop,
    new_batch,
    replayed_batch,
    summary_of,
    text_of,
)
from sightline.session.model import Failure

WAKE = ProcessWake(
    wake_id="w",
    target_session_id="s",
    target_scope_id="scope",
    process_id="p",
    sequence=1,
    event_type="done",
    dedupe_key="d",
    input="it ended",
    created_at_ms=5,
)
RESET = CommandPayload(ResetSession(reason="afresh"))
REFRESH = CommandPayload(RefreshToolSurface(reason="new tools"))

items = st.lists(st.builds(TextItem, st.text()) | st.builds(ImageItem, st.text()), max_size=3).map(tuple)
blobs = st.just(UNSET) | st.dictionaries(st.text(), st.binary(max_size=9), max_size=2)
options = st.just(UNSET) | st.dictionaries(st.sampled_from("xy"), st.none() | st.booleans() | st.integers(0, 1))
traces = st.just(UNSET) | st.sampled_from(("", "t"))
turn_inputs = st.builds(TurnInputPayload, st.builds(TurnInput, items, blobs, options, traces))
wakes = st.sampled_from((WAKE, structs.replace(WAKE, sequence=2), structs.replace(WAKE, process_caused_by={})))
expected = st.just(UNSET) | st.integers(0, 1)
refreshes = st.builds(RefreshToolSurface, reason=st.sampled_from("ab"), expected_generation=expected)
commands = st.builds(ResetSession, reason=st.sampled_from("ab")) | refreshes
payloads = st.lists(
    turn_inputs | st.builds(WakePayload, wakes) | st.builds(CommandPayload, commands), min_size=1, max_size=2
)
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


# What may come


def test_a_draft_holds_something_under_a_key_that_says_something() -> None:
    check_draft(text_draft("a", source_key="k"))
    with pytest.raises(InvalidInput) as error:
        check_draft(Draft(session_id="s", payloads=()))
    assert error.value.field == "payloads"
    with pytest.raises(InvalidInput) as error:
        check_draft(text_draft("a", source_key=""))
    assert error.value.field == "source_key"


@pytest.mark.parametrize(
    "payloads", [(RESET, RESET), (RESET, REFRESH), (RESET, WakePayload(WAKE)), (*text_draft("a").payloads, REFRESH)]
)
def test_a_command_is_alone_in_its_batch(payloads: Any) -> None:
    with pytest.raises(InvalidInput, match="alone"):
        check_draft(Draft(session_id="s", payloads=payloads))


def test_a_command_joins_nothing() -> None:
    for command in (RESET, REFRESH):
        alone = Draft(session_id="s", payloads=(command,))
        check_draft(alone)
        with pytest.raises(InvalidInput, match="exclusive"):
            check_draft(structs.replace(alone, slot_policy=SlotPolicy.JOIN, merge_key=Group("g")))


def test_inputs_and_wakes_may_come_together_and_join() -> None:
    both = (*text_draft("a").payloads, WakePayload(WAKE))
    check_draft(Draft(session_id="s", payloads=both, slot_policy=SlotPolicy.JOIN, merge_key=Group("g")))


# Sameness


@given(drafts, drafts)
def test_two_drafts_have_the_same_fingerprint_exactly_when_their_author_chose_the_same(
    first: Draft, second: Draft
) -> None:
    chosen = [structs.replace(draft, session_id="", source_key=None) for draft in (first, second)]
    assert (content_hash(first) == content_hash(second)) is (chosen[0] == chosen[1])


@pytest.mark.parametrize(
    "change",
    [
        {"payloads": text_draft("b").payloads},
        {"payloads": text_draft("a").payloads * 2},
        {"payloads": (WakePayload(WAKE),)},
        {"payloads": (RESET,)},
        {"payloads": (TurnInputPayload(TurnInput((TextItem("a"),), {"i": b""})),)},
        {"payloads": (TurnInputPayload(TurnInput((TextItem("a"),), protocol_turn_options={"n": 1})),)},
        {"payloads": (TurnInputPayload(TurnInput((TextItem("a"),), trace_turn_id="t")),)},
        {"delivery_policy": DeliveryPolicy.EARLIEST_SAFE_BOUNDARY},
        {"slot_policy": SlotPolicy.JOIN},
        {"merge_key": "payload_default"},
        {"merge_key": Group("never")},
        {"available_at_ms": 1},
    ],
    ids=lambda change: ",".join(change),
)
def test_a_change_of_anything_its_author_chose_is_another_fingerprint(change: dict[str, Any]) -> None:
    assert content_hash(structs.replace(text_draft("a"), **change)) != content_hash(text_draft("a"))


def test_the_session_and_the_key_are_what_a_fingerprint_is_looked_up_by() -> None:
    moved = structs.replace(text_draft("a"), session_id="other", source_key="k")
    assert content_hash(moved) == content_hash(text_draft("a"))


def test_a_digest_knows_no_order_of_keys_and_tells_numbers_apart() -> None:
    assert digest({"b": 1, "a": [{"y": 1, "x": 2}]}) == digest({"a": [{"x": 2, "y": 1}], "b": 1})
    assert digest([1]) != digest([1.0])
    assert digest([1, 2]) != digest([2, 1])
    assert digest(["1"]) != digest([1])


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


@given(
    drafts,
    st.booleans(),
    st.sampled_from(BatchState),
    st.integers(0, 3),
    st.just(UNSET) | st.just("t"),
    st.just(UNSET) | st.just(Failure("c", "m")),
)
def test_what_is_left_of_a_batch_and_its_draft_come_again_are_the_batch(
    draft: Draft, cancelled: bool, state: BatchState, attempts: int, turn_id: Any, error: Any
) -> None:
    batch = structs.replace(
        new_batch(draft, batch_id="b", enqueue_seq=7, now=50, cancelled=cancelled),
        state=state,
        attempts=attempts,
        turn_id=turn_id,
        error=error,
    )
    assert replayed_batch(draft, end_of(batch)) == batch


def test_work_that_was_cancelled_before_it_came_begins_cancelled() -> None:
    batch = new_batch(text_draft("a"), batch_id="b", enqueue_seq=1, now=50, cancelled=True)
    assert batch.state is BatchState.CANCELLED


# Summaries


def test_the_text_of_a_batch_is_its_texts_line_by_line() -> None:
    two = structs.replace(text_draft("a", "", "b"), payloads=text_draft("a", "", "b").payloads * 2)
    assert text_of(stored(two)) == "a\nb\na\nb"
    pictures = TurnInputPayload(TurnInput((ImageItem("i"), TextItem("t"))))
    assert text_of(stored(Draft(session_id="s", payloads=(pictures,)))) == "t"


def test_the_text_of_a_wake_is_its_input_and_of_a_command_its_reason() -> None:
    mixed = (*text_draft("a").payloads, WakePayload(WAKE))
    assert text_of(stored(Draft(session_id="s", payloads=mixed))) == "a\nit ended"
    assert text_of(stored(Draft(session_id="s", payloads=(REFRESH,)))) == "new tools"


@pytest.mark.parametrize(
    ("payloads", "kind"),
    [
        (text_draft("a").payloads, "turn_input"),
        ((WakePayload(WAKE),), "process_wake"),
        ((RESET,), "session_command"),
        ((), "empty"),
    ],
)
def test_a_summary_says_what_kind_of_work_it_is(payloads: Any, kind: str) -> None:
    assert summary_of(stored(Draft(session_id="s", payloads=payloads))).kind == kind


def test_a_summary_previews_the_text_and_leaves_the_payload_out() -> None:
    assert summary_of(stored(text_draft("x" * 200))).preview == "x" * 200
    assert summary_of(stored(text_draft("x" * 201))).preview == "x" * 199 + "…"
    summary = summary_of(stored(text_draft("a", source_key="k")))
    assert (summary.kind, summary.source_key, summary.turn_id) == ("turn_input", "k", UNSET)


# Cancels


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
