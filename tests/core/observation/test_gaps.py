"""Resume or gap: the table, row by row, and against a model that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.observation.cursor import Cursor
from sightline.observation.gaps import ReplayGap, Window, find_gap, find_revision_gap


def at(position: int, *, incarnation: int = 1, revision: int = 0) -> Cursor:
    return Cursor(incarnation, revision, position, "s")


@pytest.mark.parametrize(
    ("row", "cursor", "window", "answer"),
    [
        ("G0", at(0, incarnation=2), Window(1, 0, None), "unavailable"),
        ("G0", at(3, incarnation=0), Window(1, 3, 1), "unavailable"),
        ("G1", at(0), Window(1, 0, None), None),
        ("G2", at(1), Window(1, 0, None), "unavailable"),
        ("G3", at(4), Window(1, 3, 1), "unavailable"),
        ("G4", at(2), Window(1, 3, None), "trimmed"),
        ("G5", at(3), Window(1, 3, None), None),
        ("G6", at(0), Window(1, 3, 2), "trimmed"),
        ("G7", at(1), Window(1, 3, 2), None),
        ("G7", at(3), Window(1, 3, 2), None),
        ("G8", at(1), Window(1, 4, 1, last_hole=2), "unavailable"),
        ("G8", at(2), Window(1, 4, 1, last_hole=2), None),
        ("G8", at(1), Window(1, 2, 1, last_hole=2), "unavailable"),
    ],
)
def test_a_row_of_the_table(row: str, cursor: Cursor, window: Window, answer: ReplayGap | None) -> None:
    assert find_gap(cursor, window) == answer, row


@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sets(st.integers(1, 12)),
)
def test_a_replay_is_given_exactly_when_every_event_behind_the_cursor_is_there(
    position: int, tail: int, dropped: int, lost: set[int]
) -> None:
    """The model: events 1…tail, of which the first `dropped` are gone and the `lost` were never published."""
    dropped = min(dropped, tail)
    lost = {place for place in lost if place <= tail}
    window = Window(1, tail, dropped + 1 if dropped < tail else None, max(lost, default=0))
    behind = range(position + 1, tail + 1)
    whole = position <= tail and all(place > dropped and place not in lost for place in behind)
    assert (find_gap(at(position), window) is None) is whole


@pytest.mark.parametrize(
    ("cursor_revision", "session_revision", "newest_replayed", "answer"),
    [
        (3, 3, None, None),
        (3, 3, 3, None),
        (3, 4, 4, None),
        (3, 5, 5, None),
        (3, 4, None, "unavailable"),
        (3, 4, 3, "unavailable"),
        (3, 5, 4, "unavailable"),
        (4, 3, None, "unavailable"),
        (4, 3, 3, "unavailable"),
    ],
)
def test_a_replay_must_explain_the_revision_it_leads_to(
    cursor_revision: int, session_revision: int, newest_replayed: int | None, answer: ReplayGap | None
) -> None:
    cursor = at(1, revision=cursor_revision)
    assert find_revision_gap(cursor, session_revision, newest_replayed) == answer
