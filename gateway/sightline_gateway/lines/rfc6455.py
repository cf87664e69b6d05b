"""The WebSocket protocol as a server speaks it (RFC 6455), without I/O: bytes to events, payloads to frames.

A `Reader` is fed whatever bytes came and asked for events until it has none. What the RFC calls failing the connection
is an event too: `Broken`, with the code to close with. It comes as early as the bytes allow: at the header of a frame
that is too long, at the byte that cannot be UTF-8, not when the rest has been waited for. After it, and after the
client's close, nothing that comes has a meaning.

Memory is bounded by the largest message allowed: payloads are unmasked as they come and put together in one buffer, so
that a message in a million fragments costs no more than one in a single frame.
"""

from __future__ import annotations

from codecs import utf_8_decode
from struct import Struct
from typing import NamedTuple

from sightline_gateway.lines.deflate import FULL_WINDOW, Undecipherable, deflate, inflate

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a compiler
    from websockets.utils import apply_mask

__all__ = [
    "ABNORMAL",
    "BINARY",
    "CLOSE",
    "NO_STATUS",
    "PING",
    "PONG",
    "TEXT",
    "Broken",
    "Close",
    "Event",
    "Ping",
    "Pong",
    "Reader",
    "close_frame",
    "deflated",
    "frame",
]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_OPCODES = frozenset((_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

NO_STATUS = 1005
"""The code of a close that names none. Never on the wire, like the next one."""
ABNORMAL = 1006
"""The code of a connection that ended without a close."""
_PROTOCOL_ERROR = 1002
_BAD_PAYLOAD = 1007
_TOO_LARGE = 1009
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
"""Those of the registry that may be on the wire; besides them, 3000 to 4999 are free for use."""

_MAX_CONTROL = 125
_SHORT = Struct("!BBH")
_LONG = Struct("!BBQ")


class Ping(NamedTuple):
    """To be answered by a pong with the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """An answer to a ping, or a sign of life that nobody asked for."""

    payload: bytes


class Close(NamedTuple):
    """The client has nothing more to say; `NO_STATUS` when it gave no code."""

    code: int
    reason: str


class Broken(NamedTuple):
    """The client broke the protocol, or a limit: to be closed with this code."""

    code: int
    reason: str


Event = str | bytes | Ping | Pong | Close | Broken
"""A text message is a str, a binary one bytes."""


def frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """A whole message, or a control frame of at most 125 bytes, as it goes on the wire."""
    first = 0xC0 | opcode if compressed else 0x80 | opcode
    size = len(payload)
    if size <= _MAX_CONTROL:
        return bytes((first, size)) + payload
    if size < 65_536:
        return _SHORT.pack(first, 126, size) + payload
    return _LONG.pack(first, 127, size) + payload


def deflated(payload: bytes, opcode: int = TEXT, window: int = FULL_WINDOW) -> bytes:
    """A whole message, compressed: for every client that agreed to this window or a larger one."""
    return frame(opcode, deflate(payload, window), compressed=True)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close; a reason that is too long is cut. Raises ValueError for a code that may not be sent."""
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    if not _may_be_sent(code):
        raise ValueError(f"{code} is no close code for the wire")
    said = reason.encode()[: _MAX_CONTROL - 2].decode("utf-8", "ignore")
    return frame(CLOSE, code.to_bytes(2, "big") + said.encode())


def _may_be_sent(code: int) -> bool:
    return code in _CODES or 3000 <= code <= 4999


class _Violation(Exception):
    """The connection is to be failed; never leaves this module."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Reader:
    """What one client says. Control frames are taken whole, payloads of messages as they come."""

    __slots__ = (
        "_at",
        "_checked",
        "_compressed",
        "_data",
        "_deflate",
        "_ended",
        "_last",
        "_left",
        "_limit",
        "_mask",
        "_message",
        "_opcode",
        "_returned",
    )

    def __init__(self, limit: int, *, deflate: bool = False) -> None:
        """`limit`: the most bytes of a message. `deflate`: whether compressed ones were agreed on."""
        self._limit = limit
        self._deflate = deflate
        self._ended = False
        self._returned: str | bytes | None = None
        # What was fed, and how far it is read.
        self._data = b""
        self._at = 0
        # The message under way: 0 when there is none. Text is checked up to `_checked`.
        self._opcode = 0
        self._compressed = False
        self._message: bytearray | None = None
        self._checked = 0
        # Its frame under way: how much of the payload is still to come, -1 between frames.
        self._left = -1
        self._last = False
        self._mask = b""

    def feed(self, data: bytes) -> None:
        """Take what came. Everything that can be asked for should have been, or what was fed piles up."""
        if not self._ended:
            self._data = self._data[self._at :] + data if self._at < len(self._data) else data
            self._at = 0

    @property
    def resting(self) -> bool:
        """Whether there is nothing here: the next byte begins a frame."""
        return self._left < 0 and not self._data and self._returned is None

    def put_back(self, message: str | bytes) -> None:
        """Let the next event be this one, which was taken already."""
        self._returned = message

    def next(self) -> Event | None:
        """The next event; none when more bytes are needed, or when the client can say nothing more."""
        if (returned := self._returned) is not None:
            self._returned = None
            return returned
        if self._ended:
            return None
        try:
            event = self._read()
        except _Violation as violation:
            event = Broken(violation.code, violation.reason)
        if isinstance(event, (Close, Broken)):
            self._ended = True
            self._message = None
        if self._ended or self._at == len(self._data):
            self._data = b""
            self._at = 0
        return event

    def _read(self) -> Event | None:
        while True:
            if self._left < 0:
                header = self._header()
                if header is None:
                    return None
                first, self._left, self._mask = header
                if first & 0x0F >= CLOSE:
                    payload = apply_mask(self._take(self._left), self._mask)
                    self._left = -1
                    return _control(first & 0x0F, payload)
                self._last = first & 0x80 != 0
                if first & 0x0F != _CONTINUATION:
                    self._opcode = first & 0x0F
                    self._compressed = first & 0x40 != 0
            elif self._at == len(self._data):
                return None
            event = self._payload()
            if event is not None:
                return event

    def _header(self) -> tuple[int, int, bytes] | None:
        """First byte, length and mask of the next frame, once they are there; of a control frame, once it is whole."""
        data, at = self._data, self._at
        there = len(data) - at
        if there < 2:
            return None
        first, second = data[at], data[at + 1]
        self._check(first, second)
        is_control = first & 0x0F >= CLOSE
        size, length = 2, second & 0x7F
        if length == 126:
            size = 4
            length = int.from_bytes(data[at + 2 : at + 4], "big")
        elif length == 127:
            size = 10
            length = int.from_bytes(data[at + 2 : at + 10], "big")
        if there < size:
            return None
        if size > 2 and (length <= _MAX_CONTROL if size == 4 else not 65_536 <= length < 1 << 63):
            raise _Violation(_PROTOCOL_ERROR, "length in the wrong form")
        if not is_control and length + len(self._message or b"") > self._limit:
            raise _Violation(_TOO_LARGE, f"over {self._limit} bytes")
        size += 4
        if there < (size + length if is_control else size):
            return None
        self._at = at + size
        return first, length, data[at + size - 4 : at + size]

    def _check(self, first: int, second: int) -> None:
        """The rules about a frame that its first two bytes show."""
        opcode = first & 0x0F
        if opcode not in _OPCODES:
            raise _Violation(_PROTOCOL_ERROR, "unknown opcode")
        if first & 0x70 and not (first & 0x70 == 0x40 and self._deflate and opcode in (TEXT, BINARY)):
            raise _Violation(_PROTOCOL_ERROR, "reserved bits")
        if not second & 0x80:
            raise _Violation(_PROTOCOL_ERROR, "not masked")
        if opcode >= CLOSE:
            if not first & 0x80:
                raise _Violation(_PROTOCOL_ERROR, "fragmented control frame")
            if second & 0x7F > _MAX_CONTROL:
                raise _Violation(_PROTOCOL_ERROR, "control frame too long")
        elif (opcode == _CONTINUATION) != bool(self._opcode):
            raise _Violation(_PROTOCOL_ERROR, "fragments out of order")

    def _take(self, most: int) -> bytes:
        taken = self._data[self._at : self._at + most]
        self._at += len(taken)
        return taken

    def _payload(self) -> str | bytes | None:
        """Read on in the frame under way: the message, when this completes it."""
        masked = self._take(self._left)
        piece = apply_mask(masked, self._mask)
        self._left -= len(piece)
        if not self._left and self._last and not self._message:
            return self._whole(piece)
        if self._message is None:
            self._message = bytearray()
        self._message += piece
        if self._opcode == TEXT and not self._compressed:
            self._check_text()
        if self._left:
            turn = len(piece) % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
            return None
        if self._last:
            return self._whole(bytes(self._message))
        self._left = -1
        return None

    def _check_text(self) -> None:
        assert self._message is not None
        text = self._message[self._checked :]
        try:
            _, read = utf_8_decode(text, "strict", False)
        except UnicodeDecodeError:
            raise _Violation(_BAD_PAYLOAD, "not UTF-8") from None
        if text[read : read + 1] == b"\xed" and text[read + 1 : read + 2] >= b"\xa0":
            # Half of a surrogate: Python's decoder would wait for the other byte of it.
            raise _Violation(_BAD_PAYLOAD, "not UTF-8")
        self._checked += read

    def _whole(self, payload: bytes) -> str | bytes:
        is_text = self._opcode == TEXT
        if self._compressed:
            payload = self._inflated(payload)
        self._opcode = self._checked = 0
        self._message = None
        self._left = -1
        if not is_text:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise _Violation(_BAD_PAYLOAD, "not UTF-8") from None

    def _inflated(self, payload: bytes) -> bytes:
        try:
            return inflate(payload, self._limit)
        except Undecipherable as error:
            if error.too_large:
                raise _Violation(_TOO_LARGE, f"over {self._limit} bytes") from None
            raise _Violation(_PROTOCOL_ERROR, "not compressed as agreed") from None


def _control(opcode: int, payload: bytes) -> Ping | Pong | Close:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        raise _Violation(_BAD_PAYLOAD, "close reason not UTF-8") from None
    if len(payload) == 1 or not _may_be_sent(code):
        raise _Violation(_PROTOCOL_ERROR, "close code")
    return Close(code, reason)
