"""Bounds on what a connection may cost before anything is known about the request."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedHead"]

_MAX_HEAD = 65_536
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: 25\r\n"
    b"connection: close\r\n"
    b"\r\n"
    b"Request head is too large"
)


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol on httptools, which would keep headers and trailers of any size.

    Counted is what comes without completing a head or bringing a piece of a body, so a head may be larger by one read.
    Bodies have a bound of their own.
    """

    _pending = 0
    _progress = False

    def data_received(self, data: bytes) -> None:
        self._progress = False
        super().data_received(data)
        self._pending = 0 if self._progress else self._pending + len(data)
        if self._pending > _MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._progress = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        super().on_message_complete()
