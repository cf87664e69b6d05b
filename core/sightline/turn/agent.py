"""What an agent is, and what it gets.

An agent is an async callable that takes a `Turn`, says things through it, and returns. It owns nothing durable: what it
says is shown live at once and becomes history when the turn is committed. It may be run again from the start after a
crash, so its side effects happen at least once; the transcript gets the turn exactly once. Other forms that people
write agents in are made this one when they are loaded (`agents/forms.py`).

An agent is cancelled by the ordinary asyncio cancellation: clean up and let `CancelledError` pass. One that does not
end is left behind after a while, and can say and take in nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.clock import Clock
from sightline.errors import AttachmentNotFound
from sightline.observation.activities import (
    Activity,
    AssistantProseDelta,
    ErrorReported,
    ModelRequestStarted,
    ReasoningDelta,
    Retracted,
    RetryStatus,
    ToolCallCompleted,
    ToolCallStarted,
    UsageReported,
)
from sightline.process.kinds import FUNCTION
from sightline.process.model import AwaitOutput, Disposition, EventType, HandleSummary
from sightline.queue.materializing import InputMessage, TurnCause
from sightline.session.model import Message, Policy, Role, Usage, UsageFigures
from sightline.session.rules import add_usage
from sightline.turn.background import TurnTasks
from sightline.turn.composing import NewFrame
from sightline.turn.recording import Journal
from sightline.turn.rules import error_text, failure_text

__all__ = [
    "Agent",
    "AgentError",
    "Ask",
    "Emit",
    "History",
    "NewProcess",
    "Processes",
    "Question",
    "Turn",
    "TurnOver",
    "check_text",
]

Emit = Callable[[Activity, str], None]
"""Shows one activity under a correlation id."""

History = Callable[[int], Awaitable[tuple[Message, ...]]]
"""The newest so many messages of the transcript, oldest first."""


class Question(Struct, frozen=True, kw_only=True):
    """What a turn asks of people, under a key of its own."""

    key: str
    kind: str
    prompt: str
    options: list[Any] | None = None


Ask = Callable[[Question], Awaitable[str]]
"""Asks, and waits for the answer, which is JSON."""


class NewProcess(Struct, frozen=True, kw_only=True):
    """Work that is to go on as a process, under a key that is the turn's own. The input is its kind's."""

    key: str
    kind: str
    input: dict[str, Any]
    label: str
    disposition: Disposition | UnsetType
    event_types: tuple[EventType, ...]


class Processes(Protocol):
    """What a turn can do with processes."""

    async def start(self, new: NewProcess) -> str:
        """The id of the process, which the session sees from now on."""
        ...

    async def cancel(self, process_id: str, reason: str) -> None: ...

    async def end_of(self, process_id: str) -> AwaitOutput: ...

    async def seen(self, *, live: bool) -> tuple[HandleSummary, ...]: ...


class Agent(Protocol):
    async def __call__(self, turn: Turn, /) -> None:
        """Do the turn. An exception ends it as failed, with the exception's message."""
        ...


class AgentError(Exception):
    """An agent's own word that the turn failed: the message is shown as it is, without the class name. `code` is what
    programs may go by.
    """

    def __init__(self, message: str = "", *, code: str = "agent_error") -> None:
        super().__init__(message)
        self.code = code


class TurnOver(RuntimeError):
    """The agent went on talking after its turn had ended; nobody listens."""


def check_text(text: object) -> None:
    """Raises TypeError for what is no text."""
    if not isinstance(text, str):
        raise TypeError(f"an agent speaks text, not {type(text).__name__}")


