"""A server that speaks OpenAI's streaming chat wire, as badly as it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class OpenAIServer:
    """The n-th request gets the n-th answer, or each what follows from it. `requests` are the bodies of those that
    came.
    """

    answers: Sequence[Answer] | Callable[[dict[str, Any]], Answer]
    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client leaves an answer that stalls."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
            self.requests.append(json.loads(await reader.readexactly(length)))
            count, answers = len(self.requests), self.answers
            answer = answers(self.requests[-1]) if callable(answers) else answers[count - 1]
            await answer(writer)
            await writer.drain()
        except stalling:
            await reader.read()
            self.hung_up.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it had enough
        finally:
            writer.close()


class stalling(Exception):
    """Raised by an answer that says nothing more and does not end."""


@asynccontextmanager
async def openai_server(*answers: Answer) -> AsyncIterator[OpenAIServer]:
    async with openai_serving(OpenAIServer(answers)) as fake:
        yield fake


@asynccontextmanager
async def openai_serving(fake: OpenAIServer) -> AsyncIterator[OpenAIServer]:
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fake.base_url = f"http://127.0.0.1:{port}/v1"
    async with server:
        yield fake


OPEN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    """One event of the stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage(prompt: int, completion: int) -> bytes:
    figures = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": figures}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def streaming(*pieces: bytes, cut: bool = False, stall: bool = False) -> Answer:
    """The pieces as a chunked answer: whole, cut off without its end, or going silent without one."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN + b"transfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if stall:
            raise stalling
        if not cut:
            writer.write(b"0\r\n\r\n")

    return answer


def saying(text: str) -> Answer:
    words = [chunk(content=word) for word in text.split(" ")]
    return streaming(*words, chunk("stop"), usage(5, len(words)), DONE)


def calling(call_id: str, name: str, *args: str) -> Answer:
    """A request for a tool, whose arguments come in these pieces."""

    def call(**function: str) -> dict[str, Any]:
        return {"index": 0, "id": call_id, "type": "function", "function": function}

    first = chunk(tool_calls=[call(name=name, arguments=args[0])])
    more = [chunk(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in args[1:]]
    return streaming(first, *more, chunk("tool_calls"), usage(5, 5), DONE)


def refusing(status: int, code: str = "trouble", message: str = "no", headers: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"error": {"message": message, "type": code, "code": code}}).encode()
        head = f"HTTP/1.1 {status} Trouble\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    return answer
