"""How a model is told of what a turn runs on."""

from __future__ import annotations

from msgspec import UNSET

from sightline.queue.materializing import InputMessage, TurnCause, input_messages
from sightline.queue.model import (
    Batch,
    Draft,
    ImageItem,
    ProcessWake,
    TextItem,
    TurnInput,
    TurnInputPayload,
    WakePayload,
)
from sightline.queue.rules import new_batch
from sightline.session.model import Attachment
from sightline.turn.conversation import (
    AssistantMessage,
    ImagePart,
    ReasoningPart,
    SystemMessage,
    TextPart,
    UserMessage,
    from_inputs,
)
from tests.core.turn.conversations import call, text

RED = Attachment(attachment_id="sha256:red", media_type="image/png", size=3)
WAKE = ProcessWake(
    wake_id="w1",
    target_session_id="s",
    target_scope_id="s",
    process_id="p",
    sequence=4,
    event_type="process.completed",
    dedupe_key="k",
    input="all done",
    created_at_ms=5,
)


def batch(payload: TurnInputPayload | WakePayload) -> Batch:
    draft = Draft(session_id="s", payloads=(payload,), source_key="host:k")
    return new_batch(draft, batch_id="b", enqueue_seq=1, now=5, cancelled=False)


def test_what_somebody_typed_is_a_message_of_the_user() -> None:
    inputs = input_messages((batch(TurnInputPayload(TurnInput((TextItem("hello"),)))),), {})
    assert from_inputs(inputs) == (UserMessage(parts=(TextPart(text="hello"),)),)


def test_pictures_keep_their_place_and_stay_references() -> None:
    given = TurnInput((TextItem("before"), ImageItem("i"), TextItem("after")), {"i": b"red"})
    inputs = input_messages((batch(TurnInputPayload(given)),), {("b:item:0", "i"): RED})
    assert from_inputs(inputs) == (
        UserMessage(parts=(TextPart(text="before"), ImagePart(attachment=RED), TextPart(text="after"))),
    )


def test_a_wake_is_a_system_message_that_knows_its_cause() -> None:
    [message] = from_inputs(input_messages((batch(WakePayload(WAKE)),), {}), transient=True)
    assert isinstance(message, SystemMessage)
    assert message.transient
    assert isinstance(message.cause, TurnCause)
    assert (message.cause.id, message.cause.event_type) == ("w1", "process.completed")
    assert message.text == message.cause.text == "Process p reported process.completed (event 4): all done"


def test_a_system_message_that_no_wake_made_has_no_cause() -> None:
    [message] = from_inputs((InputMessage(role="system", content="note", origin={"type": "host"}),))
    assert message == SystemMessage(text="note", cause=UNSET)


def test_what_an_assistant_says_and_wants_is_read_off_its_parts() -> None:
    message = AssistantMessage(parts=(ReasoningPart(text="hm"), text("one "), call("a"), text("two"), call("b")))
    assert message.text == "one two"
    assert message.calls == (call("a"), call("b"))
