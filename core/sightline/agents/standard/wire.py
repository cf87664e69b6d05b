"""The HTTP client for providers: an ordinary one that does not let a provider fill the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from sightline.agents.standard.model import ModelError

__all__ = ["LINE_BYTES", "RESPONSE_BYTES", "bounded_client"]

LINE_BYTES = 4 * 1024 * 1024
"""A line of a stream is one event of it, a few hundred bytes mostly; the last one may hold the whole answer."""
RESPONSE_BYTES = 64 * 1024 * 1024


def bounded_client(*, line_bytes: int = LINE_BYTES, response_bytes: int = RESPONSE_BYTES) -> httpx2.AsyncClient:
    """A client whose responses fail with ModelError when they, or a line of them, are too long.

    How long to wait for a word is not its business: whoever asks has a clock. Proxies are, as everywhere, what
    `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    """

    async def bound(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream, line_bytes, response_bytes)

    # By a hook, and not by a transport of ours, which would have to know of proxies too.
    return httpx2.AsyncClient(
        event_hooks={"response": [bound]},
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        timeout=httpx2.Timeout(None, connect=10.0),
        headers={"accept-encoding": "identity"},  # what is counted is what comes out
    )


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, line_bytes: int, response_bytes: int) -> None:
        self._stream = stream
        self._line_bytes = line_bytes
        self._response_bytes = response_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        line = total = 0
        async for chunk in self._stream:
            total += len(chunk)
            newline = chunk.rfind(b"\n")
            line = line + len(chunk) if newline < 0 else len(chunk) - newline - 1
            if line > self._line_bytes:
                raise ModelError(f"the provider sent a line of more than {self._line_bytes} bytes")
            if total > self._response_bytes:
                raise ModelError(f"the provider sent more than {self._response_bytes} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
