"""LangGraph's local development server: runs of a graph of one node that echoes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.http_load import Connection, connections
from tests.bench.loops import closed_loop
from tests.bench.measuring import Options, Sample, Subject
from tests.bench.peers.installs import environment_of, install, versions
from tests.bench.processes import Process, environment, folder, free_port, running

__all__ = ["METHOD", "WORKERS", "development_server", "new_thread", "prepare", "run_of", "subjects"]

WORKERS = 100
_START_SECONDS = 120.0
_GRAPH = Path(__file__).parent / "programs" / "echo_graph.py"

METHOD = f"""\
- *LangGraph's local development server* (`langgraph dev`) runs a graph of one node that echoes, asked with
  `POST …/runs/wait` by 100 threads in a closed loop as our sessions are. It keeps everything in memory and is made
  for development, as it says itself. It is measured as it comes, with one job at a time, and with {WORKERS} jobs
  at a time; for twice as long as the others, because it takes up work once or twice a second. Its log level is
  `warning`, so that writing logs does not count against it."""


@asynccontextmanager
async def development_server(jobs: int | None) -> AsyncIterator[tuple[Process, int]]:
    """With so many jobs at a time, or as many as it comes with: the process and its port."""
    port = free_port()
    command = (
        *(str(environment_of("langgraph") / "langgraph"), "dev", "--no-browser", "--no-reload"),
        *("--host", "127.0.0.1", "--port", str(port), "--server-log-level", "WARNING"),
        *(() if jobs is None else ("--n-jobs-per-worker", str(jobs))),
    )
    quiet = {"LOG_LEVEL": "WARNING", "LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "PYTHONPATH": ""}
    with folder() as place:
        shutil.copy(_GRAPH, place)
        (place / "langgraph.json").write_text(
            json.dumps({"dependencies": ["."], "graphs": {"echo": "./echo_graph.py:graph"}})
        )
        async with running(*command, cwd=place, env=environment(**quiet)) as process:
            await _ready(port)
            yield process, port


async def _ready(port: int) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                async with connections(port, 1) as [line]:
                    if (await line.send("GET", "/ok")).status == 200:
                        return
            except OSError:
                pass
            await asyncio.sleep(0.1)


async def new_thread(line: Connection) -> str:
    answer = await line.send("POST", "/threads", b"{}")
    assert answer.status == 200, answer
    return str(json.loads(answer.body)["thread_id"])


def run_of(text: str, **more: object) -> bytes:
    return json.dumps({"assistant_id": "echo", "input": {"text": text}, **more}).encode()


async def prepare() -> dict[str, str]:
    await install("langgraph", "langgraph-cli[inmem]==0.4.40")
    return await versions("langgraph", "langgraph", "langgraph-api", "langgraph-cli")


async def runs(jobs: int | None, threads: int, *, warm_up: float, seconds: float) -> Sample:
    async with development_server(jobs) as (process, port), connections(port, threads) as lines:

        def worker(line: Connection, thread: str) -> Callable[[], Awaitable[None]]:
            async def once() -> None:
                answer = await line.send("POST", f"/threads/{thread}/runs/wait", run_of("hello"))
                assert answer.status == 200, answer
                assert json.loads(answer.body)["answer"] == "hello", answer

            return once

        workers = [worker(line, await new_thread(line)) for line in lines]
        result = await closed_loop(workers, warm_up=warm_up, seconds=seconds, cpu=lambda: process.cpu_seconds)
    return {"rate": result.rate, "cpu_us": result.cpu_us, "client": result.client_busy}


def subjects(options: Options) -> list[Subject]:
    def subject(name: str, jobs: int | None) -> Subject:
        async def measure() -> Sample:
            return await runs(jobs, options.sessions, warm_up=options.warm_up, seconds=2 * options.seconds)

        return Subject(f"LangGraph's development server, {name}", measure, prepare)

    return [subject("as it comes", None), subject(f"{WORKERS} jobs at a time", WORKERS)]
