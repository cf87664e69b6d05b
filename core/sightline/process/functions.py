"""The engine `function`: Python coroutine functions as processes.

    @process("countdown")
    async def countdown(process: RunningProcess, total: int) -> str:
        for left in range(total, 0, -1):
            await process.progress({"left": left})
            await process.sleep(1.0)
        await process.wake("lift-off")
        return "done"

A function is called with its process and, by name, with the arguments it was started with. What it returns is what the
process came to; what it raises, its failure. It is run again from the start after a crash, and finds what earlier
attempts wrote down: a result of `idempotent`, the time a `sleep` ends, a `wake` that was asked for. Those are found by
their keys; without a key of its own each kind counts its calls, so a function that does not always make the same calls
in the same order gives keys.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from sightline.clock import Clock
from sightline.errors import ProcessConflict, ProcessNotYours
from sightline.persevering import finish, persistently
from sightline.process.engine import ProcessWork
from sightline.process.kinds import FUNCTION, NOTED, PROGRESS, WAKE, registration_of
from sightline.process.model import (
    AwaitOutput,
    CancelledOutput,
    FailureOutput,
    ProcessRecord,
    ProcessScope,
    Registration,
    SuccessOutput,
)
from sightline.process.rules import SIGNAL

__all__ = [
    "FUNCTIONS",
    "FunctionEngine",
    "Functions",
    "ProcessError",
    "RunningProcess",
    "function_registration",
    "process",
]

Function = Callable[..., Awaitable[Any]]
_F = TypeVar("_F", bound=Function)
_T = TypeVar("_T")


class ProcessError(Exception):
    """A function's own word that its process failed: the message is shown as it is. `code` is what programs may go
    by.
    """

    def __init__(self, message: str = "", *, code: str = "process_failed") -> None:
        super().__init__(message)
        self.code = code


class Functions:
    """Functions by name. One name is one function."""

    def __init__(self) -> None:
        self._by_name: dict[str, Function] = {}

    def process(self, name: str) -> Callable[[_F], _F]:
        """Register the coroutine function below under this name, unchanged.

        Raises ValueError for a blank name and one that is taken, TypeError for what is no coroutine function.
        """
        if not isinstance(name, str) or not name.strip():
            raise ValueError("a process has a name")

        def register(function: _F) -> _F:
            is_async = inspect.iscoroutinefunction(function)
            if not is_async:
                raise TypeError(f"process {name!r} must be an async function")
            if name in self._by_name:
                raise ValueError(f"there is a process {name!r} already")
            self._by_name[name] = function
            return function

        return register

    def get(self, name: object) -> Function | None:
        return self._by_name.get(name) if isinstance(name, str) else None


FUNCTIONS = Functions()
"""Those of this program."""

process = FUNCTIONS.process
"""Register a function for every worker of this program: see `Functions.process`."""


def function_registration(
    process_id: str, name: str, args: dict[str, Any] | None = None, *, owner: ProcessScope | None = None
) -> Registration:
    """A process that runs the function of that name. Raises like `sightline.process.kinds.registration_of`."""
    given = {"name": name, "args": args or {}}
    return registration_of(process_id, FUNCTION, given, owner=UNSET if owner is None else owner)


class RunningProcess:
    """One attempt at one process, as its function sees it.

    Its methods raise StoreUnavailable when the store is away for longer than a few seconds, which leaves the process to
    another attempt, and ProcessLeaseLost when another worker runs it, which ends it here.
    """

    def __init__(self, work: ProcessWork) -> None:
        self._work = work
        self._counts: dict[str, int] = {}
        self._notes: dict[str, Any] | None = None if work.record.last_sequence else {}
        self._reading = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}
        self._heard = 0

    @property
    def process_id(self) -> str:
        return self._work.process_id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._work.attempt

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the end of the process: what it does now is cleaning up."""
        return self._work.cancelled

    @property
    def clock(self) -> Clock:
        return self._work.clock

    async def progress(self, payload: Any = None, *, key: str | None = None) -> None:
        """Log how far it has come. Without a key another attempt logs it again.

        Raises InvalidInput for what is too large or no JSON.
        """
        await self._log(PROGRESS.name, payload, None if key is None else f"progress:{key}")

    async def log(self, event_type: str, payload: Any = None, *, key: str | None = None) -> None:
        """Log an event of a type that was declared; with a key, once, in whichever attempt.

        Raises InvalidInput, InvalidPayload, ProcessConflict when the key came with other content before.
        """
        await self._log(event_type, payload, None if key is None else f"log:{key}")

    async def wake(self, text: str, *, key: str | None = None) -> None:
        """Ask for a turn of the session that the process belongs to, which is told `text`; once under a key, whatever
        another attempt says under it.

        Raises InvalidInput for a process without an owner.
        """
        key = key or f"{self._next('wake')}"
        try:
            await self._log(WAKE.name, {"text": text}, f"wake:{key}")
        except ProcessNotYours:
            raise
        except ProcessConflict:
            pass  # an earlier attempt has asked, in other words

    async def signal(self) -> Any:
        """Wait for the next signal: its payload. In each attempt they come from the first on, in their order.

        While it waits the process takes no place from others.
        """
        event = await self._persistently(lambda: self._work.next_event(SIGNAL, self._heard))
        self._heard = max(self._heard, event.sequence)
        return event.payload

    async def sleep(self, seconds: float, *, key: str | None = None) -> None:
        """Be idle for so long, counted from the first attempt that came here: what a crash takes is not waited again.

        While it waits the process takes no place from others.
        """
        key = key or f"{self._next('sleep')}"
        at_ms = await self._once(f"sleep:{key}", lambda: self.clock.now_ms() + round(seconds * 1000))
        await self._work.sleep_until(at_ms)

    async def idempotent(self, key: str, fn: Callable[[], Any]) -> Any:
        """Do something to the world, once however often the process is run: what `fn` comes to, or what it came to in
        an earlier attempt, which then is not repeated.

        `fn` is called without arguments; what it returns is awaited if it can be. Its result is kept as JSON and
        returned as that. Two calls with one key wait for each other. An exception of `fn` is not kept and passes on.
        Who dies between effect and note does it again.

        Raises TypeError for a result that JSON cannot hold, InvalidInput for one that is too large, both after it was
        done.
        """
        if not isinstance(key, str) or not key:
            raise TypeError(f"a key is a text that is not empty, not {key!r}")
        return await self._once(f"do:{key}", fn)

    async def end_of(self, process_id: str) -> AwaitOutput:
        """What another process came to, once it has ended. While it waits this one takes no place from others.

        Raises ProcessNotFound.
        """
        return await self._persistently(lambda: self._work.end_of(process_id))

    async def _once(self, key: str, work: Callable[[], Any]) -> Any:
        async with self._locks.setdefault(key, asyncio.Lock()):
            notes = await self._noted()
            if key not in notes:
                result = work()
                if inspect.isawaitable(result):
                    result = await result
                kept = _as_json(result)
                # Also when the process is stopped meanwhile: what was done is done, and the next attempt has to know.
                await finish(self._log(NOTED.name, {"key": key, "value": kept}, f"noted:{key}"))
                notes[key] = kept
            return _as_json(notes[key])

    async def _noted(self) -> dict[str, Any]:
        async with self._reading:
            if self._notes is None:
                events = await self._persistently(lambda: self._work.logged_before(NOTED.name))
                self._notes = {event.payload["key"]: event.payload["value"] for event in events}
            return self._notes

    async def _log(self, event_type: str, payload: Any, key: str | None) -> None:
        await self._persistently(lambda: self._work.log(event_type, payload, key=key))

    def _next(self, kind: str) -> int:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return self._counts[kind]

    async def _persistently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await persistently(self.clock, f"process {self.process_id}", work)


