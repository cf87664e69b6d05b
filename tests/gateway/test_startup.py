"""What keeps a server from starting: one clear line, an exit code, and nothing left behind. Real processes."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.processes import clean_environment, command, serving

# A super-user may write everywhere, unless it gives that up. This takes the capabilities to override what files allow
# from all that the next program may have.
GIVE_IT_UP = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
ORDINARY_USER = (sys.executable, "-c", GIVE_IT_UP)


def assert_refused(finished: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """One line on stderr that says all this, and this exit code."""
    assert finished.returncode == code, finished.stderr
    assert finished.stdout == ""
    [line] = finished.stderr.splitlines()
    assert line.startswith("sightline: ")
    for words in said:
        assert words in line


def serve(folder: Path, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return command("serve", "--port", "0", *arguments, cwd=folder, wrapper=wrapper)


def assert_works(folder: Path, *arguments: str) -> None:
    """A server starts here and ends well: nothing is locked."""
    with serving(folder, *arguments) as server:
        assert server.http.get("/readyz").status_code == 200
        assert server.stop() == 0


# The store


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="a super-user may write everywhere")
def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o555)
    wrapper = ORDINARY_USER if os.geteuid() == 0 else ()

    for path in ("data/sightline.db", "data/deeper/sightline.db"):
        assert_refused(serve(tmp_path, "--store", f"sqlite:///{path}", wrapper=wrapper), 1, path, "Permission denied")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="a super-user may write everywhere")
def test_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    assert_works(tmp_path)
    database = tmp_path / ".sightline" / "sightline.db"
    database.chmod(0o444)
    wrapper = ORDINARY_USER if os.geteuid() == 0 else ()

    assert_refused(serve(tmp_path, wrapper=wrapper), 1, "sightline.db", "readonly")

    database.chmod(0o644)
    assert_works(tmp_path)


def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sightline.db").mkdir()

    assert_refused(serve(tmp_path, "--store", "sqlite:///sightline.db"), 1, "sightline.db")


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    assert_refused(serve(tmp_path, "--store", "sqlite:///file/sightline.db"), 1, "file/sightline.db")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "letter.db"
    file.write_text("Dear Sir or Madam, " * 100)
    before = file.read_bytes()

    assert_refused(serve(tmp_path, "--store", "sqlite:///letter.db"), 1, "letter.db", "not a database")
    assert file.read_bytes() == before


def test_a_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "theirs.db") as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = (tmp_path / "theirs.db").read_bytes()

    assert_refused(serve(tmp_path, "--store", "sqlite:///theirs.db"), 1, "theirs.db", "another program")
    assert (tmp_path / "theirs.db").read_bytes() == before


def test_a_database_of_a_newer_release(tmp_path: Path) -> None:
    assert_works(tmp_path)
    connection = sqlite3.connect(tmp_path / ".sightline" / "sightline.db")
    [[known]] = connection.execute("PRAGMA user_version").fetchall()
    connection.execute(f"PRAGMA user_version = {known + 1}")
    connection.close()

    for finished in (serve(tmp_path), command("migrate", cwd=tmp_path)):
        assert_refused(finished, 1, "sightline.db", f"schema version {known + 1}", "newer")


def test_a_second_server_on_one_database(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        assert_refused(serve(tmp_path), 1, "sightline.db", "in use by another server")
        assert_refused(command("migrate", cwd=tmp_path), 1, "in use by another server")
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / ".sightline" / "sightline.db")
        assert_refused(serve(tmp_path, "--store", "sqlite:///link.db"), 1, "in use by another server")

        assert first.http.get("/readyz").status_code == 200
        assert first.stop() == 0
    assert_works(tmp_path)


def test_a_server_that_was_killed_leaves_nothing_locked(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        first.process.kill()
        first.ended()
    assert_works(tmp_path)


# The address


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = command("serve", "--port", str(port), cwd=tmp_path)

    assert_refused(finished, 1, f"127.0.0.1 port {port}", "in use")
    assert list(tmp_path.iterdir()) == [], "the port comes before the store"


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 70])
def test_an_address_that_is_not_ours(tmp_path: Path, host: str) -> None:
    assert_refused(serve(tmp_path, "--host", host, "--insecure-no-auth"), 1, f"cannot listen on {host}")


# The agent


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (None, "nowhere:agent", "No module named 'nowhere'"),
        (None, "nowhere", "MODULE:ATTRIBUTE"),
        (None, ":agent", "MODULE:ATTRIBUTE"),
        (None, "mine:", "MODULE:ATTRIBUTE"),
        ("", "mine:agent", "no attribute agent"),
        ("class agent: ...", "mine:agent", "it is a class"),
        ("agent = 7", "mine:agent", "of type int"),
        ("def agent(): ...", "mine:agent", "an agent takes one argument"),
        ("raise RuntimeError('no\\nkey')", "mine:agent", "RuntimeError: no key"),
        ("import nowhere", "mine:agent", "No module named 'nowhere'"),
        ("def (", "mine:agent", "SyntaxError"),
        ("raise SystemExit", "mine:agent", "ends the process"),
        ("import sys; sys.exit(0)", "mine:agent", "ends the process with 0"),
    ],
)
def test_an_agent_that_cannot_be_loaded(tmp_path: Path, source: str | None, target: str, said: str) -> None:
    if source is not None:
        (tmp_path / "mine.py").write_text(source)

    assert_refused(
        serve(tmp_path, "--agent", target, "--store", "sqlite:///s.db"), 1, f"cannot load agent '{target}'", said
    )
    assert not (tmp_path / "s.db").exists(), "the agent comes before the store"


def test_an_agent_of_the_folder_is_found_and_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Agents:\n"
        "    async def answer(self, turn):\n"
        "        turn.text(f'you said {turn.input[0].content}')\n"
        "agents = Agents()\n"
    )
    with serving(tmp_path, "--agent", "mine:agents.answer", "--store", "memory:") as server:
        server.json("PUT", "/v1/sessions/s", {})
        server.json("POST", "/v1/sessions/s/turns", {"input": "hi"}, Prefer="wait=20")
        view = server.json("GET", "/v1/sessions/s")

    assert view["read_view"]["messages"][-1]["content"] == "you said hi"


# The kernel


def test_a_kernel_that_cannot_begin(tmp_path: Path) -> None:
    script = """
