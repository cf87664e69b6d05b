"""A model as a server on this machine: the streamed chat completions of OpenAI's protocol, word by word, as scripted.

Only what such a client sends is understood. Runs on the event loop that it was opened on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["ModelServer", "serving_model"]

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class ModelServer:
    """Answers every request with `words`, `pause` seconds between them; a request that has tools and no result of one
    with a call of the first tool. `requests` are the bodies; `left` counts clients that went in mid-answer.
    """

    def __init__(self, words: list[str], pause: float) -> None:
        self.words = words
        self.pause = pause
        self.requests: list[dict[str, Any]] = []
        self.answering = 0
        self.left = 0
        self.port = 0

    @property
    def environment(self) -> dict[str, str]:
        """With which clients find it."""
        return {"OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1", "OPENAI_API_KEY": "none", "NO_PROXY": "*"}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which has one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            body = json.loads(await reader.readexactly(int(fields[b"content-length"])))
            self.requests.append(body)
            await self._write_unless_left(body, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who asks has gone
        finally:
            writer.close()

    async def _write_unless_left(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writing = asyncio.create_task(self._write(body, writer))
        closed = asyncio.create_task(reader.read())
        self.answering += 1
        try:
            await asyncio.wait({writing, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                self.left += 1
        finally:
            self.answering -= 1
            for task in (writing, closed):
                task.cancel()
            await asyncio.gather(writing, closed, return_exceptions=True)

    async def _write(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        if "tools" in body and body["messages"][-1]["role"] != "tool":
            writer.write(_event({"tool_calls": [_call(body["tools"][0]["function"])]}))
            writer.write(_event({}, finish="tool_calls"))
        else:
            for word in self.words:
                writer.write(_event({"content": word}))
                await writer.drain()
                await asyncio.sleep(self.pause)
            writer.write(_event({}, finish="stop"))
        usage = {"prompt_tokens": 7, "completion_tokens": len(self.words), "total_tokens": 7 + len(self.words)}
        writer.write(_event(None, usage=usage) + b"data: [DONE]\n\n")
        await writer.drain()
        writer.write_eof()


def _call(function: dict[str, Any]) -> dict[str, Any]:
    arguments = dict.fromkeys(function["parameters"]["properties"], "tea")
    called = {"name": function["name"], "arguments": json.dumps(arguments)}
    return {"index": 0, "id": "call-1", "type": "function", "function": called}


def _event(delta: dict[str, Any] | None, *, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": finish}]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": choices}
    return b"data: " + json.dumps({**chunk, **more}).encode() + b"\n\n"


@asynccontextmanager
async def serving_model(words: list[str], pause: float) -> AsyncIterator[ModelServer]:
    model = ModelServer(words, pause)
    answering: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(model.answer(reader, writer))
        answering.add(task)
        task.add_done_callback(answering.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    model.port = server.sockets[0].getsockname()[1]
    try:
        yield model
    finally:
        server.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
