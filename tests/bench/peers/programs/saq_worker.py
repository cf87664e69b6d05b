"""Runs in saq's own environment: JOBS CONCURRENCY WARM_UP SECONDS ADDRESS."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from saq import Queue, Worker

done = 0
begun = asyncio.Event()


async def nothing(ctx: Any) -> None:
    global done
    done += 1
    begun.set()


async def main(jobs: int, concurrency: int, warm_up: float, seconds: float, address: str) -> None:
    queue = Queue.from_url(address)
    await queue.connect()
    for _ in range(0, jobs, 50):
        await asyncio.gather(*(queue.enqueue("nothing") for _ in range(50)))
    working = asyncio.create_task(Worker(queue, functions=[nothing], concurrency=concurrency).start())
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
