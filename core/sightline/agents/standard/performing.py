"""A turn of the standard agent: the machine decides, this performs.

What a model said and what a tool came to is written down before the turn goes on from it. A later attempt at the same
turn begins there: it shows again what had been shown, which was taken back with the attempt that died, and asks for
what was still missing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sightline.agents.standard.asking import Patience, ask
from sightline.agents.standard.history import conversation
from sightline.agents.standard.model import ModelClient, ModelRequest, ToolSpec
from sightline.agents.standard.notebook import Notebook, Place, Summary
from sightline.agents.standard.settings import Settings
from sightline.agents.standard.tools import CALL_KEY, Tool, ToolFailed
from sightline.errors import AttachmentNotFound, LeaseLost, StoreUnavailable
from sightline.observation.activities import ErrorReported
from sightline.queue.materializing import InputMessage
from sightline.queue.rules import digest
from sightline.session.model import Role
from sightline.session.rules import ledger_of
from sightline.turn.agent import Turn, TurnOver
from sightline.turn.conversation import (
    AssistantMessage,
    ConversationMessage,
    ImagePart,
    ReasoningPart,
    SystemMessage,
    TextPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
    from_inputs,
)
from sightline.turn.effects import (
    Checkpoint,
    CheckpointDelivery,
    Done,
    Effect,
    Emit,
    Ending,
    Input,
    ModelCall,
    ModelResult,
    Start,
    ToolCalls,
    ToolResults,
)
from sightline.turn.machine import Step, step
from sightline.turn.rules import error_text
from sightline.turn.states import Ready, State, WaitingTools

__all__ = ["Performance", "Window"]

_log = logging.getLogger("sightline.agents.standard")

_ALLOW, _DENY = "allow", "deny"
_MOST_OUTPUT = 1_000_000
"""Bytes of JSON. It goes into every later request, the journal and the transcript."""
_SUMMARISE = (
    "The conversation is about to be cut off here, and you will go on with nothing but what you write now. Write down "
    "what matters for going on: what is wanted, what was found out and decided, what is done and what is open."
)
_SUMMARY = "What was before this, in short:"


class Window(Struct, frozen=True):
    """How many tokens the model takes, where that is known, and at which share of them the conversation is put into a
    few words.
    """

    tokens: int | UnsetType
    compact_at: float

    def is_filling(self, prompt_tokens: int) -> bool:
        return isinstance(self.tokens, int) and prompt_tokens >= self.tokens * self.compact_at


class Performance:
    """One attempt at one turn."""

    def __init__(
        self, turn: Turn, client: ModelClient, settings: Settings, tools: Mapping[str, Tool], patience: Patience
    ) -> None:
        self._turn = turn
        self._client = client
        self._settings = settings
        self._tools = tools
        self._patience = patience
        self._notebook = Notebook(turn)
        self._began = 0
        self._earlier = 0
        """How many messages are those of earlier turns."""
        self._heard: list[str] = []
        self._waiting: list[InputMessage] = []
        """Input of the turn that the restored conversation does not have: a checkpoint had taken it in last."""
        self._pictures: dict[str, bytes] = {}
        self._inputs: list[InputMessage] = []
        self._prompt_tokens = 0
        """Of the newest request."""
        self._summary = Summary()
        self._window = Window(UNSET, 1.0)

    async def run(self, history: int, window: Window) -> Ending:
        """See the turn through to its end. Raises what is no answer of a model or a tool."""
        self._window = window
        begun = await self._resumed() or await self._started(history, window)
        state, effects = begun.state, begun.effects
        while True:
            for effect in effects:
                match effect:
                    case Done(ending=ending):
                        full = window.is_filling(self._prompt_tokens) or self._summary.upto
                        if full and ending.reason in ("finished", "max_turns"):
                            await self._compact(state)
                        return ending
                    case Emit(activity=ErrorReported(message=message)):
                        self._turn.error(message)
                    case ModelCall() | ToolCalls() | Checkpoint():
                        async with aclosing(self._performed(effect)) as answers:
                            async for answer in answers:
                                state, effects = await self._told(state, answer)
                    case _:
                        pass  # progress needs no other keeping than ours, and nothing is called off from in here

    async def _told(self, state: State, answer: Input) -> tuple[State, tuple[Effect, ...]]:
        stepped = step(state, answer)
        assert isinstance(stepped, Step), stepped
        if not isinstance(answer, CheckpointDelivery) and not any(
            isinstance(effect, Done) for effect in stepped.effects
        ):
            # What a checkpoint brought is the turn's input from then on, and comes again with it.
            await self._notebook.write(stepped.state, self._place())
        return stepped.state, stepped.effects

    def _place(self) -> Place:
        return Place(
            began=self._began,
            earlier=self._earlier,
            heard=tuple(self._heard),
            used=self._turn.used,
            prompt_tokens=self._prompt_tokens,
            summary=self._summary,
        )

    async def _compact(self, state: State) -> None:
        """Have the conversation put into a few words, which the next turn begins with; this turn's own stay."""
        summary = await self._summarised(state.course.messages, state.course.effect_id + 1)
        if not summary:
            return
        heard: list[tuple[Role, str]] = [
            ("system" if message.role == "system" else "user", message.content) for message in self._inputs
        ]
        self._turn.continue_as(
            [("system", _in_short(summary)), *heard, ("assistant", self._turn.answer)], reason="compaction"
        )

    async def _shorten(self, messages: tuple[ConversationMessage, ...], effect_id: int) -> bool:
        """Have what was before the model's newest answer put into a few words, which stand for it from now on. False:
        there was nothing to be put into words since the last time, or it failed.
        """
        newest = max((at for at, one in enumerate(messages) if isinstance(one, AssistantMessage)), default=0)
        if not any(isinstance(one, AssistantMessage) for one in messages[self._summary.upto : newest]):
            return False
        text = await self._summarised(messages[:newest], effect_id)
        if text:
            self._summary = Summary(newest, text)
        return bool(text)

    async def _summarised(self, messages: tuple[ConversationMessage, ...], effect_id: int) -> str:
        """The conversation in a few words of the model; none when it would not."""
        wish = SystemMessage(text=_SUMMARISE, transient=True)
        request = await self._request((*self._shortened(messages), wish), tools=False)
        result = await ask(self._turn, self._client, request, self._patience, effect_id, aside="compaction")
        summary = AssistantMessage(parts=result.parts).text
        if result.outcome == "completed" and summary:
            return summary
        _log.warning("turn %s: the conversation is not compacted: %s", self._turn.turn_id, result.message)
        return ""

    def _shortened(self, messages: tuple[ConversationMessage, ...]) -> tuple[ConversationMessage, ...]:
        """What the model is told instead: what is summed up in a few words, but what this turn is about as it is."""
        upto = self._summary.upto
        if not upto:
            return messages
        about = (one for one in messages[self._earlier : upto] if isinstance(one, SystemMessage | UserMessage))
        return (SystemMessage(text=_in_short(self._summary.text), transient=True), *about, *messages[upto:])

    async def _started(self, history: int, window: Window) -> Step:
        before = conversation(await self._turn.messages(history)) if history else ()
        messages = (*before, *self._hear(self._turn.input, transient=False))
        self._earlier, self._began = len(before), len(messages)
        begun = step(
            Ready(), Start(messages=messages, max_turns=self._settings.max_turns, context_window=window.tokens)
        )
        assert isinstance(begun, Step), begun
        return begun

    async def _resumed(self) -> Step | None:
        """Where an earlier attempt was, shown again; none when there is nothing to go on from."""
        found = await self._notebook.read()
        if found is None:
            return None
        resumed, place = found
        self._began, self._earlier, self._heard = place.began, place.earlier, list(place.heard)
        self._prompt_tokens, self._summary = place.prompt_tokens, place.summary
        known = Counter(self._heard)
        for message in self._turn.input:
            mark = digest(message)
            if known[mark]:
                known[mark] -= 1
                self._inputs.append(message)
            else:
                self._waiting.append(message)
        for source, model, figures in ledger_of(place.used):
            self._turn.usage(model, figures, source=source)
        await self._show_again(resumed.state)
        return resumed

    async def _show_again(self, state: State) -> None:
        messages = state.course.messages[self._began :]
        missing = ToolMessage(results=state.results if isinstance(state, WaitingTools) else ())
        for message, behind in itertools.zip_longest(messages, messages[1:], fillvalue=missing):
            if isinstance(message, AssistantMessage):
                # Calls are told apart by their ids within one message; the next one may use them again.
                answers = behind.results if isinstance(behind, ToolMessage) else ()
                results = {result.call_id: result for result in answers}
                self._turn.model_request()
                for part in message.parts:
                    match part:
                        case TextPart(text=text):
                            self._turn.text(text)
                        case ReasoningPart(text=text):
                            self._turn.reasoning(text)
                        case ToolCallPart(call_id=call_id) if call_id in results:
                            await self._show_result(part, results[call_id])

    async def _show_result(self, call: ToolCallPart, result: ToolResultPart) -> None:
        async def run() -> Any:
            if result.failed:
                raise ToolFailed(str(result.output))
            return result.output

        try:
            await self._turn.tool_call(call.name, call.args, run)
        except ToolFailed:
            pass  # it is shown

    def _hear(self, inputs: Iterable[InputMessage], *, transient: bool) -> tuple[SystemMessage | UserMessage, ...]:
        inputs = tuple(inputs)
        self._heard += [digest(message) for message in inputs]
        self._inputs += inputs
        return from_inputs(inputs, transient=transient)

    async def _performed(self, effect: ModelCall | ToolCalls | Checkpoint) -> AsyncGenerator[Input]:
        match effect:
            case ModelCall():
                if self._window.is_filling(self._prompt_tokens):
                    await self._shorten(effect.messages, effect.effect_id)
                result = await self._asked(effect)
                if result.outcome == "context_overflow" and await self._shorten(effect.messages, effect.effect_id):
                    result = await self._asked(effect)
                self._prompt_tokens = result.input_tokens if isinstance(result.input_tokens, int) else 0
                yield result
            case ToolCalls():
                calls = [asyncio.create_task(self._call(call, effect.effect_id)) for call in effect.calls]
                try:
                    for answered in asyncio.as_completed(calls):
                        yield ToolResults(effect_id=effect.effect_id, results=(await answered,))
                finally:
                    for task in calls:
                        task.cancel()
                    await asyncio.gather(*calls, return_exceptions=True)
            case Checkpoint():
                came = (*self._waiting, *await self._turn.checkpoint())
                self._waiting.clear()
                yield CheckpointDelivery(effect_id=effect.effect_id, messages=self._hear(came, transient=True))

    async def _asked(self, effect: ModelCall) -> ModelResult:
        request = await self._request(self._shortened(effect.messages), tools=not effect.final)
        return await ask(self._turn, self._client, request, self._patience, effect.effect_id)

    async def _request(self, messages: tuple[ConversationMessage, ...], *, tools: bool) -> ModelRequest:
        specs: tuple[ToolSpec, ...] = tuple(tool.spec for tool in self._tools.values()) if tools else ()
        for message in messages:
            if isinstance(message, UserMessage):
                for part in message.parts:
                    if isinstance(part, ImagePart):
                        await self._fetch(part.attachment.attachment_id)
        return ModelRequest(
            model=self._settings.model,
            instructions=self._settings.instructions,
            messages=messages,
            tools=specs,
            temperature=self._settings.temperature,
            pictures=dict(self._pictures),
        )

    async def _fetch(self, attachment_id: str) -> None:
        if attachment_id not in self._pictures:
            try:
                self._pictures[attachment_id] = await self._turn.attachment(attachment_id)
            except AttachmentNotFound:
                _log.warning("turn %s: the picture %s is gone", self._turn.turn_id, attachment_id)

    async def _call(self, call: ToolCallPart, effect_id: int) -> ToolResultPart:
        """The call's result. Whatever the tool does is one; only the turn's own end is not."""
        key = f"{effect_id}-{call.call_id}"
        CALL_KEY.set(key)  # it has a task of its own, and with it a context

        async def run() -> Any:
            tool = self._tools.get(call.name)
            if tool is None:
                raise ToolFailed(f"there is no tool {call.name}; there are: {', '.join(self._tools) or 'none'}")
            if tool.approval:
                await self._approve(call, key)
            output = await tool.run(self._turn, call.args)
            size = len(msgspec.json.encode(output))
            if size > _MOST_OUTPUT:
                raise ToolFailed(f"the output is too long: {size} bytes, and {_MOST_OUTPUT} at most")
            return output

        try:
            output = await self._turn.tool_call(call.name, call.args, run)
            shown = msgspec.json.decode(msgspec.json.encode(output))
        except (TurnOver, LeaseLost, StoreUnavailable):
            raise
        except Exception as error:
            text = error_text(error)
            told = text if isinstance(error, ToolFailed) else f"{type(error).__name__}: {text}"
            return ToolResultPart(call_id=call.call_id, name=call.name, output=told, failed=True)
        return ToolResultPart(call_id=call.call_id, name=call.name, output=shown)

    async def _approve(self, call: ToolCallPart, key: str) -> None:
        """Returns once somebody allows it. Raises ToolFailed when somebody does not."""
        args = msgspec.json.encode(call.args).decode()
        answer = await self._turn.ask(
            f"May {call.name} be called with {args}?",
            kind="approval",
            options=[_ALLOW, _DENY],
            key=f"approval-{key}",
        )
        if answer != _ALLOW:
            raise ToolFailed("the call was not allowed")


def _in_short(summary: str) -> str:
    return f"{_SUMMARY}\n\n{summary}"
