"""The opening handshake of a WebSocket (RFC 6455, section 4): what a client asks with, and what it is answered.

HTTP has read the request's head already; who may come in at all is the application's question, not this one's.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha1
from http import HTTPStatus
from typing import NamedTuple

__all__ = ["Opening", "Refused", "accept_key", "accepted", "open_handshake", "refused"]

Headers = Sequence[tuple[bytes, bytes]]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Opening(NamedTuple):
    """A handshake that can be answered."""

    accept: bytes
    """For the response's `Sec-WebSocket-Accept`."""
    subprotocols: list[str]
    extensions: list[str]
    """Values of `Sec-WebSocket-Extensions`, as they came."""


class Refused(Exception):
    """This is no handshake; what to answer instead."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(status, text, *headers)
        self.status = status
        self.text = text
        self.headers = headers


def open_handshake(method: str, http_version: str, headers: Headers) -> Opening:
    """Read a request that asks for an upgrade to `websocket`; header names are in lower case. Raises Refused."""
    if method != "GET":
        raise Refused(405, "A WebSocket is opened by GET", (b"allow", b"GET"))
    if http_version != "1.1":
        raise Refused(505, "A WebSocket is opened by HTTP/1.1")
    keys: list[bytes] = []
    versions: list[bytes] = []
    subprotocols: list[str] = []
    extensions: list[str] = []
    for name, value in headers:
        if not name.startswith(b"sec-websocket-"):
            continue
        match name:
            case b"sec-websocket-key":
                keys.append(value.strip())
            case b"sec-websocket-version":
                versions.append(value.strip())
            case b"sec-websocket-protocol":
                subprotocols.extend(token.strip() for token in value.decode("latin-1").split(","))
            case b"sec-websocket-extensions":
                extensions.append(value.decode("latin-1"))
    if versions != [b"13"]:
        raise Refused(
            426, "Sec-WebSocket-Version must be 13", (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")
        )
    if len(keys) != 1 or not _is_key(keys[0]):
        raise Refused(400, "Sec-WebSocket-Key must be 16 bytes in base64, once")
    return Opening(accept_key(keys[0]), subprotocols, extensions)


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def accept_key(key: bytes) -> bytes:
    """What proves that the handshake was understood."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def accepted(accept: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The response that opens the socket. Raises ValueError for a header that is none."""
    return b"".join((_ACCEPTED, accept, b"\r\n", *_lines(headers), b"\r\n"))


def refused(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A response that opens nothing. Raises ValueError for a header that is none."""
    return b"".join((b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b"")), *_lines(headers), b"\r\n", body))


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    lines = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{name!r}: {value!r} is no header")
        lines.append(b"%b: %b\r\n" % (name, value))
    return lines
