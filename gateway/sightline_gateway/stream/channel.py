"""A channel: everybody who watches one session, and the pass that tells them what happened.

Who has seen everything so far stands *parked* in a group with those who are told in the same way. A pass takes what is
new from the session's log, makes one piece of bytes of it for each group, and hands that to every member's line.
Nothing is kept for a member but that it stands there.

Who cannot be told at the moment, because its client does not read, leaves the group and keeps its place in the log; who
comes back from far away begins with such a place. Catching up is the same for both: read from the place until nothing
is left, then park.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from sightline.observation.handle import RuntimeHandle
from sightline.observation.model import Observation, newest
from sightline.observation.replay import Entry, ReplaySubscription
from sightline_gateway.stream.frames import Frame, Run, event

if TYPE_CHECKING:
    from sightline_gateway.stream.feed import Feed

__all__ = ["Channel", "Group", "Render", "no_wake"]

_log = logging.getLogger("sightline.gateway.stream")
_ENCODER = msgspec.json.Encoder()

_RUN = 64
"""Events in a run. Runs begin at multiples of it, whatever a client has missed."""

Render: TypeAlias = Callable[[Sequence[Frame]], Any]
"""What frames become for a kind of line. One function for a kind, so that its members are found by it."""


def no_wake() -> None:
    """For a place in the log that is looked at when its client can be written to, and not before."""


class Group:
    """The parked feeds that are told in the same bytes. `told_at` is when they last were, on the monotonic clock."""

    __slots__ = ("feeds", "kinds", "render", "told_at")

    def __init__(self, render: Render, kinds: frozenset[str] | None) -> None:
        self.render = render
        self.kinds = kinds
        self.feeds: set[Feed] = set()
        self.told_at = 0.0


class Channel:
    """One session's observers on this process. Lives from the first to the last of them."""

    def __init__(
        self,
        handle: RuntimeHandle,
        *,
        buffer_bytes: int,
        dirty: Callable[[Channel], None],
        warm: Callable[[Channel], None],
        empty: Callable[[Channel], None],
    ) -> None:
        self.session_id = handle.session_id
        self.handle = handle
        self.pending = False
        self.passes = 0
        """How often the channel has gone on from where it was."""
        self.cursor = ""
        self._max_bytes = buffer_bytes
        self._dirty = dirty
        self._warm = warm
        self._empty = empty
        self._feeds: set[Feed] = set()
        self._groups: dict[tuple[Render, frozenset[str] | None], Group] = {}
        self._runs: dict[int, Run] = {}
        self._snapshot: tuple[Observation, int, bytes] | None = None
        self._head = self._at_head()
        handle.attach(self._end_all)

    def _at_head(self) -> ReplaySubscription:
        opening = self.handle.open_at_tail(self._wake)
        self.cursor = opening.cursor
        while entries := opening.subscription.take(self._max_bytes):
            assert not isinstance(entries, str), "the tail is always a place to begin"
            self.cursor = entries[-1].cursor  # nobody is parked here yet who would have to be told
        return opening.subscription

    def _wake(self) -> None:
        if not self.pending:
            self.pending = True
            self._dirty(self)

    # Members

    def enter(self, feed: Feed) -> None:
        """A new member, with a place of its own."""
        self._feeds.add(feed)

    def leave(self, feed: Feed) -> None:
        """A member is gone. Idempotent."""
        if feed in self._feeds:
            self._feeds.discard(feed)
            self._unpark(feed)
            if not self._feeds:
                self._head.close()
                self.handle.detach(self._end_all)
                self._empty(self)

    def park(self, feed: Feed, render: Render, kinds: frozenset[str] | None) -> Group:
        """A member that has seen everything, up to where the channel is. Not while something is pending."""
        key = (render, kinds)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(render, kinds)
        group.feeds.add(feed)
        return group

    def _unpark(self, feed: Feed) -> None:
        group = feed.group
        if group is not None:
            feed.stand_at(self.cursor)
            group.feeds.discard(feed)
            if not group.feeds:
                del self._groups[group.render, group.kinds]

    # The pass

    def deliver(self, now: float) -> int:
        """Tell the parked members what is new. Returns how many writes that took."""
        self.pending = False
        self.passes += 1
        try:
            return self._deliver(now)
        except Exception:
            _log.exception("session %s: a pass failed", self.session_id)
        try:
            self._let_all_look()
        except Exception:
            # Nothing more would be heard here. Better that all come back with their cursors than that they wait.
            _log.exception("session %s: the log cannot be read", self.session_id)
            self._end_all("rotated")
        return 0

    def _deliver(self, now: float) -> int:
        writes = 0
        head = self._head
        more = True
        while more and (entries := head.take(self._max_bytes)):
            if isinstance(entries, str):
                self._let_all_look()  # a hole, or more at once than the log holds
                return writes
            frames = [entry.framed or event(entry, self.session_id) for entry in entries]
            behind: list[Feed] = []
            for group in self._groups.values():
                kinds = group.kinds
                shown = frames if kinds is None else [frame for frame in frames if frame.name in kinds]
                if shown:
                    group.told_at = now
                    writes += len(group.feeds)
                    _tell(group, group.render(shown), behind)
            self._part_with(behind)
            self.cursor = entries[-1].cursor
            more = head.behind
        return writes

    def _let_all_look(self) -> None:
        """Each member is to find out from its own place what comes next."""
        self._part_with([feed for group in self._groups.values() for feed in group.feeds])
        self._head.close()
        self._head = self._at_head()

    def _part_with(self, feeds: Sequence[Feed]) -> None:
        """These did not get what comes now. Their place is before it."""
        for feed in feeds:
            self._unpark(feed)
            feed.watcher.busy(feed)

    # What all share

    def snapshot(self, view: Observation, messages: int) -> msgspec.Raw:
        """The view with its newest `messages`, encoded; once for all who begin in the same pass."""
        shown = self._snapshot
        if shown is None or shown[0] is not view or shown[1] != messages:
            self._warm(self)
            self._snapshot = shown = (view, messages, _ENCODER.encode(newest(view, messages)))
        return msgspec.Raw(shown[2])

    def shown(self, entries: Sequence[Entry]) -> list[Frame]:
        """Events as frames. Where there are many, most of them in runs that who missed others of them has too."""
        session_id = self.session_id
        first = entries[0].position
        if len(entries) < 2 * _RUN or entries[-1].position - first != len(entries) - 1:
            return [entry.framed or event(entry, session_id) for entry in entries]
        begin = -(first - 1) % _RUN
        end = begin + (len(entries) - begin) // _RUN * _RUN
        frames = [entry.framed or event(entry, session_id) for entry in entries[:begin]]
        for place in range(begin, end, _RUN):
            number = first + place
            run = self._runs.get(number)
            if run is None:
                if not self._runs:
                    self._warm(self)
                run = self._runs[number] = Run(
                    [entry.framed or event(entry, session_id) for entry in entries[place : place + _RUN]]
                )
            frames.append(run)
        frames += [entry.framed or event(entry, session_id) for entry in entries[end:]]
        return frames

    def cool(self) -> None:
        """Let go of what was kept for others who might begin at the same moment."""
        self._snapshot = None
        self._runs.clear()

    def _end_all(self, reason: str) -> None:
        for feed in list(self._feeds):
            feed.end(reason)


def _tell(group: Group, written: Any, behind: list[Feed]) -> None:
    for feed in group.feeds:
        line = feed.line
        if line.paused:
            behind.append(feed)
        else:
            try:
                line.write(written)
            except Exception:
                # A line breaks its promise. The publication and the other observers have nothing to do with that.
                _log.exception("a line failed")
                behind.append(feed)
