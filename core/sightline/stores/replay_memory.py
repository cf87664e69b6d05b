"""The live replay store in this process's memory: a ring per session, bounded by count, age and bytes.

A session's ring is a list with a moving start, so that the entry at a position is an index away and trimming costs
nothing per entry. Rings of quiet sessions are dropped; of a session that ever had events only the tail number stays.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from sightline.clock import Clock
from sightline.observation.cursor import Cursor
from sightline.observation.gaps import ReplayGap, Window, find_gap, find_revision_gap
from sightline.observation.replay import Entry, Reservation

__all__ = ["MemoryReplayStore", "ReplayBounds"]

_log = logging.getLogger("sightline.stores.replay")

_HOLE = Entry(0, "", 0, "", b"")
_COMPACT_AT = 256


class ReplayBounds(Struct, frozen=True):
    """Per session: entries, seconds, bytes of payload. The newest entry is kept even when it alone is too big."""

    max_events: int = 2048
    max_age: float = 120.0
    max_bytes: int = 8 * 1024 * 1024


class _Reservation:
    """`entries` is none until published; `lost` when given up."""

    __slots__ = ("cursors", "entries", "lost", "session_id")

    def __init__(self, session_id: str, cursors: tuple[Cursor, ...]) -> None:
        self.session_id = session_id
        self.cursors = cursors
        self.entries: Sequence[Entry] | None = None
        self.lost = False


class _Ring:
    __slots__ = ("bytes", "entries", "last_hole", "reserved", "start", "subscriptions", "tail", "waiting")

    def __init__(self, tail: int) -> None:
        self.tail = tail
        self.reserved = tail
        self.entries: list[Entry] = []
        self.start = 0
        self.bytes = 0
        self.last_hole = 0
        self.waiting: deque[_Reservation] = deque()
        self.subscriptions: set[_Subscription] = set()

    @property
    def count(self) -> int:
        return len(self.entries) - self.start

    @property
    def first(self) -> int | None:
        return self.tail - self.count + 1 if self.count else None

    def after(self, position: int) -> int:
        """Index of the entry behind `position`."""
        return len(self.entries) - (self.tail - position)

    def drop_first(self) -> None:
        self.bytes -= len(self.entries[self.start].payload)
        self.entries[self.start] = _HOLE
        self.start += 1
        if self.start >= _COMPACT_AT and self.start * 2 >= len(self.entries):
            del self.entries[: self.start]
            self.start = 0


class _Subscription:
    __slots__ = ("_position", "_ring", "_store", "_wake", "armed")

    def __init__(self, store: MemoryReplayStore, ring: _Ring, position: int, wake: Callable[[], None]) -> None:
        self._store = store
        self._ring: _Ring | None = ring
        self._position = position
        self._wake = wake
        self.armed = False

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
            return "trimmed"
        if ring.last_hole > self._position:
            return "unavailable"
        begin = end = ring.after(self._position)
        size = 0
        while end < len(ring.entries) and (end == begin or size + len(ring.entries[end].payload) <= max_bytes):
            size += len(ring.entries[end].payload)
            end += 1
        self._position += end - begin
        return ring.entries[begin:end]

    def wake(self) -> None:
        if self.armed:
            self.armed = False
            try:
                self._wake()
            except Exception:
                # It broke its promise; the publication and the other observers have nothing to do with that.
                _log.exception("an observer failed when it was woken")

    def close(self) -> None:
        self.armed = False
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

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def prepare(self, session_id: str, revisions: Sequence[int]) -> Reservation:
        ring = self._ring(session_id)
        reservation = _Reservation(
            session_id,
            tuple(
                Cursor(self._incarnation, revision, ring.reserved + offset, session_id)
                for offset, revision in enumerate(revisions, 1)
            ),
        )
        ring.reserved += len(reservation.cursors)
        ring.waiting.append(reservation)
        return reservation

    def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
        assert isinstance(reservation, _Reservation)
        if len(entries) != len(reservation.cursors):
            raise ValueError("one entry for each reserved position")
        reservation.entries = entries
        self._settle(self._ring(reservation.session_id))

    def abandon(self, reservation: Reservation) -> None:
        assert isinstance(reservation, _Reservation)
        reservation.lost = True
        self._settle(self._ring(reservation.session_id))

    def replay_after(self, cursor: Cursor, revision: int) -> Sequence[Entry] | ReplayGap:
        self.trim(cursor.session_id)
        ring = self._rings.get(cursor.session_id)
        gap = find_gap(cursor, self._window(cursor.session_id))
        entries: Sequence[Entry] = ()
        if gap is None and ring is not None:
            entries = ring.entries[ring.after(cursor.position) :]
        return gap or find_revision_gap(cursor, revision, entries[-1].revision if entries else None) or entries

    def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> _Subscription | ReplayGap:
        replay = self.replay_after(cursor, revision)
        if isinstance(replay, str):
            return replay
        ring = self._ring(cursor.session_id)
        subscription = _Subscription(self, ring, cursor.position, wake)
        ring.subscriptions.add(subscription)
        return subscription

    def current_cursor(self, session_id: str, revision: int) -> Cursor:
        return Cursor(self._incarnation, revision, self._window(session_id).tail, session_id)

    def subscribers(self, session_id: str) -> int:
        ring = self._rings.get(session_id)
        return 0 if ring is None else len(ring.subscriptions)

    def trim(self, session_id: str | None = None) -> None:
        if session_id is not None:
            ring = self._rings.get(session_id)
            if ring is not None:
                self._trim(ring)
            return
        for name, ring in list(self._rings.items()):
            self._trim(ring)
            if not ring.count and not ring.subscriptions and not ring.waiting:
                self._tails[name] = ring.tail
                del self._rings[name]

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
            ring = self._rings[session_id] = _Ring(self._tails.pop(session_id, 0))
        return ring

    def _window(self, session_id: str) -> Window:
        ring = self._rings.get(session_id)
        if ring is None:
            return Window(self._incarnation, self._tails.get(session_id, 0), None)
        return Window(self._incarnation, ring.tail, ring.first, ring.last_hole)

    def _settle(self, ring: _Ring) -> None:
        """Make visible, in order, what is decided; stop at the first reservation that is not."""
        now = self._clock.monotonic()
        before = ring.tail
        while ring.waiting and (ring.waiting[0].lost or ring.waiting[0].entries is not None):
            reservation = ring.waiting.popleft()
            entries = reservation.entries
            if reservation.lost or entries is None:
                entries = (_HOLE,) * len(reservation.cursors)
                ring.last_hole = ring.tail + len(entries)
            for entry in entries:
                if entry is not _HOLE:
                    entry.published_at = now
                ring.bytes += len(entry.payload)
                ring.entries.append(entry)
                ring.tail += 1
        if ring.tail != before:
            self._trim(ring)
            for subscription in list(ring.subscriptions):
                subscription.wake()

    def _trim(self, ring: _Ring) -> None:
        bounds = self._bounds
        while ring.count > bounds.max_events:
            ring.drop_first()
        while ring.count > 1 and ring.bytes > bounds.max_bytes:
            ring.drop_first()
        oldest = self._clock.monotonic() - bounds.max_age
        while ring.count and ring.entries[ring.start].published_at < oldest:
            ring.drop_first()