class FunctionEngine:
    """See `sightline.process.engine.Engine`. Runs the functions that were registered in this program."""

    def __init__(self, functions: Functions = FUNCTIONS) -> None:
        self._functions = functions

    def knows(self, record: ProcessRecord) -> bool:
        return self._functions.get(record.input.get("name")) is not None

    async def run(self, work: ProcessWork) -> SuccessOutput | FailureOutput | CancelledOutput:
        function = self._functions.get(work.input.get("name"))
        assert function is not None, "it was asked whether it knows it"
        running, args = RunningProcess(work), work.input.get("args", {})
        try:
            _signature(function).bind(running, **args)
        except TypeError as error:
            return FailureOutput(code="invalid_arguments", message=f"{work.input['name']}: {error}")
        try:
            return SuccessOutput(value=_as_json(await function(running, **args)))
        except ProcessError as error:
            return FailureOutput(code=error.code, message=str(error) or error.code)


@functools.lru_cache(maxsize=1_000)
def _signature(function: Function) -> inspect.Signature:
    return inspect.signature(function)


def _as_json(value: Any) -> Any:
    """The value as readers of its JSON have it: a copy. Raises TypeError for what JSON cannot hold."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (ValueError, RecursionError) as error:
        raise TypeError(f"it is no JSON: {error}") from None
