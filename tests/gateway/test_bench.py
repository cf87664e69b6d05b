"""The load test that operators run: what it finds, and that it finds what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline_gateway.bench.tally import Account, Tally, figures
from tests.gateway.processes import Server, command, serving

DELTAS = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), "--store", "memory:") as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_gateway_under_load_is_measured_and_its_sessions_are_as_before(tmp_path: Path, server: Server) -> None:
    finished = command(
        *("bench", "--sessions", "2", "--observers", "4", "--seconds", "2", "--json"), cwd=tmp_path, url=server.url
    )

    assert (finished.returncode, finished.stderr) == (0, "")
    found = json.loads(finished.stdout)
    assert found["ok"]
    assert (found["sessions"], found["observers"]) == (2, 4)
    assert found["turns"] >= 2
    # Two observers for each session, one on either transport, and all see everything.
    assert found["deliveries"] == found["turns"] * DELTAS * 2
    assert found["reconnects"] >= 1
    assert (found["lost"], found["doubled"], found["gaps"], found["cut_off"], found["failures"]) == (0, 0, 0, 0, [])
    for name, values in found["ms"].items():
        assert 0 <= values["p50"] <= values["p90"] <= values["p99"] <= values["max"], name
    assert server.json("GET", "/v1/sessions")["sessions"] == []


def test_people_get_a_table(tmp_path: Path, server: Server) -> None:
    finished = command("bench", "--sessions", "1", "--observers", "2", "--seconds", "1", cwd=tmp_path, url=server.url)

    assert (finished.returncode, finished.stderr) == (0, "")
    lines = finished.stdout.splitlines()
    assert lines[0].startswith("1 sessions, 2 observers, ")
    for first in ("turns ", "deltas delivered ", "POST to first frame ", "delta to observer ", "reconnect, "):
        assert any(line.startswith(first) for line in lines), first
    assert lines[-1] == "lost 0, doubled 0, gaps 0, cut off 0"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("turn.text('hello')", "no delta came: is this the demo agent?"),
        ("raise ValueError('no')", "ValueError: no"),
        ("turn.text('seq=0 t=0 seq=2 t=0 ')", None),
    ],
)
def test_an_agent_that_does_something_else_is_a_failure(tmp_path: Path, code: str, said: str | None) -> None:
    (tmp_path / "other.py").write_text(f"async def agent(turn):\n    {code}\n")
    with serving(tmp_path, "--store", "memory:", "--agent", "other:agent") as server:
        finished = command(
            *("bench", "--sessions", "1", "--observers", "1", "--seconds", "1", "--json"), cwd=tmp_path, url=server.url
        )

    assert finished.returncode == 1
    found = json.loads(finished.stdout)
    assert not found["ok"]
    assert found["failures"] == ([] if said is None else [said])
    assert said is not None or found["lost"] > 0


# What an observer notices


def delta(text: str, turn: str = "t") -> dict[str, Any]:
    return shown({"type": "assistant_prose_delta", "text": text}, turn)


def begun(turn: str = "t") -> dict[str, Any]:
    return shown({"type": "turn_started"}, turn)


def shown(activity: dict[str, Any], turn: str) -> dict[str, Any]:
    return {"turn_id": turn, "kind": "turn_activity", "data": {"event": activity}}


def seen(*events: dict[str, Any], deltas: int) -> Tally:
    tally = Tally()
    account = Account(tally)
    for event in events:
        account.take(event, 2_000_000)
    account.settle(["t"], deltas)
    return tally


def test_everything_once_and_in_order_is_right_joined_or_not() -> None:
    tally = seen(begun(), delta("seq=0 t=0 .."), delta("seq=1 t=0 ..seq=2 t=1000000 .."), deltas=3)

    assert (tally.deliveries, tally.lost, tally.doubled) == (3, 0, 0)
    assert list(tally.delays) == [0.002, 0.002, 0.001]


@pytest.mark.parametrize(
    ("numbers", "lost", "doubled"),
    [
        ((0, 2), 1, 0),
        ((1, 2), 1, 0),
        ((0, 1), 1, 0),
        ((), 3, 0),
        ((0, 1, 1, 2), 0, 1),
        ((0, 1, 2, 0), 0, 1),
    ],
)
def test_what_is_missing_and_what_comes_twice_is_counted(numbers: tuple[int, ...], lost: int, doubled: int) -> None:
    tally = seen(begun(), *(delta(f"seq={number} t=0 ") for number in numbers), deltas=3)

    assert (tally.lost, tally.doubled) == (lost, doubled)


def test_an_attempt_that_is_begun_again_begins_from_nothing() -> None:
    tally = seen(begun(), delta("seq=0 t=0 "), begun(), delta("seq=0 t=0 seq=1 t=0 "), deltas=2)

    assert (tally.lost, tally.doubled) == (0, 0)


def test_turns_are_told_apart() -> None:
    tally = seen(begun(), delta("seq=0 t=0 "), begun("u"), delta("seq=0 t=0 ", "u"), delta("seq=1 t=0 "), deltas=2)

    assert (tally.lost, tally.doubled) == (0, 0)


def test_figures_are_percentiles_in_milliseconds() -> None:
    assert figures([number / 1000 for number in range(1, 101)]) == {
        "p50": 51.0,
        "p90": 91.0,
        "p99": 100.0,
        "max": 100.0,
    }
    assert figures([]) == {}
