"""Tools by which a model works in the background: monitors, functions that are processes, and sub-agents.

They are ordinary tools, which an author gives to an agent or not. What a model begins is its session's, listed and
ended there like everything else of it. A call that is made again after a crash finds what it began before.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from sightline.agents.standard.tools import CALL_KEY, Tool, arguments_of, check_arguments, schema_of, tool
from sightline.clock import within
from sightline.errors import HandleNotVisible
from sightline.process.functions import FUNCTIONS, Functions
from sightline.process.kinds import SESSION_TURN
from sightline.startup_errors import ToolRefused
from sightline.tasks.monitoring import MAX_TIMEOUT_MS, MonitorSpec, owned_by
from sightline.tasks.rules import shown_task
from sightline.turn.agent import Turn

__all__ = ["background_tools"]

_OWNER = "model"
"""Whose monitors they are: one of the program's own is not declared anew by a model."""
_NAME_LENGTH = 64
_MOST_LISTED = 50

_Name = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9_-]{{1,{_NAME_LENGTH}}}$")]
_Text = Annotated[str, Meta(min_length=1)]
_Json = dict[str, Any]


def background_tools(
    *,
    monitors: bool = False,
    functions: Iterable[str] = (),
    subagents: bool = False,
    approval: Collection[str] = (),
    registered: Functions = FUNCTIONS,
) -> tuple[Tool, ...]:
    """The tools, to be given to an agent with its other ones. `tasks_list` and `tasks_stop` are always among them.

    `monitors`: it may run commands on this machine, whose lines wake the session. `functions`: the names of those,
    registered with `@process`, that it may start. `subagents`: it may give work to sessions of their own, whose agent
    is this one. The tools named in `approval` need somebody's word before each call. Raises ToolRefused for a function
    that is not there or cannot be described to a model, and for an approval of what is no tool.
    """
    plain: list[Callable[..., Any]] = [tasks_list, tasks_stop]
    if monitors:
        plain.append(monitor)
    starting = [_starting(name, registered) for name in functions]
    if subagents:
        plain.append(start_subagent)
    if starting or subagents:
        plain += [processes_list, process_wait, process_cancel]
    tools = (*(tool(function) for function in plain), *starting)
    for name in approval:
        if name not in [one.name for one in tools]:
            raise ToolRefused(name, "it is to be approved, and there is no such tool")
    for one in tools:
        one.approval = one.name in approval
    return tools


# Tasks


async def tasks_list(turn: Turn, ended: bool = False) -> _Json:
    """List the background tasks of this session that are live, the newest last; with `ended`, also those that are over.
    A task says how far it is, and what it came to or why it failed.
    """
    records = await turn.tasks.list(live=not ended)
    shown = [shown_task(record) for record in records[-_MOST_LISTED:]]
    return {"tasks": shown, "left_out": len(records) - len(shown)}


async def tasks_stop(turn: Turn, task_id: _Text) -> _Json:
    """Stop a background task of this session: how it stands then. One that only its owner can stop is asked to end."""
    return shown_task(await turn.tasks.cancel(task_id, "requested by the model"))


async def monitor(
    turn: Turn,
    name: _Name,
    command: _Text,
    folder: _Text | None = None,
    timeout_seconds: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS // 1000)] = 300,
    persistent: bool = False,
    wake: bool = True,
) -> _Json:
    """Watch something with a shell command that runs in the background. Each line that it writes to standard output
    wakes you in a later turn, which is told the lines; without `wake` they are only shown. It ends with the command,
    after `timeout_seconds` unless it is `persistent`, or when its task is stopped. One of that name that runs already
    goes on as it is.
    """
    spec = MonitorSpec(
        id=owned_by(_OWNER, name),
        command=command,
        cwd=UNSET if folder is None else folder,
        timeout_ms=timeout_seconds * 1000,
        persistent=persistent,
        wake_policy="queue_turn" if wake else "notify",
    )
    return shown_task(await turn.tasks.monitor(spec))


# Processes


def _starting(name: str, registered: Functions) -> Tool:
    function = registered.get(name)
    if function is None:
        raise ToolRefused(name, "no function is registered as a process of that name")
    called = f"start_{name}"
    arguments = arguments_of(called, function, given=1)
    about = "Starts in the background, and answers with the id of its process."

    async def run(turn: Turn, args: Any) -> _Json:
        check_arguments(args, arguments)
        return {"process_id": await turn.start_process(name, args, key=_key())}

    return Tool(called, "\n\n".join(filter(None, (inspect.getdoc(function), about))), schema_of(called, arguments), run)


async def start_subagent(turn: Turn, name: _Name, work: _Text) -> _Json:
    """Give work to a sub-agent, which does it in the background and knows nothing but what `work` says. Answers with
    the id of its process; what that comes to is the sub-agent's answer.
    """
    return {"process_id": await turn.start_process(name, {"input": work}, kind=SESSION_TURN, key=_key())}


async def processes_list(turn: Turn, ended: bool = False) -> _Json:
    """List the processes that this session sees and that have not ended; with `ended`, also those that have."""
    seen = sorted(await turn.processes(live=not ended), key=lambda one: (one.created_at_ms, one.process_id))
    shown = [msgspec.to_builtins(one) for one in seen[-_MOST_LISTED:]]
    return {"processes": shown, "left_out": len(seen) - len(shown)}


async def process_wait(turn: Turn, process_id: _Text, seconds: Annotated[int, Meta(ge=1, le=86_400)] = 3_600) -> _Json:
    """Wait until a process has ended, at most so many seconds: what it came to, or that it is still `running`."""
    if process_id not in {one.process_id for one in await turn.processes(live=False)}:
        raise HandleNotVisible(turn.session_id, process_id)
    waiting = asyncio.ensure_future(turn.end_of(process_id))
    try:
        ended = await within(turn.clock, seconds, waiting)
        return msgspec.to_builtins(waiting.result()) if ended else {"type": "running"}
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def process_cancel(turn: Turn, process_id: _Text, reason: str = "requested by the model") -> _Json:
    """Ask for the end of a process, which ends in its own time."""
    await turn.cancel_process(process_id, reason)
    return {"asked": True}


def _key() -> str:
    return f"tool-{CALL_KEY.get()}"
