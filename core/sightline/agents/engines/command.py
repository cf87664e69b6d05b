"""The engine `command`: a command of the operating system as a process.

It runs without a shell, in a process group of its own, and finds nothing on its standard input. What it writes is
logged as it comes, as lines and in pieces; beyond the limit it may go on writing, but nothing more is kept.

It ends with its first process: what that leaves behind in the group is told to end (SIGTERM) and, after a grace, killed
(SIGKILL), as all of it is when the process is cancelled. Only then the process has ended. What leaves the group, as a
daemon does, is out of reach.

A command is bound to its owner unless told otherwise. A server that drains lets it run for as long as its work may, and
then ends it with the rest; the process is abandoned once its lease has lapsed, because nobody here knows what half a
command has done. A server that dies by SIGKILL tells the command nothing: its pid is in the log.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any, cast

from sightline.agents.engines.output import PIECE, Output
from sightline.clock import Clock, within
from sightline.errors import StoreUnavailable
from sightline.process.engine import ProcessWork
from sightline.process.kinds import OUTPUT, OUTPUT_DROPPED, SPAWNED
from sightline.process.model import CancelledOutput, FailureOutput, ProcessRecord, SuccessOutput
from sightline.turn.groups import end_group, inherited_environment

__all__ = ["MOST_OUTPUT", "CommandEngine"]

MOST_OUTPUT = 1 << 20
"""Bytes of one command's output that are kept unless told otherwise."""

_GATHER_SECONDS = 0.1
"""Lines that come within this time of each other share events."""
_LATE_SECONDS = 0.5
"""What a command wrote before it ended is there by then, unless somebody out of reach keeps its output open."""
_TELLING_SECONDS = 1.0
"""How long a command that is cancelled waits for its last lines to be stored."""
_RETRY_SECONDS = 0.5
_STREAMS = {1: "stdout", 2: "stderr"}


class CommandEngine:
    """See `sightline.process.engine.Engine`.

    `most_output`: bytes of output that are kept of one command. `grace`: seconds between SIGTERM and SIGKILL.
    `environment`: what commands find there besides their own `env`; this program's unless told otherwise, without the
    settings of the server, which may hold its keys.
    """

    def __init__(
        self, *, most_output: int = MOST_OUTPUT, grace: float = 2.0, environment: Mapping[str, str] | None = None
    ) -> None:
        self._most_output = most_output
        self._grace = grace
        self._environment = environment

    def knows(self, record: ProcessRecord) -> bool:
        return True

    async def run(self, work: ProcessWork) -> SuccessOutput | FailureOutput | CancelledOutput:
        folder = work.input.get("cwd")
        if folder is not None and not _is_folder(folder):
            return FailureOutput(code="invalid_cwd", message=f"{folder} is no folder")
        try:
            command = await self._begin(work.input["argv"], folder, work.input.get("env", {}), work.clock)
        except OSError as error:
            return _refusal(work.input["argv"][0], error)
        telling = asyncio.create_task(_tell(work, command, self._most_output), name=f"output of {work.process_id}")
        try:
            either: set[asyncio.Future[Any]] = {command.exited, telling}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()  # the process is another worker's: there is nobody to run it for
        except BaseException:
            await command.end(self._grace)
            await within(work.clock, _TELLING_SECONDS, telling)
            raise
        else:
            await command.end(self._grace)
            await telling
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        return _came_to(command.exited.result())

    async def _begin(self, argv: list[str], folder: str | None, env: dict[str, str], clock: Clock) -> _Command:
        """Raises OSError when there is no such program or it may not be run."""
        inherited = inherited_environment() if self._environment is None else self._environment
        starting = asyncio.create_task(
            asyncio.get_running_loop().subprocess_exec(
                lambda: _Command(self._most_output, clock),
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                cwd=folder,
                env={**inherited, **env},
                start_new_session=True,
            )
        )
        try:
            _, command = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})  # it may be there in a moment, and nobody else would end it
            if not starting.cancelled() and starting.exception() is None:
                await starting.result()[1].end(self._grace)
            raise
        return command


class _Command(asyncio.SubprocessProtocol):
    """One command that runs. `exited` is its exit code once its first process has ended, negative for a signal."""

    def __init__(self, most_output: int, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.output = Output(most_output)
        self.exited: asyncio.Future[int] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        """Nothing more can be written."""
        self.changed = asyncio.Event()
        self.full = asyncio.Event()
        """There is enough for an event, or there will be no more."""
        self.ended = False
        self.pid = 0
        self._clock = clock
        self._open = set(_STREAMS)

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)  # of uvloop's not by its class
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        self.output.take(_STREAMS[fd], data)
        self._wake()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.closed.done():
            self.closed.set_result(None)

    def process_exited(self) -> None:
        code = self._transport.get_returncode()
        assert code is not None
        if not self.exited.done():
            self.exited.set_result(code)

    # Called by the engine

    async def end(self, grace: float) -> None:
        """Return when nothing of its group lives, and what it wrote is all there."""
        try:
            await end_group(self.pid, grace=grace)
            await within(self._clock, _LATE_SECONDS, self.exited)
            await within(self._clock, _LATE_SECONDS, self.closed)
        finally:
            self._transport.close()
            self.output.end()
            self.ended = True
            self._wake()

    def _wake(self) -> None:
        if self.output.waiting or self.output.dropped or self.ended:
            self.changed.set()
        if self.output.waiting >= PIECE or self.ended:
            self.full.set()


async def _tell(work: ProcessWork, command: _Command, limit: int) -> None:
    """Log what the command writes until it has ended, however long the store is away."""
    count = 0
    dropped = False

    async def log(event_type: str, payload: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        key = f"command:{work.fencing_token}:{count}"
        while True:
            try:
                await work.log(event_type, payload, key=key)
                return
            except StoreUnavailable:
                await work.clock.sleep(_RETRY_SECONDS)

    await log(SPAWNED.name, {"pid": command.pid})
    while True:
        await command.changed.wait()
        full = asyncio.ensure_future(command.full.wait())
        try:
            await within(work.clock, _GATHER_SECONDS, full)
        finally:
            full.cancel()
            await asyncio.gather(full, return_exceptions=True)
        command.changed.clear()
        command.full.clear()
        ended = command.ended
        for piece in command.output.pieces():
            await log(OUTPUT.name, {"stream": piece.stream, "text": piece.text})
        if command.output.dropped and not dropped:
            dropped = True
            await log(OUTPUT_DROPPED.name, {"limit": limit})
        if ended:
            return


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)


def _refusal(program: str, error: OSError) -> FailureOutput:
    match error:
        case FileNotFoundError():
            return FailureOutput(code="command_not_found", message=f"there is no program {program}")
        case PermissionError():
            return FailureOutput(code="permission_denied", message=f"{program} may not be run")
        case _:
            return FailureOutput(code="command_not_started", message=f"{program} could not be started: {error}")


def _came_to(code: int) -> SuccessOutput | FailureOutput:
    if code == 0:
        return SuccessOutput(value={"exit_code": 0})
    if code > 0:
        return FailureOutput(
            code="exit_code", message=f"the command ended with exit code {code}", raw={"exit_code": code}
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return FailureOutput(
        code="signal", message=f"the command was ended by {name}", raw={"signal": -code, "signal_name": name}
    )
