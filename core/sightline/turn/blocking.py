"""A turn for code that blocks: the same things to say and to ask, from a thread beside the event loop.

The thread hands over what it says and goes on; the loop takes it in portions, so that neither a delta costs a wake-up
nor a flood of them the other turns their time. Somebody who speaks faster than the loop listens is made to wait. What
has an answer is waited for. All calls take effect in the order in which they were made, from however many threads.

A thread cannot be stopped from outside. When its turn is cancelled it is told so by its next call, which raises
`TurnOver`, and by `cancelled`; the turn does not wait for it longer than for any other agent.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Literal, TypeVar

from msgspec import UNSET, UnsetType

from sightline.clock import Clock
from sightline.process.kinds import FUNCTION
from sightline.process.model import AwaitOutput, Disposition, EventType, HandleSummary
from sightline.queue.materializing import InputMessage, TurnCause
from sightline.session.model import Message, Policy, Role, UsageFigures
from sightline.turn.agent import Turn, TurnOver, check_text
from sightline.turn.blocking_tasks import BlockingTasks
from sightline.turn.composing import NewFrame

__all__ = ["BlockingTurn"]

_PORTION = 64
"""So many calls are taken before others on the loop get their turn."""
_MOST_WAITING = 4_096

_T = TypeVar("_T")
_Mail = tuple[Literal["run", "returned", "raised"], Any]


class BlockingTurn:
    """See `Turn`: the same, for a function that is no coroutine. May be used from any number of threads.

    Every call raises TurnOver once the turn was cancelled or has ended. Made on the event loop.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: list[Callable[[], None]] = []
        self._taking = False
        """Whether the loop knows that something waits."""
        self._over = False
        self._failure: Exception | None = None
        """Why something was not said that had been handed over; raised by the next call."""
        self._calls: set[asyncio.Task[Any]] = set()

    # What it is about

    @property
    def session_id(self) -> str:
        return self._turn.session_id

    @property
    def turn_id(self) -> str:
        return self._turn.turn_id

    @property
    def attempt(self) -> int:
        return self._turn.attempt

    @property
    def input(self) -> tuple[InputMessage, ...]:
        return self._turn.input

    @property
    def causes(self) -> tuple[TurnCause, ...]:
        return self._turn.causes

    @property
    def options(self) -> dict[str, Any]:
        return self._turn.options

    @property
    def policy(self) -> Policy:
        return self._turn.policy

    @property
    def clock(self) -> Clock:
        return self._turn.clock

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the end of the turn, or it has ended."""
        return self._over or self._turn.cancelled

    # What is said

    def text(self, text: str) -> None:
        """See `Turn.text`."""
        check_text(text)
        self._hand_over(lambda: self._turn.text(text))

    def reasoning(self, text: str) -> None:
        """See `Turn.reasoning`."""
        check_text(text)
        self._hand_over(lambda: self._turn.reasoning(text))

    def model_request(self) -> None:
        """See `Turn.model_request`."""
        self._hand_over(self._turn.model_request)

    def retract(self) -> None:
        """See `Turn.retract`."""
        self._hand_over(self._turn.retract)

    def retrying(self, reason: str, *, wait_seconds: float, attempt: int, max_attempts: int) -> None:
        """See `Turn.retrying`."""
        self._hand_over(
            lambda: self._turn.retrying(reason, wait_seconds=wait_seconds, attempt=attempt, max_attempts=max_attempts)
        )

    def error(self, message: str) -> None:
        """See `Turn.error`."""
        self._hand_over(lambda: self._turn.error(message))

    def continue_as(
        self, messages: Iterable[tuple[Role, str]], *, reason: str = "continue_as", task: str | None = None
    ) -> None:
        """See `Turn.continue_as`."""
        frame = NewFrame.of(messages, reason, task)
        self._hand_over(lambda: self._turn.continue_as(frame.messages, reason=frame.reason, task=frame.task))

    def usage(self, model: str, figures: UsageFigures, *, source: str = "agent") -> None:
        """See `Turn.usage`."""
        self._hand_over(lambda: self._turn.usage(model, figures, source=source))

    # What is answered

    def tool_call(self, name: str, args: Any, run: Callable[[], _T]) -> _T:
        """See `Turn.tool_call`; `run` is called here, in this thread."""
        return self._call(lambda here: self._turn.tool_call(name, args, here), run)  # type: ignore[no-any-return]

    def checkpoint(self) -> tuple[InputMessage, ...]:
        """See `Turn.checkpoint`."""
        return self.wait_for(self._turn.checkpoint)

    def ask(
        self, prompt: str, *, kind: str = "question", options: Sequence[Any] | None = None, key: str | None = None
    ) -> Any:
        """See `Turn.ask`. The thread waits with the turn."""
        return self.wait_for(lambda: self._turn.ask(prompt, kind=kind, options=options, key=key))

    def start_process(
        self,
        name: str,
        args: dict[str, Any] | None = None,
        *,
        kind: str = FUNCTION,
        key: str | None = None,
        label: str | None = None,
        disposition: Disposition | UnsetType = UNSET,
        event_types: Sequence[EventType] = (),
    ) -> str:
        """See `Turn.start_process`."""
        return self.wait_for(
            lambda: self._turn.start_process(
                name, args, kind=kind, key=key, label=label, disposition=disposition, event_types=event_types
            )
        )

    def cancel_process(self, process_id: str, reason: str = "cancelled") -> None:
        """See `Turn.cancel_process`."""
        self.wait_for(lambda: self._turn.cancel_process(process_id, reason))

    def end_of(self, process_id: str) -> AwaitOutput:
        """See `Turn.end_of`. The thread waits with the turn."""
        return self.wait_for(lambda: self._turn.end_of(process_id))

    def processes(self, *, live: bool = True) -> tuple[HandleSummary, ...]:
        """See `Turn.processes`."""
        return self.wait_for(lambda: self._turn.processes(live=live))

    @property
    def tasks(self) -> BlockingTasks:
        """See `Turn.tasks`. Work that is begun has a thread of its own, unless it is a coroutine function."""
        return BlockingTasks(self._turn.tasks, self.clock, self.wait_for)

    def idempotent(self, key: str, fn: Callable[[], Any]) -> Any:
        """See `Turn.idempotent`; `fn` is called here, in this thread."""
        return self._call(lambda here: self._turn.idempotent(key, here), fn)

    def record(self, key: str, value: Any) -> None:
        """See `Turn.record`."""
        self.wait_for(lambda: self._turn.record(key, value))

    def recorded(self, key: str, default: Any = None) -> Any:
        """See `Turn.recorded`."""
        return self.wait_for(lambda: self._turn.recorded(key, default))

    def messages(self, newest: int = 50) -> tuple[Message, ...]:
        """See `Turn.messages`."""
        return self.wait_for(lambda: self._turn.messages(newest))

    def attachment(self, attachment_id: str) -> bytes:
        """See `Turn.attachment`."""
        return self.wait_for(lambda: self._turn.attachment(attachment_id))

    def sleep(self, seconds: float) -> None:
        """Wait on the kernel's clock, in this thread alone; the end of the turn ends it."""
        self.wait_for(lambda: self._turn.sleep(seconds))

    def wait_for(self, start: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine on the event loop and wait for what it returns or raises: `wait_for(lambda: run_program(…))`.

        The end of the turn cancels it, whatever this thread does.
        """
        return self._call(lambda here: start())  # type: ignore[no-any-return]

    # The loop's side

    def flush(self) -> None:
        """Return when everything handed over so far has been shown; raises why something could not be."""
        self.wait_for(self._flush)
        with self._changed:
            self._check()

    async def _flush(self) -> None:
        self._turn.flush()

    def end(self) -> None:
        """Called on the loop: nothing more may come from the thread; what it said before that still counts."""
        with self._changed:
            if self._over:
                return
            rest, self._waiting = self._waiting, []
            self._over = True
            self._changed.notify_all()
        for call in rest:
            self._make(call)
        for task in self._calls:
            task.cancel()

    def _hand_over(self, call: Callable[[], None]) -> None:
        with self._changed:
            while len(self._waiting) >= _MOST_WAITING and not self._over:
                self._changed.wait()
            self._check()
            self._waiting.append(call)
            if self._taking:
                return
            self._taking = True
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        with self._changed:
            portion = self._waiting[:_PORTION]
            del self._waiting[:_PORTION]
            self._taking = bool(self._waiting)
            self._changed.notify_all()
        for call in portion:
            self._make(call)
        if self._taking:
            self._loop.call_soon(self._take)

    def _make(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            if self._failure is None:
                self._failure = error

    def _check(self) -> None:
        if self._over:
            raise TurnOver(f"turn {self.turn_id} was cancelled or has ended")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _call(
        self,
        start: Callable[[Callable[[], Awaitable[Any]]], Coroutine[Any, Any, Any]],
        run: Callable[[], Any] | None = None,
    ) -> Any:
        """Run on the loop what `start` makes, and wait. What it gets is how to have `run` called in this thread."""
        mail: queue.SimpleQueue[_Mail] = queue.SimpleQueue()

        async def here() -> Any:
            answer: asyncio.Future[Any] = self._loop.create_future()
            mail.put(("run", answer))
            return await answer

        def begin() -> None:
            if self._over:
                mail.put(("raised", TurnOver(f"turn {self.turn_id} was cancelled or has ended")))
                return
            task = self._loop.create_task(start(here))
            self._calls.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[Any]) -> None:
            self._calls.discard(task)
            if task.cancelled():
                mail.put(("raised", TurnOver(f"turn {self.turn_id} was cancelled or has ended")))
            elif (error := task.exception()) is not None:
                mail.put(("raised", error))
            else:
                mail.put(("returned", task.result()))

        self._hand_over(begin)
        raised: BaseException | None = None
        while True:
            what, value = mail.get()
            match what:
                case "run":
                    assert run is not None
                    raised = self._answer(value, run)
                case "raised":
                    raise value if raised is None else raised
                case "returned":
                    return value

    def _answer(self, answer: asyncio.Future[Any], run: Callable[[], Any]) -> BaseException | None:
        """Call it, and tell the loop what came of it; also what it raised, which is this thread's to raise."""
        try:
            output = run()
        except BaseException as error:
            # The loop itself would stumble over what is no Exception, and over a StopIteration.
            plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            told = error if plain else RuntimeError(f"{type(error).__name__}: {error}")
            self._loop.call_soon_threadsafe(_set_exception, answer, told)
            return error
        self._loop.call_soon_threadsafe(_set_result, answer, output)
        return None


def _set_result(future: asyncio.Future[Any], output: Any) -> None:
    if not future.done():
        future.set_result(output)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
