"""What events mean: selectors, truth, templates, ends and wakes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from sightline.errors import InvalidInput, InvalidPayload
from sightline.process.model import (
    CancelledOutput,
    ConstSelector,
    EventSemantics,
    EventType,
    FailureOutput,
    PayloadSelector,
    PointerSelector,
    PresentSelector,
    ProcessScope,
    Selector,
    SuccessOutput,
    TemplateSelector,
    TerminalRule,
    WakeRule,
)
from sightline.process.semantics import (
    check_event_type,
    is_something,
    output_of,
    scope_text,
    select,
    text_of_value,
    wake_of,
)
from sightline.queue.model import ProcessWake

PAYLOAD: dict[str, Any] = {
    "text": "said",
    "list": ["a", {"b": None}],
    "": {"": "blank"},
    "a/b": {"~": 1},
    "zero": 0,
    "0": "zeroth",
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", PAYLOAD),
        ("/text", "said"),
        ("/list/0", "a"),
        ("/list/1/b", None),
        ("//", "blank"),
        ("/a~1b/~0", 1),
        ("/0", "zeroth"),
    ],
)
def test_a_pointer_finds_what_is_there(pointer: str, value: Any) -> None:
    assert select(PointerSelector(pointer), PAYLOAD) == value
    assert select(PresentSelector(pointer), PAYLOAD) is True


@pytest.mark.parametrize(
    "pointer", ["/missing", "/text/0", "/list/2", "/list/-", "/list/00", "/list/+1", "/list/99999999999", "/zero/a"]
)
def test_a_pointer_that_finds_nothing_is_an_error_and_nothing_present(pointer: str) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        select(PointerSelector(pointer), PAYLOAD)
    assert refusal.value.pointer == pointer
    assert select(PresentSelector(pointer), PAYLOAD) is False


def test_the_whole_and_constants_are_taken_as_they_are() -> None:
    assert select(PayloadSelector(), PAYLOAD) is PAYLOAD
    assert select(ConstSelector([1]), PAYLOAD) == [1]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a} and {b}", "{b} and 2"),
        ("{unknown} {a", "{unknown} {a"),
        ("{{a}}", "{{b}}"),
        ("{}", "{}"),
        ("", ""),
    ],
)
def test_a_template_is_filled_in_once(template: str, text: str) -> None:
    """What a value brings along is not looked at again."""
    fields: dict[str, Selector] = {"a": ConstSelector("{b}"), "b": ConstSelector(2)}
    assert select(TemplateSelector(template, fields), None) == text


@given(values=st.dictionaries(st.sampled_from("abc"), st.text(alphabet="abc{}", max_size=6), min_size=3))
def test_a_template_never_shows_a_value_where_no_place_for_it_was(values: dict[str, str]) -> None:
    fields: dict[str, Selector] = {name: ConstSelector(value) for name, value in values.items()}
    assert select(TemplateSelector("{a}|{b}|{c}", fields), None) == "|".join(values[name] for name in "abc")


@pytest.mark.parametrize("value", [0, 0.0, -1, True, "0", " ", [0], {"a": None}])
def test_every_number_is_something(value: Any) -> None:
    assert is_something(value)


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_is_empty_is_nothing(value: Any) -> None:
    assert not is_something(value)


def test_the_text_of_a_value_is_itself_or_its_json() -> None:
    assert [text_of_value(value) for value in ("a", 1, None, {"a": ["ä"]})] == ["a", "1", "null", '{"a":["ä"]}']


# The end


def test_a_completed_process_came_to_the_payload_unless_told_otherwise() -> None:
    assert output_of(TerminalRule(state="completed"), {"a": 1}) == SuccessOutput(value={"a": 1})
    # Even one that looks like an output: nobody said that it is one.
    looks = {"type": "failure", "code": "c", "message": "m"}
    assert output_of(TerminalRule(state="completed"), looks) == SuccessOutput(value=looks)


def test_what_is_selected_is_put_into_an_output_of_the_declared_kind() -> None:
    at = PointerSelector("/at")
    assert output_of(TerminalRule(state="completed", output=at), {"at": 0}) == SuccessOutput(value=0)
    assert output_of(TerminalRule(state="failed", output=at), {"at": "it broke"}) == FailureOutput(
        class_="execution", code="process_failed", message="it broke"
    )
    assert output_of(TerminalRule(state="cancelled", output=at), {"at": [1]}) == CancelledOutput(message="[1]")


def test_an_output_stays_what_it_is() -> None:
    failure = {"type": "failure", "class": "tool", "code": "c", "message": "m", "raw": [1]}
    rule = TerminalRule(state="failed", output=PointerSelector("/at"))
    assert output_of(rule, {"at": failure}) == FailureOutput(class_="tool", code="c", message="m", raw=[1])


@pytest.mark.parametrize(
    ("state", "output"),
    [
        ("completed", {"type": "failure", "code": "c", "message": "m"}),
        ("completed", {"type": "cancelled", "message": "m"}),
        ("failed", {"type": "success", "value": 1}),
        ("cancelled", {"type": "failure", "code": "c", "message": "m"}),
        ("failed", {"type": "failure", "message": "no code"}),
    ],
)
def test_an_output_that_says_something_else_than_its_event_is_refused(state: Any, output: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        output_of(TerminalRule(state=state, output=PointerSelector("/at")), {"at": output})
    assert refusal.value.pointer == "/at"


# The wake


def wake(
    rule: WakeRule, payload: Any = None, *, process: str = "p", sequence: int = 3, target: ProcessScope | None = None
) -> ProcessWake | None:
    return wake_of(
        rule,
        payload,
        process_id=process,
        sequence=sequence,
        event_type="e",
        target=target or ProcessScope("s"),
        invocation=UNSET,
        caused_by={"turn_id": "t"},
        now=9,
    )


def wake_id(*args: Any, **options: Any) -> str:
    found = wake(*args, **options)
    assert found is not None
    return found.wake_id


PLAIN = WakeRule(input=PayloadSelector())


def test_a_wake_says_where_it_came_from_and_whom_it_is_for() -> None:
    assert wake(PLAIN, "hello") == ProcessWake(
        wake_id=wake_id(PLAIN, "hello"),
        target_session_id="s",
        target_scope_id="session:s",
        process_id="p",
        sequence=3,
        event_type="e",
        dedupe_key="p:3",
        input="hello",
        created_at_ms=9,
        process_caused_by={"turn_id": "t"},
    )


def test_the_id_of_a_wake_is_the_same_in_every_release() -> None:
    assert wake_id(PLAIN) == "wake:d20544760d1277df40148ad8dc9548e7ee9b92ae75bed77a7f981bb249228e17"


def test_a_wake_happens_when_its_condition_is_something() -> None:
    rule = WakeRule(input=PayloadSelector(), when=PointerSelector("/count"))
    assert wake(rule, {"count": 0}) is not None
    assert wake(rule, {"count": None}) is None


def test_the_id_of_a_wake_is_the_same_for_the_same_wish_only() -> None:
    keyed = WakeRule(input=PayloadSelector(), dedupe_key=ConstSelector("k"))
    assert wake_id(PLAIN, "a") == wake_id(PLAIN, "b")
    assert wake_id(PLAIN) != wake_id(PLAIN, sequence=4)
    assert wake_id(keyed) == wake_id(keyed, sequence=4)
    assert wake_id(keyed) != wake_id(keyed, target=ProcessScope("s", "f"))


def test_two_targets_that_read_alike_are_woken_apart() -> None:
    keyed = WakeRule(input=PayloadSelector(), dedupe_key=ConstSelector("k"))
    alike = (ProcessScope("s", "f"), ProcessScope("s/frame:f"))
    assert scope_text(alike[0]) == scope_text(alike[1]) == "session:s/frame:f"
    assert wake_id(keyed, target=alike[0]) != wake_id(keyed, target=alike[1])


# Declarations


def nested(levels: int) -> Selector:
    selector: Selector = ConstSelector(1)
    for _ in range(levels):
        selector = TemplateSelector("{a}", {"a": selector})
    return selector


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        (EventType(name=" "), "e/name"),
        (EventType(name="e", schema={"type": "text"}), "e/schema/type"),
        (
            EventType(name="e", semantics=EventSemantics(terminal=TerminalRule(state="failed"))),
            "e/semantics/terminal/output",
        ),
        (
            EventType(name="e", semantics=EventSemantics(wake=WakeRule(input=PointerSelector("text")))),
            "e/semantics/wake/input/pointer",
        ),
        (
            EventType(
                name="e", semantics=EventSemantics(wake=WakeRule(input=PLAIN.input, when=PresentSelector("/~2")))
            ),
            "e/semantics/wake/when/pointer",
        ),
        (
            EventType(
                name="e",
                semantics=EventSemantics(
                    wake=WakeRule(input=TemplateSelector("{a}", {"a": PointerSelector("no slash")}))
                ),
            ),
            "e/semantics/wake/input/fields/a/pointer",
        ),
    ],
)
def test_a_declaration_that_could_not_be_followed_is_refused(declared: EventType, field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_event_type(declared, "e")
    assert refusal.value.field == field


def test_templates_are_not_nested_without_end() -> None:
    for levels in (16, 17):
        declared = EventType(name="e", semantics=EventSemantics(wake=WakeRule(input=nested(levels))))
        if levels == 16:
            check_event_type(declared, "e")
        else:
            with pytest.raises(InvalidInput, match="too deeply"):
                check_event_type(declared, "e")
