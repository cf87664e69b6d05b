"""How a server ends: it drains when told, stops at once when told twice, loses nothing either way. Real processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.gateway.processes import Server, serving

STUBBORN = """
import asyncio, threading

async def agent(turn):
    turn.text("...")
    match turn.input[0].content:
        case "deaf":
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass
        case "threaded":
            await asyncio.to_thread(threading.Event().wait)
        case "blocking":
            print("blocked", flush=True)
            threading.Event().wait()
"""


def begun(server: Server, text: str, session: str = "s") -> str:
    """A turn that runs: its batch."""
    server.json("PUT", f"/v1/sessions/{session}", {})
    batch = server.json("POST", f"/v1/sessions/{session}/turns", {"input": text})["batch_id"]
    while server.json("GET", f"/v1/sessions/{session}/queue/{batch}")["state"] == "pending":
        pass
    return str(batch)


def ended_within(server: Server, seconds: float) -> bool:
    try:
        server.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def messages(server: Server) -> list[str]:
    return [message["content"] for message in server.json("GET", "/v1/sessions/s")["read_view"]["messages"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_when_told(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as server:
        server.signal(number)

        assert server.ended() == 0
        assert "Traceback" not in server.log


def test_a_turn_that_runs_may_end_before_the_server_does(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        batch = begun(server, "stream 8 every 50")
        server.signal(signal.SIGTERM)

        assert server.ended() == 0
        assert "Traceback" not in server.log
    with serving(tmp_path) as server:
        found = server.json("GET", f"/v1/sessions/s/queue/{batch}")
        assert (found["state"], found["attempts"]) == ("completed", 1)
        assert messages(server)[1].count("seq=") == 8


def test_a_turn_that_runs_for_too_long_is_handed_back_uncharged(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-timeout", "0.2") as server:
        batch = begun(server, "sleep 1500")
        server.signal(signal.SIGTERM)

        assert server.ended() == 0
        assert "Traceback" not in server.log
    with serving(tmp_path, "--role", "web") as server:
        found = server.json("GET", f"/v1/sessions/s/queue/{batch}")
        assert (found["state"], found["attempts"]) == ("pending", 0)
        assert server.stop() == 0
    with serving(tmp_path) as server:
        server.json("POST", "/v1/sessions/s/turns", {"input": "echo after"}, Prefer="wait=20")
        found = server.json("GET", f"/v1/sessions/s/queue/{batch}")
        assert (found["state"], found["attempts"]) == ("completed", 1)
        assert messages(server) == ["sleep 1500", "slept 1500", "echo after", "after"]


def test_a_draining_server_says_goodbye_refuses_work_and_still_answers(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-timeout", "10") as server:
        begun(server, "sleep 1500")
        with server.http.stream(
            "GET", "/v1/sessions/s/events?cursor=now", headers={"Accept": "text/event-stream"}
        ) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line == "event: resumed")
            server.signal(signal.SIGTERM)
            data = next(line for line in lines if '"type":"goodbye"' in line)

        goodbye = json.loads(data.removeprefix("data: "))
        assert (goodbye["reason"], goodbye["code"]) == ("draining", 4503)
        refused = server.http.post("/v1/sessions/s/turns", json={"input": "echo no"})
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) >= 1
        assert server.http.get("/readyz").status_code == 503
        assert server.http.get("/healthz").status_code == 200
        assert server.json("GET", "/v1/sessions/s")["status"] == "running"
        assert server.ended() == 0


def test_who_waits_for_a_turn_is_answered_however_it_goes(tmp_path: Path) -> None:
    answers: dict[str, httpx.Response] = {}

    def wait(server: Server, session: str, text: str) -> None:
        server.json("PUT", f"/v1/sessions/{session}", {})
        answers[session] = httpx.post(
            f"{server.url}/v1/sessions/{session}/turns",
            json={"input": text},
            headers={"Prefer": "wait=30"},
            timeout=40,
            trust_env=False,
        )

    with serving(tmp_path, "--drain-timeout", "1") as server:
        waiting = [
            threading.Thread(target=wait, args=(server, "short", "stream 8 every 60")),
            threading.Thread(target=wait, args=(server, "long", "sleep 60000")),
        ]
        for thread in waiting:
            thread.start()
        while [entry["status"] for entry in server.json("GET", "/v1/sessions")["sessions"]] != ["running", "running"]:
            pass
        server.signal(signal.SIGTERM)
        for thread in waiting:
            thread.join(20)

        assert server.ended() == 0
        assert "Cancel" not in server.log, "nobody had to be cut off"
    assert (answers["short"].status_code, answers["short"].json()["state"]) == (200, "completed")
    assert (answers["long"].status_code, answers["long"].json()["state"]) == (202, "pending")
    assert answers["long"].json()["attempts"] == 0


def test_a_body_that_never_comes_does_not_keep_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server, socket.create_connection((server.host, server.port), timeout=20) as half:
        half.sendall(b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        server.http.get("/healthz")
        server.signal(signal.SIGTERM)

        answer = half.makefile("rb").read()

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in answer
        assert b'"code":"draining"' in answer
        assert server.ended() == 0
        assert "Traceback" not in server.log


def test_a_second_signal_stops_at_once_and_the_work_goes_on_elsewhere(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain-timeout", "60") as server:
        batch = begun(server, "sleep 1000")
        server.signal(signal.SIGTERM)
        while server.http.get("/readyz").status_code == 200:
            pass
        server.signal(signal.SIGTERM)

        assert server.ended(5) == 1
        assert "Traceback" not in server.log
    with serving(tmp_path, "--role", "web") as server:
        assert server.json("GET", f"/v1/sessions/s/queue/{batch}")["attempts"] == 0, "there was time to hand it back"
        assert server.stop() == 0
    with serving(tmp_path) as server:
        server.json("POST", "/v1/sessions/s/turns", {"input": "echo after"}, Prefer="wait=20")
        assert server.json("GET", f"/v1/sessions/s/queue/{batch}")["state"] == "completed"
        assert messages(server) == ["sleep 1000", "slept 1000", "echo after", "after"]


def test_agents_that_do_not_stop_do_not_keep_the_server(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STUBBORN)
    kinds = ("deaf", "threaded")
    with serving(tmp_path, "--agent", "mine:agent", "--drain-timeout", "0") as server:
        batches = {kind: begun(server, kind, session=kind) for kind in kinds}
        server.signal(signal.SIGTERM)

        assert server.ended() == 0
        assert "Traceback" not in server.log
    with serving(tmp_path, "--role", "web") as server:
        for kind in kinds:
            found = server.json("GET", f"/v1/sessions/{kind}/queue/{batches[kind]}")
            assert (found["state"], found["attempts"]) == ("pending", 0)


def test_an_agent_that_blocks_everything_does_not_survive_a_second_signal(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STUBBORN)
    with serving(tmp_path, "--agent", "mine:agent") as server:
        server.json("PUT", "/v1/sessions/s", {})
        batch = server.json("POST", "/v1/sessions/s/turns", {"input": "blocking"})["batch_id"]
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "blocked\n"
        server.signal(signal.SIGTERM)
        # Told again and again, as people do: Python may sleep over a signal that comes just before it waits for a lock.
        while not ended_within(server, 0.2):
            server.signal(signal.SIGINT)

        assert server.ended() == 1
    with serving(tmp_path) as server:
        found = server.json("POST", "/v1/sessions/s/turns", {"input": "echo after"}, Prefer="wait=20")
        assert found["state"] == "completed"
        assert server.json("GET", f"/v1/sessions/s/queue/{batch}")["state"] == "completed"
