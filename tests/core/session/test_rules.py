"""Decisions about sessions."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from sightline.session.model import Attachment, Usage, UsageFigures
from sightline.session.rules import (
    add_figures,
    add_usage,
    attachment_of,
    ledger_of,
    media_type_of,
    status_of,
    title_from,
    usage_since,
)

counts = st.integers(0, 10**12)
figures = st.builds(UsageFigures, counts, counts, counts, counts, counts)
models = st.dictionaries(st.sampled_from("abc"), figures)
usages = st.builds(Usage, figures, models, st.just(UNSET) | st.dictionaries(st.sampled_from("xyz"), models))


def test_somebody_who_is_asked_comes_before_a_turn_a_turn_before_the_queue() -> None:
    for asked, live, claimed, pending in itertools.product((True, False), (True, False), (0, 2), (0, 2)):
        status = status_of(asked=asked, live=live, claimed=claimed, pending=pending)
        if asked:
            assert status == "waiting"
        elif live or claimed:
            assert status == "running"
        else:
            assert status == ("queued" if pending else "idle")


@given(usages, usages, usages)
def test_usage_adds_up_in_any_grouping(first: Usage, second: Usage, third: Usage) -> None:
    left = add_usage(add_usage(first, second), third)
    assert left == add_usage(first, add_usage(second, third))
    assert left.totals == add_figures(add_figures(first.totals, second.totals), third.totals)
    assert set(left.by_model) == {*first.by_model, *second.by_model, *third.by_model}


@given(usages)
def test_nothing_added_changes_nothing(usage: Usage) -> None:
    before = dict(usage.by_model)
    assert add_usage(usage, Usage()) == usage
    one = {"a": UsageFigures(1), "new": UsageFigures(1)}
    ledger = ledger_of(usage)
    add_usage(usage, Usage(UsageFigures(1), one, {"x": one, "new": one}))
    assert usage.by_model == before
    assert ledger_of(usage) == ledger


@given(usages, usages)
def test_what_was_added_can_be_told(usage: Usage, delta: Usage) -> None:
    after = add_usage(usage, delta)
    assert add_usage(usage, usage_since(usage, after)) == after


def test_a_ledger_has_what_is_known_of_a_source() -> None:
    one, two = UsageFigures(1), UsageFigures(2)
    assert ledger_of(Usage(one, {"m": one})) == ()
    usage = add_usage(Usage(one, {"m": one}, {"agent": {"m": one}}), Usage(two, {"m": two}, {"child:c": {"m": two}}))
    assert ledger_of(add_usage(usage, usage)) == (("agent", "m", UsageFigures(2)), ("child:c", "m", UsageFigures(4)))


def test_a_title_is_the_first_line_that_says_something() -> None:
    assert title_from("\n  \n  Find the bug  \nplease") == "Find the bug"
    assert title_from("") == ""
    assert title_from(" \n\t") == ""


@given(st.text(max_size=300))
def test_a_title_fits_a_list(text: str) -> None:
    title = title_from(text)
    assert len(title) <= 80
    assert "\n" not in title
    assert title == title.strip()


def test_a_title_that_was_cut_says_so() -> None:
    assert title_from("x" * 80) == "x" * 80
    assert title_from("x" * 81) == "x" * 79 + "…"
    assert title_from("x" * 78 + " " + "y" * 9) == "x" * 78 + "…"


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a...", "image/gif"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\x0a\n\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"RIFFWEBP", None),
        (b"GIF88a", None),
        (b"\x89PNG\n", None),
        (b" GIF89a", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", None),
        (b"BM", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_how_it_begins(data: bytes, media_type: str | None) -> None:
    assert media_type_of(data) == media_type


@given(st.binary(max_size=20))
def test_any_bytes_are_a_picture_or_none(data: bytes) -> None:
    assert media_type_of(data) in {None, "image/png", "image/jpeg", "image/gif", "image/webp"}


def test_a_picture_is_called_by_its_content() -> None:
    data = b"GIF89a..."
    named = attachment_of(data, "image/gif")
    assert named == Attachment(
        attachment_id=f"sha256:{hashlib.sha256(data).hexdigest()}", media_type="image/gif", size=9
    )
    assert attachment_of(data, "image/gif") == named
    assert attachment_of(data + b".", "image/gif").attachment_id != named.attachment_id
