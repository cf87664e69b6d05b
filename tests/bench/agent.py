"""An agent that says what it is told from outside, when it is told: `--agent tests.bench.agent:agent`.

`relay PORT CHANNEL` opens PORT on the loopback interface, if no other turn has, says `ready`, and goes on until it is
told `end`. Whoever connects to the port writes lines `CHANNEL PAYLOAD`; each payload is one `turn.text` of the turn on
that channel, at the moment the line is read. Any other input is the demo agent's.
"""

from __future__ import annotations

import asyncio

from sightline.agents.demo import demo
from sightline.turn.agent import Turn

__all__ = ["READY", "agent"]

READY = "ready"
"""What a turn says first; from then on it is told what to say."""

_MOST_BYTES = 1 << 16
"""At one reading, so that the loop comes to others in between."""


class _Channel:
    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.ended = asyncio.Event()


_channels: dict[bytes, _Channel] = {}
_doors: dict[int, asyncio.Future[asyncio.Server]] = {}


class _Lines(asyncio.BufferedProtocol):
    """Somebody who tells us what to say."""

    def __init__(self) -> None:
        self._buffer = bytearray(_MOST_BYTES)
        self._rest = b""

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        *lines, self._rest = (self._rest + self._buffer[:nbytes]).split(b"\n")
        for line in lines:
            name, _, payload = line.partition(b" ")
            channel = _channels.get(name)
            if channel is None:
                continue
            if payload == b"end":
                channel.ended.set()
            else:
                channel.turn.text(payload.decode())


async def agent(turn: Turn) -> None:
    """Relay, or be the demo agent."""
    word, *rest = turn.input[0].content.split()
    if word != "relay":
        await demo(turn)
        return
    port, name = int(rest[0]), rest[1].encode()
    channel = _channels[name] = _Channel(turn)
    try:
        if port not in _doors:
            _doors[port] = asyncio.ensure_future(asyncio.get_running_loop().create_server(_Lines, "127.0.0.1", port))
        await asyncio.shield(_doors[port])
        turn.text(READY)
        await channel.ended.wait()
    finally:
        if _channels.get(name) is channel:
            del _channels[name]
