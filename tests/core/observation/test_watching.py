"""Watching a session from inside the process: resume, subscribe, and the loop that recovers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from sightline.errors import (
    MalformedCursor,
    SessionDeleted,
    SessionNotFound,
    SubscriberLagged,
    SubscriptionClosed,
    WrongSessionCursor,
)
from sightline.observation.activities import AssistantProseDelta
from sightline.observation.changes import Change
from sightline.observation.cursor import Cursor, parse
from sightline.observation.entry import Entry
from sightline.observation.events import Event, TurnActivity
from sightline.observation.fold import Fold, fold
from sightline.observation.gaps import ReplayGap
from sightline.observation.model import Observation
from sightline.observation.opening import GapAnswer, Replayed
from sightline.observation.replay import ReplaySubscription
from sightline.observation.watching import SessionSubscription, Snapshot
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.clock import ManualClock, settled
from sightline.testing.faults import Faults, faulty
from tests.core.observation.runtimes import log
from tests.core.observation.test_handle import NOW, committed, handle_on, says, started
from tests.core.worlds import Puppet, running

pytestmark = pytest.mark.anyio


def texts(events: Sequence[Event]) -> list[str]:
    return [
        shown.event.text
        for shown in (event.data for event in events)
        if isinstance(shown, TurnActivity) and isinstance(shown.event, AssistantProseDelta)
    ]


async def take(watching: SessionSubscription, count: int) -> list[Event]:
    return [await watching.next_event() for _ in range(count)]


class Watcher:
    """Somebody who watches, folds what comes, and keeps the last cursor."""

    def __init__(self, items: AsyncIterator[Snapshot | GapAnswer | Event]) -> None:
        self.events: list[Event] = []
        self.gaps: list[GapAnswer] = []
        self.snapshots = 0
        self.cursor = ""
        self.fold: Fold | None = None
        self.task = asyncio.create_task(self._watch(items))

    async def _watch(self, items: AsyncIterator[Snapshot | GapAnswer | Event]) -> None:
        async for item in items:
            match item:
                case Snapshot(view=view):
                    self.snapshots += 1
                    self._begin(view)
                case GapAnswer(view=view):
                    self.gaps.append(item)
                    self._begin(view)
                case Event():
                    self.events.append(item)
                    self.cursor = item.cursor
                    if self.fold is not None:
                        self.fold.apply(item)

    def _begin(self, view: Observation) -> None:
        self.fold = Fold(view)
        self.cursor = view.cursor

    @property
    def view(self) -> Observation:
        assert self.fold is not None
        return self.fold.observation()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


# Resume and subscribe


async def test_a_resume_brings_what_happened_behind_the_cursor_in_order() -> None:
    handle = handle_on(log())
    first = handle.publish(NOW, [started()])
    handle.publish(NOW, [says("a"), says("b"), committed(1)])
    resumed = handle.resume_session_observation(first)
    assert isinstance(resumed, Replayed)
    assert [event.kind for event in resumed.events] == ["turn_activity", "turn_activity", "committed"]
    assert handle.resume_session_observation(handle.cursor) == Replayed(())
    assert handle.resume_session_observation(parse(first)) == resumed


async def test_a_resume_that_cannot_be_had_is_a_gap_with_the_session_of_that_moment() -> None:
    handle = handle_on(log(max_events=1))
    first = handle.publish(NOW, [started()])
    handle.publish(NOW, [says("a"), committed(1, "m")])
    answer = handle.resume_session_observation(first)
    assert isinstance(answer, GapAnswer)
    gap = answer.gap
    assert (gap.session_id, gap.requested_cursor, gap.reason, gap.latest_revision) == ("s", first, "trimmed", 1)
    assert gap.latest_cursor == answer.observation.cursor == handle.cursor
    assert answer.observation == handle.current_session_observation()
    assert [message.message_id for message in answer.observation.read_view.messages] == ["m"]
    assert handle.resume_session_observation(gap.latest_cursor) == Replayed(())


@pytest.mark.parametrize(
    ("cursor", "error"), [("bad", MalformedCursor), ("sl1:7:0:99:other", WrongSessionCursor)], ids=["bad", "other"]
)
async def test_a_cursor_that_is_none_of_the_sessions_reaches_no_log(cursor: str, error: type[Exception]) -> None:
    replay, faults = log(), Faults()
    handle = handle_on(faulty(replay, faults))
    faults.calls.clear()
    for ask in (handle.resume_session_observation, handle.subscribe_session_observation, handle.watch):
        with pytest.raises(error):
            ask(cursor)
    assert faults.calls == []


async def test_a_subscription_brings_what_was_missed_and_then_what_comes() -> None:
    handle = handle_on(log())
    first = handle.publish(NOW, [started()])
    handle.publish(NOW, [says("a"), says("b")])
    watching = handle.subscribe_session_observation(first)
    assert isinstance(watching, SessionSubscription)
    assert texts(await take(watching, 2)) == ["a", "b"]
    coming = asyncio.create_task(watching.next_event())
    await settled()
    assert not coming.done()
    handle.publish(NOW, [says("c")])
    assert texts([await coming]) == ["c"]
    assert watching.cursor == handle.cursor
    watching.close()
    with pytest.raises(SubscriptionClosed):
        await watching.next_event()
    assert handle.is_idle is False  # what is retained keeps it, and nobody else


async def test_a_gap_leaves_no_subscription() -> None:
    replay = log()
    handle = handle_on(replay)
    answer = handle.subscribe_session_observation("sl1:6:0:0:s")
    assert isinstance(answer, GapAnswer)
    assert answer.gap.reason == "unavailable"
    assert replay.subscribers("s") == 0
    assert handle.is_idle


async def test_waiting_for_an_event_may_be_given_up_and_nothing_is_lost() -> None:
    handle = handle_on(log())
    watching = handle.subscribe_session_observation(handle.cursor)
    assert isinstance(watching, SessionSubscription)
    waiting = asyncio.create_task(watching.next_event())
    await settled()
    handle.publish(NOW, [says("a")])  # it is woken, and before it runs it is cancelled
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    handle.publish(NOW, [says("b")])
    assert texts(await take(watching, 2)) == ["a", "b"]
    watching.close()


@pytest.mark.parametrize("behind", [1, 7])
async def test_one_who_fell_behind_is_told_how_much_was_lost_and_goes_no_further(behind: int) -> None:
    handle = handle_on(log(max_events=5))
    watching = handle.subscribe_session_observation(handle.cursor)
    assert isinstance(watching, SessionSubscription)
    for number in range(5 + behind):
        handle.publish(NOW, [says(str(number))])
    for _ in range(2):
        with pytest.raises(SubscriberLagged) as lagged:
            await watching.next_event()
        assert (lagged.value.lost, lagged.value.reason) == (behind, "trimmed")
    watching.close()


async def test_one_who_is_behind_by_exactly_the_bound_has_lost_nothing() -> None:
    handle = handle_on(log(max_events=5))
    watching = handle.subscribe_session_observation(handle.cursor)
    assert isinstance(watching, SessionSubscription)
    for number in range(5):
        handle.publish(NOW, [says(str(number))])
    assert texts(await take(watching, 5)) == ["0", "1", "2", "3", "4"]
    watching.close()


# The loop that recovers


async def test_a_watch_begins_with_a_snapshot_and_then_has_every_event() -> None:
    handle = handle_on(log())
    handle.publish(NOW, [started(), says("a")])
    watcher = Watcher(handle.watch())
    await settled()
    handle.publish(NOW, [says("b")])
    await settled()
    handle.publish(NOW, [committed(1, "m")])
    await settled()
    assert (watcher.snapshots, watcher.gaps, texts(watcher.events)) == (1, [], ["b"])
    assert watcher.view == handle.view
    await watcher.leave()
    assert watcher.task.cancelled()


async def test_a_watch_from_a_cursor_needs_no_snapshot() -> None:
    handle = handle_on(log())
    first = handle.publish(NOW, [started()])
    handle.publish(NOW, [says("a")])
    watcher = Watcher(handle.watch(first))
    await settled()
    assert (watcher.snapshots, watcher.gaps, texts(watcher.events)) == (0, [], ["a"])
    await watcher.leave()


async def test_who_falls_behind_in_mid_stream_gets_one_gap_and_goes_on() -> None:
    handle = handle_on(log(max_events=3))
    handle.publish(NOW, [started()])
    watcher = Watcher(handle.watch())
    await settled()
    handle.publish(NOW, [says("a")])
    await settled()
    for text in "bcdef":  # the loop does not run in between
        handle.publish(NOW, [says(text)])
    await settled()
    handle.publish(NOW, [says("g")])
    await settled()
    assert texts(watcher.events) == ["a", "g"]
    [answer] = watcher.gaps
    assert (answer.gap.reason, answer.gap.requested_cursor) == ("trimmed", watcher.events[0].cursor)
    assert watcher.view == handle.view
    await watcher.leave()


async def test_who_lags_and_finds_its_place_again_sees_everything_once() -> None:
    """A subscription may lag where the log could still serve its place, as one with a buffer of its own does."""

    class Hurried(MemoryReplayStore):
        lagging = 0

        def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> Any:
            found = super().subscribe_after(cursor, revision, wake)
            return found if isinstance(found, str) else Lagging(found)

    class Lagging:
        def __init__(self, inner: ReplaySubscription) -> None:
            self.inner = inner
            self.lost = 0

        def take(self, max_bytes: int) -> Sequence[Entry] | ReplayGap:
            if Hurried.lagging:
                Hurried.lagging -= 1
                self.lost = 2
                return "trimmed"
            return self.inner.take(1)

        def close(self) -> None:
            self.inner.close()

    handle = handle_on(Hurried(ManualClock(), 7))
    handle.publish(NOW, [started()])
    watcher = Watcher(handle.watch())
    await settled()
    said = []
    for number in range(20):
        Hurried.lagging = number % 4
        said.append(str(number))
        handle.publish(NOW, [says(str(number))])
        await settled()
    assert (watcher.gaps, texts(watcher.events)) == ([], said)
    assert watcher.view == handle.view
    await watcher.leave()


async def test_a_publication_that_was_lost_is_a_gap_in_the_watch() -> None:
    replay, faults = log(), Faults()
    handle = handle_on(faulty(replay, faults))
    handle.publish(NOW, [started()])
    watcher = Watcher(handle.watch())
    await settled()
    faults.fail_before("publish", error=OSError())
    handle.publish(NOW, [says("lost")])
    await settled()
    handle.publish(NOW, [says("next")])
    await settled()
    assert [answer.gap.reason for answer in watcher.gaps] == ["unavailable"]
    assert texts(watcher.events) == ["next"]
    assert watcher.view == handle.view
    await watcher.leave()


async def test_a_watch_ends_when_the_session_is_deleted_after_what_came_before() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("work")
        watcher = Watcher(world.kernel.watch("s"))
        await settled()
        await puppet.does(lambda turn: turn.text("last words"))
        await world.kernel.delete_session("s")
        with pytest.raises(SessionDeleted):
            await watcher.task
        assert texts(watcher.events) == ["last words"]


async def test_what_was_published_just_before_the_end_is_still_seen() -> None:
    handle = handle_on(log())
    watcher = Watcher(handle.watch())
    await settled()
    handle.publish(NOW, [started(), says("x")])
    handle.close("session_deleted")
    with pytest.raises(SessionDeleted):
        await watcher.task
    assert texts(watcher.events) == ["x"]


async def test_to_stop_watching_stops_no_turn_and_leaves_no_trace() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("work")
        async with contextlib.aclosing(world.kernel.watch("s")) as items:
            async for item in items:
                assert isinstance(item, Snapshot)
                break
        assert world.replay.subscribers("s") == 0
        await puppet.says("still here")
        await puppet.ends()
        assert puppet.cancelled == 0
        assert (await world.view()).read_view.messages[-1].content == "still here"


async def test_a_kernel_refuses_a_bad_cursor_before_it_looks_for_the_session() -> None:
    async with running(None) as world:
        world.faults.calls.clear()
        for cursor, error in (("bad", MalformedCursor), ("sl1:1:0:0:other", WrongSessionCursor)):
            with pytest.raises(error):
                await anext(aiter(world.kernel.watch("s", cursor)))
        assert world.faults.calls == []
        with pytest.raises(SessionNotFound):
            await anext(aiter(world.kernel.watch("nobody")))


# Two things at once


async def test_sixty_four_who_publish_at_once_and_those_who_begin_in_between_lose_and_repeat_nothing() -> None:
    handle = handle_on(MemoryReplayStore(ManualClock(), 7, ReplayBounds(max_events=10_000)))
    handle.publish(NOW, [started()])
    watchers: list[Watcher] = []
    cursors = [handle.cursor]

    async def publish(number: int) -> None:
        for step in range(8):
            for _ in range((number * 7 + step * 3) % 5):
                await asyncio.sleep(0)
            cursors.append(handle.publish(NOW, [says(f"{number}.{step} ")]))
            if (number + step) % 4 == 0:
                place = None if step % 2 else cursors[(number * 31 + step) % len(cursors)]
                watchers.append(Watcher(handle.watch(place)))

    await asyncio.gather(*(publish(number) for number in range(64)))
    await settled()
    everything = handle.resume_session_observation(cursors[0])
    assert isinstance(everything, Replayed)
    assert len(everything.events) == 64 * 8
    places = {event.cursor: place for place, event in enumerate(everything.events)}
    for watcher in watchers:
        begun = places[watcher.events[0].cursor] if watcher.events else len(everything.events)
        assert watcher.gaps == []
        assert watcher.events == list(everything.events[begun:])
        if watcher.fold is not None:
            assert watcher.view == handle.view
        await watcher.leave()
    assert len(watchers) > 64


class Injecting(MemoryReplayStore):
    """Just as somebody is about to be told where the stream is, or to be registered there, something is published."""

    inject: Callable[[], object] | None = None
    has_injected = False

    def _now(self) -> None:
        inject, self.inject = self.inject, None
        if inject is not None:
            self.has_injected = True
            inject()

    def current_cursor(self, session_id: str, revision: int) -> Cursor:
        self._now()
        return super().current_cursor(session_id, revision)

    def subscribe_after(self, cursor: Cursor, revision: int, wake: Callable[[], None]) -> Any:
        self._now()
        return super().subscribe_after(cursor, revision, wake)


@pytest.mark.parametrize("injected", [committed(1, "between"), says("between")], ids=["commit", "activity"])
async def test_what_happens_between_the_snapshot_and_its_registration_is_delivered(injected: Change) -> None:
    replay = Injecting(ManualClock(), 7)
    handle = handle_on(replay)
    handle.publish(NOW, [started()])
    replay.inject = lambda: handle.publish(NOW, [injected])
    watcher = Watcher(handle.watch())
    await settled()
    assert replay.has_injected
    assert watcher.view == handle.view
    assert [event.data for event in watcher.events] == [injected.data]
    await watcher.leave()


@pytest.mark.parametrize("injected", [committed(1, "between"), says("between")], ids=["commit", "activity"])
@pytest.mark.parametrize("asked", ["current", "resume", "subscribe"])
async def test_what_happens_between_a_view_and_its_cursor_is_in_the_one_or_behind_the_other(
    asked: str, injected: Change
) -> None:
    replay = Injecting(ManualClock(), 7)
    handle = handle_on(replay)
    handle.publish(NOW, [started()])
    replay.inject = lambda: handle.publish(NOW, [injected])
    if asked == "current":
        answer = handle.current_session_observation()
        shown = "between" in [message.message_id for message in answer.read_view.messages]
        cursor = answer.cursor
    else:
        ask = handle.resume_session_observation if asked == "resume" else handle.subscribe_session_observation
        gap = ask("sl1:6:0:0:s")
        assert isinstance(gap, GapAnswer)
        assert gap.gap.latest_cursor == gap.observation.cursor
        said = "" if gap.view.live is None else gap.view.live.text
        shown = "between" in [said, *(message.message_id for message in gap.view.read_view.messages)]
        cursor = gap.gap.latest_cursor
    if replay.inject is not None:
        replay.inject()
    resumed = handle.resume_session_observation(cursor)
    assert isinstance(resumed, Replayed)
    assert [event.data for event in resumed.events] == ([] if shown else [injected.data])


async def test_a_session_that_moved_on_while_it_was_loaded_is_met_in_front_of_what_it_lacks() -> None:
    """The store was read at revision 0; before the handle stands, somebody else commits to the shared log."""
    replay = Injecting(ManualClock(), 7)
    other = handle_on(replay)
    other.publish(NOW, [started()])
    replay.inject = lambda: other.publish(NOW, [committed(1, "between")])
    late = handle_on(replay)
    resumed = other.resume_session_observation(late.cursor)
    assert isinstance(resumed, Replayed)
    assert [event.kind for event in resumed.events] == ["committed"]
    assert fold(late.view, resumed.events).read_view == other.view.read_view


async def test_a_publication_that_dies_between_reserve_and_publish_is_a_gap_and_no_wedge() -> None:
    replay = log()
    handle = handle_on(replay)
    before = handle.publish(NOW, [started()])
    watcher = Watcher(handle.watch())
    await settled()

    def dies() -> None:
        reservation = replay.prepare("s", (0, 0))
        assert reservation.cursors
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dies()
    handle.publish(NOW, [says("next")])
    await settled()
    assert [answer.gap.reason for answer in watcher.gaps] == ["unavailable"]
    assert watcher.view == handle.view
    assert isinstance(handle.resume_session_observation(before), GapAnswer)
    await watcher.leave()


async def test_a_death_in_the_middle_of_a_publication_gives_its_positions_up() -> None:
    class Dying(MemoryReplayStore):
        def publish(self, *_: Any) -> None:
            raise SystemExit

    dying = Dying(ManualClock(), 7)
    handle = handle_on(dying)
    before = handle.cursor
    with pytest.raises(SystemExit):
        handle.publish(NOW, [started()])
    answer = handle.resume_session_observation(before)
    assert isinstance(answer, GapAnswer)
    assert answer.gap.reason == "unavailable"


async def test_whoever_receives_a_commit_observes_at_least_its_revision() -> None:
    handle = handle_on(log())
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        async for item in handle.watch():
            observed = handle.observe().revision
            seen.append((item.revision if isinstance(item, Event) else 0, observed))

    looking = asyncio.create_task(look())
    await settled()
    for revision in (1, 2, 3):
        handle.publish(NOW, [committed(revision)])
        await settled()
    looking.cancel()
    await asyncio.wait({looking})
    assert len(seen) == 4
    assert all(observed >= received for received, observed in seen)
