"""What the fuzzing client talks to: a server that sends back every message, by one of three ways.

`python -m tests.autobahn.echo PORT WAY`, where WAY is `uvicorn` for its own class, `lean` for ours under an ASGI
application, and `detached` for ours with an owner in the application's place.
"""

from __future__ import annotations

import sys
from typing import cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_gateway.lines.line import Line, line_of
from sightline_gateway.lines.protocols import HttpProtocol, WebSocketProtocol
from sightline_gateway.lines.rfc6455 import BINARY, TEXT, deflated, frame
from sightline_gateway.lines.socket_protocol import SocketProtocol

__all__ = ["WAYS", "detached", "echo"]

_LARGEST = 1 << 24
"""As long as the longest message of the suite."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def detached(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    line = line_of(scope)
    assert line is not None
    line.detach(Echo(line))


class Echo:
    """An owner that says what it hears, and hears no more while that is unread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._window = cast("SocketProtocol", line).window

    def received(self, message: str | bytes) -> None:
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        self._line.write(deflated(payload, opcode, self._window) if self._window else frame(opcode, payload))
        if self._line.paused:
            self._line.hold_reading()

    def stalled(self) -> None:
        pass

    def writable(self) -> None:
        self._line.go_on_reading()

    def gone(self) -> None:
        pass


WAYS: dict[str, tuple[ASGIApp, type[WebSocketProtocol] | type[SocketProtocol]]] = {
    "uvicorn": (echo, WebSocketProtocol),
    "lean": (echo, SocketProtocol),
    "detached": (detached, SocketProtocol),
}


def main() -> None:
    port, way = sys.argv[1:]
    app, ws = WAYS[way]
    uvicorn.run(
        app,
        port=int(port),
        http=HttpProtocol,
        ws=ws,
        ws_max_size=_LARGEST,
        ws_per_message_deflate=True,
        lifespan="off",
        log_level="warning",
    )


if __name__ == "__main__":
    main()
