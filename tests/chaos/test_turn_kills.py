"""SIGKILL between any two effects of a turn: it ends with one commit, and what was noted as done is not done again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from sightline.stores.sqlite import SqliteStore
from tests.chaos.mortals import ANSWERS, NOTES

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
LEAST = 12
"""So many kills in every run of the tests; `make kills` asks for more."""

Live = Callable[[str, int | None], Awaitable[int]]
"""Let a life be, of this session, up to that place: its exit code."""


@asynccontextmanager
async def nursing(folder: Path, form: str) -> AsyncIterator[Live]:
    with (folder / "nursery.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.mortals", str(folder), form),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def live(session_id: str, place: int | None) -> int:
        stdin.write(json.dumps({"session": session_id, "place": place}).encode() + b"\n")
        return int(await stdout.readline())

    try:
        yield live
    finally:
        stdin.close()
        await process.wait()


def deaths(places: int, kills: int, chance: Random) -> list[tuple[int, ...]]:
    """By turn: the places at which its lives die. All places, once there are as many kills; then two in one turn."""
    if kills <= places:
        return [(place,) for place in sorted(chance.sample(range(places), kills))]
    twice = [(chance.randrange(places), chance.randrange(places)) for _ in range((kills - places + 1) // 2)]
    return [*((place,) for place in range(places)), *twice]


@pytest.mark.parametrize("form", ANSWERS)
async def test_a_turn_that_is_killed_anywhere_ends_once_and_repeats_nothing_that_was_noted(
    form: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills = max(LEAST, pytestconfig.getoption("--turn-kills"))
    died: dict[str, int] = {"uncut": 0}
    async with nursing(tmp_path, form) as live:
        assert await live("uncut", None) == 0, (tmp_path / "nursery.log").read_text()
        places = int((tmp_path / "passed").read_text())
        for number, cuts in enumerate(deaths(places, kills, Random(form))):
            codes = [await live(f"s{number}", place) for place in cuts]
            died[f"s{number}"] = codes.count(-signal.SIGKILL)
            assert set(codes) <= {0, -signal.SIGKILL}, (tmp_path / "nursery.log").read_text()
            assert await live(f"s{number}", None) == 0, (tmp_path / "nursery.log").read_text()
    assert places > 20
    assert sum(died.values()) > kills / 2
    store = SqliteStore.open(tmp_path / "store.db", "NORMAL")
    for session_id in died:
        state = await store.load_session(session_id, 100)
        said = [(message.role, message.content) for message in state.messages]
        assert said == [("user", "go"), ("assistant", ANSWERS[form])], session_id
        assert (state.record.revision, state.open_batches) == (1, ())
    await store.close()
    effects = [tuple(line.split()) for line in (tmp_path / "effects").read_text().splitlines()]
    for session_id, deaths_of_it in died.items():
        for name in NOTES:
            steps = [step for where, what, step in effects if (where, what) == (session_id, name)]
            done = steps.index("noted")
            # Who dies between an effect and its note does it again. Nobody does so behind a note.
            assert 1 <= done <= 1 + deaths_of_it, (session_id, name, steps)
            assert "done" not in steps[done:], (session_id, name, steps)
    print({"form": form, "places": places, "turns": len(died), "died": sum(died.values())})
