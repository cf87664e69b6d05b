"""The runtime handle: what it installs, what it publishes, in which order, and how observers begin."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from sightline.clock import Clock
from sightline.errors import MalformedCursor, WrongSessionCursor
from sightline.observation.activities import AssistantProseDelta, Outcome, TurnStarted
from sightline.observation.cursor import Cursor, parse, parse_for_session
from sightline.observation.events import Committed, TurnActivity
from sightline.observation.handle import Change, RuntimeHandle
from sightline.observation.model import Observation, SessionState
from sightline.observation.replay import Entry, LiveReplayStore, ReplaySubscription, Reservation
from sightline.queue.model import Batch, BatchState
from sightline.queue.rules import new_batch
from sightline.session.model import Message, SessionRecord, Usage
from sightline.stores.replay_memory import MemoryReplayStore, ReplayBounds
from sightline.testing.clock import ManualClock, settled
from sightline.testing.faults import Faults, faulty
from tests.core.worlds import draft

NOW = 5_000


def log(clock: Clock | None = None, **bounds: float) -> MemoryReplayStore:
    return MemoryReplayStore(clock or ManualClock(), 7, ReplayBounds(**bounds))  # type: ignore[arg-type]


def stored(revision: int = 0, *batches: Batch, messages: tuple[Message, ...] = ()) -> SessionState:
    record = SessionRecord(
        session_id="s",
        revision=revision,
        turn_index=revision,
        agent_frame_id="initial",
        policy={"p": 1},
        metadata={"m": 2},
        usage=Usage(),
        title="",
        created_at_ms=1,
        updated_at_ms=1,
    )
    return SessionState(record=record, messages=messages, truncated=False, open_batches=batches)


def handle_on(replay: LiveReplayStore, revision: int = 0, keep: int = 100) -> RuntimeHandle:
    return RuntimeHandle(stored(revision), replay, keep=keep)


def batch(state: BatchState = BatchState.PENDING) -> Batch:
    pending = new_batch(draft("work"), batch_id="b", enqueue_seq=1, now=NOW, cancelled=False)
    return msgspec.structs.replace(pending, state=state)


def started() -> Change:
    return activity(TurnStarted(turn_id="t", attempt=1, boundary="idle", input=()))


def says(text: str) -> Change:
    return activity(AssistantProseDelta(text=text))


def activity(shown: TurnStarted | AssistantProseDelta) -> Change:
    return Change(TurnActivity(id="a", correlation_id="c", event=shown), "t")


def committed(revision: int, *messages: str) -> Change:
    spoken = tuple(Message(message_id=name, role="assistant", content=name, at_ms=NOW) for name in messages)
    data = Committed(
        messages=spoken,
        usage_delta=Usage(),
        agent_frame_id="initial",
        turn_index=revision,
        turn_id="t",
        outcome=Outcome(status="completed"),
    )
    return Change(data, "t", revision)


def nobody() -> None:
    pass


def kinds(entries: Sequence[Entry] | str) -> list[str]:
    assert not isinstance(entries, str), entries
    return [entry.kind for entry in entries]


def taken(subscription: ReplaySubscription) -> list[str]:
    return kinds(subscription.take(1 << 20))


# The view


def test_a_new_handle_shows_what_is_stored_and_publishes_nothing() -> None:
    replay = log()
    handle = RuntimeHandle(stored(3, batch()), replay, keep=10)
    view = handle.view
    assert (view.session_id, view.revision, view.status) == ("s", 3, "queued")
    assert (view.policy, view.metadata, view.live) == ({"p": 1}, {"m": 2}, None)
    assert [summary.batch_id for summary in view.queue] == ["b"]
    assert view.cursor == handle.cursor == "sl1:7:3:0:s"
    assert replay.is_empty("s")


def test_a_new_handle_begins_at_the_tail_of_what_is_there() -> None:
    replay = log()
    handle_on(replay).publish(NOW, [started(), says("x")])
    assert handle_on(replay, 4).view.cursor == "sl1:7:4:2:s"


def test_the_view_is_the_same_object_until_something_happens() -> None:
    handle = handle_on(log())
    view = handle.view
    assert handle.view is view
    handle.publish(NOW, [started()])
    assert handle.view is not view
    assert view.live is None


def test_the_view_holds_no_more_messages_than_it_is_to_keep() -> None:
    handle = handle_on(log(), keep=2)
    handle.publish(NOW, [committed(1, "a", "b", "c")])
    view = handle.view.read_view
    assert ([message.message_id for message in view.messages], view.truncated) == (["b", "c"], True)


# Publication


def test_activity_has_the_installed_revision_and_a_commit_its_own() -> None:
    replay = log()
    handle = handle_on(replay, 3)
    cursor = handle.publish(NOW, [started(), committed(4), says("late")])
    entries = replay.replay_after(Cursor(7, 3, 0, "s"), 4)
    assert not isinstance(entries, str)
    assert [entry.revision for entry in entries] == [3, 4, 4]
    assert cursor == handle.cursor == "sl1:7:4:3:s"
    assert handle.view.revision == 4


def test_an_entry_is_the_event_as_json_with_its_own_cursor() -> None:
    replay = log()
    handle_on(replay).publish(NOW, [says("x")])
    entries = replay.replay_after(Cursor(7, 0, 0, "s"), 0)
    assert not isinstance(entries, str)
    [entry] = entries
    raw = msgspec.json.decode(entry.payload)
    assert raw == {
        "type": "event",
        "session_id": "s",
        "cursor": "sl1:7:0:1:s",
        "revision": 0,
        "turn_id": "t",
        "at_ms": NOW,
        "kind": "turn_activity",
        "data": {"id": "a", "correlation_id": "c", "event": {"type": "assistant_prose_delta", "text": "x"}},
    }
    assert (entry.cursor, entry.kind, entry.position) == (raw["cursor"], raw["kind"], 1)


def test_whoever_is_woken_by_an_event_finds_a_view_at_least_as_new() -> None:
    handle = handle_on(log())
    seen: list[tuple[Observation, Entry]] = []

    def wake() -> None:
        entries = opening.subscription.take(1 << 20)
        assert not isinstance(entries, str)
        seen.append((handle.view, entries[-1]))
        assert opening.subscription.take(1) == ()

    opening = handle.open(None, wake)
    taken(opening.subscription)
    handle.publish(NOW, [started(), says("x")])
    handle.publish(NOW, [committed(1, "m")])
    assert [view.revision for view, _ in seen] == [0, 1]
    assert seen[1][0].read_view.messages
    for view, entry in seen:
        assert parse(view.cursor).position >= entry.position


def test_positions_are_reserved_then_the_view_is_installed_then_observers_are_told() -> None:
    order: list[tuple[str, int]] = []

    class Spying(MemoryReplayStore):
        def prepare(self, session_id: str, revisions: Sequence[int]) -> Reservation:
            order.append(("reserve", handle.view.revision))
            return super().prepare(session_id, revisions)

        def publish(self, reservation: Reservation, entries: Sequence[Entry]) -> None:
            order.append(("publish", handle.view.revision))
            super().publish(reservation, entries)

    handle = handle_on(Spying(ManualClock(), 7))
    handle.publish(NOW, [committed(1)])
    assert order == [("reserve", 0), ("publish", 1)]


def test_a_log_that_refuses_events_does_not_disturb_the_session_and_observers_get_a_gap() -> None:
    replay, faults = log(), Faults()
    handle = handle_on(faulty(replay, faults))
    handle.publish(NOW, [started()])
    before = handle.view.cursor
    watching = handle.open(None, nobody).subscription
    faults.fail_before("publish", error=OSError("the log is away"))

    cursor = handle.publish(NOW, [says("lost"), committed(1, "m")])

    assert cursor == handle.view.cursor
    assert handle.view.revision == 1
    assert watching.take(100) == "unavailable"
    resumed = handle.open(parse(before), nobody)
    assert resumed.gap is not None
    assert (resumed.gap.reason, resumed.gap.latest_cursor, resumed.gap.latest_revision) == ("unavailable", cursor, 1)
    assert resumed.observation is handle.view


def test_after_a_lost_range_everything_goes_on_without_loss_or_repetition() -> None:
    replay, faults = log(), Faults()
    handle = handle_on(faulty(replay, faults))
    faults.fail_before("publish", error=OSError())
    handle.publish(NOW, [started()])
    opening = handle.open(None, nobody)
    handle.publish(NOW, [says("next")])
    assert taken(opening.subscription) == ["turn_activity"]
    again = handle.open(parse(opening.cursor), nobody)
    assert again.gap is None
    assert taken(again.subscription) == ["turn_activity"]


def test_what_json_cannot_hold_is_refused_and_leaves_the_view_as_it_was() -> None:
    handle = handle_on(log())
    handle.publish(NOW, [started()])
    view = handle.view
    for text in ("\ud800", object()):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            handle.publish(NOW, [says("fine"), says(text)])  # type: ignore[arg-type]
    assert handle.view is view
    opening = handle.open(None, nobody)
    handle.publish(NOW, [says("next")])
    assert taken(opening.subscription) == ["turn_activity"]
    live = handle.view.live
    assert live is not None
    assert live.text == "next"


# Beginning to watch


def test_a_fresh_start_has_the_view_and_its_cursor_and_then_what_comes() -> None:
    handle = handle_on(log())
    handle.publish(NOW, [started()])
    opening = handle.open(None, nobody)
    assert opening.observation is handle.view
    assert (opening.cursor, opening.gap) == (handle.cursor, None)
    assert taken(opening.subscription) == []
    handle.publish(NOW, [says("x")])
    assert taken(opening.subscription) == ["turn_activity"]


def test_a_cursor_that_can_be_continued_from_needs_no_snapshot() -> None:
    handle = handle_on(log())
    first = handle.publish(NOW, [started()])
    handle.publish(NOW, [says("x"), committed(1)])
    opening = handle.open(parse(first), nobody)
    assert (opening.cursor, opening.observation, opening.gap) == (first, None, None)
    assert taken(opening.subscription) == ["turn_activity", "committed"]


def test_the_tail_is_a_beginning_without_a_snapshot() -> None:
    handle = handle_on(log())
    handle.publish(NOW, [started()])
    opening = handle.open_at_tail(nobody)
    assert (opening.cursor, opening.observation, opening.gap) == (handle.cursor, None, None)
    handle.publish(NOW, [says("x")])
    assert taken(opening.subscription) == ["turn_activity"]


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        ("sl1:7:0:0:s", "trimmed"),
        ("sl1:6:0:2:s", "unavailable"),
        ("sl1:7:0:9:s", "unavailable"),
        ("sl1:7:5:2:s", "unavailable"),
    ],
)
def test_a_cursor_that_cannot_be_continued_from_is_answered_with_the_view_of_that_moment(
    cursor: str, reason: str
) -> None:
    handle = handle_on(log(max_events=1))
    handle.publish(NOW, [started(), says("x")])
    opening = handle.open(parse_for_session(cursor, "s"), nobody)
    assert opening.gap is not None
    assert msgspec.to_builtins(opening.gap) == {
        "session_id": "s",
        "requested_cursor": cursor,
        "latest_cursor": handle.cursor,
        "latest_revision": 0,
        "reason": reason,
    }
    assert (opening.observation, opening.cursor) == (handle.view, handle.cursor)
    handle.publish(NOW, [says("y")])
    assert taken(opening.subscription) == ["turn_activity"]


def test_one_who_fell_behind_begins_again_with_a_gap_and_goes_on_live() -> None:
    handle = handle_on(log(max_events=2))
    slow = handle.open(None, nobody)
    handle.publish(NOW, [started(), says("a"), says("b")])
    assert slow.subscription.take(100) == "trimmed"
    again = handle.reopen_after_lag(slow.cursor, nobody)
    assert again.gap is not None
    assert (again.gap.reason, again.gap.requested_cursor) == ("lagged", slow.cursor)
    assert again.observation is handle.view
    handle.publish(NOW, [says("c")])
    assert taken(again.subscription) == ["turn_activity"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", MalformedCursor),
        ("garbage", MalformedCursor),
        ("sl1:7:0:-1:s", MalformedCursor),
        ("sl1:7:0:1:other", WrongSessionCursor),
    ],
)
def test_a_bad_cursor_never_reaches_the_log(text: str, error: type[Exception]) -> None:
    replay, faults = log(), Faults()
    handle = handle_on(faulty(replay, faults))
    faults.calls.clear()
    with pytest.raises(error):
        handle.open(parse_for_session(text, handle.session_id), nobody)
    assert faults.calls == []


def test_an_old_tail_cursor_still_proves_that_nothing_happened_after_everything_was_dropped() -> None:
    clock = ManualClock()
    replay = log(clock)
    handle = handle_on(replay)
    handle.publish(NOW, [started()])
    tail = handle.publish(NOW, [committed(1)])
    clock.advance(10_000)
    replay.trim()
    later = handle_on(replay, 1)
    opening = later.open(parse(tail), nobody)
    assert opening.gap is None
    assert taken(opening.subscription) == []
    assert later.view.cursor == tail


def test_a_commit_that_was_never_published_is_a_gap_and_not_silence() -> None:
    replay = log()
    tail = handle_on(replay, 3).publish(NOW, [says("x")])
    opening = handle_on(replay, 4).open(parse(tail), nobody)
    assert opening.gap is not None
    assert (opening.gap.reason, opening.gap.latest_revision) == ("unavailable", 4)


def test_a_view_that_lost_touch_begins_again_and_its_observers_get_a_gap() -> None:
    handle = handle_on(log())
    before = handle.publish(NOW, [started()])
    woken: list[str] = []
    opening = handle.open(None, lambda: woken.append(handle.view.status))
    taken(opening.subscription)
    handle.refresh(stored(2, batch()))
    assert woken == ["queued"]
    assert (handle.view.live, handle.revision) == (None, 2)
    assert opening.subscription.take(100) == "unavailable"
    again = handle.open(parse(before), nobody)
    assert again.gap is not None
    assert again.gap.latest_cursor == "sl1:7:2:2:s"
    handle.publish(NOW, [says("x")])
    assert taken(again.subscription) == ["turn_activity"]


# Waiting for work, and the end


@pytest.mark.anyio
async def test_whoever_waits_for_a_batch_is_told_of_its_end() -> None:
    handle = handle_on(log())
    waiting = [handle.ending_of("b") for _ in range(2)]
    other = handle.ending_of("other")
    handle.settle_batches([batch(BatchState.CLAIMED)])
    await settled()
    assert not any(task.done() for task in waiting)
    handle.settle_batches([batch(BatchState.COMPLETED)])
    assert [ended.state for ended in await asyncio.gather(*waiting)] == ["completed", "completed"]
    other.cancel()
    await settled()
    assert handle.is_idle


@pytest.mark.anyio
async def test_whoever_waits_is_let_go_when_the_session_ends() -> None:
    handle = handle_on(log())
    waiting = handle.ending_of("b")
    handle.close("session_deleted")
    await asyncio.wait({waiting})
    assert waiting.cancelled()


def test_observers_are_told_once_that_the_session_ended() -> None:
    handle = handle_on(log())
    told: list[str] = []
    gone: list[str] = []
    tell_gone = gone.append
    handle.attach(told.append)
    handle.attach(tell_gone)
    handle.detach(tell_gone)
    handle.close("session_deleted")
    handle.close("again")
    assert (told, gone) == (["session_deleted"], [])
    assert handle.closed_reason == "session_deleted"


def test_a_session_that_ended_publishes_nothing_more_and_leaves_nothing_in_the_log() -> None:
    replay = log()
    handle = handle_on(replay)
    cursor = handle.publish(NOW, [started()])
    handle.close("session_deleted")
    replay.forget("s")
    assert handle.publish(NOW, [says("late")]) == cursor
    handle.refresh(stored(1))
    assert replay.is_empty("s")
    assert replay.current_cursor("s", 0).position == 0


def test_a_handle_is_idle_when_nobody_uses_it_nothing_runs_and_nothing_is_retained() -> None:
    clock = ManualClock()
    replay = log(clock)
    handle = handle_on(replay)
    idle = [handle.is_idle]
    handle.pins += 1
    idle.append(handle.is_idle)
    handle.unpin()
    handle.attach(print)
    idle.append(handle.is_idle)
    handle.detach(print)
    handle.publish(NOW, [started()])
    idle.append(handle.is_idle)
    handle.publish(NOW, [committed(1)])
    idle.append(handle.is_idle)
    clock.advance(10_000)
    replay.trim()
    idle.append(handle.is_idle)
    assert idle == [True, False, False, False, False, True]
    assert not RuntimeHandle(stored(0, batch()), replay, keep=1).is_idle
