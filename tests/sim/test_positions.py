"""One turn that does things to the world and asks somebody, whose owner dies at every place where it can.

The places are the calls of the store that are made while it runs: before each and after each the process is killed, and
another goes on. Then also twice in one world, at any two places. Whatever the place, the laws hold, and the turn is
committed once, as completed, with each of its effects written down once.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from tests.sim.plan import ClientPlan, Fault, FaultKind, Pause, Plan, Post, WorkerPlan
from tests.sim.world import Verdict, run

KILLS: tuple[FaultKind, ...] = ("kill_before", "kill_after")
LOSSES: tuple[FaultKind, ...] = ("refuse", "lose_answer", "lose_all")
POSTED = Post(name="c0.0", once=3, asks=True, says=2, sleep=0.1)


def plan(*faults: Fault, workers: int, landing: float = 0.0) -> Plan:
    return Plan(
        seed=1,
        sessions=1,
        workers=tuple(WorkerPlan(runs_work=not index or workers == 2) for index in range(workers)),
        clients=(ClientPlan(steps=(POSTED, Pause(20.0)), starts_at=0.05),),
        faults=faults,
        landing=landing,
    )


@cache
def places() -> tuple[tuple[str, int], ...]:
    """The calls of one undisturbed life, each as the how-manieth of its kind, and the one of whoever comes after."""
    verdict = run(plan(workers=1), traced=True)
    assert verdict.violation is None
    assert verdict.trace is not None
    calls = Counter(
        method
        for line in verdict.trace.lines
        for method in ("claim", "remember", "open_request", "answers_to", "answer_request", "commit", "renew_lease")
        if f" {method} " in line
    )
    assert calls["remember"] == 6
    assert calls["open_request"] == calls["commit"] == 1
    calls["recall"] = 1
    return tuple((method, number) for method, count in sorted(calls.items()) for number in range(1, count + 1))


def at(place: tuple[str, int], kind: FaultKind) -> Fault:
    method, number = place
    return Fault(worker=0, method=method, nth=number, kind=kind, seconds=0.2)


def is_whole(verdict: Verdict, told: object) -> None:
    assert verdict.violation is None, (told, verdict.violation)
    counts = verdict.counts
    assert counts["turn completed"] == 1, told
    assert counts["noted"] == 6, told
    assert counts["asked anew"] == 1, told
    # Each kill costs one effect more at most: the one whose note was on its way.
    assert 6 <= counts["done"] <= 6 + counts.get("killed", 0), told


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("landing", [0.0, 1.0])
def test_an_owner_may_die_at_any_place(workers: int, landing: float) -> None:
    killed = 0
    for place in places():
        for kind in KILLS:
            verdict = run(plan(at(place, kind), workers=workers, landing=landing))
            is_whole(verdict, (place, kind))
            killed += verdict.counts.get("killed", 0)
    assert killed > len(places())


def test_two_owners_may_die_at_any_two_places() -> None:
    for one, other in combinations(places(), 2):
        for kind in KILLS:
            is_whole(run(plan(at(one, kind), at(other, kind), workers=1)), (one, other, kind))


@pytest.mark.parametrize("kind", LOSSES)
def test_any_call_may_fail_and_any_answer_get_lost(kind: FaultKind) -> None:
    for place in places():
        verdict = run(plan(at(place, kind), workers=2))
        assert verdict.violation is None, (place, verdict.violation)
        assert verdict.counts["turn completed"] == 1, place
