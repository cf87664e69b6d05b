"""From a world in which a law breaks to the smallest one in which it still does.

Pieces of the plan are left out one by one: faults and events, whole clients, single steps, workers, sessions. Then what
is left is made plainer: clocks that agree, agents that are quick, answers in time. What still breaks the same law is
kept, until nothing more can go. Delays in a world follow from what is delayed, so leaving one thing out leaves the rest
as it was, mostly; where it does not, the smaller plan is just not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from msgspec import structs

from tests.sim.plan import (
    Await,
    AwaitProcess,
    BeginTask,
    CancelProcess,
    CancelRunning,
    ClientPlan,
    Command,
    Delete,
    Event,
    ForgetTask,
    HandOver,
    HandTask,
    HearTasks,
    Outage,
    Plan,
    Post,
    ProcessPlan,
    SignalProcess,
    Start,
    Step,
    StopTask,
    TaskStands,
    Watch,
    WorkerPlan,
)

__all__ = ["minimised"]

_T = TypeVar("_T")

_OF_A_SESSION = (
    *(Post, Command, CancelRunning, Delete, Watch, HandOver),
    *(BeginTask, TaskStands, StopTask, ForgetTask, HandTask, HearTasks),
)


def minimised(plan: Plan, breaks: Callable[[Plan], bool], *, budget: int = 1_500) -> Plan:
    """The smallest plan found for which `breaks` still holds, within so many tries."""
    while budget > 0:
        for smaller in _smaller(plan):
            budget -= 1
            if breaks(smaller):
                plan = smaller
                break
            if budget <= 0:
                return plan
        else:
            return plan
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with one thing less, the largest things first."""
    for index in range(len(plan.clients)):
        yield structs.replace(plan, clients=_without(plan.clients, index))
    for index in range(len(plan.workers) - 1, 0, -1):
        yield _without_worker(plan, index)
    for process in plan.processes:
        yield _without_process(plan, process.name)
    for index in range(len(plan.faults)):
        yield structs.replace(plan, faults=_without(plan.faults, index))
    for index in range(len(plan.events)):
        yield structs.replace(plan, events=_without(plan.events, index))
    for at, client in enumerate(plan.clients):
        for index in range(len(client.steps)):
            yield _with_client(plan, at, structs.replace(client, steps=_without(client.steps, index)))
    if plan.sessions > 1:
        yield _with_fewer_sessions(plan)
    yield from _plainer(plan)


def _plainer(plan: Plan) -> Iterator[Plan]:
    for index, worker in enumerate(plan.workers):
        for plain in (
            WorkerPlan(),
            structs.replace(worker, starts_at=0.0),
            structs.replace(worker, offset_ms=0, rate=1.0),
        ):
            if plain != worker:
                yield structs.replace(plan, workers=_with(plan.workers, index, plain))
    for at, client in enumerate(plan.clients):
        plain_client = structs.replace(client, patience=20.0, tries=8)
        if plain_client != client:
            yield _with_client(plan, at, plain_client)
        for index, step in enumerate(client.steps):
            for plainer in _plainer_step(step):
                yield _with_client(plan, at, structs.replace(client, steps=_with(client.steps, index, plainer)))
    for index, process in enumerate(plan.processes):
        for plain_process in _plainer_process(process):
            yield structs.replace(plan, processes=_with(plan.processes, index, plain_process))
    if plan.permits < 64:
        yield structs.replace(plan, permits=64)
    for index, fault in enumerate(plan.faults):
        if fault.times > 1:
            yield structs.replace(plan, faults=_with(plan.faults, index, structs.replace(fault, times=1)))
    if plan.turn_timeout:
        yield structs.replace(plan, turn_timeout=0.0)
    if plan.flush_window:
        yield structs.replace(plan, flush_window=0.0)
    if plan.retention < 1_000:
        yield structs.replace(plan, retention=86_400.0)


def _plainer_step(step: Step) -> Iterator[Step]:
    if not isinstance(step, Post):
        return
    plainer_fields: tuple[dict[str, Any], ...] = (
        {"stubborn": 0.0},
        {"sleep": 0.0},
        {"delay": 0.0},
        {"join": None},
        {"early": False},
        {"checks": False},
        {"ends": "well"},
        {"says": 1},
        {"asks": False},
        {"once": 0},
        {"starts": ()},
    )
    for change in plainer_fields:
        plainer = structs.replace(step, **change)
        if plainer != step:
            yield plainer


def _plainer_process(process: ProcessPlan) -> Iterator[ProcessPlan]:
    for index in range(len(process.acts)):
        yield structs.replace(process, acts=_without(process.acts, index))
    for plainer in (structs.replace(process, stubborn=0.0), structs.replace(process, ends="well")):
        if plainer != process:
            yield plainer


def _without_process(plan: Plan, name: str) -> Plan:
    """Nobody begins it, asks anything of it, or awaits it."""

    def is_about_it(step: Step) -> bool:
        about = Start | CancelProcess | SignalProcess | HandOver | AwaitProcess
        return isinstance(step, about) and step.of == name

    def without_it(step: Step) -> Step:
        return structs.replace(step, starts=()) if isinstance(step, Post) and name in step.starts else step

    clients = tuple(
        structs.replace(client, steps=tuple(without_it(step) for step in client.steps if not is_about_it(step)))
        for client in plan.clients
    )
    processes = tuple(
        structs.replace(process, acts=tuple(act for act in process.acts if act != Await(name)))
        for process in plan.processes
        if process.name != name
    )
    return structs.replace(plan, clients=clients, processes=processes)


def _with_client(plan: Plan, index: int, client: ClientPlan) -> Plan:
    return structs.replace(plan, clients=_with(plan.clients, index, client))


def _without_worker(plan: Plan, index: int) -> Plan:
    """Who comes after it moves up; what befell it is left out with it."""

    def place(worker: int) -> int:
        return worker - 1 if worker > index else worker

    clients = tuple(
        structs.replace(client, worker=place(client.worker) % (len(plan.workers) - 1)) for client in plan.clients
    )
    faults = tuple(structs.replace(fault, worker=place(fault.worker)) for fault in plan.faults if fault.worker != index)
    return structs.replace(
        plan,
        workers=_without(plan.workers, index),
        clients=clients,
        faults=faults,
        events=tuple(_moved(event, place) for event in plan.events if event.worker != index),
    )


def _moved(event: Event, place: Callable[[int], int]) -> Event:
    if isinstance(event, Outage):
        return event if event.worker is None else structs.replace(event, worker=place(event.worker))
    return structs.replace(event, worker=place(event.worker))


def _with_fewer_sessions(plan: Plan) -> Plan:
    last = plan.sessions - 1

    def moved(step: Step) -> Step:
        if isinstance(step, HandTask) and step.to == last:
            step = structs.replace(step, to=0)
        if isinstance(step, _OF_A_SESSION) and step.session == last:
            return structs.replace(step, session=0)
        return step

    processes = tuple(structs.replace(process, session=min(process.session, last - 1)) for process in plan.processes)

    clients = tuple(
        structs.replace(client, steps=tuple(moved(step) for step in client.steps)) for client in plan.clients
    )
    return structs.replace(plan, sessions=last, clients=clients, processes=processes)


def _without(parts: tuple[_T, ...], index: int) -> tuple[_T, ...]:
    return parts[:index] + parts[index + 1 :]


def _with(parts: tuple[_T, ...], index: int, part: _T) -> tuple[_T, ...]:
    return (*parts[:index], part, *parts[index + 1 :])
