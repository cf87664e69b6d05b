"""`sightline work`: turns are run without a server."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.gateway.processes import SIGHTLINE, clean_environment, command, serving

pytestmark = pytest.mark.timeout(60)


def test_what_a_server_accepted_is_run_by_a_worker(tmp_path: Path) -> None:
    with serving(tmp_path, "--role", "web") as server:
        server.json("PUT", "/v1/sessions/s", {})
        batch = server.json("POST", "/v1/sessions/s/turns", {"input": "echo done by a worker"})
        assert batch["state"] == "pending"
        assert server.stop() == 0
    with subprocess.Popen(
        [*SIGHTLINE, "work"], cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "working\n"
        refused = command("work", cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "in use by another server" in refused.stderr
        _wait_until_completed(tmp_path / ".sightline" / "sightline.db")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    with serving(tmp_path, "--role", "web") as server:
        messages = server.json("GET", "/v1/sessions/s", None)["read_view"]["messages"]
        assert [message["content"] for message in messages] == ["echo done by a worker", "done by a worker"]


def _wait_until_completed(database: Path) -> None:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as reader:
        while reader.execute("SELECT state FROM batches").fetchall() != [("completed",)]:
            pass
