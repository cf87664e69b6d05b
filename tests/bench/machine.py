"""The machine that is measured on: what the page says of it, and which cores are whose."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

__all__ = ["LOAD_CORE", "SERVER_CORE", "Machine", "look_at_the_machine"]

_ALLOWED = sorted(os.sched_getaffinity(0))

SERVER_CORE = _ALLOWED[0]
"""Where everything runs that does the work."""
LOAD_CORE = _ALLOWED[1 % len(_ALLOWED)]
"""Where the load comes from; the same one where there is no other."""


class Machine(Struct, frozen=True, kw_only=True):
    """`sync_us` is what one write and sync of a page costs where the temporary folders are; `load` is the machine's
    load average (one minute) before the first measurement.
    """

    cpu: str
    cores: int
    memory_gb: int
    system: str
    python: str
    sqlite: str
    uvloop: str
    sightline: str
    filesystem: str
    sync_us: int
    load: float


async def look_at_the_machine() -> Machine:
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gb=round(int((_field(Path("/proc/meminfo"), "MemTotal") or "0 kB").split()[0]) / 1024**2),
        # The rest of a release says more about who built the kernel than about what it does.
        system=f"{platform.system()} {'.'.join(platform.release().split('-')[0].split('.')[:2])}, {platform.machine()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        uvloop=version("uvloop"),
        sightline=version("sightline"),
        filesystem=_filesystem(Path(tempfile.gettempdir())),
        sync_us=await asyncio.to_thread(_sync_us),
        load=os.getloadavg()[0],
    )


def _field(path: Path, name: str) -> str | None:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _filesystem(folder: Path) -> str:
    """The type of the file system that holds the folder: on `tmpfs` a sync costs nothing and shows nothing."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, type_, *_ = line.split()
        if folder.resolve().is_relative_to(where) and len(where) >= len(best):
            best, kind = where, type_
    return kind


def _sync_us(times: int = 100) -> int:
    """The median of writing 4 KiB to the end of a file and waiting for the disk, in microseconds."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(times):
            began = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return round(statistics.median(taken) * 1e6)
