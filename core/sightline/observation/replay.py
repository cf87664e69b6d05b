"""The live replay store: a bounded, best-effort log of the newest events, so that who was away a moment can resume.

Not history and not truth: losing all of it costs observers a gap, never a wrong state. Every method is synchronous and
does not block, because it is called on the runtime's path; a networked adapter buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sightline.observation.cursor import Cursor
from sightline.observation.entry import Entry
from sightline.observation.gaps import ReplayGap

__all__ = ["Entry", "LiveReplayStore", "ReplaySubscription", "Reservation"]


class Reservation(Protocol):
    """Consecutive positions of one session that nobody sees yet.

    Whoever has one publishes or abandons it, once and on every path: later ones wait for it. One that is dropped
    without either counts as abandoned, as soon as the log is touched again.
    """

    @property
    def cursors(self) -> Sequence[Cursor]:
        """One for each reserved position, in order."""
        ...


class ReplaySubscription(Protocol):
    """One observer's place in a session's log. It holds a position, not a queue."""

    def take(self, max_bytes: int) -> Sequence[Entry] | ReplayGap:
        """What is next, in order, up to about `max_bytes` of payload (at least one entry if there is one).

        Empty: nothing is there. Once everything was taken the wake function will be called when something comes, once.
        A gap: the log does not reach back to this place any more, or has a hole in front of it; the subscription is of
        no use after that.
        """
        ...

    @property
    def behind(self) -> bool:
        """Whether `take` would return something now."""
        ...

    @property
    def lost(self) -> int:
        """Of how many events the bounds have deprived this place: 0 until `take` answered `trimmed`, then exact."""
        ...

    def close(self) -> None:
        """Stop. Idempotent."""
        ...


class LiveReplayStore(Protocol):
    """Contract, and an executable one: `sightline.testing.conformance.REPLAY_CHECKS` runs on any adapter.

    * positions of a session are dense in order of reservation, from 1 in a log that never let go of a session; they
      start over with the incarnation only, so a number never stands for two events;
    * reserved positions become visible in order: a publication waits for earlier reservations;
    * an abandoned reservation is a lost range: replay across it is a gap, never silence;
    * `replay_after` and `subscribe_after` decide by the rules of `gaps`, and `subscribe_after` registers in the same
      step: no event is lost or doubled at the seam, whoever publishes meanwhile;
    * retention by count, age (older than, not as old as) and bytes never changes the tail; the newest event is kept
      however big it is;
    * a log may let go of the tail numbers of sessions that nobody looked at for long. Then it goes on with a larger
      number, and whoever comes back gets a gap;
    * what is read may have adjacent text deltas joined (`merging`), if the log was told to.

    Cursors are those of the session asked about: that they are is checked before they come here, and so is their form.
    Used from one thread, that of the event loop, and never waits there.
    """

    @property
    def incarnation(self) -> int:
        """Which life of the store this is; grows where the store can promise it."""
        ...

    def prepare(self, session_id: str, revisions: Sequence[int]) -> Reservation:
        """Reserve one position for each revision."""
        ...

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        """Fill the reserved positions and wake the subscribers.

        Raises ValueError when there is not one entry for each position, or the reservation was settled before. Whatever
        is raised, nothing of it was published, and it is still to be abandoned.
        """
        ...

    def abandon(self, reservation: Reservation) -> None:
        """Give the reserved positions up. Does nothing when it was settled before."""
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
        """The tail, with the given revision; but never behind a retained event of a newer revision.

        So a view of that revision together with this cursor misses nothing that is still there: where the session has
        moved on, it is the place in front of the first event that the view does not know. 0 for a session that never
        had events. Never fails.
        """
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
        """Drop the session's log and its tail number: it was deleted, and its id is never used again."""
        ...
