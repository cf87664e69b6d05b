"""Processes in some of the worlds: what they do, who begins them, what is asked of them, and trouble with that.

They are drawn apart from the rest, so that the other worlds stay as they are.
"""

from __future__ import annotations

from random import Random
from typing import TypeVar

from msgspec import structs

from sightline.process.model import Disposition
from tests.sim.plan import (
    Act,
    Await,
    AwaitProcess,
    CancelProcess,
    ClientPlan,
    Delete,
    Do,
    Ending,
    Fault,
    FaultKind,
    HandOver,
    Hear,
    Nap,
    Pause,
    Plan,
    Post,
    ProcessPlan,
    Say,
    SignalProcess,
    Start,
    Step,
    Toil,
    Wake,
)

__all__ = ["KINDS", "one_of", "with_processes"]

_T = TypeVar("_T")

_SHARE = 0.12
"""Of all worlds."""
_STEPS = 3
"""What else clients do in these, at most: there is enough of that in the others."""
KINDS: tuple[tuple[FaultKind, int], ...] = (
    ("refuse", 4),
    ("lose_answer", 4),
    ("lose_all", 4),
    ("kill_before", 4),
    ("kill_after", 5),
    ("stall", 4),
    ("slow_answer", 3),
)
_METHODS = (
    ("append_event", 10),
    ("acquire_process_lease", 6),
    ("deliver_wake", 5),
    ("renew_process_lease", 4),
    ("register_process", 3),
    ("get_process", 2),
    ("list_process_events", 2),
    ("pending_wakes", 2),
    ("runnable_processes", 2),
    ("abandon_process", 2),
    ("release_process_lease", 1),
    ("grants_of_process", 1),
)

_ENDINGS: tuple[tuple[Ending, int], ...] = (("well", 8), ("fails", 1), ("crashes", 1))


def one_of(chance: Random, choices: tuple[tuple[_T, int], ...]) -> _T:
    """One of them, by weight."""
    left = chance.random() * sum(weight for _, weight in choices)
    for choice, weight in choices:
        left -= weight
        if left < 0:
            return choice
    return choices[-1][0]


def with_processes(chance: Random, plan: Plan, *, calm: bool) -> Plan:
    """The plan, in some worlds with processes."""
    if chance.random() >= _SHARE:
        return plan
    processes: list[ProcessPlan] = []
    clients = [structs.replace(client, steps=client.steps[:_STEPS]) for client in plan.clients]
    for number in range(one_of(chance, ((1, 4), (2, 4), (3, 2)))):
        family = _family(chance, f"x{number}", plan.sessions)
        processes += family
        first = family[0]
        at = chance.randrange(len(clients))
        posts = [index for index, step in enumerate(clients[at].steps) if isinstance(step, Post) and not step.starts]
        external = any(process.disposition == "externally_owned" for process in family)
        if posts and not external and chance.random() < 0.4:
            clients[at] = _started_by_a_turn(clients[at], chance.choice(posts), first)
            begun: tuple[Step, ...] = (Pause(chance.uniform(0.05, 1.0)),)
        else:
            begun = (Start(first.name),)
        clients[at] = _with_steps(chance, clients[at], (*begun, *_asked_of(chance, family, plan.sessions)))
    faults = () if calm else tuple(_fault(chance, len(plan.workers)) for _ in range(chance.randint(1, 4)))
    return structs.replace(
        plan,
        processes=tuple(processes),
        clients=tuple(clients),
        faults=faults + (plan.faults if chance.random() < 0.5 else ()),
        # As many turns as sessions may want to run: then only processes are ever short of permits.
        permits=plan.sessions if chance.random() < 0.5 else 64,
    )


def _family(chance: Random, name: str, sessions: int) -> list[ProcessPlan]:
    """A process, and sometimes another whose end it awaits. The child comes after its parent in the order of ids."""
    parent = _process(chance, name, chance.randrange(sessions))
    if parent.disposition == "externally_owned" or chance.random() < 0.6:
        return [parent]
    child = _process(chance, f"{name}.child", chance.randrange(sessions))
    if child.ends == "never":
        child = structs.replace(child, ends="well")
    place = chance.randint(0, len(parent.acts))
    acts = (*parent.acts[:place], Await(child.name), *parent.acts[place:])
    return [structs.replace(parent, acts=acts), child]


def _process(chance: Random, name: str, session: int) -> ProcessPlan:
    kinds: tuple[tuple[Disposition, int], ...] = (("rerunnable", 6), ("owner_bound", 2), ("externally_owned", 2))
    disposition = one_of(chance, kinds)
    ends: Ending = one_of(chance, _ENDINGS)
    return ProcessPlan(
        name=name,
        session=session,
        disposition=disposition,
        acts=tuple(_act(chance) for _ in range(chance.randint(0, 5))),
        ends="never" if disposition == "externally_owned" and chance.random() < 0.3 else ends,
        stubborn=one_of(chance, ((0.0, 6), (0.5, 1), (6.0, 1))),
    )


def _act(chance: Random) -> Act:
    seconds = one_of(chance, ((0.05, 3), (1.0, 2), (4.5, 2))) * chance.uniform(0.5, 1.3)
    acts: tuple[tuple[Act, int], ...] = (
        (Wake(), 5),
        (Do(), 4),
        (Nap(seconds), 4),
        (Toil(seconds), 4),
        (Say(), 3),
        (Hear(), 2),
    )
    return one_of(chance, acts)


def _started_by_a_turn(client: ClientPlan, place: int, process: ProcessPlan) -> ClientPlan:
    post = client.steps[place]
    assert isinstance(post, Post)
    steps = (*client.steps[:place], structs.replace(post, starts=(process.name,)), *client.steps[place + 1 :])
    return structs.replace(client, steps=steps)


def _with_steps(chance: Random, client: ClientPlan, more: tuple[Step, ...]) -> ClientPlan:
    place = chance.randint(0, len(client.steps))
    return structs.replace(client, steps=(*client.steps[:place], *more, *client.steps[place:]))


def _asked_of(chance: Random, family: list[ProcessPlan], sessions: int) -> list[Step]:
    """What is asked of a process once it is there."""
    steps: list[Step] = []
    for _ in range(chance.randint(0, 3)):
        of = chance.choice(family)
        if chance.random() < 0.6:
            steps.append(Pause(chance.expovariate(1.0)))
        choices: tuple[tuple[Step, int], ...] = (
            (CancelProcess(of.name, sees=chance.random() < 0.4), 4),
            (SignalProcess(of.name), 2),
            (HandOver(of.name, chance.randrange(sessions)), 2),
            (AwaitProcess(of.name, chance.uniform(0.1, 8.0)), 3),
            (Delete(of.session), 1),
        )
        steps.append(one_of(chance, choices))
    return steps


def _fault(chance: Random, workers: int) -> Fault:
    kind = one_of(chance, KINDS)
    if kind in ("kill_before", "kill_after"):
        seconds = one_of(chance, ((-1.0, 1), (0.05, 2), (1.0, 2), (5.0, 1)))
    else:
        seconds = one_of(chance, ((0.1, 2), (1.0, 1), (5.0, 3))) * chance.uniform(0.5, 1.5)
    return Fault(
        worker=chance.randrange(workers),
        method=one_of(chance, _METHODS),
        nth=one_of(chance, ((1, 4), (2, 3), (3, 2), (4, 2), (6, 1))),
        kind=kind,
        times=one_of(chance, ((1, 6), (2, 1), (10, 1))) if kind in ("refuse", "lose_answer", "lose_all") else 1,
        seconds=seconds,
    )
