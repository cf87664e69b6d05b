"""The client commands: small programs against a running gateway's public routes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx

from sightline.ids import SystemIds

__all__ = ["RemoteError", "send", "sessions", "tail"]

_TIMEOUT = httpx.Timeout(10.0, read=90.0)
_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 10.0
_FINAL = {"session_deleted"}


class RemoteError(Exception):
    """The gateway refused or cannot be reached; the message is one line."""


def send(arguments: argparse.Namespace) -> int:
    """Send a turn; print its batch id, or with --wait what became of it."""
    key = arguments.key or SystemIds().new()
    with _client(arguments.url) as client:
        path = f"/v1/sessions/{arguments.session}"
        _call(client, "PUT", path, json={})
        headers = {"Idempotency-Key": key}
        if arguments.wait:
            headers["Prefer"] = f"wait={arguments.wait}"
        batch = _call(client, "POST", f"{path}/turns", json={"input": " ".join(arguments.text)}, headers=headers)
        if not arguments.wait:
            print(batch["batch_id"])
            return 0
        if batch["state"] in ("pending", "claimed"):
            print(f"{batch['batch_id']} is {batch['state']}", file=sys.stderr)
            return 1
        view = _call(client, "GET", f"{path}?messages=50")
        for message in view["read_view"]["messages"]:
            if message.get("turn_id") == batch.get("turn_id") and message["role"] == "assistant":
                print(message["content"])
        if batch["state"] != "completed":
            print(batch.get("error", {}).get("message", batch["state"]), file=sys.stderr)
            return 1
    return 0


def sessions(arguments: argparse.Namespace) -> int:
    """List sessions, page by page."""
    left, after = arguments.limit, None
    with _client(arguments.url) as client:
        while left > 0:
            query: dict[str, Any] = {"limit": min(left, 200)}
            if after is not None:
                query["after"] = after
            page = _call(client, "GET", "/v1/sessions", params=query)
            for entry in page["sessions"]:
                print(json.dumps(entry) if arguments.json else _line(entry))
            left -= len(page["sessions"])
            after = page["next"]
            if after is None:
                break
    return 0


def _line(entry: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["updated_at_ms"] / 1000))
    return f"{when}  {entry['status']:<8} {entry['session_id']}  {entry['title']}".rstrip()


def tail(arguments: argparse.Namespace) -> int:
    """Watch a session until interrupted; resume after every cut."""
    cursor = arguments.cursor
    backoff = _FIRST_BACKOFF
    ids = SystemIds()
    printer = _print_json if arguments.json else _Transcript().show
    with _client(arguments.url) as client:
        while True:
            try:
                for frame in _frames(client, arguments.session, cursor):
                    printer(frame)
                    cursor = frame.get("cursor", cursor)
                    if frame["type"] == "caught_up":
                        backoff = _FIRST_BACKOFF
                    if frame["type"] == "goodbye" and frame["reason"] in _FINAL:
                        return 0
            except httpx.TransportError as error:
                print(f"({error or type(error).__name__}; reconnecting)", file=sys.stderr)
            time.sleep(backoff * ids.uniform())
            backoff = min(_MAX_BACKOFF, backoff * 2)


def _frames(client: httpx.Client, session: str, cursor: str | None) -> Iterator[dict[str, Any]]:
    headers = {"Accept": "text/event-stream"}
    query = {} if cursor is None else {"cursor": cursor}
    timeout = httpx.Timeout(10.0, read=45.0)  # the server says something at least every 15 seconds
    path = f"/v1/sessions/{session}/events"
    with client.stream("GET", path, headers=headers, params=query, timeout=timeout) as response:
        if response.status_code >= 500:
            raise httpx.TransportError(f"the gateway answered {response.status_code}")
        if response.status_code != 200:
            response.read()
            raise _refused(response)
        data = ""
        for line in response.iter_lines():
            if line.startswith("data: "):
                data = line[6:]
            elif not line and data:
                yield json.loads(data)
                data = ""


class _Transcript:
    """Prints a stream for people: finished messages whole, the running turn as it comes."""

    def __init__(self) -> None:
        self._streaming = False

    def show(self, frame: dict[str, Any]) -> None:
        if frame["type"] in ("observation", "gap"):
            self._end_line()
            if frame["type"] == "gap":
                print("— resynchronised —")
            for message in frame["observation"]["read_view"]["messages"]:
                self._message(message)
            live = frame["observation"]["live"]
            if live is not None:
                self._live_input(live["input"])
                self._delta(live["text"])
        elif frame["type"] == "goodbye":
            self._end_line()
            print(f"— goodbye: {frame['reason']} —")
        elif frame["type"] == "event" and frame["kind"] == "turn_activity":
            self._activity(frame["data"]["event"])
        elif frame["type"] == "event" and frame["kind"] == "committed":
            self._end_line()
            outcome = frame["data"].get("outcome", {})
            if outcome.get("status", "completed") != "completed":
                print(f"— {outcome['status']}{_why(outcome)} —")
        sys.stdout.flush()

    def _activity(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "turn_started":
                self._end_line()
                self._live_input(event["input"])
            case "assistant_prose_delta":
                self._delta(event["text"])
            case "retracted":
                self._end_line()
                print("— that attempt is taken back —")
            case "tool_call_started":
                self._end_line()
                print(f"· {event['name']} {json.dumps(event['args'])}")

    def _live_input(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            print(f"> {message['content']}")

    def _message(self, message: dict[str, Any]) -> None:
        print(f"> {message['content']}" if message["role"] == "user" else message["content"])

    def _delta(self, text: str) -> None:
        if text:
            print(text, end="")
            self._streaming = True

    def _end_line(self) -> None:
        if self._streaming:
            print()
            self._streaming = False


def _why(outcome: dict[str, Any]) -> str:
    reason = outcome.get("error", {}).get("message") or outcome.get("reason") or ""
    return f": {reason}" if reason else ""


def _print_json(frame: dict[str, Any]) -> None:
    print(json.dumps(frame, ensure_ascii=False), flush=True)


def _client(url: str) -> httpx.Client:
    try:
        return httpx.Client(base_url=url, timeout=_TIMEOUT, trust_env=False)
    except (httpx.InvalidURL, ValueError) as error:
        raise RemoteError(f"--url {url}: {error}") from None


def _call(client: httpx.Client, method: str, path: str, **request: Any) -> Any:
    try:
        response = client.request(method, path, **request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RemoteError(f"cannot reach {client.base_url}: {error or type(error).__name__}") from None
    if response.is_error:
        raise _refused(response)
    return response.json()


def _refused(response: httpx.Response) -> RemoteError:
    try:
        problem = response.json()
        return RemoteError(f"{problem['code']}: {problem['detail']}")
    except (ValueError, KeyError, TypeError):
        return RemoteError(f"the gateway answered {response.status_code}")
