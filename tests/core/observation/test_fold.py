"""What single events do to a view, where the vectors do not look: every kind of every list, and what freezing costs."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from sightline.observation.activities import AssistantProseDelta, TurnStarted, UsageReported
from sightline.observation.events import (
    KINDS,
    Data,
    Event,
    ProcessChanged,
    QueueChanged,
    RequestChanged,
    TaskChanged,
    TurnActivity,
)
from sightline.observation.fold import Fold
from sightline.queue.model import BatchState, BatchSummary, DeliveryPolicy, SlotPolicy
from sightline.session.model import UsageFigures
from tests.core.observation.histories import PROCESS_KINDS, QUEUE_KINDS, REQUEST_KINDS, beginning

ENDS = {"completed", "failed", "cancelled", "abandoned", "revoked"}
LIVE = [kind for kind in PROCESS_KINDS if kind not in ENDS]


def event(data: Data, position: int = 1) -> Event:
    return Event(
        session_id="s",
        cursor=f"sl1:7:1:{position}:s",
        revision=1,
        at_ms=position,
        kind=KINDS[type(data)],
        data=data,
    )


def says(text: str, correlation: str = "c") -> TurnActivity:
    return TurnActivity(id="a", correlation_id=correlation, event=AssistantProseDelta(text=text))


def started() -> TurnActivity:
    return TurnActivity(
        id="a", correlation_id="a", event=TurnStarted(turn_id="t", attempt=1, boundary="idle", input=())
    )


def summary(number: int, state: BatchState = BatchState.PENDING) -> BatchSummary:
    return BatchSummary(
        batch_id=f"b{number}",
        enqueue_seq=number,
        state=state,
        kind="turn_input",
        preview="",
        delivery_policy=DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT,
        slot_policy=SlotPolicy.EXCLUSIVE,
        available_at_ms=0,
    )


def queue_change(*summaries: BatchSummary, kind: str = "enqueued") -> QueueChanged:
    return QueueChanged(kind=kind, batch_ids=tuple(entry.batch_id for entry in summaries), batches=summaries)


def folded(*data: Data) -> Any:
    fold = Fold(beginning)
    for position, entry in enumerate(data, 1):
        fold.apply(event(entry, position))
    return fold.observation()


# Every kind of every list


def processes(kind: str, **entry: Any) -> ProcessChanged:
    return ProcessChanged(kind=kind, process_ids=("p",), processes=({"process_id": "p", **entry},))


def tasks(kind: str, **entry: Any) -> TaskChanged:
    return TaskChanged(kind=kind, task_ids=("k",), tasks=({"task_id": "k", **entry},))


@pytest.mark.parametrize("kind", PROCESS_KINDS)
def test_a_process_stays_until_a_kind_that_ends_it(kind: str) -> None:
    view = folded(processes("started"), processes(kind, n=1))
    assert view.processes == (() if kind in ENDS else ({"process_id": "p", "n": 1},))


@pytest.mark.parametrize("kind", PROCESS_KINDS)
def test_a_task_stays_until_a_kind_that_ends_it(kind: str) -> None:
    view = folded(tasks("started"), tasks(kind, n=1))
    assert view.tasks == (() if kind in ENDS else ({"task_id": "k", "n": 1},))


@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_a_request_is_open_until_it_is_answered_or_withdrawn(kind: str) -> None:
    opened = RequestChanged(kind="opened", requests=({"request_id": "r"},))
    view = folded(opened, RequestChanged(kind=kind, requests=({"request_id": "r"},)))
    assert (view.requests, view.status) == ((({"request_id": "r"},), "waiting") if kind == "opened" else ((), "idle"))


@pytest.mark.parametrize("kind", LIVE)
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "abandoned"])
def test_nothing_that_has_ended_comes_back_with_a_kind_of_the_living(kind: str, end: str) -> None:
    assert folded(processes(end, status=end), processes(kind, status=end)).processes == ()
    assert folded(tasks(end, state=end), tasks(kind, state=end)).tasks == ()


@pytest.mark.parametrize("kind", QUEUE_KINDS)
@pytest.mark.parametrize("state", BatchState)
def test_a_batch_is_told_by_its_state_whatever_the_kind(kind: str, state: BatchState) -> None:
    view = folded(queue_change(summary(1, state), kind=kind))
    assert [entry.state for entry in view.queue] == ([state] if state.is_open else [])


# What a look costs


def test_a_look_during_a_turn_makes_nothing_anew_but_the_turn() -> None:
    many = queue_change(*(summary(number) for number in range(1, 1_001)))
    fold = Fold(beginning)
    told: list[Data] = [many, processes("started"), started(), says("a")]
    for position, data in enumerate(told, 1):
        fold.apply(event(data, position))
    before = fold.observation()
    fold.apply(event(says("b"), 9))
    after = fold.observation()
    assert after.queue is before.queue
    assert after.read_view.messages is before.read_view.messages
    assert after.live is not None
    assert after.live.text == "ab"


def test_the_queue_is_in_order_however_its_work_came() -> None:
    fold = Fold(beginning)
    told = [5, 6, 3, 7, 1, 4, 2]
    for position, number in enumerate(told, 1):
        fold.apply(event(queue_change(summary(number)), position))
        sequences = [entry.enqueue_seq for entry in fold.observation().queue]
        assert sequences == sorted(told[:position])
    fold.apply(event(queue_change(summary(3, BatchState.CLAIMED)), 8))
    assert [entry.enqueue_seq for entry in fold.observation().queue] == [1, 2, 3, 4, 5, 6, 7]
    assert fold.observation().status == "running"
    fold.apply(event(queue_change(summary(3, BatchState.COMPLETED), summary(9), summary(8)), 9))
    assert [entry.enqueue_seq for entry in fold.observation().queue] == [1, 2, 4, 5, 6, 7, 8, 9]


def test_a_batch_that_comes_again_under_another_sequence_stands_where_that_belongs() -> None:
    again = structs.replace(summary(1), enqueue_seq=9)
    view = folded(queue_change(summary(1), summary(2), summary(3)), queue_change(again))
    assert [(entry.batch_id, entry.enqueue_seq) for entry in view.queue] == [("b2", 2), ("b3", 3), ("b1", 9)]


def test_a_running_turn_has_reported_what_it_used_until_it_is_over() -> None:
    fold = Fold(beginning)
    fold.apply(event(started()))
    used = UsageFigures(5, 2, requests=1)
    report = UsageReported(protocol_iteration=1, usage=used, cumulative=used)
    fold.apply(event(TurnActivity(id="u", correlation_id="c", event=report), 2))
    assert fold.live_usage == used
    fold.apply(event(started(), 3))
    assert fold.live_usage == UsageFigures()
