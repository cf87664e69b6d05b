"""Tools of MCP servers: real ones, as child processes and over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from sightline.agents.standard import StandardAgent, ToolFailed, tool
from sightline.agents.standard.mcp import McpConnection, McpServer, McpUnavailable
from sightline.clock import Clock, SystemClock
from sightline.kernel import Kernel
from sightline.session.model import Message
from sightline.startup_errors import (
    ExtraMissing,
)
from sightline.testing.models import ScriptedModel, calling, saying
from sightline.turn.agent import Turn
from tests.core.agents.standard import mcp_tools
from tests.core.worlds import draft

pytestmark = pytest.mark.anyio


async def no_history(count: int) -> tuple[Message, ...]:
    return ()


def a_turn(clock: Clock | None = None) -> Turn:
    return Turn(
        session_id="s",
        turn_id="t",
        attempt=1,
        input=(),
        policy={},
        clock=clock or SystemClock(),
        emit=lambda activity, correlation: None,
        history=no_history,
    )


class Child:
    """A server as a child process, and how often it was started."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._starts = folder / "starts"
        command = [sys.executable, str(Path(mcp_tools.__file__)), str(self._starts)]
        self.server = McpServer(name="box", command=command, **settings)

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._starts.read_text().split()] if self._starts.exists() else []


@asynccontextmanager
async def connected(server: McpServer) -> AsyncIterator[McpConnection]:
    connection = McpConnection(server)
    try:
        yield connection
    finally:
        await connection.close()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("MCP")] == []


async def call(connection: McpConnection, name: str, args: Any = None) -> Any:
    tools = {tool.name: tool for tool in await connection.tools(SystemClock())}
    return await tools[f"box_{name}"].run(a_turn(), {} if args is None else args)


async def test_a_servers_tools_are_tools(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    child = Child(tmp_path, approval=frozenset({"die"}), env={"COLOUR": "red"})
    async with connected(child.server) as connection:
        tools = {tool.name: tool for tool in await connection.tools(SystemClock())}
        assert list(tools) == ["box_add", "box_greet", "box_fail", "box_hang", "box_die", "box_setting"]
        assert "a name that no provider takes" in caplog.text
        add = tools["box_add"]
        assert add.spec.description == "The sum."
        assert list(add.spec.input_schema["properties"]) == ["a", "b"]
        assert [name for name, tool in tools.items() if tool.approval] == ["box_die"]
        assert await add.run(a_turn(), {"a": 1, "b": 2}) == {"result": 3}
        assert await tools["box_setting"].run(a_turn(), {"name": "COLOUR"}) == "red"
    assert len(child.pids) == 1


@pytest.mark.parametrize(
    ("name", "args", "told"),
    [("fail", {}, "out of order"), ("add", {"a": "x", "b": 1}, "no numbers"), ("add", [1], "expected an object")],
)
async def test_what_a_server_does_not_do_is_told_to_the_model(tmp_path: Path, name: str, args: Any, told: str) -> None:
    async with connected(Child(tmp_path).server) as connection:
        with pytest.raises(ToolFailed, match=told):
            await call(connection, name, args)


async def test_a_server_that_does_not_answer_in_time_is_told_to_the_model(tmp_path: Path) -> None:
    async with connected(Child(tmp_path, timeout=0.2).server) as connection:
        with pytest.raises(ToolFailed, match=r"no answer within 0\.2 s"):
            await call(connection, "hang")
        assert await call(connection, "greet", {"name": "you"}) == "Hello you"


async def test_a_server_that_dies_is_told_of_and_started_again(tmp_path: Path) -> None:
    child = Child(tmp_path)
    async with connected(child.server) as connection:
        [hanging, dying] = [asyncio.create_task(call(connection, name)) for name in ("hang", "die")]
        for task in (hanging, dying):
            with pytest.raises(ToolFailed, match="connection to the server was lost"):
                await task
        assert await call(connection, "greet", {"name": "again"}) == "Hello again"
        assert len(child.pids) == 2


async def test_closing_ends_the_child(tmp_path: Path) -> None:
    child = Child(tmp_path)
    async with connected(child.server) as connection:
        await connection.tools(SystemClock())
    [pid] = child.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "command",
    [["/nowhere/at-all"], [sys.executable, "-c", "raise SystemExit(3)"], [sys.executable, "-c", "print('hi')"]],
)
async def test_a_server_that_is_none_is_unavailable(command: list[str]) -> None:
    async with connected(McpServer(name="box", command=command, connect_timeout=5)) as connection:
        with pytest.raises(McpUnavailable, match="MCP server box"):
            await connection.tools(SystemClock())


async def test_a_server_that_says_nothing_is_unavailable() -> None:
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    async with connected(McpServer(name="box", command=silent, connect_timeout=0.3)) as connection:
        with pytest.raises(McpUnavailable, match=r"no answer within 0\.3 s"):
            await connection.tools(SystemClock())


@asynccontextmanager
async def over_http() -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    tools = MCPServer("tools")

    @tools.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @tools.tool()
    def fail() -> None:
        raise ToolError("out of order")

    config = uvicorn.Config(tools.streamable_http_app(), log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await serving


async def test_a_server_over_http_is_one_too() -> None:
    async with over_http() as url, connected(McpServer(name="box", url=url)) as connection:
        assert await call(connection, "add", {"a": 1, "b": 2}) == {"result": 3}
        with pytest.raises(ToolFailed, match="out of order"):
            await call(connection, "fail")


async def test_nobody_at_the_url_is_unavailable_and_found_later() -> None:
    async with over_http() as url:
        pass
    async with connected(McpServer(name="box", url=url)) as connection:
        with pytest.raises(McpUnavailable, match="box"):
            await connection.tools(SystemClock())


@pytest.mark.parametrize("settings", [{}, {"command": ["x"], "url": "http://x"}])
def test_a_server_is_a_command_or_a_url(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="MCP server box"):
        McpServer(name="box", **settings)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sightline.agents.standard.mcp")
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ExtraMissing, match=r"sightline\[mcp\]"):
        __import__("sightline.agents.standard.mcp")


async def test_an_agent_uses_the_tools_of_its_servers_and_ends_them_with_the_kernel(tmp_path: Path) -> None:
    @tool
    async def own() -> None: ...

    child = Child(tmp_path)
    gone = McpServer(name="gone", command=["/nowhere/at-all"])
    model = ScriptedModel(calling(("box_greet", {"name": "you"})), saying("Done."))
    agent = StandardAgent(model="test:one", client=model, tools=[own], mcp=[gone, child.server])
    kernel = Kernel(agent=agent)
    await kernel.create_session("s")
    await kernel.start()
    written = await kernel.enqueue(draft("go"))
    await kernel.wait_for_batch("s", written.batch.batch_id, 20)
    answer = (await kernel.observe("s")).read_view.messages[-1]
    assert answer.content == "Done."
    assert [spec.name for spec in model.requests[0].tools][:3] == ["own", "box_add", "box_greet"]
    await kernel.stop()
    [pid] = child.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
