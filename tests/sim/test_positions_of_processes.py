"""Processes whose owner dies at every place where it can: a countdown that wakes its session, and a parent that awaits
its child in a program with one permit.

The places are the calls of the store, as in `test_positions`. Whatever the place, the laws hold; each process ends
once, as completed, its wake becomes one turn, and what it wrote down that it did is not done again.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from tests.sim.plan import (
    Await,
    ClientPlan,
    Do,
    Fault,
    FaultKind,
    Hear,
    Nap,
    Pause,
    Plan,
    ProcessPlan,
    Say,
    Start,
    Toil,
    Wake,
    WorkerPlan,
)
from tests.sim.world import Verdict, run

KILLS: tuple[FaultKind, ...] = ("kill_before", "kill_after")
LOSSES: tuple[FaultKind, ...] = ("refuse", "lose_answer", "lose_all")
METHODS = (
    "register_process",
    "runnable_processes",
    "acquire_process_lease",
    "get_process",
    "append_event",
    "renew_process_lease",
    "grants_of_process",
    "pending_wakes",
    "deliver_wake",
    "claim",
    "commit",
)
COUNTDOWN = (ProcessPlan(name="p", acts=(Do(), Say(), Nap(1.5), Do(), Say(), Wake(), Do())),)
FAMILY = (
    ProcessPlan(name="p", acts=(Do(), Await("p.child"), Wake())),
    ProcessPlan(name="p.child", acts=(Toil(1.2), Hear(), Do(), Wake())),
)
FAMILIES = {"countdown": COUNTDOWN, "parent and child": FAMILY}


def plan(family: tuple[ProcessPlan, ...], *faults: Fault, workers: int, landing: float = 0.0) -> Plan:
    return Plan(
        seed=1,
        sessions=1,
        workers=tuple(WorkerPlan(runs_work=not index or workers == 2) for index in range(workers)),
        clients=(ClientPlan(steps=(Start("p"), Pause(8.0)), starts_at=0.05),),
        processes=family,
        permits=1,
        faults=faults,
        lease=2.0,
        landing=landing,
    )


@cache
def places(name: str) -> tuple[tuple[str, int], ...]:
    """The calls of one undisturbed life, each as the how-manieth of its kind, and the one of whoever comes after."""
    verdict = run(plan(FAMILIES[name], workers=1), traced=True)
    assert verdict.violation is None
    assert verdict.trace is not None
    calls = Counter(method for line in verdict.trace.lines for method in METHODS if f" {method} " in line)
    assert all(calls[method] for method in METHODS)
    calls["list_process_events"] = 2
    if name != "countdown":
        del calls["register_process"]  # a parent that is there without its child fails
    return tuple((method, number) for method, count in sorted(calls.items()) for number in range(1, count + 1))


def at(place: tuple[str, int], kind: FaultKind) -> Fault:
    method, number = place
    return Fault(worker=0, method=method, nth=number, kind=kind, seconds=0.2)


def is_whole(verdict: Verdict, family: tuple[ProcessPlan, ...], told: object) -> None:
    assert verdict.violation is None, (told, verdict.violation)
    counts = verdict.counts
    acts = Counter(type(act) for process in family for act in process.acts)
    assert counts["process completed"] == len(family), told
    assert counts["wake asked"] == counts["wake enqueued"] == counts["turn completed"] == acts[Wake], told
    # Each kill costs one effect more at most: the one whose note was on its way.
    assert acts[Do] <= counts["process did"] <= acts[Do] + counts.get("killed", 0), told


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_owner_may_die_at_any_place(name: str, workers: int) -> None:
    killed = 0
    for place in places(name):
        for kind in KILLS:
            verdict = run(plan(FAMILIES[name], at(place, kind), workers=workers, landing=float(workers == 2)))
            is_whole(verdict, FAMILIES[name], (place, kind))
            killed += verdict.counts.get("killed", 0)
    assert killed > len(places(name))


def test_two_owners_may_die_at_any_two_places_of_a_countdown() -> None:
    written = [place for place in places("countdown") if place[0] in ("append_event", "acquire_process_lease", "claim")]
    for one, other in combinations(written, 2):
        is_whole(
            run(plan(COUNTDOWN, at(one, "kill_after"), at(other, "kill_before"), workers=1)), COUNTDOWN, (one, other)
        )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", LOSSES)
def test_any_call_may_fail_and_any_answer_get_lost(name: str, kind: FaultKind) -> None:
    for place in places(name):
        verdict = run(plan(FAMILIES[name], at(place, kind), workers=2))
        assert verdict.violation is None, (place, verdict.violation)
        assert verdict.counts["process completed"] == len(FAMILIES[name]), place
