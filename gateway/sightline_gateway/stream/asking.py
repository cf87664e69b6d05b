"""How a client says which stream it wants: the cursor, the filter, how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from starlette.datastructures import Headers

from sightline.observation.cursor import MAX_CURSOR_LENGTH, Cursor, parse_for_session
from sightline_gateway.http.bodies import parse_query
from sightline_gateway.http.operations import check_session_id
from sightline_gateway.problems import ProblemError

__all__ = ["EventsQuery", "Messages", "Place", "Wish", "kinds_of", "place_of", "wish_of"]

Messages = Annotated[int, Meta(ge=0, le=10_000)]


class EventsQuery(Struct, frozen=True):
    """Where to begin, what to show, how to bring it.

    `cursor` (or `last_event_id`): resume behind it; `now`: from the tail, without a snapshot; neither: a fresh start.
    `messages`: how many a snapshot brings. `kinds`: only these event kinds, comma-separated. `heartbeat`: a frame
    whenever so many seconds were quiet. `limit`, `wait`: for catch-up as JSON, how many events at most and how many
    seconds to wait for the first.
    """

    cursor: str | None = None
    last_event_id: str | None = None
    messages: Messages = 200
    kinds: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    heartbeat: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 500
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0


class Place(Struct, frozen=True):
    """Where a stream begins: behind the cursor, at the tail, or (neither) with a fresh start."""

    cursor: Cursor | None
    at_tail: bool


class Wish(Struct, frozen=True, kw_only=True):
    """What the client asks for, checked; no store has been touched."""

    session_id: str
    place: Place
    kinds: frozenset[str] | None
    query: EventsQuery


def wish_of(session_id: str, query_string: bytes, headers: Headers) -> Wish:
    """Raises ProblemError, MalformedCursor, WrongSessionCursor."""
    check_session_id(session_id)
    query = parse_query(query_string, EventsQuery)
    # An empty header is how the standard says "none"; an empty parameter is somebody's mistake, and refused as one.
    asked = (headers.get("last-event-id") or None, query.cursor, query.last_event_id)
    given = next((text for text in asked if text is not None), None)
    return Wish(session_id=session_id, kinds=kinds_of(query.kinds), place=place_of(session_id, given), query=query)


def kinds_of(given: str | Sequence[str] | None) -> frozenset[str] | None:
    """The filter that is meant; none shows every kind. Raises ProblemError."""
    if given is None:
        return None
    kinds = frozenset(given.split(",") if isinstance(given, str) else given)
    if not kinds or not all(kind.isascii() and kind.replace("_", "").isalnum() for kind in kinds):
        raise ProblemError("invalid_field", "kinds must be event kinds, separated by commas", field="kinds")
    return kinds


def place_of(session_id: str, given: str | None) -> Place:
    """Where a stream of this session begins. Raises ProblemError, MalformedCursor, WrongSessionCursor."""
    if given is None or given == "now":
        return Place(None, given is not None)
    if len(given) > MAX_CURSOR_LENGTH:
        raise ProblemError("malformed_cursor", f"a cursor has at most {MAX_CURSOR_LENGTH} characters")
    return Place(parse_for_session(given, session_id), False)
