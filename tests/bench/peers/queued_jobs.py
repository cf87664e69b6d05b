"""A queue's worker as a subject: jobs that do nothing are put in beforehand, then one worker takes them out.

The worker's program says a line when the window of the measurement begins, and one with its figures when it has ended;
so the processor time is read at those moments.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from signal import SIGKILL

from tests.bench.measuring import Options, Sample
from tests.bench.peers.installs import environment_of
from tests.bench.processes import Process, environment, folder, running

__all__ = ["CONCURRENCY", "jobs_done"]

CONCURRENCY = 16
_PROGRAMS = Path(__file__).parent / "programs"


async def jobs_done(
    peer: str,
    program: str,
    server: Callable[[], AbstractAsyncContextManager[tuple[Process, str]]],
    options: Options,
    *,
    most: int,
) -> Sample:
    """`most`: more jobs in a second than this peer can do, so that they do not run out."""
    jobs = round(most * (options.warm_up + options.seconds))
    command = (
        *(str(environment_of(peer) / "python"), str(_PROGRAMS / program)),
        *(str(jobs), str(CONCURRENCY), str(options.warm_up), str(options.seconds)),
    )
    with folder() as place:
        async with (
            server() as (database, address),
            running(*command, address, cwd=place, env=environment(PYTHONPATH=""), stop=SIGKILL, speaks=True) as worker,
        ):
            assert await worker.line(seconds=600) == "begin"
            before = worker.cpu_seconds + database.cpu_seconds
            found = json.loads(await worker.line())
            cpu = worker.cpu_seconds + database.cpu_seconds - before
    if found["done"] >= jobs:
        raise RuntimeError(f"{peer} ran out of jobs: {found}")
    return {"rate": found["count"] / found["seconds"], "cpu_us": cpu / found["count"] * 1e6}
