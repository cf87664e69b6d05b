"""Many small worlds in which much goes wrong and no law breaks; and the simulation's own promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.sim.__main__ import report
from tests.sim.defects import DEFECTS
from tests.sim.draw import draw
from tests.sim.ledger import Law
from tests.sim.plan import Plan
from tests.sim.world import run

ROOT = Path(__file__).resolve().parents[2]

# What has to have happened in 20,000 worlds, and how often at least: a run must not pass because nothing happened.
EXPECTED = {
    "turn completed": 20_000,
    "turn cancelled": 500,
    "turn failed": 2_000,
    "gave up": 5,
    "timed out": 1_000,
    "joined": 200,
    "taken in at a checkpoint": 500,
    "taken unknowingly": 10,
    "deleted": 300,
    "killed": 2_000,
    "takeover": 500,
    "landed after death": 50,
    "lease renewed": 10_000,
    "lease lost": 200,
    "refused: LeaseLost": 20,
    "commit repeated": 500,
    "commit in conflict": 20,
    "claim again": 1_000,
    "given back": 20,
    "handed back": 50,
    "stale abandon": 100,
    "replay": 1_000,
    "replay after the end": 500,
    "clash refused": 500,
    "forgotten": 1_000,
    "cancelled": 500,
    "cancelled from": 500,
    "cancelled before it came": 500,
    "cancel came too late": 500,
    "asked: cancel_requested": 500,
    "asked again": 10_000,
    "not known": 500,
    "clock stepped": 500,
    "outage": 1_000,
    "nothing: lane_busy": 5_000,
    "nothing: held": 500,
    "watched to the end": 5_000,
    "view compared": 5_000,
    "waited to the end": 2_000,
    "noted": 10_000,
    "recalled": 200,
    "stale note": 10,
    "asked anew": 5_000,
    "asked once more": 200,
    "answered": 5_000,
    "answer too late": 1_000,
    "looked for answers": 2_000,
    "withdrawn": 100,
    "lose_answer commit": 300,
    "lose_all commit": 300,
    "kill_before commit": 150,
    "kill_after commit": 150,
    "stall commit": 150,
    "slow_answer claim": 150,
    "kill_after claim": 200,
    "kill_after enqueue": 200,
    "lose_all enqueue": 300,
    "lose_all request_cancel": 50,
    "registered: rerunnable": 1_500,
    "registered: owner_bound": 500,
    "registered: externally_owned": 500,
    "registered again": 100,
    "process run": 2_000,
    "process run again": 100,
    "process taken over": 150,
    "process abandoned": 50,
    "process given back": 30,
    "process is busy": 80,
    "process lease renewed": 3_000,
    "process lease lost": 50,
    "stale event": 8,
    "event repeated": 300,
    "came after the end": 300,
    "process completed": 1_500,
    "process failed": 400,
    "process cancelled": 400,
    "process did": 700,
    "process slept": 700,
    "process heard": 300,
    "process awaited": 1_000,
    "handed over": 300,
    "not visible": 10,
    "cancelled with its session": 150,
    "wake asked": 1_200,
    "wake enqueued": 1_200,
    "wake discarded": 15,
    "wake settled before": 5,
    "view of processes compared": 1_000,
    "kill_before append_event": 30,
    "kill_after append_event": 40,
    "lose_all append_event": 70,
    "kill_after acquire_process_lease": 10,
    "lose_all deliver_wake": 4,
    "kill_after deliver_wake": 4,
    "task listed": 1_200,
    "task found again": 25,
    "task in conflict": 500,
    "task not there": 800,
    "task not changed": 200,
    "task waiting": 100,
    "task cancel_requested": 200,
    "task cancelled": 100,
    "task completed": 60,
    "task handed over": 70,
    "task not handed over": 40,
    "task forgotten": 120,
    "task gone with its session": 40,
    "heard of a task": 700,
    "view of tasks compared": 600,
    "lose_all change_task": 15,
    "kill_after register_task": 8,
}


def sim(*arguments: str, hash_seed: str = "random") -> str:
    """The simulation in a process of its own: its output."""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.sim", *arguments]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.timeout(600)
def test_no_law_breaks_in_many_worlds_and_everything_happens_in_them(pytestconfig: pytest.Config) -> None:
    worlds: int = pytestconfig.getoption("--worlds")
    counts = msgspec.json.decode(sim("--seeds", f"0..{worlds}", "--jobs", "2", "--counts"), type=dict[str, int])
    # Half of their share, for fewer worlds scatter more.
    expected = {what: max(1, least * worlds // 40_000) for what, least in EXPECTED.items()}
    assert {what: counts.get(what, 0) for what, least in expected.items() if counts.get(what, 0) < least} == {}


def test_the_same_seed_is_the_same_trace() -> None:
    for seed in range(100):
        one, other = run(draw(seed), traced=True), run(draw(seed), traced=True)
        assert one.trace is not None
        assert other.trace is not None
        assert one.trace.lines == other.trace.lines
        assert one.counts == other.counts


def test_the_same_seed_is_the_same_trace_in_every_process() -> None:
    seeds = ("--seeds", "0..150", "--digests")
    assert sim(*seeds, hash_seed="1") == sim(*seeds, hash_seed="2")


def test_looking_does_not_change_what_is_seen() -> None:
    assert all(run(draw(seed)).counts == run(draw(seed), traced=True).counts for seed in range(50))


@pytest.mark.parametrize("begin", [0, 10, 20])
def test_no_law_breaks_over_sqlite(begin: int, tmp_path: Path) -> None:
    for seed in range(begin, begin + 10):
        verdict = run(draw(seed), traced=True, database=tmp_path / f"{seed}.db")
        assert verdict.trace is not None
        assert verdict.violation is None, "\n".join(verdict.trace.lines)


def test_a_failing_world_is_minimised_and_can_be_made_to_happen_again() -> None:
    [defect] = [defect for defect in DEFECTS if defect.name == "a_sequence_is_used_again"]
    with defect.plant():
        plan = next(plan for plan in map(draw, range(100)) if run(plan).violation)
        violation = run(plan).violation
        assert violation is not None
        told = report(plan, violation)
        small = msgspec.json.decode(told.splitlines()[-1], type=Plan)
        again = run(small).violation
    assert again is not None
    assert again.law is violation.law is Law.GROWS
    assert f"--seed {plan.seed}" in told
    assert f"VIOLATION: {again}" in told
    assert (len(small.workers), small.sessions, small.faults, small.events) == (1, 1, (), ())
    assert sum(len(client.steps) for client in small.clients) == 2, "it takes two pieces of work"
    assert run(small).violation is None, "without the defect the same world breaks no law"
