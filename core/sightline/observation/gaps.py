"""Resume or gap: may a cursor be continued from, or is continuity beyond proof?

An empty replay is a proof that nothing happened, never "I do not know". So every doubt is a gap, and a gap is an
answer, not an error: the observer starts over from a fresh snapshot. Rows G1–G7 are those of the in-memory store this
follows; two more close holes: another incarnation counts other positions, and a cursor that knows a newer revision than
the session has comes from a future that did not happen.

| # | condition | answer |
|---|---|---|
| G0 | the cursor is of another incarnation | `unavailable` |
| G1 | nothing was ever buffered, position 0 | replay, empty |
| G2 | nothing was ever buffered, position > 0 | `unavailable` |
| G3 | position beyond the tail | `unavailable` |
| G4 | nothing retained, position before the tail | `trimmed` |
| G5 | nothing retained, position at the tail | replay, empty |
| G6 | the next position is before the first retained one | `trimmed` |
| G8 | a lost range lies between the position and the tail | `unavailable` |
| G9 | the cursor's revision is ahead of the session's, or no commit in the replay leads to it | `unavailable` |
| G7 | otherwise | replay of what is after the position |
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sightline.observation.cursor import Cursor

__all__ = ["ReplayGap", "Window", "find_gap", "find_revision_gap"]

ReplayGap = Literal["trimmed", "unavailable"]


class Window(Struct, frozen=True):
    """What a replay store holds of one session. `first` is the oldest retained position, none when nothing is retained.

    `last_hole` is the newest position that was reserved and never published, 0 when there is none.
    """

    incarnation: int
    tail: int
    first: int | None
    last_hole: int = 0


def find_gap(cursor: Cursor, window: Window) -> ReplayGap | None:
    """Why the store cannot continue from the cursor, or none when it can (G0–G8)."""
    position = cursor.position
    if cursor.incarnation != window.incarnation or position > window.tail:
        return "unavailable"
    if position == window.tail:
        return None
    if window.first is None or position + 1 < window.first:
        return "trimmed"
    if window.last_hole > position:
        return "unavailable"
    return None


def find_revision_gap(cursor: Cursor, revision: int, newest_commit: int | None) -> ReplayGap | None:
    """Why the replay cannot be trusted (G9).

    `newest_commit` is the revision of the newest `committed` in it, none when it has none. Other events do not count,
    though they carry the revision too: activity of a later turn says nothing of what a commit before it appended.
    """
    if cursor.revision > revision:
        return "unavailable"
    if cursor.revision < revision and (newest_commit is None or newest_commit < revision):
        return "unavailable"
    return None
