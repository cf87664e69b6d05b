"""A feed: what one subscription is to be told next, whatever carries it.

First a frame with a cursor (`observation`, `resumed` or `gap`), then what was missed, `caught_up`, and what happens. A
feed holds a place in the session's log, not a queue: who does not read costs nothing, and who comes too late for the
log gets a `gap` and the current view. Once it has told everything, it is parked in its channel, and is told what
happens by the channel's pass.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Protocol

from msgspec import Struct, structs

from sightline.errors import NotFound, SessionDeleted, StoreUnavailable
from sightline.kernel import Kernel
from sightline.observation.cursor import parse
from sightline.observation.model import Observation
from sightline.observation.opening import Gap, Opening
from sightline.observation.replay import Entry, ReplaySubscription
from sightline_gateway.lines.line import Outlet
from sightline_gateway.stream.asking import Place
from sightline_gateway.stream.channel import Channel, Group, Render, no_wake
from sightline_gateway.stream.frames import CaughtUp, Frame, GapFrame, ObservationFrame, Resumed, control, event

__all__ = ["Feed", "Watcher"]

_log = logging.getLogger("sightline.gateway.stream")
_place = attrgetter("position")


class Watcher(Protocol):
    """Who a feed tells: the connection it belongs to."""

    def busy(self, feed: Feed) -> None:
        """The feed has something to tell that its channel will not."""
        ...

    def prepare(self, feed: Feed) -> None:
        """The feed needs its `prepare` awaited before it can go on."""
        ...

    def gapped(self) -> None:
        """Continuity could not be kept for one of its feeds."""
        ...

    def session_ended(self, feed: Feed, reason: str) -> None:
        """Nothing more will come of this session."""
        ...


class _First(Struct, frozen=True):
    """What is to be said first: `resumed` at the cursor, or a view, with or without a gap before it."""

    cursor: str
    observation: Observation | None = None
    gap: Gap | None = None


class Feed:
    """One subscription to one session: `begin` it, ask for `next_frames` while it is busy, `close` it on every exit."""

    __slots__ = (
        "_catch_up_to",
        "_cursor",
        "_kernel",
        "_messages",
        "_passes",
        "_subscription",
        "_unsaid",
        "channel",
        "group",
        "kinds",
        "line",
        "waiting",
        "watcher",
    )

    line: Outlet
    """Where the channel's pass writes. Set before the first `next_frames`."""

    def __init__(
        self, kernel: Kernel, channel: Channel, watcher: Watcher, *, messages: int, kinds: frozenset[str] | None
    ) -> None:
        self.channel = channel
        self.watcher = watcher
        self.kinds = kinds
        self.group: Group | None = None
        self.waiting = False
        """Whether it can tell nothing until older messages were read."""
        self._kernel = kernel
        self._messages = messages
        self._subscription: ReplaySubscription | None = None
        self._unsaid: _First | None = None
        self._passes = -1
        self._catch_up_to: int | None = None
        self._cursor = ""

    @property
    def session_id(self) -> str:
        return self.channel.session_id

    @property
    def cursor(self) -> str:
        """That of the last frame handed out, never one further: who comes back with it has missed nothing."""
        return self._cursor if self.group is None else self.channel.cursor

    @property
    def settled(self) -> bool:
        """Whether it has nothing to tell until somebody says that it has."""
        return self.waiting or self.group is not None

    @property
    def told_at(self) -> float:
        """When its channel last told it something, on the monotonic clock."""
        return 0.0 if self.group is None else self.group.told_at

    @property
    def unsaid(self) -> bool:
        """Whether a first frame is due: its cursor stands for a snapshot that nobody has seen."""
        return self._unsaid is not None

    @property
    def behind(self) -> bool:
        """Whether there is more to be told at once."""
        if self._subscription is not None:
            return self.unsaid or self._subscription.behind
        return self.group is None or self.channel.pending

    def begin(self, place: Place) -> None:
        """Take a place in the session's log."""
        self.channel.enter(self)
        handle = self.channel.handle
        if place.cursor is not None:
            self._start_from(handle.open(place.cursor, no_wake))
        else:
            # It begins where the channel is, or will be after its next pass: nothing has to be read from the log.
            self._passes = self.channel.passes
            self._say_first(_First(handle.cursor, None if place.at_tail else handle.view))
        self._catch_up_to = _position(handle.cursor)

    async def prepare(self) -> None:
        """Read the older messages that its next snapshot is to bring. Cancellable."""
        first = self._unsaid
        if first is not None and first.observation is not None and self.waiting:
            view = await self._widened(first.observation)
            if self._unsaid is first:
                # Of a session that is gone nothing is shown: its goodbye comes instead.
                self._unsaid = None if view is None else structs.replace(first, observation=view)
                self.waiting = False

    def end(self, reason: str) -> None:
        """The session is over."""
        self.watcher.session_ended(self, reason)

    def close(self) -> None:
        """Give the place up. Idempotent."""
        self.channel.leave(self)
        self._unsubscribe()

    def next_frames(self, max_bytes: int, render: Render) -> list[Frame]:
        """What is to be written now, about `max_bytes` of events at most. Empty: it is parked or has to wait, or it
        should be asked again after the channel's next pass.
        """
        frames: list[Frame] = []
        while not self.settled:
            if self._unsaid is not None:
                frames.append(self.first_frame())
            if self._subscription is None:
                if self.channel.passes == self._passes and not self.channel.pending:
                    self._add_events(frames, ())
                    self.group = self.channel.park(self, render, self.kinds)
                else:
                    self._resume()
                continue
            entries = self._subscription.take(max_bytes)
            if isinstance(entries, str):
                self._begin_again("lagged" if entries == "trimmed" else entries)
                return frames
            self._add_events(frames, entries)
            if not entries:
                if not self.channel.pending:
                    self.group = self.channel.park(self, render, self.kinds)
                    self._unsubscribe()
                return frames
            if frames:
                return frames
            # What came is hidden by the filter: go on.
        return frames

    def stand_at(self, cursor: str) -> None:
        """It is parked no more; it has seen what is up to this cursor."""
        self.group = None
        self._cursor = cursor

    def _resume(self) -> None:
        """Go on from where it stands, if the log still reaches back to there."""
        opening = self.channel.handle.open(parse(self._cursor), no_wake)
        if opening.gap is not None:
            reason = "lagged" if opening.gap.reason == "trimmed" else opening.gap.reason
            self._start_from(structs.replace(opening, gap=structs.replace(opening.gap, reason=reason)))
        else:
            self._subscription = opening.subscription

    def _begin_again(self, reason: str) -> None:
        self._start_from(self.channel.handle.reopen_after_lag(self._cursor, no_wake, reason))
        if self._catch_up_to is not None:
            self._catch_up_to = _position(self.channel.handle.cursor)

    def _start_from(self, opening: Opening) -> None:
        self._unsubscribe()
        self._subscription = opening.subscription
        self._say_first(_First(opening.cursor, opening.observation, opening.gap))

    def _say_first(self, first: _First) -> None:
        self._unsaid = first
        view = first.observation
        # Messages beyond those in memory come from the store.
        self.waiting = view is not None and view.read_view.truncated and len(view.read_view.messages) < self._messages
        if self.waiting:
            self.watcher.prepare(self)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _add_events(self, frames: list[Frame], entries: Sequence[Entry]) -> None:
        if self._catch_up_to is None:
            self._show(frames, entries)
            return
        missed = bisect_right(entries, self._catch_up_to, key=_place)
        self._show(frames, entries[:missed])
        if missed < len(entries) or _position(self._cursor) >= self._catch_up_to:
            self._catch_up_to = None
            frames.append(control(CaughtUp(session_id=self.session_id, cursor=self._cursor)))
            self._show(frames, entries[missed:])

    def _show(self, frames: list[Frame], entries: Sequence[Entry]) -> None:
        if entries:
            self._cursor = entries[-1].cursor
            if self.kinds is None:
                frames += self.channel.shown(entries)
            else:
                kinds, session_id = self.kinds, self.channel.session_id
                frames += [entry.framed or event(entry, session_id) for entry in entries if entry.kind in kinds]

    def first_frame(self) -> Frame:
        """The frame that says where the stream begins. Only while one is due and it is not waiting."""
        first, self._unsaid = self._unsaid, None
        assert first is not None
        session_id, view = self.session_id, first.observation
        self._cursor = first.cursor
        if view is None:
            return control(Resumed(session_id=session_id, cursor=first.cursor))
        shown = self.channel.snapshot(view, self._messages)
        if first.gap is None:
            return control(ObservationFrame(session_id=session_id, cursor=view.cursor, observation=shown))
        self.watcher.gapped()
        return control(GapFrame(session_id=session_id, cursor=view.cursor, gap=first.gap, observation=shown))

    async def _widened(self, view: Observation) -> Observation | None:
        try:
            return await self._kernel.widen(view, self._messages)
        except StoreUnavailable as error:
            # Nobody needs the store to go on watching: fewer messages come than asked for, and `truncated` says so.
            _log.warning("session %s: a snapshot goes out without its older messages: %s", self.session_id, error)
            return view
        except (NotFound, SessionDeleted):
            return None


@lru_cache(maxsize=1024)
def _position(cursor: str) -> int:
    return parse(cursor).position
