"""The client commands: small programs against a running gateway's public routes."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import httpx

from sightline.clock import SystemClock
from sightline.errors import InvalidFrame
from sightline.ids import SystemIds
from sightline.observation.remote import check_frame

__all__ = [
    "FIRST_BACKOFF",
    "MAX_BACKOFF",
    "TIMEOUT",
    "RemoteError",
    "address_of",
    "answer_of",
    "call",
    "cancel",
    "client_of",
    "plain",
    "queue",
    "refused",
    "send",
    "sessions",
    "tail",
    "unreachable",
]

TIMEOUT = httpx.Timeout(10.0, read=90.0)
_STREAM_TIMEOUT = httpx.Timeout(10.0, read=45.0)
"""The server says something at least every 15 seconds."""
_PAGE = 200
FIRST_BACKOFF = 0.5
MAX_BACKOFF = 10.0
_DELETED = "session_deleted"
_CONTROL = dict.fromkeys([*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
"""A terminal obeys control characters, and what a session holds may come from anybody."""


class RemoteError(Exception):
    """The gateway refused or cannot be reached; the message is one line. `code` is the problem's, if there is one."""

    def __init__(self, message: str, code: str = "", *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


def send(arguments: argparse.Namespace) -> int:
    """Send a turn; print its batch id, or with --wait what became of it."""
    key = arguments.key or SystemIds().new()
    with client_of(arguments.url) as client:
        path = f"/v1/sessions/{arguments.session}"
        call(client, "PUT", path, json={})
        headers = {"Idempotency-Key": key}
        if arguments.wait:
            headers["Prefer"] = f"wait={arguments.wait}"
        batch = call(client, "POST", f"{path}/turns", json={"input": " ".join(arguments.text)}, headers=headers)
        if not arguments.wait:
            print(batch["batch_id"])
            return 0
        if batch["state"] in ("pending", "claimed"):
            print(f"{batch['batch_id']} is {batch['state']}", file=sys.stderr)
            return 1
        view = call(client, "GET", f"{path}?messages=50")
        for message in view["read_view"]["messages"]:
            if message.get("turn_id") == batch.get("turn_id") and message["role"] == "assistant" and message["content"]:
                print(plain(message["content"]))
        if batch["state"] != "completed":
            print(plain(batch.get("error", {}).get("message", batch["state"])), file=sys.stderr)
            return 1
    return 0


def sessions(arguments: argparse.Namespace) -> int:
    """List sessions, page by page."""
    left, after = arguments.limit, None
    with client_of(arguments.url) as client:
        while left > 0:
            query: dict[str, Any] = {"limit": min(left, _PAGE)}
            if after is not None:
                query["after"] = after
            page = call(client, "GET", "/v1/sessions", params=query)
            for entry in page["sessions"]:
                print(json.dumps(entry) if arguments.json else _line(entry))
            left -= len(page["sessions"])
            after = page["next"]
            if after is None:
                break
    return 0


def queue(arguments: argparse.Namespace) -> int:
    """List a session's open work, or with --all also what has ended, in order."""
    state = "all" if arguments.all else "pending"
    with client_of(arguments.url) as client:
        path = f"/v1/sessions/{arguments.session}"
        if arguments.json or arguments.all:
            entries = call(client, "GET", f"{path}/queue", params={"state": state})["batches"]
        else:
            # The observation's queue has the claimed ones too, in short.
            entries = call(client, "GET", path, params={"messages": 0})["queue"]
    for entry in entries:
        print(json.dumps(entry) if arguments.json else _work_line(entry))
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    """Ask for the end of a batch, of the work under a key, of a turn, or of the turn that runs."""
    path = f"/v1/sessions/{arguments.session}"
    with client_of(arguments.url) as client:
        if arguments.batch:
            print(call(client, "DELETE", f"{path}/queue/{arguments.batch}")["state"])
            return 0
        body = {"turn_id": arguments.turn, "idempotency_key": arguments.key, "reason": arguments.reason}
        given = {name: value for name, value in body.items() if value is not None}
        print(call(client, "POST", f"{path}/cancel", json=given)["state"])
    return 0


def _work_line(entry: dict[str, Any]) -> str:
    if "items" in entry:
        texts = [
            item.get("text", f"({item['type']})")
            for part in entry["items"]
            for item in part["payload"].get("input", {"items": []})["items"]
        ]
        commands = [part["payload"]["command"]["kind"] for part in entry["items"] if "command" in part["payload"]]
        shown = " ".join([*texts, *commands])
    else:
        shown = entry["preview"] or entry["kind"]
    first, *more = shown.splitlines() or [""]
    return f"{entry['state']:<9} {entry['batch_id']}  {plain(first)}{' …' if more else ''}".rstrip()


def _line(entry: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(entry["updated_at_ms"] / 1000, UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}  {entry['status']:<8} {entry['session_id']}  {plain(entry['title'])}".rstrip()


def tail(arguments: argparse.Namespace) -> int:
    """Watch a session until it is deleted or the watcher interrupts; resume after every cut."""
    return asyncio.run(_tail(arguments))


async def _tail(arguments: argparse.Namespace) -> int:
    clock, watch = SystemClock(), _Watch(arguments)
    async with httpx.AsyncClient(
        base_url=address_of(arguments.url), timeout=_STREAM_TIMEOUT, trust_env=False
    ) as client:
        while (pause := await watch.once(client)) is not None:
            await clock.sleep(pause)
    return 0


class _Watch:
    """One session, watched over any number of connections, each from where the last one ended."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._session = arguments.session
        self._cursor = arguments.cursor
        self._show = _print_json if arguments.json else _Transcript().show
        self._ids = SystemIds()
        self._connected = False
        self._backoff = FIRST_BACKOFF

    async def once(self, client: httpx.AsyncClient) -> float | None:
        """Show what one connection brings: the seconds to wait before the next, none when the session is gone.

        Raises RemoteError when there is no sense in another try, and for a gateway that was never reached.
        """
        pause = self._backoff * self._ids.uniform()
        self._backoff = min(MAX_BACKOFF, self._backoff * 2)
        try:
            async with aclosing(_frames(client, self._session, self._cursor)) as frames:
                async for frame in frames:
                    self._take(frame)
                    if frame["type"] == "goodbye":
                        if frame["reason"] == _DELETED:
                            return None
                        pause = (
                            frame.get("retry_after_ms", 0) + frame.get("jitter_ms", 0) * self._ids.uniform()
                        ) / 1000
        except RemoteError as error:
            if self._connected and error.code == _DELETED:
                print(error, file=sys.stderr)
                return None
            if not (self._connected and error.retryable):
                raise
            print(f"({error}; reconnecting)", file=sys.stderr)
        return pause

    def _take(self, frame: dict[str, Any]) -> None:
        self._show(frame)
        self._connected = True
        self._cursor = frame.get("cursor", self._cursor)
        if frame["type"] == "caught_up":
            self._backoff = FIRST_BACKOFF


async def _frames(client: httpx.AsyncClient, session: str, cursor: str | None) -> AsyncGenerator[dict[str, Any]]:
    """The frames of one connection, each found to agree with the wire. Raises RemoteError."""
    request = client.build_request(
        "GET",
        f"/v1/sessions/{session}/events",
        headers={"Accept": "text/event-stream"},
        params={} if cursor is None else {"cursor": cursor},
    )
    try:
        response = await client.send(request, stream=True)
        try:
            if response.status_code != 200:
                await response.aread()
                raise refused(response)
            async for data in _event_data(response.aiter_bytes()):
                frame = json.loads(data)
                check_frame(frame, session)
                yield frame
        finally:
            await response.aclose()
    except httpx.HTTPError as error:
        raise unreachable(client.base_url, error) from None
    except (InvalidFrame, ValueError) as error:
        raise RemoteError(f"what answers at {client.base_url} is not a gateway of this version: {error}") from None


async def _event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event. Lines are cut at line feeds alone: text may hold what else counts as a line's end."""
    rest, data = b"", b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                data = line[6:]
            elif not line and data:
                yield data
                data = b""


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
            self._asked(frame["observation"]["requests"])
        elif frame["type"] == "goodbye":
            self._end_line()
            print(f"— goodbye: {frame['reason']} —")
        elif frame["type"] == "event" and frame["kind"] == "turn_activity":
            self._activity(frame["data"]["event"])
        elif frame["type"] == "event" and frame["kind"] == "request_changed":
            if frame["data"]["kind"] == "opened":
                self._asked(frame["data"]["requests"])
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
                print(f"· {plain(event['name'])} {json.dumps(event['args'])}")

    def _asked(self, requests: list[dict[str, Any]]) -> None:
        for request in requests:
            self._end_line()
            options = " ".join(json.dumps(option, ensure_ascii=False) for option in request.get("options", ()))
            print(f"? {plain(request['prompt'])}{' ' if options else ''}{plain(options)} — {request['request_id']}")

    def _live_input(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            print(f"> {plain(message['content'])}")

    def _message(self, message: dict[str, Any]) -> None:
        content = plain(message["content"])
        if content:
            print(f"> {content}" if message["role"] == "user" else content)
        if "status" in message:
            print(f"— {message['status']}{_why(message)} —")

    def _delta(self, text: str) -> None:
        if text:
            print(plain(text), end="")
            self._streaming = True

    def _end_line(self) -> None:
        if self._streaming:
            print()
            self._streaming = False


def _why(outcome: dict[str, Any]) -> str:
    reason = outcome.get("error", {}).get("message") or outcome.get("reason") or ""
    return f": {plain(reason)}" if reason else ""


def _print_json(frame: dict[str, Any]) -> None:
    print(json.dumps(frame, ensure_ascii=False), flush=True)


def plain(text: str) -> str:
    """The text as it may be shown on a terminal."""
    return text.translate(_CONTROL)


def client_of(url: str) -> httpx.Client:
    """A client of the gateway at that address. Raises RemoteError when it can be none."""
    return httpx.Client(base_url=address_of(url), timeout=TIMEOUT, trust_env=False)


def address_of(url: str) -> httpx.URL:
    """The gateway's address. Raises RemoteError when it can be none."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 < (parsed.port or 80) <= 65_535:
        raise RemoteError(f"{url} is not the address of a gateway, http://HOST:PORT")
    return parsed


def call(client: httpx.Client, method: str, path: str, **request: Any) -> Any:
    """What the gateway answers. Raises RemoteError."""
    try:
        response = client.request(method, path, **request)
    except httpx.HTTPError as error:
        raise unreachable(client.base_url, error) from None
    return answer_of(response)


def answer_of(response: httpx.Response) -> Any:
    """The JSON of a good answer. Raises RemoteError for any other."""
    if not response.is_success:
        raise refused(response)
    try:
        return response.json()
    except ValueError:
        raise RemoteError(f"what answers at {response.url} is not a gateway") from None


def unreachable(url: httpx.URL, error: httpx.HTTPError) -> RemoteError:
    """What to raise when there was no answer."""
    return RemoteError(f"cannot reach {url}: {error or type(error).__name__}", retryable=True)


def refused(response: httpx.Response) -> RemoteError:
    """What to raise for an answer that is no success: its problem, in one line."""
    retryable = response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error
    try:
        problem = response.json()
        return RemoteError(f"{problem['code']}: {problem['detail']}", problem["code"], retryable=retryable)
    except (ValueError, KeyError, TypeError):
        return RemoteError(f"the gateway answered {response.status_code}", retryable=retryable)
