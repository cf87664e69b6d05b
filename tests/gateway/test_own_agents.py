"""Agents that people bring, in a real server: they block, hang, run programs and break, and the server goes on."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.processes import Server, serving

RUNS_A_PROGRAM = """
from sightline import run_program

SLEEPER = ("sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 1000")

async def waits(turn):
    turn.text("so far")

    async def tool():
        return (await run_program(*SLEEPER)).code

    await turn.tool_call("sleeper", {}, tool)

def blocks(turn):
    turn.text("so far")
    turn.tool_call("sleeper", {}, lambda: turn.wait_for(lambda: run_program(*SLEEPER)).code)
"""

BLOCKS = """
import os, time

def agent(turn):
    words = turn.input[0].content.split()
    match words:
        case ["sleep"]:
            with open("gate"):  # a pipe, until somebody opens its other end
                pass
        case ["spin"]:
            while not os.path.exists("enough"):
                for _ in range(1_000_000):
                    pass
        case ["stream", count, every]:
            for number in range(int(count)):
                turn.text(f"{time.time_ns()} ")
                turn.sleep(float(every))
    turn.text("done")
"""

HANGS = """
import threading, time

async def waits(turn):
    turn.text("so far")
    await turn.sleep(1000)

def blocks(turn):
    turn.text("so far")
    turn.flush()
    threading.Event().wait()
"""

BREAKS = """
import asyncio, sys

class Odd(BaseException):
    pass

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError

KINDS = {
    "exit": SystemExit, "interrupt": KeyboardInterrupt, "odd": Odd, "unprintable": Unprintable,
    "group": lambda: BaseExceptionGroup("g", [KeyboardInterrupt()]), "cancel": asyncio.CancelledError,
    "memory": MemoryError, "stop": StopIteration, "depth": RecursionError,
}

async def waits(turn):
    if turn.input[0].content in KINDS:
        raise KINDS[turn.input[0].content]()
    turn.text("fine")

def blocks(turn):
    if turn.input[0].content in KINDS:
        raise KINDS[turn.input[0].content]()
    turn.text("fine")
"""


def served(folder: Path, source: str, name: str, *flags: str) -> Iterator[Server]:
    (folder / "mine.py").write_text(source)
    with serving(folder, "--agent", f"mine:{name}", "--store", "memory:", *flags) as server:
        yield server


def begin(server: Server, text: str, session: str = "s") -> str:
    server.json("PUT", f"/v1/sessions/{session}", {})
    return str(server.json("POST", f"/v1/sessions/{session}/turns", {"input": text})["batch_id"])


def last(server: Server, session: str = "s") -> dict[str, object]:
    message: dict[str, object] = server.json("GET", f"/v1/sessions/{session}")["read_view"]["messages"][-1]
    return message


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_in(file: Path) -> int:
    until = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < until
    pid = int(file.read_text())
    file.unlink()
    return pid


@pytest.mark.parametrize("name", ["waits", "blocks"])
def test_a_cancel_ends_the_turn_and_the_program_of_its_tool_within_a_tenth_of_a_second(
    tmp_path: Path, name: str
) -> None:
    took: list[float] = []
    for server in served(tmp_path, RUNS_A_PROGRAM, name):
        for _ in range(7):
            batch = begin(server, "go")
            pid = pid_in(tmp_path / "pid")
            assert alive(pid)
            posted = time.monotonic()
            server.json("POST", "/v1/sessions/s/cancel", {})
            while alive(pid) or server.json("GET", f"/v1/sessions/s/queue/{batch}")["state"] == "claimed":
                assert time.monotonic() - posted < 10
            took.append(time.monotonic() - posted)
            message = last(server)
            assert (message["content"], message["status"]) == ("so far", "cancelled")
    # The median: on a machine that does other things as well a single one may come late.
    assert statistics.median(took) < 0.1, took


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_an_agent_that_blocks_does_not_slow_the_streams_of_other_sessions(tmp_path: Path, how: str) -> None:
    def delays(server: Server, session: str) -> list[float]:
        """From the agent to this reader, for every delta of a turn, in seconds."""
        cursor = server.json("PUT", f"/v1/sessions/{session}", {})["cursor"]
        begin(server, "stream 100 0.02", session)
        found = []
        address = f"/v1/sessions/{session}/events?cursor={cursor}"
        with server.http.stream("GET", address, headers={"Accept": "text/event-stream"}) as events:
            for line in events.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    if event.get("kind") == "committed":
                        break
                    text = event.get("data", {}).get("event", {}).get("text", "")
                    if text and text != "done":
                        found.append(time.time() - int(text) / 1e9)
        assert len(found) == 100
        return found

    os.mkfifo(tmp_path / "gate")
    for server in served(tmp_path, BLOCKS, "agent"):
        undisturbed = statistics.median(delays(server, "before"))
        blocked = [f"blocked-{number}" for number in range(3)]
        for session in blocked:
            begin(server, how, session)
        beside = statistics.median(delays(server, "beside"))
        assert {server.json("GET", f"/v1/sessions/{session}")["status"] for session in blocked} == {"running"}
        # What computes takes its share of the interpreter, slice by slice; what only waits takes nothing.
        assert beside < undisturbed + (0.1 if how == "sleep" else 0.5), (undisturbed, beside)
        if how == "spin":
            (tmp_path / "enough").touch()
        else:
            (tmp_path / "gate").open("w").close()
        for session in blocked:
            server.wait_for(session, "completed")


def test_an_agent_that_waits_for_ever_is_stopped_when_its_time_is_over(tmp_path: Path) -> None:
    for server in served(tmp_path, HANGS, "waits", "--turn-timeout", "0.3"):
        for _ in range(2):
            begin(server, "go")
            server.wait_for("s", "failed")
        message = last(server)
        assert (message["content"], message["status"]) == ("so far", "failed")
        assert message["error"] == {"code": "turn_timeout", "message": "stopped after 0.3 seconds"}


def test_a_thread_that_never_returns_costs_its_turn_the_grace_and_the_server_neither_work_nor_its_end(
    tmp_path: Path,
) -> None:
    for server in served(tmp_path, HANGS, "blocks", "--turn-timeout", "0.3"):
        begin(server, "go")
        server.wait_for("s", "failed")
        assert last(server)["error"] == {"code": "turn_timeout", "message": "stopped after 0.3 seconds"}
        assert "ignores its cancellation" in server.log
        assert server.stop() == 0


@pytest.mark.parametrize("name", ["waits", "blocks"])
def test_whatever_an_agent_raises_its_server_runs_the_next_turn(tmp_path: Path, name: str) -> None:
    kinds = ("exit", "interrupt", "odd", "unprintable", "group", "cancel", "memory", "stop", "depth")
    for server in served(tmp_path, BREAKS, name):
        server.json("PUT", "/v1/sessions/s", {})
        for kind in kinds:
            for text, state in ((kind, "failed"), ("go", "completed")):
                batch = server.json("POST", "/v1/sessions/s/turns", {"input": text}, Prefer="wait=20")
                assert batch["state"] == state, (kind, batch)
        assert server.stop() == 0
