"""An effect outside the transcript, done once although the turn may run more than once.

A turn whose server died is run again from its beginning, under the same `turn.turn_id`. So the effect goes under that
id, and whoever performs it refuses the second: here a primary key, elsewhere an idempotency key.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

from sightline import Turn

DATABASE = "orders.db"


async def agent(turn: Turn) -> None:
    what = turn.input[0].content

    async def order() -> bool:
        # In a thread: the agent shares the event loop with every stream and every other turn.
        return await asyncio.to_thread(place_order, turn.turn_id, what)

    new = await turn.tool_call("place_order", {"what": what}, order)
    turn.text(f"Attempt {turn.attempt}: {'ordered' if new else 'an earlier attempt had ordered'} {what}.")
    await turn.sleep(1)  # a crash here is the interesting one: ordered, and not committed
    turn.text(" Done.")


def place_order(turn_id: str, what: str) -> bool:
    """Whether this call placed it; false when an earlier attempt of the same turn had."""
    with closing(sqlite3.connect(DATABASE)) as orders, orders:
        orders.execute("CREATE TABLE IF NOT EXISTS orders (turn_id TEXT PRIMARY KEY, what TEXT NOT NULL)")
        placed = orders.execute("INSERT OR IGNORE INTO orders VALUES (?, ?)", (turn_id, what))
        return placed.rowcount == 1
