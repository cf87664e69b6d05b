"""procrastinate: a queue on PostgreSQL."""

from __future__ import annotations

from tests.bench.measuring import Options, Sample, Subject
from tests.bench.peers.installs import install, postgresql_folder, versions
from tests.bench.peers.queued_jobs import CONCURRENCY, jobs_done
from tests.bench.peers.servers import postgresql

__all__ = ["METHOD", "subjects"]

METHOD = f"""\
- *procrastinate* does the same on PostgreSQL: tasks that do nothing, {CONCURRENCY} at a time, one worker, put in
  beforehand. PostgreSQL is as it comes: a commit waits for the disk. Its statistics are up to date when the worker
  begins."""


def subjects(options: Options) -> list[Subject]:
    async def prepare() -> dict[str, str]:
        _, found = await postgresql_folder()
        await install("procrastinate", "procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9")
        return found | await versions("procrastinate", "procrastinate", "psycopg")

    async def measure() -> Sample:
        return await jobs_done("procrastinate", "procrastinate_worker.py", postgresql, options, most=3_000)

    return [Subject("procrastinate on PostgreSQL, jobs that do nothing", measure, prepare)]
