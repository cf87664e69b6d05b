"""The demo agent: needs no key, does what it is told, and is what tests and load tests drive.

One command per input, several inputs one after the other. The table at the end is the command language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import UNSET

from sightline.process.functions import RunningProcess, process
from sightline.process.model import EventSemantics, EventType, PointerSelector, TemplateSelector, WakeRule
from sightline.queue.materializing import InputMessage
from sightline.session.model import Policy
from sightline.turn.agent import AgentError, Turn

__all__ = ["COUNTDOWN", "countdown", "demo", "demo_tools"]

_BREATH = 32
"""A stream without pauses lets others run after so many deltas."""
_MAX_DELTAS = 1_000_000
_MAX_DELTA_BYTES = 1_000_000
_MAX_SLEEP_MS = 3_600_000
_MAX_COUNT = 10_000

COUNTDOWN = "demo.countdown"
"""The function that `spawn countdown` starts: a name that no other agent's functions will have."""
_DONE = EventType(name="done")
_DONE_AND_WAKES = EventType(
    name="done",
    semantics=EventSemantics(
        wake=WakeRule(input=TemplateSelector("counted to {total}", {"total": PointerSelector("/total")}))
    ),
)

_Command = Callable[[Turn, str], Awaitable[None]]


async def demo(turn: Turn) -> None:
    """Do the command that each input is; the answers are joined by newlines."""
    for index, message in enumerate(turn.input):
        if index:
            turn.text("\n")
        if message.origin is not UNSET and "process_id" in message.origin:
            turn.text(f"woken by {message.origin['process_id']}")
            continue
        word, _, rest = message.content.partition(" ")
        command = _COMMANDS.get(word)
        if command is None or (command is not _echo and not _FORMS[word].fullmatch(rest)):
            await _help(turn, message.content)
        else:
            await command(turn, rest)


async def demo_tools(session_id: str, policy: Policy) -> Sequence[dict[str, Any]]:
    """What `tool NAME JSON` can call."""
    return _CATALOG


async def _echo(turn: Turn, text: str) -> None:
    for word in re.findall(r"\s*\S+|\s+", text):
        turn.text(word)
        await turn.sleep(0)


async def _stream(turn: Turn, rest: str) -> None:
    match = _FORMS["stream"].fullmatch(rest)
    assert match is not None
    count, every, size = (int(match[name] or 0) for name in ("count", "every", "size"))
    if count > _MAX_DELTAS or size > _MAX_DELTA_BYTES or every > _MAX_SLEEP_MS:
        raise AgentError(f"stream goes up to {_MAX_DELTAS} deltas of {_MAX_DELTA_BYTES} bytes every {_MAX_SLEEP_MS} ms")
    for index in range(count):
        if index and every:
            await turn.sleep(every / 1000)
        elif index % _BREATH == _BREATH - 1:
            await turn.sleep(0)
        turn.text(f"seq={index} t={turn.clock.now_ns()} ".ljust(size, "."))


async def _sleep(turn: Turn, rest: str) -> None:
    if int(rest) > _MAX_SLEEP_MS:
        raise AgentError(f"sleep goes up to {_MAX_SLEEP_MS} ms")
    await turn.sleep(int(rest) / 1000)
    turn.text(f"slept {int(rest)}")


async def _fail(turn: Turn, rest: str) -> None:
    raise AgentError(rest)


async def _tool(turn: Turn, rest: str) -> None:
    name, _, raw = rest.partition(" ")
    try:
        args = json.loads(raw, parse_constant=_no_json) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise AgentError(f"the arguments of tool {name} are not JSON") from None

    async def run() -> Any:
        tool = _TOOLS.get(name)
        if tool is None:
            raise AgentError(f"there is no tool {name}; there are {', '.join(_TOOLS)}")
        return await tool(turn, args)

    output = await turn.tool_call(name, args, run)
    turn.text(output if isinstance(output, str) else json.dumps(output))


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


async def _ask(turn: Turn, rest: str) -> None:
    answer = await turn.ask(rest)
    turn.text(f"answered: {answer if isinstance(answer, str) else json.dumps(answer)}")


async def _steps(turn: Turn, rest: str) -> None:
    match = _FORMS["steps"].fullmatch(rest)
    assert match is not None
    count, every, step, lines = int(match["count"]), int(match["every"] or 0) / 1000, 0, 0
    came: tuple[InputMessage, ...] = ()
    while step < count or came:  # what comes in at the last step prolongs the turn by another
        step += 1
        turn.model_request()
        if every or step % _BREATH == 0:
            await turn.sleep(every)
        came = await turn.checkpoint()
        for message in came:
            turn.text(("\n" if lines else "") + f"at step {step}: {message.content}")
            lines += 1


