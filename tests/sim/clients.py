"""Those who post work, cancel it, wait for it and watch it: one step of their plan after the other.

A client talks to one worker and, after trouble, to the next. What is safe to repeat it repeats after an error that
leaves open what happened; what is not (work without a key) it sends once, and lives with not knowing. It holds the
gateway's promise against the ledger: what was acknowledged is there, at that moment and from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import UNSET

from sightline.errors import Conflict, Draining, InvalidInput, NotFound, SessionDeleted, Unavailable
from sightline.kernel import Kernel, Written
from sightline.process.model import NewGrant, ProcessScope
from sightline.queue.model import (
    Batch,
    DeliveryPolicy,
    Draft,
    Group,
    MergeKey,
    RefreshToolSurface,
    ResetSession,
    SessionCommand,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.tasks.model import Ending, NewTask, Progress, TaskAttempt, TaskChange, TaskFilter, Unfolding
from tests.sim import laws_of_leases, laws_of_tasks
from tests.sim.effects import delay_of
from tests.sim.ledger import Law, Violation
from tests.sim.lives import Gone
from tests.sim.loop import EPOCH_MS
from tests.sim.plan import (
    Await,
    AwaitProcess,
    BeginTask,
    CancelBatch,
    CancelFrom,
    CancelKey,
    CancelProcess,
    CancelRunning,
    CancelTurn,
    Clash,
    ClientPlan,
    Command,
    Delete,
    ForgetTask,
    HandOver,
    HandTask,
    HearTasks,
    Pause,
    Post,
    ProcessPlan,
    Repeat,
    SignalProcess,
    Start,
    Step,
    StopTask,
    Sweep,
    TaskStands,
    Wait,
    Watch,
)
from tests.sim.scripts import registration_of
from tests.sim.watching import Watcher

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Client", "Sent"]

_T = TypeVar("_T")


class Sent:
    """What one post or command became so far, known to all clients. `batch_id` once anybody was told."""

    def __init__(self, session_id: str, what: Draft | SessionCommand) -> None:
        self.session_id = session_id
        self.what = what
        self.batch_id: str | None = None


class Client:
    def __init__(self, world: World, index: int, plan: ClientPlan) -> None:
        self.name = f"c{index}"
        self._world = world
        self._plan = plan
        self._at = plan.worker
        self._count = 0
        self._processes = {process.name: process for process in world.plan.processes}

    async def run(self) -> None:
        await asyncio.sleep(self._plan.starts_at)
        for step in self._plan.steps:
            # Two clients never wake at the same moment: which of them a set holds first must not matter.
            await self._think()
            try:
                await self._take(step)
            except (Conflict, NotFound, SessionDeleted, InvalidInput) as error:
                self._world.note(self.name, f"{type(step).__name__}: {error}")

    async def _take(self, step: Step) -> None:
        match step:
            case Post() | Command():
                await self._send(step.name, self._sent(step), again=isinstance(step, Command) or step.keyed)
            case Repeat(of=of) if of in self._world.sent:
                await self._send(of, self._world.sent[of], again=True)
            case Clash(of=of) if of in self._world.sent:
                await self._clash(self._world.sent[of])
            case CancelKey(of=of):
                await self._cancel_key(of)
            case CancelRunning(session=session):
                name = f"s{session}"
                await self._ask(lambda kernel: kernel.cancel_turn(name))
            case Delete(session=session):
                name = f"s{session}"
                await self._ask(lambda kernel: kernel.delete_session(name))
            case Pause(seconds=seconds):
                await asyncio.sleep(seconds)
            case Watch(session=session):
                await self._watch(f"s{session}")
            case Sweep():
                await self._ask(lambda kernel: kernel.sweep())
            case Start(of=of):
                await self._start(self._processes[of])
            case CancelProcess(of=of) | SignalProcess(of=of) | HandOver(of=of) | AwaitProcess(of=of):
                process_id = self._world.started.get(of)
                if process_id is not None:
                    await self._touch_process(step, process_id)
            case BeginTask() | TaskStands() | StopTask() | ForgetTask() | HandTask() | HearTasks():
                await self._touch_task(step)
            case CancelBatch(of=of) | CancelFrom(of=of) | CancelTurn(of=of) | Wait(of=of):
                sent = self._world.sent.get(of)
                if sent is not None and sent.batch_id is not None:
                    await self._touch(step, sent.session_id, sent.batch_id)
            case _:
                pass

    async def _touch(self, step: Step, session_id: str, batch_id: str) -> None:
        """Do something about work that is known to be there."""
        match step:
            case CancelBatch():
                await self._ask(lambda kernel: kernel.cancel_batch(session_id, batch_id))
            case CancelFrom():
                await self._ask(lambda kernel: kernel.cancel_from(session_id, batch_id))
            case CancelTurn():
                batch = await self._ask(lambda kernel: kernel.get_batch(session_id, batch_id))
                if batch is not None and isinstance(batch.turn_id, str):
                    turn_id = batch.turn_id
                    await self._ask(lambda kernel: kernel.cancel_turn(session_id, turn_id=turn_id))
            case Wait(seconds=seconds):
                await self._wait(session_id, batch_id, seconds)
            case _:
                pass

    async def _start(self, plan: ProcessPlan) -> None:
        """Begin the process, and at the same moment those whose end it awaits."""
        children = [self._start(self._processes[act.of]) for act in plan.acts if isinstance(act, Await)]
        grants = (NewGrant(scope=ProcessScope(f"s{plan.session}"), descriptor={"label": plan.name}),)
        registration = registration_of(plan)

        async def start() -> None:
            started = await self._ask(lambda kernel: kernel.processes.start_process(registration, grants))
            if started is not None:
                self._world.began(plan.name, started.record.process_id)

        await asyncio.gather(start(), *children)

    async def _touch_process(
        self, step: CancelProcess | SignalProcess | HandOver | AwaitProcess, process_id: str
    ) -> None:
        """Do something about a process that is known to be there."""
        session_id = self._processes[step.of].session
        match step:
            case CancelProcess(sees=sees):
                seen = f"s{session_id}" if sees else None
                await self._ask(lambda kernel: kernel.processes.cancel(process_id, self.name, session_id=seen))
            case SignalProcess():
                await self._ask(lambda kernel: kernel.processes.signal(process_id, self.name, {"said": self.name}))
            case HandOver(session=session):
                source, target = ProcessScope(f"s{session_id}"), ProcessScope(f"s{session}")
                await self._ask(lambda kernel: kernel.processes.transfer(source, target, (process_id,)))
            case AwaitProcess(seconds=seconds):
                output = await self._ask(lambda kernel: kernel.processes.end_of(process_id, seconds))
                if output is not None:
                    laws_of_leases.awaited(self._world.ledger, process_id, output)

    async def _touch_task(self, step: BeginTask | TaskStands | StopTask | ForgetTask | HandTask | HearTasks) -> None:
        """Do something about a task, whether it is there or not."""
        session_id = f"s{step.session}"
        match step:
            case BeginTask(of=of, key=key, ends=ends):
                new = NewTask(task_id=of, producer=self.name, attempt=TaskAttempt(idempotency_key=key))
                callback = _ended if ends else None
                record = await self._ask(lambda kernel: kernel.tasks.register(session_id, new, cancel=callback))
                if record is not None:
                    laws_of_tasks.acknowledged(self._world.ledger, record)
            case TaskStands(of=of, how=how):
                change = _CHANGES[how]
                await self._ask(lambda kernel: kernel.tasks.change(session_id, of, change))
            case StopTask(of=of):
                await self._ask(lambda kernel: kernel.tasks.cancel(session_id, of, self.name))
            case ForgetTask(of=of):
                await self._ask(lambda kernel: kernel.tasks.unregister(session_id, of))
            case HandTask(of=of, to=to):
                # Not again: who does not know whether it was handed over would be told that it is not there.
                await self._ask(lambda kernel: kernel.tasks.transfer(session_id, f"s{to}", (of,)), again=False)
            case HearTasks():
                life = self._world.slots[self._at].life
                if life is not None and not life.stopping:
                    reader = life.kernel.tasks.events(TaskFilter(session_id=session_id))
                    life.readers.append((session_id, reader))

    def _sent(self, step: Post | Command) -> Sent:
        """The same request however often it is made: its content is settled when it is first sent."""
        sent = self._world.sent.get(step.name)
        if sent is None:
            what = _command_of(step) if isinstance(step, Command) else self._draft_of(step)
            sent = self._world.sent[step.name] = Sent(f"s{step.session}", what)
        return sent

    def _draft_of(self, post: Post) -> Draft:
        keys: dict[str, MergeKey] = {"type": "payload_default", "never": "never"}
        due = EPOCH_MS + int((self._world.loop.time() + post.delay) * 1000) if post.delay else 0
        return Draft(
            session_id=f"s{post.session}",
            payloads=(TurnInputPayload(TurnInput((TextItem(post.name),))),),
            source_key=f"host:{post.name}" if post.keyed else None,
            delivery_policy=(
                DeliveryPolicy.EARLIEST_SAFE_BOUNDARY if post.early else DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
            ),
            slot_policy=SlotPolicy.EXCLUSIVE if post.join is None else SlotPolicy.JOIN,
            merge_key="never" if post.join is None else keys.get(post.join, Group(post.join)),
            available_at_ms=due,
        )

    async def _send(self, name: str, sent: Sent, *, again: bool) -> None:
        async def request(kernel: Kernel) -> Written:
            if isinstance(sent.what, Draft):
                return await kernel.enqueue(sent.what)
            return (await kernel.submit_command(sent.session_id, sent.what, name))[1]

        written = await self._ask(request, again=again)
        if written is None:
            return
        batch = written.batch
        self._world.note(self.name, f"{name} is accepted as {batch.batch_id}")
        if sent.session_id in self._world.ledger.deleted:
            return
        if self._world.ledger.work(sent.session_id, batch.batch_id) is None:
            raise Violation(Law.DURABLE, f"{name} is accepted as {batch.batch_id}, and is not in the store")
        if again and sent.batch_id not in (None, batch.batch_id):
            raise Violation(Law.ONE_KEY, f"{name} was accepted as {sent.batch_id} and as {batch.batch_id}")
        sent.batch_id = batch.batch_id
        self._world.accepted[batch.batch_id] = sent.session_id

    async def _clash(self, sent: Sent) -> None:
        if not isinstance(sent.what, Draft) or sent.what.source_key is None:
            return
        other = TurnInputPayload(TurnInput((TextItem(f"{sent.what.source_key}, otherwise"),)))
        draft = Draft(session_id=sent.session_id, payloads=(other,), source_key=sent.what.source_key)
        await self._ask(lambda kernel: kernel.enqueue(draft))

    async def _cancel_key(self, of: str) -> None:
        sent = self._world.sent.get(of)
        post = self._world.posts.get(of)
        session_id = sent.session_id if sent is not None else f"s{post.session}" if post is not None else "s0"
        await self._ask(lambda kernel: kernel.cancel_turn(session_id, source_key=f"host:{of}"))

    async def _wait(self, session_id: str, batch_id: str, seconds: float) -> None:
        batch: Batch | None = await self._ask(lambda kernel: kernel.wait_for_batch(session_id, batch_id, seconds))
        if batch is None or batch.state.is_open or session_id in self._world.ledger.deleted:
            return
        work = self._world.ledger.work(session_id, batch_id)
        if work is None or (work.state, work.turn_id) != (
            batch.state,
            None if batch.turn_id is UNSET else batch.turn_id,
        ):
            raise Violation(Law.READS, f"{batch_id} is said to have ended as {batch.state}, {batch.turn_id}")
        self._world.ledger.count("waited to the end")

    async def _watch(self, session_id: str) -> None:
        watcher = Watcher()

        async def request(kernel: Kernel) -> None:
            watcher.begin(*await kernel.subscribe(session_id, None, watcher.look))

        life = self._world.slots[self._at].life
        if life is not None:
            life.watchers.append(watcher)
            await self._ask(request, again=False)

    async def _ask(self, request: Callable[[Kernel], Coroutine[Any, Any, _T]], *, again: bool = True) -> _T | None:
        """Send a request, to another worker after trouble. None when it came to nothing."""
        tries = self._plan.tries if again else 1
        for attempt in range(tries):
            life = self._world.slots[self._at].life
            sure = False
            try:
                if life is None:
                    sure = True
                    raise Gone
                return await life.ask(request, self._plan.patience)
            except (Gone, Unavailable) as error:
                sure = sure or isinstance(error, Draining)
                self._world.note(self.name, f"is not answered: {error!r}")
                self._world.ledger.count("asked again" if again else "not known")
            self._at = (self._at + 1) % len(self._world.slots)
            if not again and not sure:
                return None
            await asyncio.sleep(min(2.0, 0.05 * 2.0**attempt))
            await self._think()
        return None

    async def _think(self) -> None:
        self._count += 1
        await asyncio.sleep(0.001 + 0.02 * delay_of(self._world.plan.seed, self.name, self._count))


_CHANGES: dict[str, TaskChange] = {
    "running": Unfolding("running"),
    "waiting": Unfolding("waiting"),
    "says": Progress("half of it"),
    "completed": Ending(state="completed", summary="all of it"),
    "failed": Ending(state="failed", summary="as planned"),
    "cancelled": Ending(state="cancelled", summary="given up"),
}


async def _ended() -> None:
    """Whoever does a task has stopped."""


def _command_of(command: Command) -> SessionCommand:
    if command.kind == "reset":
        return ResetSession(reason=command.name)
    return RefreshToolSurface(
        reason=command.name, expected_generation=UNSET if command.expects is None else command.expects
    )
