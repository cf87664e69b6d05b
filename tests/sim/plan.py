"""A world before it happens, as plain data.

A plan says everything that is not code: which sessions, workers and clients there are, what the clients do and the
agents answer, how wrong the clocks are, what goes wrong and when. It is drawn from a seed (`draw.py`) before anything
runs; nothing is drawn while it runs, except delays, and those follow from the seed and from what is delayed alone. So a
plan can be cut down piece by piece, and what is left of it still happens as before. That is what makes a minimised
failure possible (`minimise.py`), and why a plan can be written down as JSON and run again.

Things are named by what they are for: a post by its `name`, which is also the text that the agent is given, and by
which other steps refer to it; sessions, workers and clients by their place.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sightline.process.model import Disposition

__all__ = [
    "Act",
    "Await",
    "AwaitProcess",
    "BeginTask",
    "CancelBatch",
    "CancelFrom",
    "CancelKey",
    "CancelProcess",
    "CancelRunning",
    "CancelTurn",
    "Clash",
    "ClientPlan",
    "Command",
    "Delete",
    "Do",
    "Ending",
    "Event",
    "Fault",
    "FaultKind",
    "ForgetTask",
    "HandOver",
    "HandTask",
    "Hear",
    "HearTasks",
    "Nap",
    "Outage",
    "Pause",
    "Plan",
    "Post",
    "ProcessPlan",
    "Repeat",
    "Say",
    "SignalProcess",
    "Start",
    "Step",
    "StepClock",
    "Stop",
    "StopTask",
    "Sweep",
    "TaskStands",
    "Toil",
    "Wait",
    "Wake",
    "Watch",
    "WorkerPlan",
]


class WorkerPlan(Struct, frozen=True):
    """A process. `runs_work` false: it takes requests and leaves the work to others. Its clock is `offset_ms` off and
    runs at `rate`.
    """

    runs_work: bool = True
    starts_at: float = 0.0
    offset_ms: int = 0
    rate: float = 1.0


class Post(Struct, frozen=True, kw_only=True, tag="post"):
    """Enqueue work, and say how its agent behaves.

    `keyed`: with a key, so that the client may try again. `delay`: not before so many seconds. `join`: joins neighbours
    of the same group. `early`: may be delivered into a turn that runs. The agent says `says` pieces in `sleep` seconds,
    and looks for more input after each if it `checks`; `ends`: how; `stubborn`: for how long it ignores a cancellation.
    Before that it does `once` things to the world that are not to be done twice, then `asks` somebody, and does as many
    again, and begins the processes that it `starts`.
    """

    name: str
    session: int = 0
    keyed: bool = True
    delay: float = 0.0
    join: str | None = None
    early: bool = False
    checks: bool = False
    says: int = 1
    sleep: float = 0.0
    ends: Literal["well", "fails", "exits"] = "well"
    stubborn: float = 0.0
    once: int = 0
    asks: bool = False
    starts: tuple[str, ...] = ()


class Command(Struct, frozen=True, kw_only=True, tag="command"):
    """Submit a session command. `expects`: the generation it wants the tools to have, none for any."""

    name: str
    session: int = 0
    kind: Literal["reset", "refresh"] = "refresh"
    expects: int | None = None


class Repeat(Struct, frozen=True, tag="repeat"):
    """Send the post or command of that name again, as it was, whatever became of it."""

    of: str


class Clash(Struct, frozen=True, tag="clash"):
    """Send other content under the key of that post."""

    of: str


class CancelBatch(Struct, frozen=True, tag="cancel_batch"):
    of: str


class CancelFrom(Struct, frozen=True, tag="cancel_from"):
    """Cancel that post and everything behind it."""

    of: str


class CancelKey(Struct, frozen=True, tag="cancel_key"):
    """Cancel by the key of that post, which may not have been sent yet."""

    of: str


class CancelTurn(Struct, frozen=True, tag="cancel_turn"):
    """Ask for that post's turn by its id, then for its end."""

    of: str


class CancelRunning(Struct, frozen=True, tag="cancel_running"):
    session: int


class Delete(Struct, frozen=True, tag="delete"):
    """Erase the session, with whatever is going on in it."""

    session: int


class Wait(Struct, frozen=True, tag="wait"):
    """Wait for the end of that post, at most so long."""

    of: str
    seconds: float


class Pause(Struct, frozen=True, tag="pause"):
    seconds: float


class Watch(Struct, frozen=True, tag="watch"):
    """Subscribe where the client's worker is, and keep folding."""

    session: int


class Sweep(Struct, frozen=True, tag="sweep"):
    """One round of housekeeping at the client's worker."""


class Start(Struct, frozen=True, tag="start"):
    """Begin that process, and at the same moment those whose end it awaits."""

    of: str


class CancelProcess(Struct, frozen=True, tag="cancel_process"):
    """Ask for the end of that process. `sees`: as one who sees it in its session."""

    of: str
    sees: bool = False


class SignalProcess(Struct, frozen=True, tag="signal_process"):
    """Tell that process something, whether it listens or not."""

    of: str


class HandOver(Struct, frozen=True, tag="hand_over"):
    """Let another session see that process, and its own no more."""

    of: str
    session: int


class AwaitProcess(Struct, frozen=True, tag="await_process"):
    """Wait for the end of that process, at most so long."""

    of: str
    seconds: float


