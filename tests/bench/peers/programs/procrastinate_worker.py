"""Runs in procrastinate's own environment: JOBS CONCURRENCY WARM_UP SECONDS CONNECTION."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from procrastinate import App, PsycopgConnector

done = 0
begun = asyncio.Event()


async def nothing() -> None:
    global done
    done += 1
    begun.set()


async def main(jobs: int, concurrency: int, warm_up: float, seconds: float, connection: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=connection, min_size=4, max_size=concurrency + 4))
    task = app.task(name="nothing")(nothing)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for _ in range(0, jobs, 500):
            await task.batch_defer_async(*[{} for _ in range(500)])
        # As the server does by itself after a while: without statistics it goes through all jobs for each.
        await app.connector.execute_query_async("ANALYZE")
        working = asyncio.create_task(app.run_worker_async(concurrency=concurrency, install_signal_handlers=False))
        await begun.wait()
        await asyncio.sleep(warm_up)
        print("begin", flush=True)
        before, began = done, time.perf_counter()
        await asyncio.sleep(seconds)
        figures = {"count": done - before, "seconds": time.perf_counter() - began, "done": done}
        assert not working.done(), working
        print(json.dumps(figures), flush=True)
        # Who reads this looks at the processor time next, and then ends the process.
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
