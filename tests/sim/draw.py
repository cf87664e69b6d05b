"""From a seed to a plan: what kinds of worlds there are, and how often.

Worlds are small, so that many fit into a minute: a law that breaks in a large world nearly always breaks in some small
one as well. Proportions are chosen for trouble, not for realism. Turns longer than their lease, clocks that are seconds
apart and workers that die in mid-commit are common here.

What a seed means is decided by this module alone. A change here changes every world; a failing plan outlives that as
JSON (`python -m tests.sim --plan`), its seed does not.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from msgspec import structs

from tests.sim.draw_processes import KINDS, one_of, with_processes
from tests.sim.draw_tasks import with_tasks
from tests.sim.plan import (
    CancelBatch,
    CancelFrom,
    CancelKey,
    CancelRunning,
    CancelTurn,
    Clash,
    ClientPlan,
    Command,
    Delete,
    Event,
    Fault,
    FaultKind,
    Outage,
    Pause,
    Plan,
    Post,
    Repeat,
    Step,
    StepClock,
    Stop,
    Sweep,
    Wait,
    Watch,
    WorkerPlan,
)

__all__ = ["draw"]

_METHODS = (
    ("commit", 10),
    ("claim", 7),
    ("enqueue", 7),
    ("abandon", 3),
    ("load_session", 3),
    ("renew_lease", 5),
    ("request_cancel", 2),
    ("cancel_batch", 1),
    ("cancel_from", 1),
    ("get_batch", 1),
    ("peek_claimable", 1),
    ("claimable_sessions", 1),
    ("next_due", 1),
)
_ASKS: dict[type, str] = {
    Post: "enqueue",
    Command: "enqueue",
    CancelBatch: "cancel_batch",
    CancelFrom: "cancel_from",
    CancelKey: "request_cancel",
    CancelTurn: "request_cancel",
    CancelRunning: "request_cancel",
    Delete: "delete_session",
    Wait: "get_batch",
    Watch: "load_session",
}


def draw(seed: int) -> Plan:
    """The world of this seed."""
    chance = Random(seed)
    sessions = one_of(chance, ((1, 11), (2, 6), (3, 3)))
    workers = _workers(chance)
    calm = chance.random() < 0.15
    names = _Names(sessions, len(workers))
    clients = tuple(_client(chance, names, index) for index in range(one_of(chance, ((1, 8), (2, 8), (3, 4)))))
    plan = Plan(
        seed=seed,
        sessions=sessions,
        workers=workers,
        clients=clients,
        faults=() if calm else tuple(_fault(chance, len(workers), clients) for _ in range(chance.randint(1, 4))),
        events=() if calm else tuple(_events(chance, len(workers))),
        poll=chance.uniform(1.2, 2.5),
        lease=chance.uniform(2.0, 4.0),
        retention=one_of(chance, ((86_400.0, 2), (0.3, 1))),
        landing=one_of(chance, ((0.0, 1), (0.5, 1), (1.0, 1))),
    )
    plan = _with_requests(Random(f"requests {seed}"), plan, calm=calm)
    plan = _with_limits(Random(f"limits {seed}"), plan)
    plan = with_processes(Random(f"processes {seed}"), plan, calm=calm)
    return with_tasks(Random(f"tasks {seed}"), plan, calm=calm)


def _with_limits(chance: Random, plan: Plan) -> Plan:
    """In some worlds, turns that are stopped when they take too long, and text that is held back for a moment."""
    if chance.random() < 0.8:
        return plan
    return structs.replace(
        plan,
        turn_timeout=one_of(chance, ((0.0, 2), (1.0, 1), (3.0, 1))) * chance.uniform(0.5, 1.5),
        flush_window=one_of(chance, ((0.0, 1), (0.05, 1), (0.5, 1))),
    )


def _with_requests(chance: Random, plan: Plan, *, calm: bool) -> Plan:
    """In some worlds, turns that keep a journal and ask people, and trouble with that."""
    if chance.random() < 0.7:
        return plan
    clients = tuple(
        structs.replace(client, steps=tuple(_asking(chance, step) for step in client.steps)) for client in plan.clients
    )
    more = () if calm or chance.random() < 0.3 else (_fault_of_a_request(chance, len(plan.workers)),)
    return structs.replace(plan, clients=clients, faults=plan.faults + more)


def _asking(chance: Random, step: Step) -> Step:
    if not isinstance(step, Post) or chance.random() < 0.4:
        return step
    return structs.replace(step, once=chance.randint(0, 3), asks=chance.random() < 0.7)


def _fault_of_a_request(chance: Random, workers: int) -> Fault:
    method = one_of(
        chance,
        (("remember", 6), ("open_request", 5), ("recall", 2), ("answer_request", 3), ("answers_to", 1), ("commit", 2)),
    )
    kind: FaultKind = one_of(chance, KINDS)
    return Fault(
        worker=chance.randrange(workers),
        method=method,
        nth=chance.randint(1, 5),
        kind=kind,
        times=one_of(chance, ((1, 4), (3, 2), (10, 1))) if kind in ("refuse", "lose_answer", "lose_all") else 1,
        seconds=one_of(chance, ((0.05, 2), (1.0, 2), (5.0, 2))),
    )


class _Names:
    """What has been posted so far, for steps that refer to it."""

    def __init__(self, sessions: int, workers: int) -> None:
        self.sessions = sessions
        self.workers = workers
        self.posts: list[str] = []
        self.keyed: list[str] = []
        self.repeatable: list[str] = []


def _workers(chance: Random) -> tuple[WorkerPlan, ...]:
    count = one_of(chance, ((1, 5), (2, 9), (3, 6)))
    wrong = chance.random() < 0.6
    return tuple(
        WorkerPlan(
            # The first one always works: somebody has to.
            runs_work=index == 0 or chance.random() < 0.8,
            starts_at=0.0 if index == 0 or chance.random() < 0.7 else chance.uniform(0.0, 3.0),
            offset_ms=chance.randint(-1500, 1500) if wrong else 0,
            rate=chance.uniform(0.9, 1.1) if wrong else 1.0,
        )
        for index in range(count)
    )


def _client(chance: Random, names: _Names, index: int) -> ClientPlan:
    steps: list[Step] = []
    count = chance.randint(2, 6)
    if chance.random() < 0.4:
        steps.append(Watch(chance.randrange(names.sessions)))
    if chance.random() < 0.15:
        steps += _long_turn(chance, names, f"c{index}")
    for number in range(count):
        step = _step(chance, names, f"c{index}.{number}")
        if step is not None:
            steps.append(step)
        if chance.random() < 0.3:
            steps.append(Pause(chance.expovariate(1.0)))
    return ClientPlan(
        steps=tuple(steps),
        worker=chance.randrange(names.workers),
        starts_at=chance.uniform(0.0, 0.1),
        patience=one_of(chance, ((20.0, 4), (0.05, 1), (1.0, 1))),
        tries=one_of(chance, ((8, 3), (2, 1))),
    )


def _step(chance: Random, names: _Names, name: str) -> Step | None:
    make = one_of(chance, _STEPS)
    return make(chance, names, name)


def _post(chance: Random, names: _Names, name: str) -> Step:
    keyed = chance.random() < 0.8
    names.posts.append(name)
    if keyed:
        names.keyed.append(name)
        names.repeatable.append(name)
    return Post(
        name=name,
        session=chance.randrange(names.sessions),
        keyed=keyed,
        delay=chance.uniform(0.2, 4.0) if chance.random() < 0.2 else 0.0,
        join=one_of(chance, (("a", 3), ("b", 1), ("type", 1), ("never", 1))) if chance.random() < 0.4 else None,
        early=chance.random() < 0.35,
        checks=chance.random() < 0.3,
        says=chance.randint(0, 3),
        sleep=one_of(chance, ((0.0, 5), (0.2, 3), (1.5, 2), (4.5, 2))) * chance.uniform(0.5, 1.3),
        ends=one_of(chance, (("well", 8), ("fails", 1), ("exits", 1))),
        stubborn=one_of(chance, ((0.0, 6), (0.5, 1), (6.0, 1))),
    )


def _long_turn(chance: Random, names: _Names, client: str) -> list[Step]:
    """A turn that outlasts its lease, with delayed work in front of it and with input to take in behind it: whoever
    takes over takes the one first, and finds the other with it.
    """
    session = chance.randrange(names.sessions)
    delay, sleep = chance.uniform(0.5, 4.0), chance.uniform(0.5, 3.0)
    posts = (
        Post(name=f"{client}.delayed", session=session, delay=delay, sleep=sleep),
        Post(name=f"{client}.long", session=session, says=3, sleep=chance.uniform(4.1, 7.0), checks=True),
        Post(name=f"{client}.more", session=session, early=True, sleep=chance.uniform(0.0, 1.0)),
    )
    names.posts += [post.name for post in posts]
    return list(posts)


def _command(chance: Random, names: _Names, name: str) -> Step:
    names.posts.append(name)
    names.repeatable.append(name)
    reset = chance.random() < 0.35
    return Command(
        name=name,
        session=chance.randrange(names.sessions),
        kind="reset" if reset else "refresh",
        expects=None if reset or chance.random() < 0.5 else chance.randint(0, 2),
    )


def _key_cancel(chance: Random, names: _Names, name: str) -> Step | None:
    """Of something that was posted, or, more telling, of something that this client or another is yet to post."""
    if names.keyed and chance.random() < 0.6:
        return CancelKey(chance.choice(names.keyed))
    client, _, number = name[1:].partition(".")
    return CancelKey(f"c{client}.{int(number) + chance.randint(1, 2)}")


def _of_post(make: Callable[[str], Step]) -> Callable[[Random, _Names, str], Step | None]:
    return lambda chance, names, name: make(_some(chance, names.posts)) if names.posts else None


def _of_keyed(make: Callable[[str], Step]) -> Callable[[Random, _Names, str], Step | None]:
    return lambda chance, names, name: make(_some(chance, names.keyed)) if names.keyed else None


def _some(chance: Random, posts: list[str]) -> str:
    """Rather one of the last, which may still be waiting."""
    return chance.choice(posts[-2:] if chance.random() < 0.7 else posts)


def _repeat(chance: Random, names: _Names, name: str) -> Step | None:
    return Repeat(chance.choice(names.repeatable)) if names.repeatable else None


def _wait(chance: Random, names: _Names, name: str) -> Step | None:
    return Wait(chance.choice(names.posts), chance.uniform(0.1, 8.0)) if names.posts else None


_STEPS: tuple[tuple[Callable[[Random, _Names, str], Step | None], int], ...] = (
    (_post, 50),
    (_command, 8),
    (_repeat, 8),
    (_of_keyed(Clash), 3),
    (_of_post(CancelBatch), 5),
    (_of_post(CancelFrom), 3),
    (_key_cancel, 5),
    (_of_post(CancelTurn), 5),
    (lambda chance, names, name: CancelRunning(chance.randrange(names.sessions)), 4),
    (lambda chance, names, name: Delete(chance.randrange(names.sessions)) if chance.random() < 0.5 else None, 2),
    (_wait, 7),
    (lambda chance, names, name: Sweep(), 4),
)


def _target(chance: Random, workers: int, clients: tuple[ClientPlan, ...]) -> tuple[int, str]:
    """Where a fault strikes: at anything that workers do, or at something that a client is about to ask for."""
    if chance.random() < 0.4:
        client = chance.choice(clients)
        asked = [_ASKS[type(step)] for step in client.steps if type(step) in _ASKS]
        # Rather a cancel: there are few of them, and there is much that one can meet.
        asked += 3 * [method for method in asked if _is_cancel(method)]
        if asked:
            return client.worker, chance.choice(asked)
    return chance.randrange(workers), one_of(chance, _METHODS)


def _fault(chance: Random, workers: int, clients: tuple[ClientPlan, ...]) -> Fault:
    busy = [client.worker for client in clients if any(_is_long(step) for step in client.steps)]
    if busy and chance.random() < 0.4:
        return _fault_of_a_long_turn(chance, chance.choice(busy))
    worker, method = _target(chance, workers, clients)
    kind: FaultKind = one_of(chance, (*KINDS, ("lose_all", 12)) if _is_cancel(method) else KINDS)
    if kind in ("kill_before", "kill_after"):
        seconds = one_of(chance, ((-1.0, 1), (0.05, 2), (1.0, 2), (5.0, 1)))
    else:
        # Short enough to be waited for, or longer than a lease.
        seconds = one_of(chance, ((0.1, 2), (1.0, 1), (5.0, 3))) * chance.uniform(0.5, 1.5)
    return Fault(
        worker=worker,
        method=method,
        nth=one_of(chance, ((1, 5), (2, 3), (3, 2), (4, 1))),
        kind=kind,
        times=_times(chance, method) if kind in ("refuse", "lose_answer", "lose_all") else 1,
        seconds=seconds,
    )


def _is_cancel(method: str) -> bool:
    return method in ("cancel_batch", "cancel_from", "request_cancel")


def _is_long(step: Step) -> bool:
    return isinstance(step, Post) and step.checks and step.sleep > 4.0


def _fault_of_a_long_turn(chance: Random, worker: int) -> Fault:
    """Its lease is not renewed, or what it takes in at a checkpoint is not told."""
    if chance.random() < 0.5:
        return Fault(worker=worker, method="renew_lease", nth=chance.randint(1, 2), kind="refuse", times=10)
    kind: FaultKind = chance.choice(("lose_all", "lose_answer"))
    return Fault(worker=worker, method="claim", nth=chance.randint(2, 4), kind=kind)


def _times(chance: Random, method: str) -> int:
    """Once or twice; or as often as it takes to use up the patience of whoever tries again. A lease outlives less."""
    return one_of(chance, ((1, 2), (10, 1)) if method == "renew_lease" else ((1, 6), (2, 1), (10, 1)))


def _events(chance: Random, workers: int) -> list[Event]:
    events: list[Event] = []
    if chance.random() < 0.2:
        events.append(
            Stop(
                worker=chance.randrange(workers),
                at=chance.uniform(0.05, 3.0),
                grace=one_of(chance, ((0.0, 2), (1.0, 1))),
                back_after=one_of(chance, ((-1.0, 1), (0.1, 2), (2.0, 1))),
            )
        )
    if chance.random() < 0.15:
        where = None if chance.random() < 0.5 else chance.randrange(workers)
        events.append(Outage(worker=where, at=chance.uniform(0.0, 3.0), seconds=chance.choice((0.3, 2.0, 6.0))))
    if chance.random() < 0.15:
        events.append(
            StepClock(
                worker=chance.randrange(workers),
                at=chance.uniform(0.0, 4.0),
                by_ms=chance.choice((-5000, -500, 500, 5000)),
            )
        )
    return events