class Turn:
    """One attempt at one turn, as the agent sees it.

    `attempt` counts from 1. `input` is what the turn runs on: what the user said and, as system messages, what woke the
    session; `causes` are the latter alone. `options` came with the input.
    """

    def __init__(
        self,
        *,
        session_id: str,
        turn_id: str,
        attempt: int,
        input: tuple[InputMessage, ...],
        policy: Policy,
        clock: Clock,
        emit: Emit,
        history: History,
        checkpoint: Callable[[], Awaitable[tuple[InputMessage, ...]]] | None = None,
        attachment: Callable[[str], Awaitable[bytes]] | None = None,
        flush: Callable[[], None] | None = None,
        journal: Journal | None = None,
        ask: Ask | None = None,
        processes: Processes | None = None,
        tasks: TurnTasks | None = None,
        causes: tuple[TurnCause, ...] = (),
        options: dict[str, Any] | UnsetType = UNSET,
    ) -> None:
        self.session_id = session_id
        self.turn_id = turn_id
        self.attempt = attempt
        self.input = input
        self.causes = causes
        self.options: dict[str, Any] = {} if isinstance(options, UnsetType) else options
        self.policy = policy
        self.clock = clock
        self._emit = emit
        self._history = history
        self._checkpoint = checkpoint
        self._attachment = attachment
        self._flush = flush
        self._journal = journal or Journal()
        self._ask = ask
        self._asked = 0
        self._processes = processes
        self._tasks = tasks
        self._begun = 0
        self._over = False
        self._cancelled = False
        self._steps = 0
        self._iteration = 0
        self._correlation = self._next_correlation()
        self._correlations = [self._correlation]
        self._parts: list[_Part] = []
        self._request = _Mark()
        self.new_frame: NewFrame | None = None
        self._used = Usage()

    def text(self, text: str) -> None:
        """Say something. Shown at once; never waits. Empty text says nothing. Raises TypeError for what is no text."""
        self._say("text", text, AssistantProseDelta(text=text))

    def reasoning(self, text: str) -> None:
        """Think aloud: shown on its own channel, not part of the answer."""
        self._say("reasoning", text, ReasoningDelta(text=text))

    def model_request(self) -> None:
        """Mark the beginning of another request to a model; what follows belongs together."""
        self._iteration += 1
        self._renew_correlation()
        self._mark()
        self._show(ModelRequestStarted(protocol_iteration=self._iteration), self._correlation)

    def retract(self) -> None:
        """Take back everything said since the last `model_request()`, as if it had not been; what follows belongs to
        that request again. For a model that has to be asked once more.
        """
        said = (len(self._parts), len(self._parts[-1].pieces) if self._parts else 0)
        if said == (self._request.parts, self._request.pieces):
            return
        for correlation in self._correlations[self._request.correlations :]:
            self._show(Retracted(correlation_id=correlation), correlation)
        del self._correlations[self._request.correlations :]
        del self._parts[self._request.parts :]
        if self._parts:
            del self._parts[-1].pieces[self._request.pieces :]
        self._renew_correlation()

    def retrying(self, reason: str, *, wait_seconds: float, attempt: int, max_attempts: int) -> None:
        """Show that a request to a model is about to be made again: as the so manieth of at most so many."""
        self._show(
            RetryStatus(wait_seconds=wait_seconds, attempt=attempt, max_attempts=max_attempts, reason=reason),
            self._correlation,
        )

    def error(self, message: str) -> None:
        """Show that something went wrong. Ends nothing: for that, raise AgentError."""
        self._show(ErrorReported(message=message), self._correlation)

    async def tool_call(self, name: str, args: Any, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run a tool and show its call: started, then completed or failed. Returns the output; an exception of `run`
        passes on.

        `args` and the output are shown and kept as JSON holds them. Raises TypeError for what it cannot hold; the call
        of a tool with such an output has failed.
        """
        args = _as_json(args)
        correlation = self._next_correlation()
        self._correlations.append(correlation)
        self._show(ToolCallStarted(call_id=correlation, name=name, args=args), correlation)
        part = _Part("tool_call", call_id=correlation, name=name, args=args, state="running")
        self._parts.append(part)
        started = self.clock.monotonic()
        try:
            output = await run()
            shown = _as_json(output)
        except Exception as error:
            self._tool_ended(part, error_text(error), "failed", started)
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task of its own, as of tools that are gathered, asyncio would let it end the whole process.
            failure = AgentError(f"the tool {name} raised {failure_text(error)}")
            self._tool_ended(part, str(failure), "failed", started)
            raise failure from error
        self._tool_ended(part, shown, "completed", started)
        self._renew_correlation()
        return output

    def usage(self, model: str, figures: UsageFigures, *, source: str = "agent") -> None:
        """Account for a model call; the figures are added, in total, to the model and to the source. `source`: who made
        the call, where an agent wants to tell apart what it spends on what.
        """
        self._used = add_usage(self._used, Usage(figures, {model: figures}, {source: {model: figures}}))
        self._show(
            UsageReported(protocol_iteration=self._iteration, usage=figures, cumulative=self._used.totals),
            self._correlation,
        )

    def continue_as(
        self, messages: Iterable[tuple[Role, str]], *, reason: str = "continue_as", task: str | None = None
    ) -> None:
        """Begin another agent frame with the end of this turn, if it ends well: from then on these messages, as (role,
        content), are the transcript. What was before them stays in the store and can be paged back to.

        With a `task` another turn follows that runs on it, as if somebody had sent it, behind the work that waits
        already. It comes into the queue with this turn's end, once. Its id is `<id of the first turn>:agent-frame:<n>`.

        The last call counts. Raises TypeError for what is no text.
        """
        self._refuse_when_over()
        self.new_frame = NewFrame.of(messages, reason, task)

    async def messages(self, newest: int = 50) -> tuple[Message, ...]:
        """The newest so many messages of the transcript, oldest first. This turn's input is not among them."""
        return await self._history(newest)

    async def checkpoint(self) -> tuple[InputMessage, ...]:
        """Take in what was sent meanwhile with `earliest_safe_boundary`: messages, in order, that belong to this turn
        from now on. Mostly there are none.

        Raises StoreUnavailable with nothing taken in; LeaseLost when another owner runs the turn, which then ends here.
        """
        self._refuse_when_over()
        self.flush()
        return () if self._checkpoint is None else await self._checkpoint()

    async def ask(
        self, prompt: str, *, kind: str = "question", options: Sequence[Any] | None = None, key: str | None = None
    ) -> Any:
        """Ask people, and wait for their answer, however long that takes: what they said, as JSON has it.

        The request outlives this attempt, and so does its answer: who asks again under the same key in a later attempt
        of the turn asks nothing new. Without a `key` it is `ask-1`, `ask-2` and so on, in the order of the calls; who
        asks several things at a time, or not always the same things, gives keys. `kind`: `question`, `approval`, or
        a word of the agent's own. `options`: what is offered as an answer; an `approval` takes no other, while the
        answer to any other kind is not held against them.

        While it waits, the turn takes no place from others. Cancelling the turn, or its other end, withdraws the
        request. Raises TypeError for what is no text or no JSON, StoreUnavailable, LeaseLost.
        """
        self._refuse_when_over()
        if not isinstance(prompt, str) or not isinstance(kind, str) or not kind:
            raise TypeError("a request has a text, and a kind that says something")
        if self._ask is None:
            raise AgentError("there is nobody to ask")
        if key is None:
            self._asked += 1
            key = f"ask-{self._asked}"
        choices = None if options is None else _as_json(list(options))
        self.flush()
        return msgspec.json.decode(await self._ask(Question(key=key, kind=kind, prompt=prompt, options=choices)))

    async def start_process(
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
        """Start work that outlives the turn. Returns the id of the process, which is durable then, and which the
        session sees.

        A `function` is the one that was registered with `@process(name)`, and gets `args` by name. Of the other kinds
        `args` are the input, and the name only says what it is: `start_process("build", {"argv": ["make"]},
        kind="command")`, `start_process("research", {"input": "Find out …"}, kind="session_turn")`,
        `start_process("delivery", {"order": 7}, kind="external")`. See `sightline.process.kinds`.

        A later attempt of the turn that starts it again under the same key finds the process it started. Without a
        `key` it is `process-1`, `process-2` and so on, in the order of the calls. `label` is how readers see it called,
        its name unless told otherwise; `disposition`: what becomes of it when whoever runs it dies, by its kind unless
        told otherwise; `event_types`: what it may log besides what its kind does.

        Raises InvalidInput for what cannot be stored or is not what its kind gets, ProcessConflict when the key came
        with other content before, StoreUnavailable.
        """
        self._refuse_when_over()
        if self._processes is None:
            raise AgentError("there is nobody to keep processes")
        if key is None:
            self._begun += 1
            key = f"process-{self._begun}"
        self.flush()
        return await self._processes.start(
            NewProcess(
                key=key,
                kind=kind,
                input={"name": name, "args": args or {}} if kind == FUNCTION else args or {},
                label=name if label is None else label,
                disposition=disposition,
                event_types=tuple(event_types),
            )
        )

    async def cancel_process(self, process_id: str, reason: str = "cancelled") -> None:
        """Ask for the end of a process that the session sees; nothing when it has ended. It ends in its own time.

        Raises HandleNotVisible, ProcessNotFound, StoreUnavailable.
        """
        self._refuse_when_over()
        if self._processes is None:
            raise AgentError("there is nobody to keep processes")
        await self._processes.cancel(process_id, reason)

    @property
    def tasks(self) -> TurnTasks:
        """The background tasks of the session: work in this program that outlives the turn, but not the program."""
        self._refuse_when_over()
        if self._tasks is None:
            raise AgentError("there is nobody to keep tasks")
        return self._tasks

    async def end_of(self, process_id: str) -> AwaitOutput:
        """What a process came to, once it has ended, however long that takes; while it waits, the turn takes no place
        from others. A later attempt waits anew. Raises ProcessNotFound, StoreUnavailable.
        """
        self._refuse_when_over()
        if self._processes is None:
            raise AgentError("there is nobody to keep processes")
        self.flush()
        return await self._processes.end_of(process_id)

    async def processes(self, *, live: bool = True) -> tuple[HandleSummary, ...]:
        """The processes that the session sees, by process id; with `live`, those that have not ended. Raises
        StoreUnavailable.
        """
        self._refuse_when_over()
        return () if self._processes is None else await self._processes.seen(live=live)

    async def idempotent(self, key: str, fn: Callable[[], Any]) -> Any:
        """Do something to the world, once in this turn however often it is run: what `fn` comes to, or what it came to
        in an earlier attempt, which then is not repeated.

        `fn` is called without arguments; what it returns is awaited if it can be. Its result is kept as JSON and
        returned as that. The keys are the agent's own; two calls with one key wait for each other. An exception of `fn`
        is not kept and passes on. Who dies between effect and note does it again: see `sightline.turn.journal`.

        Raises TypeError for a result that JSON cannot hold, StoreUnavailable when it cannot be kept, both after it was
        done; LeaseLost when another owner runs the turn, which then ends here.
        """
        self._refuse_when_over()
        return await self._journal.once(key, fn)

    async def record(self, key: str, value: Any) -> None:
        """Write down a value for later attempts of this turn, in place of what was under the key. Durable when this
        returns; the turn's commit deletes it.

        Raises TypeError for what JSON cannot hold, StoreUnavailable, LeaseLost.
        """
        self._refuse_when_over()
        await self._journal.record(key, value)

    async def recorded(self, key: str, default: Any = None) -> Any:
        """What this turn has written down under the key, by `record` or `idempotent`, in whichever attempt.

        The first attempt's own writes are all there can be then, and no store is asked. Raises StoreUnavailable.
        """
        self._refuse_when_over()
        return await self._journal.recorded(key, default)

    async def attachment(self, attachment_id: str) -> bytes:
        """The picture that a part of a message refers to. Raises AttachmentNotFound, StoreUnavailable."""
        if self._attachment is None:
            raise AttachmentNotFound(self.session_id, attachment_id)
        return await self._attachment(attachment_id)

    async def sleep(self, seconds: float) -> None:
        """Wait on the kernel's clock; zero lets others run."""
        await self.clock.sleep(seconds)

    def flush(self) -> None:
        """Show now what is held back for the flush window. Other activities and the end of the turn do so as well."""
        if self._flush is not None and not self._over:
            self._flush()

    def cancel(self) -> None:
        """Called by the driver: somebody wants the end of the turn."""
        self._cancelled = True

    def end(self) -> None:
        """Called by the driver: nothing more may be said, and a tool call that did not end has failed."""
        self._over = True
        for part in self._parts:
            if part.facts.get("state") == "running":
                part.facts["state"] = "failed"

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the end of the turn, or it has ended: what the agent does now is cleaning up."""
        return self._cancelled or self._over

    @property
    def answer(self) -> str:
        """The text said so far."""
        return "".join(part.text for part in self._parts if part.type == "text")

    @property
    def parts(self) -> list[dict[str, Any]]:
        """What was said, thought and called so far, in order; empty when it is text alone."""
        if all(part.type == "text" for part in self._parts):
            return []
        return [part.as_json() for part in self._parts]

    @property
    def used(self) -> Usage:
        return self._used

    @property
    def correlations(self) -> tuple[str, ...]:
        """Every correlation under which something was shown: what a retry has to take back."""
        return tuple(self._correlations)

    def _say(self, channel: str, text: str, activity: Activity) -> None:
        check_text(text)
        if not text:
            return
        self._show(activity, self._correlation)
        if self._parts and self._parts[-1].type == channel:
            self._parts[-1].pieces.append(text)
        else:
            self._parts.append(_Part(channel, text))

    def _show(self, activity: Activity, correlation: str) -> None:
        self._refuse_when_over()
        self._emit(activity, correlation)

    def _refuse_when_over(self) -> None:
        if self._over:
            raise TurnOver(f"turn {self.turn_id} has ended")

    def _tool_ended(self, part: _Part, output: Any, state: Literal["completed", "failed"], started: float) -> None:
        part.facts.update(output=output, state=state)
        self._show(
            ToolCallCompleted(
                call_id=part.facts["call_id"],
                name=part.facts["name"],
                args=part.facts["args"],
                output=output,
                duration_ms=round((self.clock.monotonic() - started) * 1000),
                state=state,
            ),
            part.facts["call_id"],
        )

    def _next_correlation(self) -> str:
        self._steps += 1
        return f"{self.turn_id}.{self.attempt}.{self._steps}"

    def _mark(self) -> None:
        """From here on it can be retracted."""
        pieces = len(self._parts[-1].pieces) if self._parts else 0
        self._request = _Mark(len(self._correlations) - 1, len(self._parts), pieces)

    def _renew_correlation(self) -> None:
        self._correlation = self._next_correlation()
        self._correlations.append(self._correlation)


def _as_json(value: Any) -> Any:
    """The value as readers of its JSON have it: a copy, which what the agent does to its own later does not change."""
    return msgspec.json.decode(msgspec.json.encode(value))


class _Mark(NamedTuple):
    """How much had been said at some point."""

    correlations: int = 0
    parts: int = 0
    pieces: int = 0


class _Part:
    __slots__ = ("facts", "pieces", "type")

    def __init__(self, kind: str, text: str = "", **facts: Any) -> None:
        self.type = kind
        self.pieces = [text]
        self.facts = facts

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def as_json(self) -> dict[str, Any]:
        return {"type": self.type, **self.facts} if self.facts else {"type": self.type, "text": self.text}
