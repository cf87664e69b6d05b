"""Background tasks in some of the worlds: what others say of them, who hands them where, and trouble with that.

They are drawn apart from the rest, and brought by clients of their own, so that the other worlds stay as they are.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from msgspec import structs

from tests.sim.draw_processes import KINDS, one_of
from tests.sim.plan import (
    BeginTask,
    ClientPlan,
    Delete,
    Fault,
    ForgetTask,
    HandTask,
    HearTasks,
    Pause,
    Plan,
    Step,
    StopTask,
    TaskStands,
    Watch,
)

__all__ = ["with_tasks"]

_SHARE = 0.05
"""Of all worlds; those with processes have enough to do."""
_METHODS = (
    ("register_task", 5),
    ("change_task", 8),
    ("transfer_tasks", 6),
    ("remove_task", 3),
    ("list_tasks", 2),
    ("get_task", 2),
    ("load_session", 3),
    ("delete_session", 1),
)
_How = Literal["running", "waiting", "says", "completed", "failed", "cancelled"]
_HOW: tuple[tuple[_How, int], ...] = (
    ("waiting", 4),
    ("running", 3),
    ("says", 3),
    ("completed", 2),
    ("failed", 1),
    ("cancelled", 1),
)


def with_tasks(chance: Random, plan: Plan, *, calm: bool) -> Plan:
    """The plan, in some worlds with clients that have tasks."""
    if plan.processes or chance.random() >= _SHARE:
        return plan
    sessions = max(2, plan.sessions)
    clients = tuple(
        ClientPlan(
            steps=tuple(_steps(chance, f"k{index}", sessions)),
            worker=chance.randrange(len(plan.workers)),
            starts_at=chance.uniform(0.0, 0.3),
            patience=one_of(chance, ((20.0, 3), (1.0, 1))),
        )
        for index in range(chance.randint(1, 2))
    )
    faults = () if calm else tuple(_fault(chance, len(plan.workers)) for _ in range(chance.randint(1, 3)))
    return structs.replace(
        plan,
        sessions=sessions,
        clients=(*plan.clients, *clients),
        faults=(*plan.faults, *faults),
        retention=86_400.0,  # what has ended is looked at to the end
    )


def _steps(chance: Random, client: str, sessions: int) -> list[Step]:
    """Few ids, so that tasks meet others of their name."""
    steps: list[Step] = [Watch(chance.randrange(sessions)), HearTasks(chance.randrange(sessions))]
    for number in range(chance.randint(3, 10)):
        of, session = chance.choice(("one", "two")), chance.randrange(sessions)
        begin = BeginTask(of=of, session=session, key=f"{client}.{number}", ends=chance.random() < 0.4)
        choices: tuple[tuple[Step, int], ...] = (
            (begin, 8),
            (TaskStands(of, session, one_of(chance, _HOW)), 8),
            (HandTask(of, session, chance.randrange(sessions)), 5),
            (StopTask(of, session), 4),
            (ForgetTask(of, session), 2),
            (Delete(session), 1 if chance.random() < 0.3 else 0),
        )
        steps.append(begin if number == 0 else one_of(chance, choices))
        if chance.random() < 0.3:
            steps.append(Pause(chance.expovariate(2.0)))
    return steps


def _fault(chance: Random, workers: int) -> Fault:
    kind = one_of(chance, KINDS)
    return Fault(
        worker=chance.randrange(workers),
        method=one_of(chance, _METHODS),
        nth=one_of(chance, ((1, 5), (2, 3), (3, 1))),
        kind=kind,
        times=one_of(chance, ((1, 5), (3, 1))) if kind in ("refuse", "lose_answer", "lose_all") else 1,
        seconds=one_of(chance, ((0.1, 2), (1.0, 2), (5.0, 1))) * chance.uniform(0.5, 1.5),
    )
