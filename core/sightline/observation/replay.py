"""The live replay store: a bounded, best-effort log of the newest events, so that who was away a moment can resume.

Not history and not truth: losing all of it costs observers a gap, never a wrong state. Every method is synchronous and
does not block, because it is called on the runtime's path; a networked adapter buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sightline.observation.cursor import Cursor
from sightline.observation.gaps import ReplayGap

__all__ = ["Entry", "LiveReplayStore", "ReplaySubscription", "Reservation"]


class Entry:
    """One published event: its place, and its JSON encoded once for everybody.

    `framed` is for whoever writes events to connections: what the first needed, the others find here.
    """

    __slots__ = ("cursor", "framed", "kind", "payload", "position", "published_at", "revision")

    def __init__(self, position: int, cursor: str, revision: int, kind: str, payload: bytes) -> None:
        self.position = position
        self.cursor = cursor
        self.revision = revision
        self.kind = kind
        self.payload = payload
        self.published_at = 0.0
        self.framed: Any = None


class Reservation(Protocol):
    """Consecutive positions of one session that nobody sees yet."""

    @property
    def cursors(self) -> Sequence[Cursor]:
        """One for each reserved position, in order."""
        ...


class ReplaySubscription(Protocol):
    """One observer's place in a session's log. It holds a position, not a queue."""

    def take(self, max_bytes: int) -> Sequence[Entry] | ReplayGap:
        """What is next, in order, up to about `max_bytes` of payload (at least one entry if there is one).

        Empty: nothing is there, and the wake function will be called once when something is. A gap: the log does not
        reach back to this place any more, or has a hole in front of it; the subscription is of no use after that.
        """
        ...

    @property
    def behind(self) -> bool:
        """Whether `take` would return something now."""
        ...

    def close(self) -> None:
        """Stop. Idempotent."""
        ...


class LiveReplayStore(Protocol):
    """Contract:

    * positions of a session are dense from 1 in order of reservation; they start over with the incarnation only;
    * reserved positions become visible in order: a publication waits for earlier reservations;
    * an abandoned reservation is a lost range: replay across it is a gap, never silence;
    * `subscribe_after` decides by `gaps.find_gap` and registers in one step: no event is lost or doubled at the seam;
    * retention by count, age and bytes never changes the tail.
    """

    @property
    def incarnation(self) -> int:
        """Which life of the store this is; grows where the store can promise it."""
        ...

    def prepare(self, session_id: str, revisions: Sequence[int]) -> Reservation:
        """Reserve one position for each revision."""
        ...

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        """Fill the reserved positions and wake the subscribers."""
        ...

    def abandon(self, reservation: Reservation) -> None:
        """Give the reserved positions up."""
        ...

    def replay_after(self, cursor: Cursor, revision: int) -> Sequence[Entry] | ReplayGap:
        """Everything after the cursor. `revision` is the session's, for the check of `gaps.find_revision_gap`."""
        ...

    def subscribe_after(
        self, cursor: Cursor, revision: int, wake: Callable[[], None]
    ) -> ReplaySubscription | ReplayGap:
        """Everything after the cursor, then what comes. `wake` must be quick and must not raise."""
        ...

    def current_cursor(self, session_id: str, revision: int) -> Cursor:
        """The tail, 0 for an unknown session."""
        ...

    def subscribers(self, session_id: str) -> int:
        """How many subscriptions of the session are open."""
        ...

    def trim(self, session_id: str | None = None) -> None:
        """Apply the bounds now, to one session or to all."""
        ...

    def is_empty(self, session_id: str) -> bool:
        """Whether nothing is retained."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop the session's log and its tail number: it was deleted."""
        ...
