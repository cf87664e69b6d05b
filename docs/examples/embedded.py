"""The kernel in a program of your own, without HTTP: accept work, watch it run, read what it left.

`python embedded.py [DATABASE]`
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from sightline import Event, GapAnswer, Kernel, Snapshot, SystemClock, TextItem, Turn, TurnInput
from sightline.observation.events import TurnActivity
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

        async with kernel.opened(session_id) as handle:
            queued = await handle.enqueue_turn_input(TurnInput((TextItem("say something"),)))  # durable from here on
        batch = await kernel.wait_for_batch(session_id, queued.batch_id, timeout=10)
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
    async for item in kernel.watch(session_id):
        match item:
            case Snapshot(view=view) | GapAnswer(view=view):
                print(" ", view.status)  # the session as it is now: replace what you have
            case Event(kind="turn_activity", data=TurnActivity(event=activity)):
                print("  turn_activity", type(activity).__struct_config__.tag)
            case Event(kind=kind):
                print(" ", kind, "")
                if kind == "committed":
                    return  # to stop watching stops nothing else


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder) / "example.db"))