import sys
from sightline.kernel import Kernel
from sightline_gateway.cli import main

async def start(self):
    raise OSError("no threads left")

Kernel.start = start
sys.exit(main(["serve", "--port", "0"]))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (finished.returncode, finished.stdout) == (1, "")
    assert "no threads left" in finished.stderr
    assert_works(tmp_path)


# Starting well


def test_a_server_says_once_where_it_listens(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.http.get("/healthz").status_code == 200
        assert server.stop() == 0
        assert server.said == [f"listening on {server.url}\n"]
    assert (tmp_path / ".sightline" / "sightline.db").exists()


def test_a_server_listens_on_the_port_it_is_told_at_once_after_another(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        first.http.get("/healthz")
        first.process.kill()
        first.ended()
    with serving(tmp_path, port=first.port) as second:
        assert second.port == first.port


def test_a_server_of_the_web_role_takes_work_and_runs_none(tmp_path: Path) -> None:
    with serving(tmp_path, "--role", "web", "--agent", "nowhere:agent") as server:
        server.json("PUT", "/v1/sessions/s", {})
        batch = server.json("POST", "/v1/sessions/s/turns", {"input": "echo later"}, Prefer="wait=1")
        assert (batch["state"], batch["attempts"]) == ("pending", 0)
        assert server.stop() == 0
    with serving(tmp_path) as server:
        again = server.json("POST", "/v1/sessions/s/turns", {"input": "echo more"}, Prefer="wait=20")
        assert again["state"] == "completed"
        assert server.json("GET", f"/v1/sessions/s/queue/{batch['batch_id']}")["state"] == "completed"


def test_a_log_level_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, "--store", "memory:", SIGHTLINE_LOG_LEVEL="error") as server:
        server.http.get("/healthz")
        assert server.stop() == 0
        assert server.log == ""


# Open files

STINGY = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are read from /proc")
@pytest.mark.parametrize(("hard", "allowed", "warned"), [(4_096, 1_200, False), (512, 512, True)])
def test_room_is_made_for_as_many_connections_as_may_come(
    tmp_path: Path, hard: int, allowed: int, warned: bool
) -> None:
    wrapper = (sys.executable, "-c", STINGY.format(soft=256, hard=hard))
    with serving(tmp_path, "--max-connections", "1000", wrapper=wrapper) as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        [files] = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert int(files.split()[3]) == allowed
        assert ("open files are allowed" in server.log) is warned
