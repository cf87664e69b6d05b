"""Real processes of the command line: a server that can be signalled, and commands that end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

__all__ = ["SIGHTLINE", "Server", "clean_environment", "command", "serving"]

SIGHTLINE = [sys.executable, "-m", "sightline_gateway.cli"]


def clean_environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    return inherited | variables


def command(
    *arguments: str, cwd: Path, url: str | None = None, wrapper: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*wrapper, *SIGHTLINE, *arguments],
        cwd=cwd,
        env=clean_environment() if url is None else clean_environment(SIGHTLINE_URL=url),
        capture_output=True,
        text=True,
        timeout=60,
    )


class Server:
    """`sightline serve` in a folder of its own. Made by `serving`."""

    def __init__(self, process: subprocess.Popen[str], log: Path, said: list[str]) -> None:
        self.process = process
        self._log = log
        self.said = said
        self.url = said[-1].removeprefix("listening on ").strip()
        self.host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.port = int(port)
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, path, json=body, headers=named).raise_for_status().json()

    def wait_for(self, session: str, state: str) -> None:
        """Return once the session's first batch is in this state; the stream says when to look again."""
        path = f"/v1/sessions/{session}"
        cursor = self.json("GET", path)["cursor"]
        for _ in range(100):
            if self.json("GET", f"{path}/queue?state=all")["batches"][0]["state"] == state:
                return
            cursor = self.json("GET", f"{path}/events?cursor={cursor}&wait=5")["cursor"]
        raise AssertionError(f"the first batch of {session} does not become {state}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = 20) -> int:
        """The exit code, once the process has ended; what it still said is in `said`."""
        code = self.process.wait(timeout)
        assert self.process.stdout is not None
        self.said += self.process.stdout.read().splitlines()
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()


@contextmanager
def serving(
    folder: Path, *arguments: str, port: int = 0, wrapper: tuple[str, ...] = (), **variables: str
) -> Iterator[Server]:
    """A server that listens. What a test leaves running is killed."""
    log = folder / "server.log"
    with (
        log.open("a") as errors,
        subprocess.Popen(
            [*wrapper, *SIGHTLINE, "serve", "--port", str(port), *arguments],
            cwd=folder,
            env=clean_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), log.read_text(encoding="utf-8")
            server = Server(process, log, [line])
            with server.http:
                yield server
        finally:
            process.kill()
