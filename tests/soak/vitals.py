"""How a server process is over time, and whether it grows."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from tests.bench.processes import Process

__all__ = ["Vitals", "growth", "sampling", "table"]

MB = 1_000_000


class Vitals(Struct):
    """`cpu`: share of one core since the sample before, in percent. `events` were shown so far, to all observers."""

    seconds: float
    resident: int
    files: int
    threads: int
    cpu: float
    events: int


def look(process: Process) -> tuple[int, int, int]:
    """Resident bytes, open files, threads."""
    files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in process.pids)
    threads = sum(len(os.listdir(f"/proc/{pid}/task")) for pid in process.pids)
    return process.resident_bytes, files, threads


async def sampling(process: Process, every: float, events: Callable[[], int], samples: list[Vitals]) -> None:
    """Until it is cancelled."""
    began = last = time.monotonic()
    used = process.cpu_seconds
    while True:
        await asyncio.sleep(every)
        now, uses = time.monotonic(), process.cpu_seconds
        cpu = 100 * (uses - used) / (now - last)
        samples.append(Vitals(now - began, *look(process), cpu, events()))
        last, used = now, uses


def growth(samples: Sequence[Vitals]) -> float:
    """By how much the last third lies above the second one, by the medians of resident memory: 0.1 are 10 %."""
    third = len(samples) // 3
    second, last = samples[-2 * third : -third], samples[-third:]
    return _resident(last) / _resident(second) - 1


def _resident(samples: Sequence[Vitals]) -> float:
    return statistics.median(sample.resident for sample in samples)


def table(samples: Sequence[Vitals], rows: int = 30) -> str:
    """About so many of them."""
    lines = [f"{'s':>6} {'resident, MB':>13} {'files':>6} {'threads':>8} {'CPU, %':>7} {'events shown':>13}"]
    lines += [
        f"{sample.seconds:6.0f} {sample.resident / MB:13.1f} {sample.files:6} {sample.threads:8} "
        f"{sample.cpu:7.1f} {sample.events:13,}"
        for sample in samples[:: max(1, -(-len(samples) // rows))]
    ]
    return "\n".join(lines)
