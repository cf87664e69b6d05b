"""Programs that tests begin, and whether they still live."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
with open(sys.argv[1] + ("/child" if child == 0 else "/parent"), "w") as file:
    file.write(str(os.getpid()))
time.sleep(1000)
"""
POLITE = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1], "tidied").write_text("")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1], "parent").write_text(str(__import__("os").getpid()))
time.sleep(1000)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        # One that waits to be buried is gone.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists()


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.002)


async def pids(folder: Path, *names: str) -> list[int]:
    """What programs wrote of themselves, once they have."""
    files = [folder / name for name in names]
    await until(lambda: all(file.exists() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]
