"""Cursors: what is one, what is none, and what they hide."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sightline.errors import MalformedCursor, WrongSessionCursor
from sightline.observation.cursor import Cursor, parse, parse_for_session

LARGEST = 2**63 - 1
numbers = st.integers(0, LARGEST)
cursors = st.builds(Cursor, numbers, numbers, numbers, st.text(min_size=1))


@given(cursors)
@example(Cursor(0, 3, 9, "a:b"))
@example(Cursor(LARGEST, LARGEST, LARGEST, ":"))
@example(Cursor(1, 2, 3, "::1:2:"))
def test_a_cursor_comes_back_from_its_text(cursor: Cursor) -> None:
    assert parse(str(cursor)) == cursor
    assert parse_for_session(str(cursor), cursor.session_id) == cursor


def test_a_cursor_is_written_as_the_contract_says() -> None:
    assert str(Cursor(7, 3, 9, "a:b")) == "sl1:7:3:9:a:b"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "prefix"),
        ("sl1", "incarnation"),
        ("sl1:", "revision"),
        ("sl1:1", "revision"),
        ("sl1:1:2", "position"),
        ("sl1:1:2:3", "session id"),
        ("sl1:1:2:3:", "session id"),
        ("sl1::2:3:s", "incarnation"),
        ("sl1:1::3:s", "revision"),
        ("sl1:1:2::s", "position"),
        ("sl2:1:2:3:s", "prefix"),
        ("SL1:1:2:3:s", "prefix"),
        (" sl1:1:2:3:s", "prefix"),
        ("lashsc1:1:2:s", "prefix"),
        ("1:2:3:s", "prefix"),
        ("now", "prefix"),
    ],
)
def test_a_text_with_a_part_missing_is_no_cursor_and_the_part_is_named(text: str, part: str) -> None:
    with pytest.raises(MalformedCursor) as error:
        parse(text)
    assert part in error.value.part


@pytest.mark.parametrize("part", ["incarnation", "revision", "position"])
@pytest.mark.parametrize(
    "number",
    [
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "1_0",
        "1.0",
        "1e3",
        "0x1",
        "x",
        "٣",
        "１",
        "²",
        "½",
        "1\u200b",
        str(2**63),
        str(2**64),
        "9" * 19,
        "1" * 20,
        "0" * 20,
        "9" * 5_000,
    ],
)
def test_only_plain_decimal_digits_within_the_range_are_a_number(part: str, number: str) -> None:
    parts = {"incarnation": "1", "revision": "2", "position": "3"} | {part: number}
    with pytest.raises(MalformedCursor) as error:
        parse(f"sl1:{':'.join(parts.values())}:s")
    assert part in error.value.part


def test_the_largest_number_is_in_range() -> None:
    assert parse(f"sl1:{LARGEST}:{LARGEST}:{LARGEST}:s").position == LARGEST


@given(st.text() | st.from_regex(r"sl1:[0-9:]*.*", fullmatch=True))
def test_any_other_text_is_refused_and_never_breaks(text: str) -> None:
    match = re.fullmatch(r"sl1:0*(\d{1,19}):0*(\d{1,19}):0*(\d{1,19}):(.+)", text, re.DOTALL | re.ASCII)
    if match is not None and all(int(number) <= LARGEST for number in match.groups()[:3]):
        return
    with pytest.raises(MalformedCursor):
        parse(text)


def test_a_cursor_of_another_session_is_refused_with_both_names() -> None:
    with pytest.raises(WrongSessionCursor) as error:
        parse_for_session("sl1:1:2:3:mine", "yours")
    assert (error.value.expected, error.value.actual) == ("yours", "mine")


def test_a_session_id_is_compared_whole() -> None:
    assert parse_for_session("sl1:1:2:3:a:b", "a:b").session_id == "a:b"
    for other in ("a", "b", "a:b:c", "A:B"):
        with pytest.raises(WrongSessionCursor):
            parse_for_session("sl1:1:2:3:a:b", other)


def test_a_malformed_cursor_is_malformed_for_every_session() -> None:
    with pytest.raises(MalformedCursor):
        parse_for_session("sl1:1:2:x:mine", "yours")


@given(cursors)
def test_its_representation_hides_it(cursor: Cursor) -> None:
    assert repr(cursor) == "Cursor(…)"
    assert repr([cursor]) == "[Cursor(…)]"
