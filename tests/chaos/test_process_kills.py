"""SIGKILL while processes of every disposition run: each comes to the end that it was promised, and wakes once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.served import serving

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.timeout(180)]

KILLS = 2


def steps_of(count: int) -> int:
    """So many that nothing has ended when all have begun."""
    return 15 + count


def pace_of(count: int) -> int:
    """Milliseconds for each step, so that many processes are no more work for the machine than some."""
    return max(100, 4 * count)


async def posted(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def record(client: httpx.AsyncClient, process_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/processes/{process_id}")).json()
    return found


async def events(client: httpx.AsyncClient, process_id: str, event_type: str) -> list[dict[str, Any]]:
    answer = (await client.get(f"/v1/processes/{process_id}/events?limit=1000")).json()
    return [event for event in answer["events"] if event["event_type"] == event_type]


async def spawn(client: httpx.AsyncClient, number: int, steps: int, every_ms: int) -> str:
    """A countdown that can be run again and wakes its session, started by a turn of that. Returns its id."""
    path = f"/v1/sessions/s{number}"
    await client.put(path, json={})
    text = f"spawn countdown {steps} every {every_ms} wake"
    answer = await client.post(f"{path}/turns", json={"input": text}, headers={"Prefer": "wait=20"})
    assert answer.json()["state"] == "completed", answer.text
    [process] = (await client.get(f"{path}/processes?state=all")).json()["processes"]
    return str(process["process_id"])


async def bind(client: httpx.AsyncClient, number: int) -> str:
    """Work that is bound to the server: a function that says so, or a command."""
    if number % 2:
        work: dict[str, Any] = {"kind": "command", "input": {"argv": ["sh", "-c", "echo begun; exec sleep 1000"]}}
    else:
        args = {"total": 10_000, "every_ms": 1_000}
        work = {
            "kind": "function",
            "input": {"name": "demo.countdown", "args": args},
            "disposition": "owner_bound",
            "event_types": [{"name": "done"}],
        }
    return str((await posted(client, "/v1/processes", work))["process_id"])


async def put_out(client: httpx.AsyncClient, number: int) -> str:
    """Work that is done elsewhere."""
    body = {"kind": "external", "input": {"order": number}, "event_types": [{"name": "note"}]}
    process_id = str((await posted(client, "/v1/processes", body))["process_id"])
    await posted(client, f"/v1/processes/{process_id}/events", {"event_type": "note", "payload": number})
    return process_id


async def end_orphans(client: httpx.AsyncClient, process_ids: Iterable[str]) -> None:
    """A server that dies by SIGKILL tells its commands nothing; but their pids are in their logs."""
    for process_id in process_ids:
        for event in await events(client, process_id, "process.spawned"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(event["payload"]["pid"], signal.SIGKILL)


async def has_begun(client: httpx.AsyncClient, process_id: str) -> None:
    """Return once it has logged something."""
    answer = await client.get(f"/v1/processes/{process_id}/events?limit=1&wait=20")
    assert answer.json()["events"]


async def ended(client: httpx.AsyncClient, process_id: str) -> dict[str, Any]:
    while (await client.get(f"/v1/processes/{process_id}/await?wait=5")).status_code == 202:
        pass
    return await record(client, process_id)


@pytest.mark.timeout(600)
async def test_each_process_comes_to_the_end_it_was_promised(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    count: int = pytestconfig.getoption("--processes")
    steps = steps_of(count)
    # So many of each kind are at work at one time.
    async with serving(
        tmp_path, "--allow-commands", "--process-lease", "2", "--concurrency", str(2 * count), "--max-attempts", "9"
    ) as served:
        async with served.client() as client:
            bound = [await bind(client, number) for number in range(count)]
            outside = [await put_out(client, number) for number in range(count)]
            counting = list(
                await asyncio.gather(*(spawn(client, number, steps, pace_of(count)) for number in range(count)))
            )
            async with asyncio.timeout(30):
                for process_id in (*bound, *counting):
                    await has_begun(client, process_id)
            for process_id in (*bound, *counting):
                assert (await record(client, process_id))["status"] == "running"
            untouched = [await record(client, process_id) for process_id in outside]
        for _ in range(KILLS):
            await served.kill()
            await served.start()
            await asyncio.sleep(0.3)
        async with served.client() as client:
            await end_orphans(client, bound)
            for process_id in bound:
                found = await ended(client, process_id)
                assert found["status"] == "abandoned"
                output = found["output"]
                assert output["owner_id"] != output["found_by"]
                assert output["fencing_token"] == 1, "it was begun once"
            for process_id in counting:
                found = await ended(client, process_id)
                assert (found["status"], found["output"]["value"]) == ("completed", steps)
                done = [event["payload"]["done"] for event in await events(client, process_id, "progress")]
                assert done == list(range(1, steps + 1)), "it went on where it was"
                assert len(await events(client, process_id, "done")) == 1
            for process_id, before in zip(outside, untouched, strict=True):
                assert await record(client, process_id) == before
                await posted(client, f"/v1/processes/{process_id}/complete", {"output": "done elsewhere"})
                found = await record(client, process_id)
                assert (found["status"], found["output"]["value"]) == ("completed", "done elsewhere")
            for number, process_id in enumerate(counting):
                assert await woken(client, f"s{number}") == [f"woken by {process_id}"]
        assert "Traceback" not in served.log


async def woken(client: httpx.AsyncClient, session_id: str) -> list[str]:
    """What the session said when it was woken, once it is idle."""
    while True:
        view = (await client.get(f"/v1/sessions/{session_id}")).json()
        messages = [message["content"] for message in view["read_view"]["messages"]]
        if view["status"] == "idle" and len(messages) > 2:
            return [text for text in messages if text.startswith("woken by")]
        await asyncio.sleep(0.05)
