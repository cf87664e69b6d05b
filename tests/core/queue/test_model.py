"""The shapes of the queue: their words on the wire, their defaults, what follows from a claim."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, structs

from sightline.queue.model import (
    CLAIM_TTL_MS,
    Batch,
    BatchState,
    Boundary,
    Claim,
    CommandPayload,
    Completion,
    DeliveryPolicy,
    Draft,
    Group,
    ImageItem,
    Item,
    MergeKey,
    Payload,
    ProcessWake,
    RefreshToolSurface,
    ResetSession,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (DeliveryPolicy, {"earliest_safe_boundary", "after_current_turn_commit"}),
        (SlotPolicy, {"join", "exclusive"}),
        (Boundary, {"active_turn_checkpoint", "idle"}),
        (BatchState, {"pending", "claimed", "completed", "cancelled", "failed"}),
    ],
)
def test_the_words_are_the_fields_own_and_others_are_an_error(words: Any, names: set[str]) -> None:
    assert {str(word) for word in words} == names
    for name in names:
        assert msgspec.json.decode(msgspec.json.encode(words(name)), type=words) is words(name)
    for unknown in ("", "Join", "later", next(iter(names)).upper()):
        with pytest.raises(ValueError, match="valid"):
            words(unknown)
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(unknown), type=words)


@pytest.mark.parametrize(
    ("key", "json"),
    [("never", b'"never"'), ("payload_default", b'"payload_default"'), (Group("a b"), b'{"group":"a b"}')],
)
def test_a_merge_key_is_a_word_or_a_group(key: MergeKey, json: bytes) -> None:
    assert msgspec.json.encode(key) == json
    assert msgspec.json.decode(json, type=MergeKey) == key


@pytest.mark.parametrize("json", [b'"always"', b"{}", b'{"group":1}', b"null"])
def test_another_merge_key_is_an_error(json: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json, type=MergeKey)


WAKE = ProcessWake(
    wake_id="w",
    target_session_id="s",
    target_scope_id="scope",
    process_id="p",
    sequence=1,
    event_type="done",
    dedupe_key="d",
    input="x",
    created_at_ms=5,
)


@pytest.mark.parametrize(
    ("payload", "json"),
    [
        (
            TurnInputPayload(TurnInput((TextItem("a"), ImageItem("i")), {"i": b"\x00\xff"})),
            {
                "type": "turn_input",
                "input": {
                    "items": [{"type": "text", "text": "a"}, {"type": "image_ref", "id": "i"}],
                    "image_blobs": {"i": "AP8="},
                },
            },
        ),
        (
            WakePayload(WAKE),
            {
                "type": "process_wake",
                "wake": {
                    "wake_id": "w",
                    "target_session_id": "s",
                    "target_scope_id": "scope",
                    "process_id": "p",
                    "sequence": 1,
                    "event_type": "done",
                    "dedupe_key": "d",
                    "input": "x",
                    "created_at_ms": 5,
                },
            },
        ),
        (
            CommandPayload(RefreshToolSurface(reason="r", expected_generation=3)),
            {
                "type": "session_command",
                "command": {"kind": "refresh_tool_surface", "reason": "r", "expected_generation": 3},
            },
        ),
        (
            CommandPayload(RefreshToolSurface(reason="r")),
            {"type": "session_command", "command": {"kind": "refresh_tool_surface", "reason": "r"}},
        ),
        (
            CommandPayload(ResetSession(reason="r")),
            {"type": "session_command", "command": {"kind": "reset_session", "reason": "r"}},
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_payloads_are_told_apart_by_their_type(payload: Payload, json: dict[str, Any]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(payload)) == json
    assert msgspec.convert(json, type=Payload) == payload


def test_a_payload_of_a_kind_that_nobody_knows_is_an_error() -> None:
    for unknown in ({"type": "other"}, {"type": "session_command", "command": {"kind": "other", "reason": "r"}}, {}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(unknown, type=Payload)


def test_a_draft_is_alone_and_for_now_unless_told_otherwise() -> None:
    draft = Draft(session_id="s", payloads=())
    assert (draft.source_key, draft.merge_key, draft.available_at_ms) == (None, "never", 0)
    assert draft.delivery_policy is DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
    assert draft.slot_policy is SlotPolicy.EXCLUSIVE


def test_a_claim_is_protected_for_fifteen_minutes() -> None:
    assert CLAIM_TTL_MS == 900_000


def claim(*batches: Batch) -> Claim:
    return Claim(
        session_id="s",
        claim_id="c",
        owner_id="o",
        lease_token="secret",
        fencing_token=3,
        claimed_at_epoch_ms=1,
        expires_at_epoch_ms=2,
        turn_id="t",
        attempt=1,
        batches=batches,
    )


def batch(name: str, *payloads: Payload) -> Batch:
    return Batch(
        batch_id=name,
        session_id="s",
        enqueue_seq=1,
        state=BatchState.CLAIMED,
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.JOIN,
        merge_key="never",
        available_at_ms=0,
        enqueued_at_ms=0,
        items=tuple(Item(f"{name}:item:{index}", payload) for index, payload in enumerate(payloads)),
    )


def test_a_completion_proves_the_whole_claim_in_its_order() -> None:
    assert claim(batch("b"), batch("a")).completion() == Completion(
        session_id="s", claim_id="c", lease_token="secret", batch_ids=("b", "a")
    )


def test_a_claim_is_empty_when_none_of_its_batches_brings_an_item() -> None:
    assert claim().is_empty
    assert claim(batch("a"), batch("b")).is_empty
    assert not claim(batch("a"), batch("b", TurnInputPayload(TurnInput(())))).is_empty
    assert claim(batch("a")).completion().batch_ids == ("a",), "it still has to be completed"


def test_a_batch_is_open_while_it_is_pending_or_claimed() -> None:
    assert [state for state in BatchState if state.is_open] == [BatchState.PENDING, BatchState.CLAIMED]


def test_a_batch_says_nothing_of_what_it_does_not_have() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(batch("a")))
    assert not {"source_key", "turn_id", "error"} & set(fields)
    named = structs.replace(batch("a"), source_key="k", turn_id=UNSET)
    assert msgspec.json.decode(msgspec.json.encode(named))["source_key"] == "k"