async def _spawn(turn: Turn, rest: str) -> None:
    match = _FORMS["spawn"].fullmatch(rest)
    assert match is not None
    total, every = int(match["count"]), int(match["every"] or 0)
    if total > _MAX_COUNT or every > _MAX_SLEEP_MS:
        raise AgentError(f"a countdown goes up to {_MAX_COUNT} every {_MAX_SLEEP_MS} ms")
    process_id = await turn.start_process(
        COUNTDOWN,
        {"total": total, "every_ms": every},
        label=f"countdown {total}",
        event_types=(_DONE_AND_WAKES if match["wake"] else _DONE,),
    )
    turn.text(f"started {process_id}")


@process(COUNTDOWN)
async def countdown(process: RunningProcess, total: int, every_ms: int) -> int:
    """Counts, at its pace. Each step is logged under its key, so that another attempt goes on where this one was."""
    for done in range(1, total + 1):
        if every_ms:
            await process.sleep(every_ms / 1000, key=f"{done}")
        await process.progress({"done": done, "total": total}, key=f"{done}")
    await process.log(_DONE.name, {"total": total}, key="done")
    return total


async def _help(turn: Turn, text: str) -> None:
    lead = f"I am the demo agent. I did not understand “{text[:80]}”." if text.strip() else "I am the demo agent."
    for word in re.findall(r"\s*\S+|\s+", f"{lead} Try one of these:\n{_USAGE}"):
        turn.text(word)
        await turn.sleep(0.01)


async def _add(turn: Turn, args: Any) -> Any:
    numbers = list(args.values()) if isinstance(args, dict) else args
    if not isinstance(numbers, list) or not all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in numbers
    ):
        raise AgentError('add takes numbers, as in {"a": 1, "b": 2}')
    return sum(numbers)


async def _now(turn: Turn, args: Any) -> Any:
    return turn.clock.now_ms()


async def _slow(turn: Turn, args: Any) -> Any:
    wait = args.get("ms", 1000) if isinstance(args, dict) else 1000
    if isinstance(wait, bool) or not isinstance(wait, int) or not 0 <= wait <= _MAX_SLEEP_MS:
        raise AgentError(f'slow takes {{"ms": N}} with N from 0 to {_MAX_SLEEP_MS}')
    await turn.sleep(wait / 1000)
    return f"waited {wait} ms"


_TOOLS: dict[str, Callable[[Turn, Any], Awaitable[Any]]] = {"add": _add, "now": _now, "slow": _slow}

_CATALOG: tuple[dict[str, Any], ...] = (
    {
        "name": "add",
        "description": "The sum of numbers.",
        "input_schema": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    {
        "name": "now",
        "description": "The time, in milliseconds since the epoch.",
        "input_schema": {"type": "object", "properties": {}},
    },
    {
        "name": "slow",
        "description": "Waits and says for how long.",
        "input_schema": {
            "type": "object",
            "properties": {"ms": {"type": "integer", "minimum": 0, "maximum": _MAX_SLEEP_MS}},
        },
    },
)

_COMMANDS: dict[str, _Command] = {
    "echo": _echo,
    "stream": _stream,
    "sleep": _sleep,
    "fail": _fail,
    "tool": _tool,
    "ask": _ask,
    "steps": _steps,
    "spawn": _spawn,
}

_FORMS = {
    "stream": re.compile(r"(?P<count>\d{1,9})(?: every (?P<every>\d{1,9}))?(?: size (?P<size>\d{1,9}))?", re.ASCII),
    "sleep": re.compile(r"\d{1,9}", re.ASCII),
    "fail": re.compile(r".*", re.DOTALL),
    "tool": re.compile(r"\S+(?: .*)?", re.DOTALL),
    "ask": re.compile(r".*\S.*", re.DOTALL),
    "steps": re.compile(r"(?P<count>\d{1,6})(?: every (?P<every>\d{1,9}))?", re.ASCII),
    "spawn": re.compile(r"countdown (?P<count>\d{1,9})(?: every (?P<every>\d{1,9}))?(?P<wake> wake)?", re.ASCII),
}

_USAGE = """\
echo TEXT — says it back, word by word
stream N [every MS] [size BYTES] — so many pieces of text
sleep MS — is quiet for a while
fail TEXT — fails
tool NAME JSON — calls a tool: add, now or slow
ask TEXT — asks you, and waits for your answer
steps N [every MS] — so many steps
spawn countdown N [every MS] [wake] — counts in the background, and wakes you at the end"""