class BeginTask(Struct, frozen=True, kw_only=True, tag="begin_task"):
    """List the task `of`, which somebody else does, once under that key. `ends`: it has a callback that ends it, in the
    memory of whoever is asked.
    """

    of: str
    session: int
    key: str
    ends: bool = False


class TaskStands(Struct, frozen=True, tag="task_stands"):
    """Say how that session's task stands."""

    of: str
    session: int
    how: Literal["running", "waiting", "says", "completed", "failed", "cancelled"]


class StopTask(Struct, frozen=True, tag="stop_task"):
    """End that session's task, or ask for its end."""

    of: str
    session: int


class ForgetTask(Struct, frozen=True, tag="forget_task"):
    of: str
    session: int


class HandTask(Struct, frozen=True, tag="hand_task"):
    """Hand that session's task to another one."""

    of: str
    session: int
    to: int


class HearTasks(Struct, frozen=True, tag="hear_tasks"):
    """Read what happens to the session's tasks where the client's worker is."""

    session: int


Step = (
    Post
    | Command
    | Repeat
    | Clash
    | CancelBatch
    | CancelFrom
    | CancelKey
    | CancelTurn
    | CancelRunning
    | Delete
    | Wait
    | Pause
    | Watch
    | Sweep
    | Start
    | CancelProcess
    | SignalProcess
    | HandOver
    | AwaitProcess
    | BeginTask
    | TaskStands
    | StopTask
    | ForgetTask
    | HandTask
    | HearTasks
)


class Say(Struct, frozen=True, tag="say"):
    """Log how far it has come."""


class Nap(Struct, frozen=True, tag="nap"):
    """Be idle for so long, which a crash does not begin anew."""

    seconds: float


class Toil(Struct, frozen=True, tag="toil"):
    """Be at work for so long."""

    seconds: float


class Hear(Struct, frozen=True, tag="hear"):
    """Wait for a signal, which somebody will send."""


class Do(Struct, frozen=True, tag="do"):
    """Do something to the world that is not to be done twice."""


class Wake(Struct, frozen=True, tag="wake"):
    """Ask for a turn of its session."""


class Await(Struct, frozen=True, tag="await"):
    """Wait for the end of that process."""

    of: str


Act = Say | Nap | Toil | Hear | Do | Wake | Await


Ending = Literal["well", "fails", "crashes", "never"]


class ProcessPlan(Struct, frozen=True, kw_only=True):
    """A process of that session, which does its `acts` one after the other, and how it ends. One that `crashes` raises;
    `stubborn`: for how long it ignores its cancellation. Of an external one a program somewhere else does the acts, and
    says how it ended, or `never` does.
    """

    name: str
    session: int = 0
    disposition: Disposition = "rerunnable"
    acts: tuple[Act, ...] = ()
    ends: Ending = "well"
    stubborn: float = 0.0


class ClientPlan(Struct, frozen=True):
    """Somebody who talks to `worker`, and to the next one after trouble. `patience`: after how many seconds without an
    answer a request is dropped. `tries`: how often a request that is safe to repeat is sent.
    """

    steps: tuple[Step, ...]
    worker: int = 0
    starts_at: float = 0.0
    patience: float = 20.0
    tries: int = 8


FaultKind = Literal["refuse", "lose_answer", "lose_all", "kill_before", "kill_after", "stall", "slow_answer"]


class Fault(Struct, frozen=True, kw_only=True):
    """What befalls the `nth` call of `method` (from 1, over all lives) that a worker makes, and `times` - 1 more.

    * `refuse`: nothing is done, the caller is told so;
    * `lose_answer`: it is done, `then` hears of it, the caller gets an error;
    * `lose_all`: it is done, nobody hears of it;
    * `kill_before`, `kill_after`: the process dies, and comes back after `seconds` (never, when negative);
    * `stall`: it is done `seconds` later;
    * `slow_answer`: it is done at once, and told `seconds` later.
    """

    worker: int
    method: str
    nth: int
    kind: FaultKind
    times: int = 1
    seconds: float = 0.0


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """The worker is asked to end, has `grace` seconds for it, and comes back after `back_after` (never: negative)."""

    worker: int
    at: float
    grace: float
    back_after: float


class StepClock(Struct, frozen=True, kw_only=True, tag="step_clock"):
    """Somebody sets the worker's wall clock."""

    worker: int
    at: float
    by_ms: int


class Outage(Struct, frozen=True, kw_only=True, tag="outage"):
    """The store refuses everything, for one worker or for all of them (none)."""

    worker: int | None
    at: float
    seconds: float


Event = Stop | StepClock | Outage


class Plan(Struct, frozen=True, kw_only=True):
    """One world. Times are seconds of the loop's time.

    `poll`, `lease`, `retention`, `turn_timeout` and `flush_window` are the kernels' limits; `permits`: how many
    processes are at work at one time in each of them. `landing`: what share of the calls that are on their way when
    their caller is killed reach the store all the same.
    """

    seed: int
    sessions: int
    workers: tuple[WorkerPlan, ...]
    clients: tuple[ClientPlan, ...]
    faults: tuple[Fault, ...] = ()
    events: tuple[Event, ...] = ()
    processes: tuple[ProcessPlan, ...] = ()
    permits: int = 64
    poll: float = 1.0
    lease: float = 3.0
    retention: float = 86_400.0
    turn_timeout: float = 0.0
    flush_window: float = 0.0
    landing: float = 0.5

    @property
    def has_tasks(self) -> bool:
        return any(isinstance(step, BeginTask) for client in self.clients for step in client.steps)
