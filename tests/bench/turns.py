"""Whole turns through a running gateway, beside what others do: bare jobs of two queues, runs of a graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from tests.bench.gateways import serving
from tests.bench.http_load import Connection, connections
from tests.bench.loops import closed_loop
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.page import Column, Section, Target
from tests.bench.peers import langgraph_runs, procrastinate_jobs, saq_jobs

__all__ = ["SECTION", "whole_turns"]

OURS = "Sightline, `FULL`"
GOAL = 1_000
CPU_GOAL_US = 800


async def whole_turns(synchronous: str, sessions: int, *, warm_up: float, seconds: float) -> Sample:
    async with (
        serving("--synchronous", synchronous) as gateway,
        connections(gateway.port, sessions) as lines,
    ):
        done = 0

        def worker(connection: Connection, session_id: str) -> Callable[[], Awaitable[None]]:
            async def once() -> None:
                nonlocal done
                await gateway.whole_turn(connection, session_id, "echo hello")
                done += 1

            return once

        for number, line in enumerate(lines):
            await gateway.create(line, f"s{number}")
        result = await closed_loop(
            [worker(line, f"s{number}") for number, line in enumerate(lines)],
            warm_up=warm_up,
            seconds=seconds,
            cpu=lambda: gateway.process.cpu_seconds,
        )
        # The revision counts the commits: what was answered is what is in the transcripts.
        views = [await gateway.revision(lines[0], f"s{number}") for number in range(sessions)]
        assert sum(int(msgspec.json.decode(view)["revision"]) for view in views) == done
    return {"rate": result.rate, "cpu_us": result.cpu_us, "client": result.client_busy}


def subjects(options: Options) -> list[Subject]:
    def sightline(name: str, synchronous: str) -> Subject:
        return Subject(
            name,
            lambda: whole_turns(synchronous, options.sessions, warm_up=options.warm_up, seconds=options.seconds),
        )

    return [
        sightline(OURS, "FULL"),
        sightline("Sightline, `NORMAL`", "NORMAL"),
        *saq_jobs.subjects(options),
        *procrastinate_jobs.subjects(options),
        *langgraph_runs.subjects(options),
    ]


SECTION = Section(
    name="turns",
    title="Whole turns",
    method=f"""\
A turn is asked for with `POST …/turns` and `Prefer: wait`, so the answer comes when the turn is committed: the
input is in the queue on disk, the demo agent has run `echo hello`, the live events are out, and the answer is in
the transcript. 100 sessions in a closed loop, each on its own connection: each asks again when it has its answer.
At the end the revisions of all sessions must add up to the number of answers.

The others do less, or do it in memory. None of these rows is the same work as ours; they say in which range it
lies.

{saq_jobs.METHOD}
{procrastinate_jobs.METHOD}
{langgraph_runs.METHOD}

Everything that does the work is pinned to one core, with its database: the gateway; the worker and Redis; the
worker and PostgreSQL; the development server. The client that asks for turns and runs has the other core. Each
round starts every server anew with empty data. CPU is the processor time of everything on the working core, for one
turn, job or run; on a busy machine it is the steadier figure. How busy the client keeps its own core shows that it
is not the client which is measured.""",
    subjects=subjects,
    heading="",
    columns=(
        Column("rate", "turns, jobs or runs/s"),
        Column("cpu_us", "CPU µs for one"),
        Column("rate", f"rate ÷ {OURS}", to=OURS),
        Column("client", "client busy, %"),
    ),
    targets=(
        Target(
            f"whole turns, `FULL`, one core: at least {GOAL:,}/s",
            lambda rows: rows.median(OURS, "rate"),
            at_least=GOAL,
            unit="turns/s",
        ),
        Target(
            f"an echo turn from its POST to its commit, `FULL`: below {CPU_GOAL_US} µs of processor time",
            lambda rows: rows.median(OURS, "cpu_us"),
            below=CPU_GOAL_US,
            unit="µs",
        ),
    ),
)
