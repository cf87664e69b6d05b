"""A task that is listed, said to wait, handed to another session, and forgotten there, while one call after the other
goes wrong.

Whatever the place, both sessions are shown their own tasks and no others at the end.
"""

from __future__ import annotations

import pytest

from tests.sim.draw_processes import KINDS
from tests.sim.plan import (
    BeginTask,
    ClientPlan,
    Fault,
    FaultKind,
    ForgetTask,
    HandTask,
    HearTasks,
    Pause,
    Plan,
    Step,
    StopTask,
    TaskStands,
    Watch,
    WorkerPlan,
)
from tests.sim.world import run

STORY: tuple[Step, ...] = (
    Watch(0),
    Watch(1),
    HearTasks(1),
    BeginTask(of="one", session=0, key="a", ends=True),
    BeginTask(of="two", session=1, key="b"),
    TaskStands("one", 0, "waiting"),
    HandTask("one", 0, 1),
    StopTask("one", 1),
    ForgetTask("two", 1),
)
CALLS = {"register_task": 2, "change_task": 3, "transfer_tasks": 1, "remove_task": 1, "list_tasks": 1, "get_task": 2}


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
@pytest.mark.parametrize("steps", range(4, len(STORY) + 1))
def test_any_call_may_go_wrong_wherever_the_story_ends(kind: FaultKind, steps: int) -> None:
    troubles = 0
    for method, calls in CALLS.items():
        for nth in range(1, calls + 1):
            fault = Fault(worker=0, method=method, nth=nth, kind=kind, seconds=0.3)
            client = ClientPlan(steps=(*STORY[:steps], Pause(3.0)))
            verdict = run(Plan(seed=nth, sessions=2, workers=(WorkerPlan(),), clients=(client,), faults=(fault,)))
            assert verdict.violation is None, (fault, verdict.violation)
            troubles += verdict.counts.get(kind, 0)
    assert troubles
