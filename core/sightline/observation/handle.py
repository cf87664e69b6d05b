"""A session's runtime handle: its current view, and the one place from which its events leave.

Publication is reserve → install → publish, in one step that does not wait: positions are reserved, the events are
folded into the installed view, and only then do observers see them. So whoever is woken by an event finds a view that
is at least as new, and a snapshot is always taken together with its cursor. If the live log refuses an event, the view
still moves and the reserved range is given up: observers get a gap, the turn does not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.observation.cursor import Cursor, parse_for_session
from sightline.observation.events import KINDS, Data, Event, TurnActivity
from sightline.observation.fold import Fold
from sightline.observation.gaps import ReplayGap
from sightline.observation.model import Observation, SessionState
from sightline.observation.replay import Entry, LiveReplayStore, ReplaySubscription
from sightline.queue.model import Batch
from sightline.queue.rules import summary_of
from sightline.session.model import ReadView
from sightline.session.rules import status_of

__all__ = ["Change", "Gap", "Opening", "RuntimeHandle"]

_log = logging.getLogger("sightline.observation")
_ENCODER = msgspec.json.Encoder()


class Change(Struct, frozen=True):
    """One event to be: its data, and the revision it leads to (the one before it unless told)."""

    data: Data
    turn_id: str | UnsetType = UNSET
    revision: int | None = None


class Gap(Struct, frozen=True, kw_only=True):
    """Continuity from the requested cursor cannot be proved. The stream goes on from `latest_cursor`."""

    session_id: str
    requested_cursor: str
    latest_cursor: str
    latest_revision: int
    reason: str


class Opening(Struct, frozen=True, kw_only=True):
    """How a subscription begins. `observation` is there for a fresh start and with a gap."""

    cursor: str
    subscription: ReplaySubscription
    observation: Observation | None = None
    gap: Gap | None = None


class RuntimeHandle:
    """One per loaded session, on the event loop's thread. Never waits for a writer."""

    def __init__(
        self,
        state: SessionState,
        replay: LiveReplayStore,
        *,
        keep: int,
        listed: Callable[[str], None] = lambda _: None,
    ) -> None:
        record = state.record
        self.session_id = record.session_id
        self._replay = replay
        self._keep = keep
        self._listed = listed
        cursor = replay.current_cursor(record.session_id, record.revision)
        self._fold = Fold(_first_observation(state, str(cursor)), keep=keep)
        self._closers: set[Callable[[str], None]] = set()
        self._waiters: dict[str, set[asyncio.Future[Batch]]] = {}
        self.pins = 0
        self.stale = False
        """Whether the session is known to have moved on without this view; then it waits for a `refresh`."""
        self.closed_reason: str | None = None
        self._generation = state.generation

    @property
    def revision(self) -> int:
        return self._fold.revision

    @property
    def cursor(self) -> str:
        """The position of the newest event folded into the view."""
        return self._fold.cursor

    def shows_open(self, batch_id: str) -> bool:
        """Whether the view has this batch as pending or claimed."""
        return self._fold.has_open(batch_id)

    @property
    def is_idle(self) -> bool:
        """Nobody looks, nothing runs, nothing is retained: the handle may be let go."""
        return (
            not self.pins
            and not self._closers
            and not self._waiters
            and self._fold.is_quiet
            and self._replay.is_empty(self.session_id)
        )

    @property
    def has_open_work(self) -> bool:
        """Whether the view shows work that has not ended, also such as is delayed or held."""
        return self._fold.has_open_work

    def unpin(self) -> None:
        self.pins -= 1

    def begins(self, generation: int) -> bool:
        """The session is driven from here under a lease of this generation: whether the view has all that was done
        under earlier ones. If it does not, it waits for a `refresh`.
        """
        if generation != self._generation + 1:
            self.stale = True
        self._generation = generation
        return not self.stale

    def refresh(self, state: SessionState) -> None:
        """Begin again from what is stored, because the view lost touch with it. Observers get a gap."""
        self.stale = False
        self._generation = max(self._generation, state.generation)
        if self.closed_reason is None:
            lost = self._replay.prepare(self.session_id, (state.record.revision,))
            self._fold = Fold(_first_observation(state, str(lost.cursors[0])), keep=self._keep)
            self._replay.abandon(lost)

    def observe(self) -> Observation:
        """The installed view; the same object until something happens."""
        return self._fold.observation()

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
        reservation = self._replay.prepare(self.session_id, revisions)
        published = False
        try:
            events = [
                self._event(change, cursor, now) for change, cursor in zip(changes, reservation.cursors, strict=True)
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
        if any(type(change.data) is not TurnActivity for change in changes):
            self._listed(self.session_id)
        return self._fold.cursor

    def _event(self, change: Change, cursor: Cursor, now: int) -> Event:
        return Event(
            session_id=self.session_id,
            cursor=str(cursor),
            revision=cursor.revision,
            turn_id=change.turn_id,
            at_ms=now,
            kind=KINDS[type(change.data)],
            data=change.data,
        )

    def settle_batches(self, batches: Sequence[Batch]) -> None:
        """Answer whoever waits for the end of these batches."""
        for batch in batches:
            if not batch.state.is_open:
                for waiter in self._waiters.pop(batch.batch_id, ()):
                    if not waiter.done():
                        waiter.set_result(batch)

    def ending_of(self, batch_id: str) -> asyncio.Future[Batch]:
        """A future of the batch once it has ended. Get it before asking the store whether it has; cancel it after."""
        waiter: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(batch_id, set())
        waiters.add(waiter)

        def leave(_: asyncio.Future[Batch]) -> None:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(batch_id) is waiters:
                del self._waiters[batch_id]

        waiter.add_done_callback(leave)
        return waiter

    def open(self, cursor: Cursor | None, wake: Callable[[], None]) -> Opening:
        """Begin a subscription: fresh without a cursor, else resumed, or a gap with the current view.

        One step: the decision, the snapshot and the registration belong to the same moment. Raises nothing for a cursor
        of this session; cursors are checked by `parse_for_session` before they come here.
        """
        if cursor is None:
            return self._open_here(None, wake)
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
        return self._replay.replay_after(cursor, self.revision)

    def gap(self, requested: str, reason: str) -> tuple[Gap, Observation]:
        """A gap answer and the view it comes with, both of this moment."""
        view = self.observe()
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
        view = self.observe()
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

    def attach(self, closer: Callable[[str], None]) -> None:
        """Be called with a reason when the session ends under its observers (`session_deleted`)."""
        self._closers.add(closer)

    def detach(self, closer: Callable[[str], None]) -> None:
        self._closers.discard(closer)

    def close(self, reason: str) -> None:
        """The session is gone: tell its observers and waiters. Idempotent."""
        if self.closed_reason is None:
            self.closed_reason = reason
            for closer in list(self._closers):
                closer(reason)
            for waiters in list(self._waiters.values()):
                for waiter in list(waiters):
                    waiter.cancel()


def _first_observation(state: SessionState, cursor: str) -> Observation:
    record = state.record
    queue = tuple(summary_of(batch) for batch in state.open_batches)
    claimed = sum(1 for summary in queue if summary.state == "claimed")
    return Observation(
        session_id=record.session_id,
        revision=record.revision,
        cursor=cursor,
        status=status_of(asked=False, live=False, claimed=claimed, pending=len(queue) - claimed),
        policy=record.policy,
        metadata=record.metadata,
        read_view=ReadView(
            messages=state.messages,
            agent_frame_id=record.agent_frame_id,
            turn_index=record.turn_index,
            truncated=state.truncated,
        ),
        live=None,
        usage=record.usage,
        tools=record.tools,
        queue=queue,
    )
