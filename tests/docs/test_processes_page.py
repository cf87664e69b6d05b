"""The examples of the page about processes do what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import httpx
import pytest

from tests.gateway.inside import opened

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "processes.md"


def examples() -> list[tuple[str, str]]:
    """Each request that the page shows, with the answer it shows."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            asked, _, answer = example.partition("\n")
            if asked.startswith("curl "):
                found.append((asked, answer.strip()))
    return found


async def send(http: httpx.AsyncClient, asked: str) -> httpx.Response:
    words = shlex.split(asked.replace("$B", "").replace("$J", "Content-Type: application/json"))[1:]
    method, url, headers, body = None, "", {}, None
    while words:
        match words.pop(0):
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                body = words.pop(0)
            case address:
                url = address
    return await http.request(method or ("GET" if body is None else "POST"), url, headers=headers, content=body)


async def test_the_examples_are_answered_as_they_are_shown() -> None:
    shown = examples()
    assert len(shown) > 10
    async with opened() as inside:
        for asked, answer in shown:
            text = (await send(inside.http, asked)).text
            place = 0
            for part in answer.split("…"):
                place = text.find(part, place)
                assert place >= 0, (asked, part, text)
                place += len(part)
        await inside.puppet.ends()
