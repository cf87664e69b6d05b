"""An observer: one connection that watches sessions, on a line that may be stopped at any time.

It has no task and no queue. What its feeds have to tell is asked of them when there is a reason to ask and the client
can be written to: the hub's pass asks, one write at a time and everybody in turn.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType

from sightline_gateway.lines.line import Outlet
from sightline_gateway.stream.asking import Place
from sightline_gateway.stream.channel import Render
from sightline_gateway.stream.clockwork import Timer
from sightline_gateway.stream.feed import Feed
from sightline_gateway.stream.frames import CLOSE_CODES, Comment, Frame, Goodbye, Heartbeat, control, pieces
from sightline_gateway.stream.hub import Hub
from sightline_gateway.stream.index import INDEX, IndexFeed
from sightline_gateway.stream.patience import FAREWELL, LOOK_EVERY, Patience

__all__ = ["Failure", "Observer", "Pace"]

_log = logging.getLogger("sightline.gateway.stream")

_MAX_ANSWERS = 64
_JITTER_MS = 1_000

_PACE_GROUPS = 64
"""In so many groups comments are made that are due in one period: what keeps a proxy awake need not be punctual."""

_COMMENT = Comment()


class Pace(Struct, frozen=True):
    """What is said although nothing happened. Seconds.

    `every`: after so long a quiet time a heartbeat is due, or a comment (`comment`). `lifetime`: when the stream ends.
    """

    every: float
    comment: bool = False
    lifetime: float | None = None


Failure: TypeAlias = Callable[[Exception], tuple[Frame, int, str]]
"""How a client is told that something of ours is broken: the last frame, and the close code with its reason."""


class _Farewell(Struct, frozen=True):
    reason: str
    retry_after_ms: int | UnsetType = UNSET
    jitter_ms: int | UnsetType = UNSET


class Observer:
    """Make it, `subscribe`, then `start` it on its line. It ends itself; `abandon` it if it was never started.

    `many`: of several sessions, each of which may come and go; otherwise the end of its session is its own end.
    `left` is called once, when it has ended.
    """

    __slots__ = (
        "_answers",
        "_batch",
        "_busy",
        "_closing",
        "_farewell",
        "_feeds",
        "_hub",
        "_left",
        "_line",
        "_look_timer",
        "_many",
        "_on_failure",
        "_on_message",
        "_pace",
        "_pace_timer",
        "_patience",
        "_queued",
        "_rotate_at",
        "_said_at",
        "_started",
        "ended",
        "holding",
        "render",
    )

    _line: Outlet
    render: Render

    def __init__(self, hub: Hub, left: Callable[[Observer], None], *, pace: Pace | None = None, many: bool = False):
        self._hub = hub
        self._left = left
        self._pace = pace
        self._many = many
        self._feeds: dict[str, Feed | IndexFeed] = {}
        self._busy: deque[Feed | IndexFeed] | None = None
        self._answers: deque[Frame] | None = None
        self._farewell: _Farewell | None = None
        self._closing: tuple[int, str] | None = None
        self._on_message: Callable[[str | bytes], None] | None = None
        self._pace_timer: Timer | None = None
        self._look_timer: Timer | None = None
        self._patience: Patience | None = None
        self._on_failure: Failure | None = None
        self._batch = hub.buffer_bytes
        self._queued = False
        self._started = False
        self._rotate_at = 0.0
        self._said_at = 0.0
        self.holding = False
        self.ended = False

    # Its sessions

    @property
    def feeds(self) -> Mapping[str, Feed | IndexFeed]:
        return self._feeds

    async def subscribe(
        self, session_id: str, place: Place, *, messages: int, kinds: frozenset[str] | None = None
    ) -> None:
        """Watch one more session. Raises SessionNotFound, SessionDeleted, StoreUnavailable."""
        self._add(session_id, await self._hub.subscribe(self, session_id, place, messages=messages, kinds=kinds))

    @property
    def only_feed(self) -> Feed:
        """That of an observer of one session."""
        [feed] = self._feeds.values()
        assert isinstance(feed, Feed)
        return feed

    def watch_index(self) -> None:
        """Watch the list of sessions, under the name `*`."""
        self._add(INDEX, self._hub.index.join(self))

    def _add(self, session_id: str, feed: Feed | IndexFeed) -> None:
        if self.ended or session_id in self._feeds:
            feed.close()  # the client left, or asked twice, while the session was read
            return
        self._feeds[session_id] = feed
        if self._started:
            feed.line = self._line
        if not feed.settled:
            self.busy(feed)

    def unsubscribe(self, session_id: str) -> bool:
        """Watch it no more; whether it was watched."""
        feed = self._feeds.pop(session_id, None)
        if feed is None:
            return False
        if self._busy is not None and feed in self._busy:
            self._busy.remove(feed)
        feed.close()
        return True

    # Its life

    def start(
        self,
        line: Outlet,
        render: Render,
        on_message: Callable[[str | bytes], None] | None = None,
        on_failure: Failure | None = None,
    ) -> None:
        """Begin to write to the line, in the form that goes with it. `on_message` takes what the client says."""
        self._line = line
        self._on_message = on_message
        self._on_failure = on_failure
        self._batch = min(self._batch, line.batch)
        self._started = True
        self.render = render
        for feed in self._feeds.values():
            feed.line = line
        now = self._hub.clock.monotonic()
        self._said_at = now
        if self._pace is not None:
            self._rotate_at = now + (self._pace.lifetime or 0.0)
            self._keep_pace()
        self._wake()

    def close(self, reason: str, *, retry_after_ms: int | None = None, jitter_ms: int | None = None) -> None:
        """Say goodbye and end. Does not wait. The first reason counts."""
        if self._farewell is None and self._closing is None:
            self._farewell = _Farewell(
                reason,
                UNSET if retry_after_ms is None else retry_after_ms,
                UNSET if jitter_ms is None else jitter_ms,
            )
            self._wake()

    def refuse(self, frame: Frame, code: int, reason: str) -> None:
        """Say this after what was answered before, and end."""
        if self._closing is None:
            self.answer(frame)
            self._closing = (code, reason)
            self._wake()

    def answer(self, frame: Frame) -> None:
        """Say this, before what the feeds have to tell. A client that asks faster than it reads is not read from."""
        if self._answers is None:
            self._answers = deque()
        self._answers.append(frame)
        if len(self._answers) >= _MAX_ANSWERS and self._started and not self.holding:
            self.holding = True
            self._line.hold_reading()
        self._wake()

    def abandon(self) -> None:
        """Leave nothing behind. Idempotent."""
        if not self.ended:
            self.ended = True
            for feed in self._feeds.values():
                feed.close()
            self._feeds.clear()
            self._busy = self._answers = None
            # These lead back here: with them, all of the connection would stay until cycles are looked for.
            self._on_message = self._on_failure = None
            self._hub.clockwork.cancel(self._pace_timer)
            self._hub.clockwork.cancel(self._look_timer)
            self._left(self)

    # What feeds say to it

    def busy(self, feed: Feed | IndexFeed) -> None:
        if self._busy is None:
            self._busy = deque()
        self._busy.append(feed)
        self._wake()

    def prepare(self, feed: Feed) -> None:
        self._hub.spawn(self._prepared(feed))

    async def _prepared(self, feed: Feed) -> None:
        await feed.prepare()
        if not self.ended and self._feeds.get(feed.session_id) is feed and not feed.waiting:
            self.busy(feed)

    def gapped(self) -> None:
        self._hub.counts.gaps += 1

    def session_ended(self, feed: Feed, reason: str) -> None:
        if not self._many:
            self.close(reason)
        elif feed.session_id in self._feeds:
            if feed.unsaid and not feed.waiting:
                self.answer(feed.first_frame())
            self.unsubscribe(feed.session_id)
            self.answer(control(self._goodbye(feed, feed.cursor, _Farewell(reason))))

    # What its line says to it

    def received(self, message: str | bytes) -> None:
        if self._on_message is not None and self._closing is None and not self.ended:
            self._on_message(message)

    def stalled(self) -> None:
        self._hub.counts.stalls += 1
        self._patience = Patience(self._hub.clock.monotonic(), self._line.unread)
        if self._look_timer is None:
            self._look_timer = self._hub.clockwork.after(LOOK_EVERY, self._check_patience)

    def writable(self) -> None:
        if not self.ended:
            self._wake()

    def gone(self) -> None:
        self.abandon()

    # Writing

    def _wake(self) -> None:
        if not self._queued and self._started and not self.ended and not self._line.paused:
            self._queued = True
            self._hub.ready(self)

    def pump(self, now: float) -> None:
        """Write once, if there is anything to write and the client can be written to."""
        self._queued = False
        line = self._line
        if self.ended or line.paused:
            return
        try:
            frames = self._next_frames()
            if frames:
                self._said_at = now
                for piece in pieces(frames):
                    line.write(self.render(piece))
            if self._closing is not None and not self._answers:
                self._end(*self._closing)
            elif self._busy or self._answers:
                self._wake()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Something of ours is broken: tell the client, if there is a way, and be done with it."""
        try:
            if self._on_failure is None:
                _log.error("a stream failed", exc_info=error)
                self._line.cut_in(0)
            else:
                frame, code, reason = self._on_failure(error)
                self._line.write(self.render([frame]))
                self._line.close(code, reason)
        except Exception:
            # Not even that can be said. The pass, and who comes after this one, have nothing to do with it.
            _log.exception("a stream failed at its end")
            self._line.cut_in(0)
        finally:
            self.abandon()

    def _next_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        if self._answers:
            frames += self._answers
            self._answers.clear()
            if self.holding:
                self.holding = False
                self._line.go_on_reading()
        if self._closing is not None:
            return frames
        if self._farewell is not None:
            if any(feed.waiting for feed in self._feeds.values()):
                return frames  # its snapshot comes first
            return frames + self._last_frames(self._farewell)
        busy = self._busy
        for _ in range(len(busy) if busy is not None else 0):
            assert busy is not None
            feed = busy.popleft()
            told = feed.next_frames(self._batch, self.render)
            if not feed.settled:
                busy.append(feed)  # it has more, or waits for its channel's pass
            if told:
                return frames + told
        return frames

    def _last_frames(self, farewell: _Farewell) -> list[Frame]:
        """The goodbye; before it whatever first frame is due, as its cursor stands for a snapshot."""
        self._closing = (CLOSE_CODES[farewell.reason], farewell.reason)
        frames: list[Frame] = []
        for feed in self._feeds.values():
            if feed.unsaid:
                frames.append(feed.first_frame())
            frames.append(control(self._goodbye(feed, feed.cursor, farewell)))
        return frames or [control(self._goodbye(None, "", farewell))]

    def _goodbye(self, feed: Feed | IndexFeed | None, cursor: str, farewell: _Farewell) -> Goodbye:
        return Goodbye(
            session_id=UNSET if feed is None else feed.session_id,
            cursor=cursor or UNSET,
            reason=farewell.reason,
            code=CLOSE_CODES[farewell.reason],
            retry_after_ms=farewell.retry_after_ms,
            jitter_ms=farewell.jitter_ms,
        )

    def _end(self, code: int, reason: str) -> None:
        self._line.close(code, reason)
        self.abandon()

    # Time

    def _check_patience(self) -> None:
        """The client was stopped some time ago: has it read since?"""
        self._look_timer = None
        if self.ended or self._patience is None or not self._line.paused:
            return
        if self._patience.is_over(self._hub.clock.monotonic(), self._line.unread):
            self.give_up(None)
        else:
            self._look_timer = self._hub.clockwork.after(LOOK_EVERY, self._check_patience)

    def give_up(self, shown: Mapping[str, str] | None) -> None:
        """The client has not read for too long: put a goodbye behind what is unread, for one that wakes up soon, and
        cut the connection after that. `shown`: the last cursor of each session that is on its way (none: all told is).
        """
        if self.ended:
            return
        self._hub.counts.slow_consumers += 1
        farewell = _Farewell("slow_consumer", 0, _JITTER_MS)
        cursors = {
            feed: feed.cursor if shown is None else shown.get(feed.session_id, "") for feed in self._feeds.values()
        }
        frames = [control(self._goodbye(feed, cursor, farewell)) for feed, cursor in cursors.items() if cursor]
        self._line.cut_in(FAREWELL)
        if frames:
            self._line.write(self.render(frames))
        self._end(CLOSE_CODES["slow_consumer"], "slow_consumer")

    def _keep_pace(self) -> None:
        """Say what is due because of quiet, end what has lasted long enough, and look again when it may be so."""
        pace = self._pace
        self._pace_timer = None
        if pace is None or self.ended:
            return
        now = self._hub.clock.monotonic()
        if pace.lifetime is not None and now >= self._rotate_at:
            self.close("rotated", retry_after_ms=0, jitter_ms=_JITTER_MS)
            return
        last = max([self._said_at, *(feed.told_at for feed in self._feeds.values())])
        if now >= last + pace.every:
            if not self._line.paused and not self._queued:
                self._line.write(self.render([_COMMENT if pace.comment else self._heartbeat()]))
            self._said_at = last = now
        due = last + pace.every
        if pace.lifetime is not None:
            due = min(due, self._rotate_at)
        slack = pace.every / _PACE_GROUPS if pace.comment else 0.0
        self._pace_timer = self._hub.clockwork.after(due - now, self._keep_pace, slack=slack)

    def _heartbeat(self) -> Frame:
        if self._many:
            return control(Heartbeat())
        feed = self.only_feed
        return control(Heartbeat(session_id=feed.session_id, cursor=feed.cursor))
