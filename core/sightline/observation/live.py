"""A session's view, and the one door through which its events leave.

Publication is reserve → install → publish, in one step that does not wait: positions are reserved, the events are
folded into the installed view, and only then do observers see them. So whoever is woken by an event finds a view that
is at least as new, and a snapshot is always taken together with its cursor. If the live log refuses an event, the view
still moves and the reserved range is given up: observers get a gap, the turn does not notice. If the log gives no
positions at all, that is made up for as soon as it does: one is given up for all that was never told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from sightline.observation.changes import Change
from sightline.observation.cursor import Cursor, parse_for_session
from sightline.observation.entry import Entry
from sightline.observation.events import KINDS, Event, TurnActivity
from sightline.observation.fold import Fold
from sightline.observation.gaps import ReplayGap
from sightline.observation.model import Observation, SessionState, first_observation
from sightline.observation.opening import Gap, Opening
from sightline.observation.replay import LiveReplayStore, Reservation

__all__ = ["LiveView"]

_log = logging.getLogger("sightline.observation")
_ENCODER = msgspec.json.Encoder()


def _nobody(session_id: str) -> None:
    """For a view whose session is on no list."""


class LiveView:
    """On the event loop's thread. `keep`: how many of the newest messages stay in memory."""

    def __init__(self, state: SessionState, replay: LiveReplayStore, *, keep: int) -> None:
        record = state.record
        self.session_id = record.session_id
        self.closed_reason: str | None = None
        self.listed: Callable[[str], None] = _nobody
        """Called with the session's id when its line in the list of sessions has changed. May not wait nor raise."""
        self._replay = replay
        self._keep = keep
        cursor = replay.current_cursor(record.session_id, record.revision)
        self._fold = Fold(first_observation(state, str(cursor)), keep=keep)
        self._untold = False
        """Whether the view moved on without a position in the log: its cursor stands for a view that is not its own."""

    @property
    def revision(self) -> int:
        return self._fold.revision

    @property
    def cursor(self) -> str:
        """The position of the newest event folded into the view."""
        return self._fold.cursor

    @property
    def view(self) -> Observation:
        """The session as the wire tells it; the same object until something happens."""
        return self._fold.observation()

    def begin_again(self, state: SessionState) -> None:
        """Show what is stored, because the view lost touch with it. Observers get a gap."""
        lost = self._reserve((state.record.revision,))
        cursor = self._fold.cursor if lost is None else str(lost.cursors[0])
        self._fold = Fold(first_observation(state, cursor), keep=self._keep)
        if lost is not None:
            self._replay.abandon(lost)

    def publish(self, now: int, changes: Sequence[Change]) -> str:
        """Tell observers. Returns the cursor after the last change.

        Trouble with the live log is logged and never raised. Raises TypeError when data cannot be JSON; nothing changed
        then but the reserved positions, which are given up.
        """
        if self.closed_reason is not None:
            return self._fold.cursor  # the session is gone, its log too; nobody is left to tell
        newest, revisions = self._fold.revision, []
        for change in changes:
            newest = newest if change.revision is None else change.revision
            revisions.append(newest)
        if self._untold:
            self._tell_of_loss()
        reservation = self._reserve(revisions)
        if reservation is None:
            self._move_on(now, changes, revisions)
            self._tell_list(changes)
            return self._fold.cursor
        published = False
        try:
            events = [
                self._event(change, str(cursor), cursor.revision, now)
                for change, cursor in zip(changes, reservation.cursors, strict=True)
            ]
            # Encoded before anything is installed: data that JSON cannot hold fails here and has changed nothing.
            entries = [
                Entry(cursor.position, event.cursor, event.revision, event.kind, _ENCODER.encode(event))
                for event, cursor in zip(events, reservation.cursors, strict=True)
            ]
            for event in events:
                self._fold.apply(event)
            try:
                self._replay.publish(reservation, entries)
                published = True
            except Exception:
                _log.exception("session %s: the live log refused events; observers get a gap", self.session_id)
        finally:
            if not published:
                self._replay.abandon(reservation)
        self._tell_list(changes)
        return self._fold.cursor

    def _tell_list(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if type(change.data) is not TurnActivity:
                self.listed(self.session_id)
                return

    def open(self, cursor: Cursor | None, wake: Callable[[], None]) -> Opening:
        """Begin a subscription: fresh without a cursor, else resumed, or a gap with the current view.

        One step: the decision, the snapshot and the registration belong to the same moment. Raises nothing for a cursor
        of this session; cursors are checked by `parse_for_session` before they come here.
        """
        if cursor is None:
            return self._open_here(None, wake)
        if self._untold:
            self._tell_of_loss()
        subscription = self._replay.subscribe_after(cursor, self.revision, wake)
        if isinstance(subscription, str):
            return self._open_here((str(cursor), subscription), wake)
        return Opening(cursor=str(cursor), subscription=subscription)

    def open_at_tail(self, wake: Callable[[], None]) -> Opening:
        """Begin at the newest event, without a snapshot."""
        opening = self._open_here(None, wake)
        return Opening(cursor=opening.cursor, subscription=opening.subscription)

    def reopen_after_lag(self, last_cursor: str, wake: Callable[[], None], reason: str = "lagged") -> Opening:
        """Go on after a subscription that fell behind the log or met a hole in it: always a gap."""
        return self._open_here((last_cursor, reason), wake)

    def replay_after(self, cursor: Cursor) -> Sequence[Entry] | ReplayGap:
        """The events after the cursor, or why they cannot be told."""
        if self._untold:
            self._tell_of_loss()
        return self._replay.replay_after(cursor, self.revision)

    def gap(self, requested: str, reason: str) -> tuple[Gap, Observation]:
        """A gap answer and the view it comes with, both of this moment."""
        view = self.view
        return (
            Gap(
                session_id=self.session_id,
                requested_cursor=requested,
                latest_cursor=view.cursor,
                latest_revision=view.revision,
                reason=reason,
            ),
            view,
        )

    def _open_here(self, gap: tuple[str, str] | None, wake: Callable[[], None]) -> Opening:
        if self._untold:
            self._tell_of_loss()
        view = self.view
        here = parse_for_session(view.cursor, self.session_id)
        subscription = self._replay.subscribe_after(here, view.revision, wake)
        if isinstance(subscription, str):
            # The last publication did not reach the log: the view is ahead of the tail. Begin at the tail instead; what
            # comes next is numbered after the lost range, so nothing is missed and nothing comes twice.
            here = self._replay.current_cursor(self.session_id, view.revision)
            subscription = self._replay.subscribe_after(here, view.revision, wake)
            assert not isinstance(subscription, str), "the tail is always a place to begin"
        if gap is None:
            return Opening(cursor=view.cursor, subscription=subscription, observation=view)
        return Opening(cursor=view.cursor, subscription=subscription, observation=view, gap=self.gap(*gap)[0])

    def _event(self, change: Change, cursor: str, revision: int, now: int) -> Event:
        return Event(
            session_id=self.session_id,
            cursor=cursor,
            revision=revision,
            turn_id=change.turn_id,
            at_ms=now,
            kind=KINDS[type(change.data)],
            data=change.data,
        )

    def _reserve(self, revisions: Sequence[int]) -> Reservation | None:
        try:
            return self._replay.prepare(self.session_id, revisions)
        except Exception:
            _log.exception("session %s: the live log gives no positions; observers get a gap", self.session_id)
            self._untold = True
            return None

    def _move_on(self, now: int, changes: Sequence[Change], revisions: Sequence[int]) -> None:
        """Install what nobody can be told of."""
        cursor = self._fold.cursor
        events = [
            self._event(change, cursor, revision, now) for change, revision in zip(changes, revisions, strict=True)
        ]
        for event in events:
            _ENCODER.encode(event)
        for event in events:
            self._fold.apply(event)

    def _tell_of_loss(self) -> None:
        """Give up a position for what was never told: whoever stands in front of it gets a gap."""
        self._untold = False
        lost = self._reserve((self._fold.revision,))
        if lost is not None:
            self._fold.move_to(str(lost.cursors[0]))
            self._replay.abandon(lost)
