"""A client that loses nothing, in one loop: WebSocket, the kernel's own fold, resume after every cut.

`python watch.py URL SESSION` prints the session's state whenever it has caught up or a turn has ended.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from sightline.observation.events import from_wire
from sightline.observation.fold import Fold
from sightline.observation.model import Observation

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
UNUSABLE = {"malformed_cursor", "wrong_session_cursor"}


class Final(Exception):
    """Asking again would get the same answer."""


class Watcher:
    """`state` and the cursor inside it are one thing: what has not been folded cannot be resumed from."""

    def __init__(self, url: str, session_id: str) -> None:
        self.address = f"{url.replace('http', 'ws', 1)}/v1/sessions/{session_id}/events"
        self.state: Fold | None = None
        self.failures = 0

    async def run(self) -> None:
        while True:
            try:
                await self._connection()
            except InvalidStatus as refused:
                status = refused.response.status_code
                if 400 <= status < 500 and status not in (408, 425, 429):
                    raise Final(f"refused with {status}") from None
                print(f"away: {refused}")
            except (OSError, InvalidHandshake) as error:
                print(f"away: {error}")
            self.failures += 1
            ceiling = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self.failures - 1))
            await asyncio.sleep(random.uniform(0, ceiling))

    async def _connection(self) -> None:
        query = {} if self.state is None else {"cursor": self.state.cursor}
        problem: dict[str, Any] = {}
        async with connect(f"{self.address}?{urlencode(query)}", max_size=None) as socket:
            try:
                while True:
                    frame = json.loads(await socket.recv())
                    if frame["type"] == "error":
                        problem = frame["problem"]
                    self.take(frame)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
        if problem.get("code") in UNUSABLE and self.state is not None:
            self.state = None  # start afresh
        elif 4000 <= code <= 4499 or code == 1008:
            raise Final(problem.get("detail") or f"closed with {code}")

    def take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "observation" | "gap":
                self.state = Fold(msgspec.convert(frame["observation"], Observation))
            case "event" if self.state is not None:
                self.state.apply(from_wire(frame))
                if frame["kind"] == "committed":
                    self.show("committed")
            case "caught_up":
                self.failures = 0  # only progress forgives
                self.show("caught up")
            case _:
                pass  # resumed, goodbye, pong, heartbeat, and what later servers say

    def show(self, why: str) -> None:
        if self.state is not None:
            seen = self.state.observation()
            print(f"{why}: {seen.status}, {len(seen.read_view.messages)} messages, {len(seen.queue)} queued")


if __name__ == "__main__":
    try:
        asyncio.run(Watcher(*sys.argv[1:3]).run())
    except Final as end:
        sys.exit(f"ended: {end}")
    except KeyboardInterrupt:
        pass
