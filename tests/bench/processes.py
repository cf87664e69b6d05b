"""Processes that a benchmark starts, each pinned to a core; and what the system says of them.

They are stopped however the benchmark ends. Should it be killed, the system kills them: their parent-death signal is
set. Linux only, as is `/proc`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.bench.machine import SERVER_CORE
from tests.bench.measuring import Unavailable

__all__ = ["ROOT", "Process", "cpu_seconds", "environment", "folder", "free_port", "json_of", "output_of", "running"]

ROOT = Path(__file__).resolve().parents[2]
PATHS = (ROOT, ROOT / "core", ROOT / "gateway")

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 10.0
_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections, of which a load test has thousands."""


def environment(**variables: str) -> dict[str, str]:
    """This process's, without settings of ours or of a peer's that somebody may have exported."""
    foreign = ("SIGHTLINE_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "PG", "PROCRASTINATE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return inherited | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))} | variables


@contextmanager
def folder(owner: str | None = None) -> Iterator[Path]:
    """A temporary folder that goes at the end; `owner` may write into it too."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        if owner is not None:
            shutil.chown(name, owner)
        yield Path(name)


def free_port(neighbours: int = 0) -> int:
    """A port nobody listens on at this moment, nor on so many behind it. No outgoing connection will be given it."""
    for port in random.sample(_PORTS, 100):
        with contextlib.suppress(OSError), contextlib.ExitStack() as taken:
            for number in range(port, port + neighbours + 1):
                taken.enter_context(socket.create_server(("127.0.0.1", number)))
            return port
    raise RuntimeError(f"no port from {_PORTS.start} to {_PORTS.stop} is free")


class Process:
    """One that runs; made by `running`. Its figures are sums over it and its descendants."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def line(self, seconds: float = 60.0) -> str:
        """The next line it says. Raises ChildProcessError when it has ended instead."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            raise ChildProcessError(f"ended with {self._process.returncode}: {self.log[-2000:]}")
        return line.decode().strip()

    async def ended(self, seconds: float = 10.0) -> None:
        """Wait for it to end by itself."""
        async with asyncio.timeout(seconds):
            await self._process.wait()

    @property
    def pids(self) -> list[int]:
        return _tree(self._process.pid)

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far, in user and system mode; the clock of it ticks every 10 ms."""
        return cpu_seconds(self._process.pid)

    @property
    def ran_seconds(self) -> float:
        """Processor time used so far by what still runs, to the nanosecond."""
        return sum(
            int(_read(pid, f"task/{task}/schedstat").split()[0]) / 1e9
            for pid in _tree(self._process.pid)
            for task in _tasks(pid)
        )

    @property
    def resident_bytes(self) -> int:
        return sum(int(_read(pid, "statm").split()[1]) * _PAGE for pid in _tree(self._process.pid))

    @property
    def switches(self) -> int:
        """How often its threads began to run after they had waited or were made to."""
        return sum(
            int(line.split()[1])
            for pid in _tree(self._process.pid)
            for task in _tasks(pid)
            for line in _read(pid, f"task/{task}/status").splitlines()
            if "ctxt_switches" in line
        )

    async def stop(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @classmethod
    async def start(
        cls,
        command: list[str],
        *,
        cwd: Path,
        core: int | None,
        user: str | None,
        death: str,
        env: dict[str, str],
        speaks: bool,
    ) -> Self:
        as_user = [] if user is None else [f"--reuid={user}", f"--regid={user}", "--init-groups"]
        wrapped = [*_tool("setpriv"), *as_user, "--pdeathsig", death, *command]
        if core is not None:
            wrapped = [*_tool("taskset"), "--cpu-list", str(core), *wrapped]
        log = cwd / "output.log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *wrapped,
                cwd=cwd,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if speaks else errors,
                stderr=errors,
                # An interrupt from the terminal is for the benchmark, which then stops what it started.
                start_new_session=True,
            )
        return cls(process, log)


@asynccontextmanager
async def running(
    *command: str,
    cwd: Path,
    core: int | None = SERVER_CORE,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
    env: dict[str, str] | None = None,
    speaks: bool = False,
) -> AsyncIterator[Process]:
    """A process in that folder, where what it says is kept. On the way out it is told to stop, then made to.

    With `speaks` its stdout is for `Process.line`, and has to be read: once the pipe is full the process would stand
    still.
    """
    death = "INT" if stop is signal.SIGINT else "KILL"
    process = await Process.start(
        list(command),
        cwd=cwd,
        core=core,
        user=user,
        death=death,
        env=environment() if env is None else env,
        speaks=speaks,
    )
    try:
        yield process
    finally:
        await asyncio.shield(process.stop(stop))


async def json_of(module: str, *arguments: str) -> Any:
    """What a module of ours prints when it is run in a process of its own, on the server's core."""
    with folder() as cwd:
        async with running(sys.executable, "-m", module, *arguments, cwd=cwd, speaks=True) as process:
            return json.loads(await process.line(seconds=900))


async def output_of(*command: str, cwd: Path | None = None, user: str | None = None) -> str:
    """What a command says that ends by itself. Raises ChildProcessError with what it complained of."""
    as_user = [] if user is None else [*_tool("setpriv"), f"--reuid={user}", f"--regid={user}", "--init-groups"]
    process = await asyncio.create_subprocess_exec(
        *as_user,
        *command,
        cwd=cwd,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    if process.returncode:
        raise ChildProcessError(f"{command[0]} ended with {process.returncode}: {complained.decode()[-2000:]}")
    return said.decode().strip()


def cpu_seconds(pid: int) -> float:
    """Of a process and its descendants, also those that have ended."""
    ticks = 0
    for member in _tree(pid):
        fields = _read(member, "stat").rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def _tree(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _read(int(name), "stat")
            if stat:
                parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    tree = [pid]
    for member in tree:
        tree += parents.get(member, [])
    return [member for member in tree if _read(member, "stat")]


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def _read(pid: int, name: str) -> str:
    """Empty when the process has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _tool(name: str) -> list[str]:
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} (util-linux) is not on this machine")
    return [found]
