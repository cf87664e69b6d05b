"""saq: a queue on Redis."""

from __future__ import annotations

from tests.bench.measuring import Options, Sample, Subject
from tests.bench.peers.installs import install, redis_server, versions
from tests.bench.peers.queued_jobs import CONCURRENCY, jobs_done
from tests.bench.peers.servers import redis

__all__ = ["METHOD", "subjects"]

METHOD = f"""\
- *saq* runs jobs from a queue in Redis: here functions that do nothing, {CONCURRENCY} at a time, one worker. The
  jobs are put in beforehand, so only taking them out is counted. Redis is as it comes: it writes a snapshot now and
  then, and what was accepted since may be lost."""


def subjects(options: Options) -> list[Subject]:
    async def prepare() -> dict[str, str]:
        _, found = await redis_server()
        await install("saq", "saq[redis,hiredis]==0.26.4", "typing-extensions")
        return found | await versions("saq", "saq")

    async def measure() -> Sample:
        return await jobs_done("saq", "saq_worker.py", redis, options, most=6_000)

    return [Subject("saq on Redis, jobs that do nothing", measure, prepare)]
