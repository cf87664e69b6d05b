"""The kernel in a program of your own, without HTTP: accept work, watch it run, read what it left.

`python embedded.py [DATABASE]`
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from sightline import Kernel, SystemClock, Turn
from sightline.queue.model import Draft, TextItem, TurnInput, TurnInputPayload
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.stores.sqlite import SqliteStore


async def agent(turn: Turn) -> None:
    for word in ("quietly", " said"):
        turn.text(word)
        await turn.sleep(0.01)


async def main(database: Path) -> None:
    store = SqliteStore.open(database)
    kernel = Kernel(store=store, replay=MemoryReplayStore(SystemClock(), store.incarnation), agent=agent)
    await kernel.start()
    try:
        session_id = (await kernel.create_session()).session_id
        watching = asyncio.create_task(watch(kernel, session_id))
        await asyncio.sleep(0)  # let it subscribe first

        work = TurnInputPayload(TurnInput((TextItem("say something"),)))
        written = await kernel.enqueue(Draft(session_id=session_id, payloads=(work,)))  # durable from here on
        batch = await kernel.wait_for_batch(session_id, written.batch.batch_id, timeout=10)
        print("the work is", batch.state)

        await watching
        for message in (await kernel.observe(session_id)).read_view.messages:
            print(f"{message.role}: {message.content}")
    finally:
        await kernel.drain(timeout=5)
        await kernel.stop()
        await store.close()


async def watch(kernel: Kernel, session_id: str) -> None:
    """Print what happens until the first commit."""
    woken = asyncio.Event()
    _, opening = await kernel.subscribe(session_id, None, woken.set)
    try:
        while True:
            woken.clear()
            entries = opening.subscription.take(65_536)
            if isinstance(entries, str):
                raise RuntimeError(f"fell behind the live log: {entries}")
            for entry in entries:
                event = json.loads(entry.payload)
                print(" ", entry.kind, event["data"].get("event", {}).get("type", ""))
                if entry.kind == "committed":
                    return
            if not entries:
                await woken.wait()
    finally:
        opening.subscription.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder) / "example.db"))
