"""Programs of the operating system, for agents and tools: they end with the turn that began them.

A program gets a process group of its own, so that what it starts itself is reached as well. When whoever waits for it
is cancelled, the group is told to end (SIGTERM) in that moment, and the cancellation goes on at once: the turn does not
wait for a program to clean up. What is still there after the grace is killed (SIGKILL), and so is everything of the
kind when the event loop ends. Of a server that is itself killed by SIGKILL they are not told.
"""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sightline.turn.groups import tell_group

__all__ = ["Ran", "run_program"]

_CHUNK = 65_536
_PATROL_SECONDS = 0.02

_ending: set[asyncio.Task[None]] = set()


class Ran(Struct, frozen=True, kw_only=True):
    """How a program ended. `code` is negative when a signal ended it; `cut` says that there was more output."""

    code: int
    output: bytes
    cut: bool

    @property
    def text(self) -> str:
        """The output as UTF-8; what is none is replaced."""
        return self.output.decode("utf-8", "replace")


async def run_program(
    *command: str,
    input: bytes = b"",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    grace: float = 2.0,
    most_output: int = 1_000_000,
) -> Ran:
    """Run a program to its end: without a shell, standard error in with its output, of which `most_output` bytes are
    kept.

    It has ended when it has and nothing holds its output open any more. Cancelling, as the end of a turn does, ends it;
    so does `asyncio.timeout`. Raises OSError when there is no such program or it may not be run.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE if input else DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # It may be there in a moment; nobody will wait for it.
        starting.add_done_callback(lambda started: _end_started(started, grace))
        raise
    try:
        _, (output, cut) = await asyncio.gather(_feed(process, input), _read(process, most_output))
        return Ran(code=await process.wait(), output=output, cut=cut)
    except BaseException:
        _end(process, grace)
        raise


async def _feed(process: Process, input: bytes) -> None:
    if process.stdin is not None:
        try:
            process.stdin.write(input)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it did not want all of it
        process.stdin.close()


async def _read(process: Process, most: int) -> tuple[bytes, bool]:
    assert process.stdout is not None
    output, cut = bytearray(), False
    while chunk := await process.stdout.read(_CHUNK):
        kept = chunk[: most - len(output)]
        output += kept
        cut = cut or len(kept) < len(chunk)
    return bytes(output), cut


def _end_started(started: asyncio.Future[Process], grace: float) -> None:
    if not started.cancelled() and started.exception() is None:
        _end(started.result(), grace)


def _end(process: Process, grace: float) -> None:
    """Tell the group to end, and see to it behind everybody's back that it does."""
    if tell_group(process.pid, signal.SIGTERM):
        ending = asyncio.get_running_loop().create_task(_see_to_its_end(process, grace), name=f"end of {process.pid}")
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)


async def _see_to_its_end(process: Process, grace: float) -> None:
    """Its first process may be gone long before the group is."""
    try:
        async with asyncio.timeout(grace):
            while tell_group(process.pid, 0):  # noqa: ASYNC110 - no event tells of a group
                await asyncio.sleep(_PATROL_SECONDS)
    except TimeoutError:
        pass
    finally:
        tell_group(process.pid, signal.SIGKILL)
        await process.wait()
