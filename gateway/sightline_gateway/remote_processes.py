"""The client commands about processes: all of them in a list, and one with its log."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

import httpx

from sightline.clock import SystemClock
from sightline_gateway.remote import (
    FIRST_BACKOFF,
    MAX_BACKOFF,
    TIMEOUT,
    RemoteError,
    address_of,
    answer_of,
    call,
    client_of,
    plain,
    unreachable,
)

__all__ = ["process", "processes"]

_PAGE = 200
_EVENTS = 500
_WAIT = 30
_SHOWN = 200
"""Characters of a payload, or of what a process is called, that a line shows."""


def processes(arguments: argparse.Namespace) -> int:
    """List processes, newest registration first, or those that a session sees, by their ids."""
    with client_of(arguments.url) as client:
        if arguments.session:
            path = f"/v1/sessions/{arguments.session}/processes"
            found = call(client, "GET", path, params={"state": "all"})["processes"]
            kept = [each for each in found if arguments.status in (None, each["status"])]
            _print_all(kept[: arguments.limit], arguments)
            return 0
        left, after = arguments.limit, None
        while left > 0:
            asked = {"limit": min(left, _PAGE), "after": after, "status": arguments.status}
            query = {name: value for name, value in asked.items() if value is not None}
            page = call(client, "GET", "/v1/processes", params=query)
            _print_all(page["processes"], arguments)
            left -= len(page["processes"])
            after = page["next"]
            if after is None:
                break
    return 0


def _print_all(found: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    for each in found:
        print(json.dumps(each, ensure_ascii=False) if arguments.json else _line(each))


def _line(each: dict[str, Any]) -> str:
    state = "cancelling" if each["status"] == "running" and each["cancel_requested"] else each["status"]
    progress = _short(each["progress"]) if "progress" in each else ""
    said = [plain(text) for text in (each["process_id"], _called(each)) if text]
    return f"{state:<10} {each['kind']:<12} {'  '.join([*said, progress])}".rstrip()


def _called(each: dict[str, Any]) -> str:
    """What it is called, or what it runs; the summaries of a session say it themselves."""
    given = each.get("input", {})
    argv = given.get("argv", ()) if each["kind"] == "command" else ()
    return _cut(str(each.get("label") or given.get("name") or " ".join(argv) or given.get("input", "")))


def process(arguments: argparse.Namespace) -> int:
    """Show a process and its log, and with --follow go on until it has ended: whether it was completed then."""
    return asyncio.run(_process(arguments))


async def _process(arguments: argparse.Namespace) -> int:
    path = f"/v1/processes/{arguments.process}"
    async with httpx.AsyncClient(base_url=address_of(arguments.url), timeout=TIMEOUT, trust_env=False) as client:
        _print_record(await _get(client, path), arguments)
        record = await _print_log(client, path, arguments)
    if not arguments.json and "output" in record:
        print(f"{record['status']}: {plain(_outcome(record['output']))}")
    return 0 if not arguments.follow or record["status"] == "completed" else 1


async def _print_log(client: httpx.AsyncClient, path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Print what is in the log, and what comes if that is wanted: the process at the end of it. Raises RemoteError."""
    after, backoff, clock = 0, FIRST_BACKOFF, SystemClock()
    wait = _WAIT if arguments.follow else 0
    while True:
        try:
            page = await _get(client, f"{path}/events", {"after": after, "limit": _EVENTS, "wait": wait})
            for event in page["events"]:
                print(json.dumps(event, ensure_ascii=False) if arguments.json else _event_line(event), flush=True)
            after, backoff = page["next"], FIRST_BACKOFF
            if not page["events"]:
                record: dict[str, Any] = await _get(client, path)
                if not arguments.follow or (record["status"] != "running" and record["last_sequence"] <= after):
                    return record
        except RemoteError as error:
            if not (arguments.follow and error.retryable):
                raise
            print(f"({error}; asking again)", file=sys.stderr)
            await clock.sleep(backoff)
            backoff = min(MAX_BACKOFF, 2 * backoff)


async def _get(client: httpx.AsyncClient, path: str, query: dict[str, Any] | None = None) -> Any:
    try:
        return answer_of(await client.get(path, params=query))
    except httpx.HTTPError as error:
        raise unreachable(client.base_url, error) from None


def _print_record(record: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(record, ensure_ascii=False), flush=True)
        return
    print(_line(record))
    print(
        f"begun {_when(record['created_at_ms'])}, {record['disposition']}, attempts: {record['attempts']}", flush=True
    )


def _event_line(event: dict[str, Any]) -> str:
    shown = "" if event["payload"] is None else f" {_short(event['payload'])}"
    return f"{event['sequence']:>5} {_when(event['occurred_at_ms'])} {plain(event['event_type'])}{shown}"


def _outcome(output: dict[str, Any]) -> str:
    if output["type"] == "success":
        return json.dumps(output.get("value"), ensure_ascii=False)
    code = f"{output['code']}: " if "code" in output else ""
    return f"{code}{output['message']}"


def _short(value: Any) -> str:
    return plain(_cut(json.dumps(value, ensure_ascii=False)))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
