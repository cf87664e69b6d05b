"""A line over plain ASGI, for servers that offer none of their own: the same streams, for a task and a wait per client.

Frames are handed to it as they are; it is paused from then until the server has taken them, so what a slow client holds
up stays in the session's log. uvicorn's own classes, with what `protocols` adds, let a client be told goodbye that does
not read; on other servers such a client is just left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from starlette.types import Message, Scope, Send

from sightline.clock import Clock
from sightline_gateway.lines.connection import connection_of
from sightline_gateway.stream.frames import Frame, as_text, singly
from sightline_gateway.stream.observer import Observer
from sightline_gateway.stream.patience import FAREWELL, Impatient, patiently

__all__ = ["AsgiLine", "as_they_are", "body_messages", "socket_messages"]

_BREATH = 64
_GONE = (OSError, RuntimeError)
"""What a server raises when it is told to send on a connection that is closed."""

Messages = Callable[[Sequence[Frame]], list[tuple[Message, Sequence[Frame]]]]
"""What is sent for frames: messages, each with the frames that it holds."""


def as_they_are(frames: Sequence[Frame]) -> Sequence[Frame]:
    """The form of what is written to an `AsgiLine`: nothing is made of it before the server can take it."""
    return singly(frames)


def socket_messages(frames: Sequence[Frame]) -> list[tuple[Message, Sequence[Frame]]]:
    return [({"type": "websocket.send", "text": as_text(frame)}, (frame,)) for frame in frames]


def body_messages(encode: Callable[[Frame], bytes], *, first: bytes) -> Messages:
    """One part of the body for all of them, for one response, which begins with `first`."""
    opening = first

    def messages(frames: Sequence[Frame]) -> list[tuple[Message, Sequence[Frame]]]:
        nonlocal opening
        body = opening + b"".join([encode(frame) for frame in frames])
        opening = b""
        return [({"type": "http.response.body", "body": body, "more_body": True}, frames)]

    return messages


class AsgiLine:
    """See `line.Line`. `run` it for as long as the connection lasts; `closing` makes the messages that end it."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        clock: Clock,
        messages: Messages,
        closing: Callable[[int, str], list[Message]],
    ) -> None:
        self.paused = False
        self.shown: dict[str, str] = {}
        """The last cursor of each session that the server has taken."""
        self._connection = connection_of(scope)
        self._send = send
        self._clock = clock
        self._messages = messages
        self._closing = closing
        self._frames: deque[Frame] = deque()
        self._sending: deque[tuple[Message, Sequence[Frame]]] = deque()
        self._end: list[Message] | None = None
        self._cut = False
        self._something = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()

    batch = 16_384
    """No more than a client may have to wait for behind what it has missed, such as the answer to a ping."""

    @property
    def unread(self) -> int:
        return 0 if self._connection is None else self._connection.unread

    def write(self, frames: Sequence[Frame]) -> None:
        self._frames.extend(frames)
        self.paused = True
        self._something.set()

    def close(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = self._closing(code, reason)
            self._something.set()

    def cut_in(self, seconds: float) -> None:
        self._frames.clear()
        self._cut = not seconds
        self._something.set()
        if self._connection is not None:
            self._connection.cut_in(seconds)
            self._connection.unblock()

    def hold_reading(self) -> None:
        self._reading.clear()

    def go_on_reading(self) -> None:
        self._reading.set()

    async def may_read(self) -> None:
        """Return when the client may be read from."""
        await self._reading.wait()

    async def run(self, owner: Observer) -> None:
        """Send what is written until the end has been sent, or nobody is there to send it to. Cancellable."""
        try:
            while self._end is None or self._frames:
                await self._something.wait()
                self._something.clear()
                while self._frames:
                    await self._send_frames()
                if self._end is None and not self._cut:
                    self.paused = False
                    owner.writable()
                if self._cut:
                    return
            for message in self._end:
                await self._patiently(message)
        except Impatient:
            await self._part(owner)
        except _GONE:
            return

    async def _send_frames(self) -> None:
        self._sending = deque(self._messages(list(self._frames)))
        self._frames.clear()
        count = 0
        while self._sending:
            count += 1
            if not count % _BREATH:
                await asyncio.sleep(0)  # a client that reads does not make us wait: others come first
            message, held = self._sending[0]
            await self._patiently(message)
            self._sending.popleft()
            self.shown.update((frame.session_id, frame.cursor) for frame in held if frame.cursor is not None)

    async def _patiently(self, message: Message) -> None:
        await patiently(self._clock, self._connection, self._send, message)

    async def _part(self, owner: Observer) -> None:
        """Leave a client that does not read: what it finds if it still does, for a little while."""
        if owner.ended:
            last = [message for message, _ in self._sending]
            self.cut_in(FAREWELL)
        else:
            owner.give_up(self.shown)
            last = [message for message, _ in self._messages(list(self._frames))] if self._frames else []
        if self._connection is not None:
            for message in last + (self._end or []):
                await self._send(message)
