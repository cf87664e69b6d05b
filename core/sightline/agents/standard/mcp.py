"""Tools of MCP servers, through the official SDK. Needs the extra `mcp`.

One connection per server serves all turns of the process. It is made when it is first needed, and made again after it
was lost: whoever was calling then is told so, and the next call goes through the new one. A task of its own holds it,
because the SDK wants it closed by whoever opened it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec import Struct

from sightline.agents.standard.tools import Tool, ToolFailed
from sightline.clock import Clock, within
from sightline.persevering import retrieve
from sightline.startup_errors import (
    ExtraMissing,
    ToolRefused,
)
from sightline.turn.agent import Turn

try:
    import httpx2
    from mcp import Client, MCPError, StdioServerParameters
    from mcp.client import Transport
    from mcp.client.streamable_http import streamable_http_client
    from mcp_types import CONNECTION_CLOSED, CallToolResult, TextContent
except ImportError as error:
    raise ExtraMissing("an agent with MCP servers", "mcp") from error

__all__ = ["McpConnection", "McpServer", "McpUnavailable"]

_log = logging.getLogger("sightline.agents.mcp")

_MOST_PAGES = 100
_T = TypeVar("_T")


class McpServer(Struct, frozen=True, kw_only=True):
    """A server by its `command`, spoken to over its standard input and output, or by its `url` (streamable HTTP).

    Its tools are called `<name>_<tool>`. Those in `approval` need somebody's word before each call. Seconds:
    `connect_timeout` until its tools are known, `timeout` for a call.
    """

    name: str
    command: Sequence[str] = ()
    url: str = ""
    env: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    approval: frozenset[str] = frozenset()
    timeout: float = 60.0
    connect_timeout: float = 20.0

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ValueError(f"the MCP server {self.name} needs a command or a url, and not both")


class McpUnavailable(Exception):
    """The server cannot be reached, or does not say in time what it can do."""


class McpConnection:
    """The connection to one server, there or not."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._client: asyncio.Future[Client] | None = None
        self._leave = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None

    async def tools(self, clock: Clock) -> tuple[Tool, ...]:
        """Ask the server what it offers. What no model could be told of is left out, and logged.

        Raises McpUnavailable.
        """
        name = self.server.name
        try:
            listed = await self._timed(clock, self.server.connect_timeout, self._listed())
        except TimeoutError:
            await self.close()
            raise McpUnavailable(f"MCP server {name}: no answer within {self.server.connect_timeout:g} s") from None
        except Exception as error:
            await self.close()
            raise McpUnavailable(f"MCP server {name}: {_words(error)}") from error
        made: list[Tool] = []
        for tool_name, description, schema in listed:
            try:
                made.append(self._tool(tool_name, description, schema))
            except ToolRefused as error:
                _log.warning("MCP server %s: %s", name, error)
        return tuple(made)

    async def close(self) -> None:
        """End the connection, and the server if it is ours. Idempotent; it can be opened again."""
        holder, client = self._holder, self._client
        self._holder = self._client = None
        if holder is None:
            return
        self._leave.set()
        if client is not None and not client.done():
            holder.cancel()  # it is still being opened, and may be for ever
        await asyncio.wait({holder})

    def _tool(self, tool_name: str, description: str, schema: dict[str, Any]) -> Tool:
        async def run(turn: Turn, args: Any) -> Any:
            if not isinstance(args, dict):
                raise ToolFailed(f"the arguments do not fit: expected an object, got {type(args).__name__}")
            return await self._call(turn.clock, tool_name, args)

        called = f"{self.server.name}_{tool_name}"
        return Tool(called, description, schema, run, approval=tool_name in self.server.approval)

    async def _listed(self) -> list[tuple[str, str, dict[str, Any]]]:
        client = await self._opened()
        listed: list[tuple[str, str, dict[str, Any]]] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="refresh")
            listed += [(tool.name, tool.description or "", tool.input_schema) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        return listed

    async def _call(self, clock: Clock, name: str, args: dict[str, Any]) -> Any:
        async def call() -> CallToolResult:
            return await (await self._opened()).call_tool(name, args)

        try:
            result = await self._timed(clock, self.server.timeout, call())
        except TimeoutError:
            raise ToolFailed(f"no answer within {self.server.timeout:g} s") from None
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                await self.close()
                raise ToolFailed("the connection to the server was lost; it may work the next time") from error
            raise ToolFailed(error.message) from error
        except Exception as error:
            await self.close()
            raise ToolFailed(f"the server cannot be reached: {_words(error)}") from error
        return _output(result)

    async def _timed(self, clock: Clock, seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.create_task(work)
        try:
            if not await within(clock, seconds, task):
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _opened(self) -> Client:
        """The open connection. Whoever comes first opens it, for all who wait."""
        if self._client is None:
            self._client = asyncio.get_running_loop().create_future()
            self._client.add_done_callback(_seen)
            self._leave = asyncio.Event()
            self._holder = asyncio.create_task(
                self._hold(self._client, self._leave), name=f"MCP server {self.server.name}"
            )
            self._holder.add_done_callback(retrieve)
        return await asyncio.shield(self._client)

    async def _hold(self, opened: asyncio.Future[Client], leave: asyncio.Event) -> None:
        try:
            async with self._transport() as transport, Client(transport) as client:
                opened.set_result(client)
                await leave.wait()
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)
            else:
                _log.info("MCP server %s: %s", self.server.name, _words(error))
        finally:
            if not opened.done():
                opened.set_exception(ConnectionError("the connection was closed while it was opened"))

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[Transport | StdioServerParameters]:
        server = self.server
        if not server.url:
            command, *args = server.command
            yield StdioServerParameters(command=command, args=args, env=dict(server.env))
            return
        timeout = httpx2.Timeout(None, connect=10.0)
        async with httpx2.AsyncClient(headers=dict(server.headers), timeout=timeout) as http:
            yield streamable_http_client(server.url, http_client=http)


def _seen(opened: asyncio.Future[Client]) -> None:
    if not opened.cancelled():
        opened.exception()


def _output(result: CallToolResult) -> Any:
    """What the server says, as JSON; pictures and the like are named and not shown."""
    text = "\n".join(block.text if isinstance(block, TextContent) else f"({block.type})" for block in result.content)
    if result.is_error:
        raise ToolFailed(text or "it failed")
    return text if result.structured_content is None else result.structured_content


def _words(error: BaseException) -> str:
    """The first plain exception inside, in one line: the SDK wraps them in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())
