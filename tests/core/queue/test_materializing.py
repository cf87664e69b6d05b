"""What claimed work turns into."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType, structs

from sightline.queue.materializing import (
    AcceptedInput,
    InputMessage,
    Picture,
    TurnCause,
    accepted_inputs,
    command_source_key,
    exclusive_command,
    for_checkpoint,
    for_turn,
    input_messages,
    pictures_of,
    wake_cause,
    wake_draft,
)
from sightline.queue.model import (
    Batch,
    CommandPayload,
    DeliveryPolicy,
    Draft,
    ImageItem,
    InputItem,
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
from sightline.queue.rules import new_batch
from sightline.session.rules import attachment_of

WAKE = ProcessWake(
    wake_id="wake:1",
    target_session_id="target",
    target_scope_id="scope",
    process_id="p1",
    sequence=7,
    event_type="process.completed",
    dedupe_key="done",
    input="all is built",
    created_at_ms=5,
)
RESET = CommandPayload(ResetSession(reason="afresh"))
RED, BLUE = b"red", b"blue"
STORED = attachment_of(RED, "image/png")


def text(*lines: str) -> TurnInputPayload:
    return TurnInputPayload(TurnInput(tuple(TextItem(line) for line in lines)))


def shown(*items: InputItem, **blobs: bytes) -> TurnInputPayload:
    return TurnInputPayload(TurnInput(items, blobs))


def batch(*payloads: Payload, name: str = "b", key: str | None = None) -> Batch:
    draft = Draft(session_id="s", payloads=payloads, source_key=key)
    return new_batch(draft, batch_id=name, enqueue_seq=1, now=0, cancelled=False)


def contents(messages: tuple[InputMessage, ...]) -> list[str]:
    return [message.content for message in messages]


# At a checkpoint


def test_at_a_checkpoint_each_input_is_one_transient_message_of_its_lines() -> None:
    work = for_checkpoint((batch(text("a", "", "b"), text("c")), batch(text("d"))))
    assert contents(work.transient_messages) == ["a\nb", "c", "d"]
    assert {message.role for message in work.transient_messages} == {"user"}
    assert [message.parts for message in work.transient_messages] == [UNSET] * 3
    assert (work.messages, work.turn_causes) == ((), ())


@pytest.mark.parametrize(
    "payload", [text(), text(""), shown(ImageItem("unknown")), shown(TextItem(""), ImageItem("b"), a=RED)]
)
def test_input_that_says_and_shows_nothing_is_no_message(payload: Payload) -> None:
    assert for_checkpoint((batch(payload),)).transient_messages == ()
    assert for_checkpoint((batch(payload),), {}).transient_messages == ()
    assert accepted_inputs((batch(payload, key="k"),)) == ()


def test_at_a_checkpoint_a_wake_is_a_cause_and_a_command_is_nothing() -> None:
    work = for_checkpoint((batch(WakePayload(WAKE), text("a")), batch(RESET)))
    assert contents(work.transient_messages) == ["a"]
    assert work.turn_causes == (wake_cause(WAKE),)


def test_a_picture_alone_is_a_message_also_before_it_is_stored() -> None:
    [message] = for_checkpoint((batch(shown(ImageItem("a"), a=RED)),)).transient_messages
    assert (message.content, message.parts) == ("", UNSET)


def test_stored_pictures_are_parts_among_the_texts_in_their_order() -> None:
    payload = shown(
        TextItem("before"), TextItem(""), ImageItem("a"), ImageItem("unknown"), TextItem("after"), ImageItem("a"), a=RED
    )
    [message] = for_checkpoint((batch(payload),), {("b:item:0", "a"): STORED}).transient_messages
    picture = {
        "type": "image",
        "attachment": {"attachment_id": STORED.attachment_id, "media_type": "image/png", "size": 3},
    }
    assert message.content == "before\nafter"
    assert message.parts == [
        {"id": "queued.p0", "type": "text", "text": "before"},
        {"id": "queued.p1", **picture},
        {"id": "queued.p2", "type": "text", "text": "after"},
        {"id": "queued.p3", **picture},
    ]


def test_a_message_of_which_no_picture_is_left_is_its_text() -> None:
    for payload in (text("a"), shown(TextItem("a"), ImageItem("unknown")), shown(TextItem("a"), ImageItem("x"), x=RED)):
        [message] = for_checkpoint((batch(payload),), {("another:item:0", "x"): STORED}).transient_messages
        assert (message.content, message.parts) == ("a", UNSET)


def test_the_pictures_of_two_items_are_told_apart_though_they_have_one_id() -> None:
    blue = attachment_of(BLUE, "image/gif")
    work = for_checkpoint(
        (batch(shown(ImageItem("i"), i=RED), shown(ImageItem("i"), i=BLUE)),),
        {("b:item:0", "i"): STORED, ("b:item:1", "i"): blue},
    )
    parts: list[Any] = [message.parts for message in work.transient_messages]
    assert [part[0]["attachment"]["media_type"] for part in parts] == ["image/png", "image/gif"]


def test_the_pictures_to_store_are_those_that_are_shown() -> None:
    payload = shown(ImageItem("a"), TextItem("x"), ImageItem("unknown"), ImageItem("b"), a=RED, b=BLUE, unused=b"?")
    batches = (batch(RESET, text("t"), name="one"), batch(WakePayload(WAKE), payload, name="two"))
    assert pictures_of(batches) == (Picture(("two:item:1", "a"), RED), Picture(("two:item:1", "b"), BLUE))


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("host:x", "x"),
        ("injection:x", "x"),
        ("process:p:event:1:wake", "process:p:event:1:wake"),
        ("host:injection:x", "injection:x"),
        ("injection:host:x", "host:x"),
        ("hosts:x", "hosts:x"),
        ("host:", ""),
        (None, UNSET),
    ],
)
def test_accepted_input_has_its_senders_own_key(key: str | None, accepted: str | UnsetType) -> None:
    found = accepted_inputs((batch(text("a"), text(""), text("b"), key=key),))
    assert [entry.id for entry in found] == [accepted, accepted]
    assert contents(tuple(entry.message for entry in found)) == ["a", "b"]


def test_accepted_input_is_what_was_taken_in_and_neither_wakes_nor_commands() -> None:
    batches = (batch(shown(ImageItem("a"), a=RED), key="host:x"), batch(WakePayload(WAKE), key="k"), batch(RESET))
    attachments = {("b:item:0", "a"): STORED}
    [message] = for_checkpoint(batches, attachments).transient_messages
    assert accepted_inputs(batches, attachments) == (AcceptedInput(id="x", message=message),)


# For a turn of its own


def test_a_turn_has_the_items_of_all_inputs_in_order() -> None:
    work = for_turn((batch(text("a", ""), text("b")), batch(WakePayload(WAKE)), batch(text("c"), name="c")))
    assert work.input == TurnInput((TextItem("a"), TextItem(""), TextItem("b"), TextItem("c")))
    assert (work.messages, work.turn_causes) == ((), (wake_cause(WAKE),))


def test_of_options_and_trace_ids_the_first_that_is_there_counts() -> None:
    items = (TextItem("x"),)
    work = for_turn(
        (
            batch(TurnInputPayload(TurnInput(items))),
            batch(TurnInputPayload(TurnInput(items, protocol_turn_options={"n": 1}))),
            batch(TurnInputPayload(TurnInput(items, protocol_turn_options={"n": 2}, trace_turn_id="first"))),
            batch(TurnInputPayload(TurnInput(items, trace_turn_id="second"))),
        )
    )
    assert (work.input.protocol_turn_options, work.input.trace_turn_id) == ({"n": 1}, "first")


def test_empty_options_are_options() -> None:
    options: list[dict[str, Any]] = [{}, {"n": 2}]
    batches = [batch(TurnInputPayload(TurnInput((), protocol_turn_options=each))) for each in options]
    assert for_turn(batches).input.protocol_turn_options == {}


def test_a_turn_of_wakes_alone_has_an_input_without_items_and_its_causes() -> None:
    later = structs.replace(WAKE, wake_id="wake:2", sequence=8)
    work = for_turn((batch(WakePayload(WAKE)), batch(WakePayload(later))))
    assert work.input == TurnInput(())
    assert [cause.id for cause in work.turn_causes] == ["wake:1", "wake:2"]


def test_two_pictures_of_one_id_stay_two_pictures() -> None:
    first, second = shown(ImageItem("i"), i=RED), shown(ImageItem("i"), i=BLUE)
    work = for_turn((batch(first, name="one"), batch(second, name="two")))
    assert work.input.items == (ImageItem("i"), ImageItem("two:item:0:i"))
    assert work.input.image_blobs == {"i": RED, "two:item:0:i": BLUE}


def test_a_name_made_up_for_a_picture_is_nobody_elses_either() -> None:
    second = TurnInput((ImageItem("i"), ImageItem("two:item:0:i")), {"two:item:0:i": b"green", "i": BLUE})
    work = for_turn((batch(shown(ImageItem("i"), i=RED), name="one"), batch(TurnInputPayload(second), name="two")))
    assert resolved(work.input) == [RED, BLUE, b"green"]


def test_one_picture_that_comes_twice_is_kept_once() -> None:
    same = shown(ImageItem("i"), i=RED)
    work = for_turn((batch(same, name="one"), batch(same, name="two")))
    assert work.input == TurnInput((ImageItem("i"), ImageItem("i")), {"i": RED})


def test_an_item_without_a_picture_does_not_show_that_of_another_input() -> None:
    work = for_turn((batch(shown(ImageItem("i"), i=RED)), batch(shown(ImageItem("i"), TextItem("x")), name="two")))
    assert work.input.items == (ImageItem("i"), TextItem("x"))


# Ids that collide with each other and with the names that collisions are given.
ids = st.sampled_from(("i", "j", "b0:item:0:i", "b1:item:0:i", "b1:item:0:b1:item:0:i"))
inputs = st.builds(
    TurnInput,
    st.lists(st.builds(TextItem, st.sampled_from("xy")) | st.builds(ImageItem, ids), max_size=4).map(tuple),
    st.dictionaries(ids, st.sampled_from((RED, BLUE, b"green")), max_size=4),
)


def resolved(turn_input: TurnInput) -> list[str | bytes]:
    """What is said and shown, without the names."""
    blobs = turn_input.image_blobs if isinstance(turn_input.image_blobs, dict) else {}
    return [
        item.text if isinstance(item, TextItem) else blobs[item.id]
        for item in turn_input.items
        if isinstance(item, TextItem) or item.id in blobs
    ]


@given(st.lists(inputs, max_size=4))
def test_whatever_pictures_are_called_everybody_sees_their_own(several: list[TurnInput]) -> None:
    batches = [batch(TurnInputPayload(each), name=f"b{number}") for number, each in enumerate(several)]
    assert resolved(for_turn(batches).input) == [part for each in several for part in resolved(each)]


def test_a_turn_runs_on_a_message_for_each_input_and_each_cause_in_queue_order() -> None:
    batches = (
        batch(text("a"), text(""), key="host:k", name="one"),
        batch(WakePayload(WAKE), text("b"), key="w", name="two"),
        batch(RESET, name="three"),
        batch(shown(ImageItem("i"), i=RED), name="four"),
    )
    cause = wake_cause(WAKE)
    first, second, wake, picture = input_messages(batches, {("four:item:0", "i"): STORED})
    assert first == InputMessage(role="user", content="a", source_key="host:k")
    assert second == InputMessage(role="user", content="b", source_key="w")
    assert wake == InputMessage(role="system", content=cause.text, source_key="w", origin=cause.origin)
    assert (picture.content, picture.source_key) == ("", UNSET)
    assert picture.parts is not UNSET


# Wakes and commands


def test_a_wake_is_a_batch_of_its_own_as_early_as_can_be_and_once_for_each_event() -> None:
    assert wake_draft(WAKE) == Draft(
        session_id="target",
        payloads=(WakePayload(WAKE),),
        source_key="process:p1:event:7:wake",
        delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY,
        slot_policy=SlotPolicy.EXCLUSIVE,
        merge_key="never",
        available_at_ms=0,
    )


def test_a_cause_tells_where_it_came_from() -> None:
    origin = {
        "type": "process",
        "process_id": "p1",
        "event_type": "process.completed",
        "sequence": 7,
        "wake_id": "wake:1",
    }
    plain = TurnCause(
        id="wake:1",
        event_type="process.completed",
        origin=origin,
        text="Process p1 reported process.completed (event 7): all is built",
    )
    assert wake_cause(WAKE) == plain
    caused = structs.replace(WAKE, process_caused_by={"turn_id": "t"})
    assert wake_cause(caused) == structs.replace(plain, origin={**origin, "caused_by": {"turn_id": "t"}})


def test_a_command_is_found_only_where_it_is_alone() -> None:
    alone = batch(RESET)
    assert exclusive_command((alone,)) == (alone, RESET.command)
    assert exclusive_command(()) is None
    assert exclusive_command((alone, alone)) is None
    assert exclusive_command((batch(RESET, RESET),)) is None
    assert exclusive_command((batch(text("a")),)) is None
    assert exclusive_command((batch(WakePayload(WAKE)),)) is None
    assert exclusive_command((structs.replace(alone, slot_policy=SlotPolicy.JOIN),)) is None
    assert exclusive_command((structs.replace(alone, items=()),)) is None


def test_the_key_of_a_command_says_which_command_it_is() -> None:
    refresh = RefreshToolSurface(reason="r", expected_generation=3)
    assert command_source_key(refresh, "k") == "command:refresh_tool_surface:k"
    assert command_source_key(ResetSession(reason="r"), "k:l") == "command:reset_session:k:l"
