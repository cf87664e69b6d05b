"""Positions in a session's live stream, as opaque text.

`sl1:<incarnation>:<revision>:<position>:<session id>`, numbers in decimal. The incarnation is the life of the replay
store that counted the position: positions start over with it, so a cursor of another life proves nothing. The session
id is last and taken verbatim, so ids may hold colons. Clients never parse or compare cursors; a cursor says where, not
who may.
"""

from __future__ import annotations

import re

from msgspec import Struct

from sightline.errors import MalformedCursor, WrongSessionCursor

__all__ = ["MAX_CURSOR_LENGTH", "Cursor", "parse", "parse_for_session"]

PREFIX = "sl1"
MAX_CURSOR_LENGTH = 256
_MAX_NUMBER = 2**63 - 1
# Not int(): that accepts blanks, signs, underscores and the digits of every script.
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)


class Cursor(Struct, frozen=True):
    """A position: `str` gives the wire text, `repr` hides it."""

    incarnation: int
    revision: int
    position: int
    session_id: str

    def __str__(self) -> str:
        return f"{PREFIX}:{self.incarnation}:{self.revision}:{self.position}:{self.session_id}"

    def __repr__(self) -> str:
        return "Cursor(…)"


def parse(text: str) -> Cursor:
    """The cursor that `text` is. Raises MalformedCursor, naming the part that is missing or wrong."""
    parts = text.split(":", 4)
    if parts[0] != PREFIX:
        raise MalformedCursor("prefix")
    names = ("prefix", "incarnation", "revision", "position", "session id")
    if len(parts) < len(names):
        raise MalformedCursor(f"{names[len(parts)]} is missing")
    numbers = [_number(part, name) for part, name in zip(parts[1:4], names[1:4], strict=True)]
    if not parts[4]:
        raise MalformedCursor("session id is empty")
    return Cursor(numbers[0], numbers[1], numbers[2], parts[4])


def parse_for_session(text: str, session_id: str) -> Cursor:
    """The cursor, if it is one of this session. Raises MalformedCursor, WrongSessionCursor."""
    cursor = parse(text)
    if cursor.session_id != session_id:
        raise WrongSessionCursor(session_id, cursor.session_id)
    return cursor


def _number(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > _MAX_NUMBER:
        raise MalformedCursor(f"{name} is not a number in range")
    return int(text)
