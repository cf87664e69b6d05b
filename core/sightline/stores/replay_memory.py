"""The live replay store in this process's memory: a ring per session, bounded by count, age and bytes.

A session's ring is a list with a moving start, so that the entry at a position is an index away and trimming costs
nothing per entry. Rings of quiet sessions are dropped, and of each only the tail number stays, because positions go on
from it. These numbers are bounded as well: when there are too many, the ones that were left alone for longest are let
go of, and the largest of those becomes the floor. A session without a number of its own goes on from the floor, which
is beyond whatever position it ever had. So no number is used twice, and whoever comes back to it from before gets a
gap.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter

from msgspec import Struct

from sightline.clock import Clock
from sightline.observation.cursor import Cursor
from sightline.observation.entry import Entry
from sightline.observation.events import KINDS, Committed
from sightline.observation.gaps import ReplayGap, Window, find_gap, find_revision_gap
from sightline.observation.merging import merge_entries
from sightline.observation.replay import Reservation

__all__ = ["MemoryReplayStore", "ReplayBounds"]

_log = logging.getLogger("sightline.stores.replay")

_bytes_through = attrgetter("bytes_through")
_DROPPED = Entry(0, "", 0, "", b"")
_COMPACT_AT = 256
_COMMITTED = KINDS[Committed]


class ReplayBounds(Struct, frozen=True):
    """Per session: entries (at least one), seconds, bytes of payload. The newest entry is kept even when it alone is
    too big.

    `merge`: whether text that was missed comes in fewer, larger pieces (`sightline.observation.merging`). What is live
    comes as it is. `max_tails`: of how many sessions without any retained event the tail number is kept.
    """

    max_events: int = 2048
    max_age: float = 120.0
    max_bytes: int = 8 * 1024 * 1024
    merge: bool = False
    max_tails: int = 65_536

    def __post_init__(self) -> None:
        # A subscription is a place in the ring: in a ring that holds nothing, every event would be a gap.
        if self.max_events < 1:
            raise ValueError("at least one event per session")


class _Reservation:
    __slots__ = ("begin", "cursors", "ring", "settled")

    def __init__(self, ring: _Ring, cursors: tuple[Cursor, ...]) -> None:
        self.ring = ring
        self.begin = ring.reserved + 1
        self.cursors = cursors
        self.settled = not cursors

    def __del__(self) -> None:
        # May run anywhere, also in the middle of something else: it only takes note.
        if not self.settled:
            self.ring.decided[self.begin] = (self.cursors, None)


class _Ring:
    """`tail` is the newest visible position, `reserved` the newest that was given out.

    `decided` holds what is published or given up (no entries) behind a reservation that is not decided yet.
    """

    __slots__ = (
        "appended",
        "bytes",
        "decided",
        "entries",
        "last_hole",
        "newest_revision",
        "reserved",
        "start",
        "subscriptions",
        "tail",
    )

    def __init__(self, tail: int) -> None:
        self.tail = tail
        self.reserved = tail
        self.entries: list[Entry] = []
        self.start = 0
        self.bytes = 0
        self.appended = 0
        self.last_hole = 0
        self.newest_revision = 0
        self.decided: dict[int, tuple[tuple[Cursor, ...], Sequence[Entry] | None]] = {}
        self.subscriptions: set[_Subscription] = set()

    @property
    def count(self) -> int:
        return len(self.entries) - self.start

    @property
    def first(self) -> int | None:
        return self.tail - self.count + 1 if self.count else None

    @property
    def is_idle(self) -> bool:
        """Nothing is retained, nobody looks, nothing is under way."""
        return not self.count and not self.subscriptions and self.reserved == self.tail

    def after(self, position: int) -> int:
        """Index of the entry behind `position`."""
        return len(self.entries) - (self.tail - position)

    def before_newer(self, revision: int) -> int:
        """The position in front of the first retained entry of a newer revision; the tail when there is none."""
        if self.newest_revision > revision:
            for index in range(self.start, len(self.entries)):
                if self.entries[index].revision > revision:
                    return self.tail - (len(self.entries) - index)
        return self.tail

    def append(self, entries: Sequence[Entry], now: float) -> None:
        for entry in entries:
            entry.published_at = now
            size = len(entry.payload)
            self.bytes += size
            self.appended += size
            entry.bytes_through = self.appended
            if entry.revision > self.newest_revision:
                self.newest_revision = entry.revision
        self.entries.extend(entries)
        self.tail += len(entries)

    def drop_first(self) -> None:
        self.bytes -= len(self.entries[self.start].payload)
        self.entries[self.start] = _DROPPED
        self.start += 1
        if self.start >= _COMPACT_AT and self.start * 2 >= len(self.entries):
            del self.entries[: self.start]
            self.start = 0


def _nobody() -> None:
    """Who is woken by a subscription that is closed."""


class _Subscription:
    __slots__ = ("_merge_until", "_position", "_ring", "_wake", "armed", "lost")

    def __init__(self, ring: _Ring, position: int, wake: Callable[[], None], *, merge_until: int) -> None:
        self._ring: _Ring | None = ring
        self._position = position
        self._wake = wake
        self._merge_until = merge_until
        self.armed = False
        self.lost = 0

    @property
    def behind(self) -> bool:
        return self._ring is not None and self._position < self._ring.tail

    def take(self, max_bytes: int) -> Sequence[Entry] | ReplayGap:
        ring = self._ring
        if ring is None or self._position >= ring.tail:
            self.armed = ring is not None
            return ()
        self.armed = False
        first = ring.first
        if first is None or self._position + 1 < first:
            self.lost = (ring.tail if first is None else first - 1) - self._position
            return "trimmed"
        if ring.last_hole > self._position:
            return "unavailable"
        begin = ring.after(self._position)
        missed = self._position < self._merge_until
        limit = ring.after(self._merge_until) if missed else len(ring.entries)
        entries = ring.entries
        until = entries[begin].bytes_through - len(entries[begin].payload) + max_bytes
        if entries[limit - 1].bytes_through <= until:
            end = limit
        else:
            end = max(begin + 1, bisect_right(entries, until, begin, limit, key=_bytes_through))
        self._position += end - begin
        self.armed = self._position >= ring.tail
        taken = entries[begin:end]
        return merge_entries(taken) if missed else taken

    def wake(self) -> None:
        """Once, until it has taken everything again."""
        self.armed = False
        try:
            self._wake()
        except Exception:
            # It broke its promise; the publication and the other observers have nothing to do with that.
            _log.exception("an observer failed when it was woken")

    def close(self) -> None:
        self.armed = False
        self._wake = _nobody  # whose it was holds this
        if self._ring is not None:
            self._ring.subscriptions.discard(self)
            self._ring = None


class MemoryReplayStore:
    """See `sightline.observation.replay.LiveReplayStore`. Used from one thread, the event loop's."""

    def __init__(self, clock: Clock, incarnation: int, bounds: ReplayBounds | None = None) -> None:
        self._clock = clock
        self._incarnation = incarnation
        self._bounds = bounds or ReplayBounds()
        self._rings: dict[str, _Ring] = {}
        self._tails: dict[str, int] = {}
        self._floor = 0

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def prepare(self, session_id: str, revisions: Sequence[int]) -> Reservation:
        ring = self._ring(session_id)
        if len(revisions) == 1:
            # Nearly always: a turn says one thing after the other.
            cursors: tuple[Cursor, ...] = (Cursor(self._incarnation, revisions[0], ring.reserved + 1, session_id),)
        else:
            numbered = enumerate(revisions, ring.reserved + 1)
            cursors = tuple(Cursor(self._incarnation, revision, place, session_id) for place, revision in numbered)
        reservation = _Reservation(ring, cursors)
        ring.reserved += len(cursors)
        return reservation

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        assert isinstance(reservation, _Reservation)
        if len(entries) != len(reservation.cursors) or (reservation.settled and entries):
            raise ValueError("one entry for each reserved position, once")
        if not reservation.settled:
            reservation.settled = True
            self._settle(reservation, entries)

    def abandon(self, reservation: Reservation) -> None:
        assert isinstance(reservation, _Reservation)
        if not reservation.settled:
            reservation.settled = True
            self._settle(reservation, None)

    def replay_after(self, cursor: Cursor, revision: int) -> Sequence[Entry] | ReplayGap:
        found = self._find(cursor, revision)
        return merge_entries(found) if self._bounds.merge and not isinstance(found, str) else found

    def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> _Subscription | ReplayGap:
        found = self._find(cursor, revision)
        if isinstance(found, str):
            return found
        ring = self._ring(cursor.session_id)
        merge_until = ring.tail if self._bounds.merge else 0
        subscription = _Subscription(ring, cursor.position, wake, merge_until=merge_until)
        ring.subscriptions.add(subscription)
        return subscription

    def current_cursor(self, session_id: str, revision: int) -> Cursor:
        ring = self._rings.get(session_id)
        if ring is None:
            position = self._tails.get(session_id, self._floor)
        else:
            self._advance(ring)
            position = ring.before_newer(revision)
        return Cursor(self._incarnation, revision, position, session_id)

    def subscribers(self, session_id: str) -> int:
        ring = self._rings.get(session_id)
        return 0 if ring is None else len(ring.subscriptions)

    def trim(self, session_id: str | None = None) -> None:
        now = self._clock.monotonic()
        if session_id is not None:
            ring = self._rings.get(session_id)
            if ring is not None:
                self._advance(ring)
                self._trim(ring, now)
            return
        for name, ring in list(self._rings.items()):
            self._advance(ring)
            self._trim(ring, now)
            if ring.is_idle:
                del self._rings[name]
                self._tails[name] = ring.tail
        while len(self._tails) > self._bounds.max_tails:
            self._floor = max(self._floor, self._tails.pop(next(iter(self._tails))))

    def is_empty(self, session_id: str) -> bool:
        ring = self._rings.get(session_id)
        return ring is None or not ring.count

    def forget(self, session_id: str) -> None:
        ring = self._rings.pop(session_id, None)
        self._tails.pop(session_id, None)
        for subscription in () if ring is None else list(ring.subscriptions):
            subscription.close()

    def _ring(self, session_id: str) -> _Ring:
        ring = self._rings.get(session_id)
        if ring is None:
            ring = self._rings[session_id] = _Ring(self._tails.pop(session_id, self._floor))
        return ring

    def _find(self, cursor: Cursor, revision: int) -> Sequence[Entry] | ReplayGap:
        """What is after the cursor, as it was published, or why that cannot be told."""
        ring = self._rings.get(cursor.session_id)
        if ring is None:
            tail = self._tails.get(cursor.session_id, self._floor)
            window = Window(self._incarnation, tail, None)
        else:
            self._advance(ring)
            self._trim(ring, self._clock.monotonic())
            window = Window(self._incarnation, ring.tail, ring.first, ring.last_hole)
        gap = find_gap(cursor, window)
        if gap is not None:
            return gap
        entries: Sequence[Entry] = () if ring is None else ring.entries[ring.after(cursor.position) :]
        newest = None if cursor.revision >= revision else _newest_commit(entries)
        return find_revision_gap(cursor, revision, newest) or entries

    def _settle(self, reservation: _Reservation, entries: Sequence[Entry] | None) -> None:
        ring = reservation.ring
        if entries is None or reservation.begin != ring.tail + 1:
            ring.decided[reservation.begin] = (reservation.cursors, entries)
            self._advance(ring)
        else:
            ring.append(entries, self._clock.monotonic())
            if ring.decided:
                self._show(ring)
            self._announce(ring)

    def _advance(self, ring: _Ring) -> None:
        """See to what was decided since the log was last touched."""
        if ring.decided:
            before = ring.tail
            self._show(ring)
            if ring.tail != before:
                self._announce(ring)

    def _show(self, ring: _Ring) -> None:
        """Make visible, in order, what is decided; stop at the first reservation that is not."""
        now = self._clock.monotonic()
        while (decided := ring.decided.pop(ring.tail + 1, None)) is not None:
            cursors, entries = decided
            if entries is None:
                entries = [Entry(cursor.position, str(cursor), cursor.revision, "", b"") for cursor in cursors]
                ring.last_hole = ring.tail + len(entries)
            ring.append(entries, now)

    def _announce(self, ring: _Ring) -> None:
        self._trim(ring, ring.entries[-1].published_at)
        for subscription in tuple(ring.subscriptions):
            if subscription.armed:
                subscription.wake()

    def _trim(self, ring: _Ring, now: float) -> None:
        bounds = self._bounds
        oldest = now - bounds.max_age
        count = ring.count
        if (
            count <= bounds.max_events
            and ring.bytes <= bounds.max_bytes
            and (not count or ring.entries[ring.start].published_at >= oldest)
        ):
            return  # which is nearly always so
        while ring.count > bounds.max_events:
            ring.drop_first()
        while ring.count > 1 and ring.bytes > bounds.max_bytes:
            ring.drop_first()
        while ring.count and ring.entries[ring.start].published_at < oldest:
            ring.drop_first()


def _newest_commit(entries: Sequence[Entry]) -> int | None:
    return next((entry.revision for entry in reversed(entries) if entry.kind == _COMMITTED), None)
