"""SIGKILL at random moments while many sessions work: what was accepted is committed exactly once, in order."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.served import Served

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

_SESSIONS = 20
_TURNS = 10
_KILLS = 30
_SEED = 20261120


class _Progress:
    """How many kills have been survived. Clients pace their posts by it, so that every life of the server gets work."""

    def __init__(self) -> None:
        self._kills = 0
        self._changed = threading.Condition()

    def killed(self) -> None:
        with self._changed:
            self._kills += 1
            self._changed.notify_all()

    def wait_for(self, kills: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._kills >= kills)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    # No turn is given up here: each may be interrupted by every one of the kills.
    served = Served(tmp_path, "--max-attempts", "1000")
    served.start()
    yield served
    served.stop()


def _input_of(number: int) -> str:
    return f"stream {10 + number} every 20" if number % 2 else f"echo answer number {number} of this session"


def _post_until_accepted(url: str, session: str, text: str, key: str) -> None:
    """A client that retries whatever is ambiguous under the same key."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(
                f"{url}/v1/sessions/{session}/turns",
                json={"input": text},
                headers={"Idempotency-Key": key},
                trust_env=False,
                timeout=10,
            )
            if answer.status_code in (200, 202):
                return
            assert answer.status_code == 503, answer.text
        time.sleep(0.02)


def _client(url: str, session: str, progress: _Progress, failures: list[BaseException]) -> None:
    try:
        for number in range(_TURNS):
            progress.wait_for(number * (_KILLS - 3) // _TURNS)
            _post_until_accepted(url, session, _input_of(number), f"{session}-{number}")
    except BaseException as error:
        failures.append(error)


def test_every_accepted_turn_is_committed_exactly_once_and_in_order_over_thirty_kills(served: Served) -> None:
    chance = random.Random(_SEED)
    sessions = [f"chaos-{index}" for index in range(_SESSIONS)]
    for session in sessions:
        httpx.put(f"{served.url}/v1/sessions/{session}", json={}, trust_env=False).raise_for_status()
    progress = _Progress()
    failures: list[BaseException] = []
    clients = [threading.Thread(target=_client, args=(served.url, session, progress, failures)) for session in sessions]
    for client in clients:
        client.start()
    for _ in range(_KILLS):
        time.sleep(chance.uniform(0.0, 0.7))
        served.kill()
        served.start()
        progress.killed()
    for client in clients:
        client.join()
    assert failures == []

    attempts = 0
    for session in sessions:
        _wait_until_idle(served, session)
        attempts += _check_session(served, session)
    assert attempts > _SESSIONS * _TURNS, "the kills interrupted no turn: nothing was tried"


def _wait_until_idle(served: Served, session: str) -> None:
    while not _is_idle(served, session):
        time.sleep(0.05)


def _check_session(served: Served, session: str) -> int:
    """Everything the session was given is there once, in order and whole. Returns how many attempts it took."""
    messages: list[dict[str, Any]] = served.get(f"/v1/sessions/{session}?messages=1000")["read_view"]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * _TURNS
    assert [message["content"] for message in messages[::2]] == [_input_of(number) for number in range(_TURNS)]
    assert len({message["turn_id"] for message in messages}) == _TURNS
    assert len({message["message_id"] for message in messages}) == 2 * _TURNS
    for number, answer in enumerate(messages[1::2]):
        assert "status" not in answer
        if number % 2:
            words = re.findall(r"seq=(\d+) t=\d+ ", answer["content"])
            assert words == [str(word) for word in range(10 + number)], "a word is lost or doubled"
        else:
            assert answer["content"] == _input_of(number).removeprefix("echo ")
    batches = served.get(f"/v1/sessions/{session}/queue?state=all")["batches"]
    assert [batch["state"] for batch in batches] == ["completed"] * _TURNS
    assert [batch["source_key"] for batch in batches] == [f"host:{session}-{number}" for number in range(_TURNS)]
    return sum(batch["attempts"] for batch in batches)


def test_a_turn_that_kills_its_server_every_time_is_given_up_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "poison.py").write_text(
        "import os\n\n\nasync def agent(turn):\n"
        "    turn.text('about to')\n"
        "    if turn.input[0].content == 'poison':\n        await turn.sleep(0.3)\n        os._exit(9)\n"
    )
    served = Served(tmp_path, "--agent", "poison:agent", "--max-attempts", "3")
    served.start()
    httpx.put(f"{served.url}/v1/sessions/s", json={}, trust_env=False).raise_for_status()
    _post_until_accepted(served.url, "s", "fine", "k0")
    _post_until_accepted(served.url, "s", "poison", "k1")
    deaths = 0
    while not _is_idle(served, "s"):
        if served.has_ended:
            deaths += 1
            assert deaths <= 3, "the poisonous turn was tried more often than allowed"
            served.start()
    _post_until_accepted(served.url, "s", "fine too", "k2")
    _wait_until_idle(served, "s")
    states = [
        (batch["state"], batch["attempts"], batch.get("error", {}).get("code"))
        for batch in served.get("/v1/sessions/s/queue?state=all")["batches"]
    ]
    messages = served.get("/v1/sessions/s")["read_view"]["messages"]
    served.stop()
    assert deaths == 3
    assert states == [("completed", 1, None), ("failed", 3, "engine_gave_up"), ("completed", 1, None)]
    assert [message["content"] for message in messages if message["role"] == "user"] == ["fine", "poison", "fine too"]
    assert [message.get("status") for message in messages] == [None, None, None, "failed", None, None]


def _is_idle(served: Served, session: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return bool(served.get(f"/v1/sessions/{session}?messages=0")["status"] == "idle")
    return False
