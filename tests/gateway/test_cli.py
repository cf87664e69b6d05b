"""The commands that people type, as processes against a real server."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import pytest

from sightline_gateway.cli import main
from sightline_gateway.settings import SETTINGS
from tests.gateway.processes import SIGHTLINE, Server, clean_environment, command, serving

FLAGS = {
    "serve": {setting.flag for setting in SETTINGS if "serve" in setting.verbs},
    "migrate": {"--store"},
    "send": {"--key", "--wait", "--url"},
    "tail": {"--cursor", "--json", "--url"},
    "sessions": {"--limit", "--json", "--url"},
    "queue": {"--all", "--json", "--url"},
    "cancel": {"--batch", "--turn", "--key", "--reason", "--url"},
    "processes": {"--session", "--status", "--limit", "--json", "--url"},
    "process": {"--follow", "--json", "--url"},
    "bench": {"--sessions", "--observers", "--seconds", "--json", "--url"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), "--store", "memory:") as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens, and nothing else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


class Finished(NamedTuple):
    code: int
    out: str
    err: str


class Prompt(Protocol):
    def __call__(self, *arguments: str, url: str = ...) -> Finished: ...


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Prompt:
    """Run a command in this process, as the console script does."""

    def run(*arguments: str, url: str = "http://127.0.0.1:9") -> Finished:
        monkeypatch.setenv("SIGHTLINE_URL", url)
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Finished(code, out, err)

    return run


@contextmanager
def tailing(folder: Path, url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*SIGHTLINE, "tail", *arguments],
        cwd=folder,
        env=clean_environment(SIGHTLINE_URL=url, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().removesuffix("\n")


def frames(process: subprocess.Popen[str]) -> Iterator[dict[str, object]]:
    while text := line(process.stdout):
        yield json.loads(text)


# Help


@pytest.mark.parametrize("verb", list(FLAGS))
def test_a_command_explains_itself(typed: Prompt, verb: str) -> None:
    finished = typed(verb, "--help")

    assert (finished.code, finished.err) == (0, "")
    assert finished.out.startswith(f"usage: sightline {verb}")
    assert set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", finished.out)) == FLAGS[verb] | {"--help"}
    assert finished.out.count(". ") >= 1, "it says what the command does"


def test_the_command_line_lists_its_commands(typed: Prompt) -> None:
    helped, nothing = typed("--help"), typed()

    assert (helped.code, nothing.code) == (0, 2)
    assert helped.out == nothing.out
    for verb in FLAGS:
        assert re.search(rf"^ +{verb}\s+[A-Z]", helped.out, re.MULTILINE), verb


def test_the_command_line_knows_its_version(typed: Prompt) -> None:
    assert re.fullmatch(r"sightline \d+\.\d+\.\d+\n", typed("--version").out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["send"], "SESSION"),
        (["send", "s"], "TEXT"),
        (["send", "a/b", "x"], "session_id must be"),
        (["send", "a b", "x"], "session_id must be"),
        (["send", "", "x"], "session_id must be"),
        (["send", "s", "x", "--wait", "0"], "from 1 to 60"),
        (["send", "s", "x", "--wait", "61"], "from 1 to 60"),
        (["send", "s", "x", "--wait", "soon"], "from 1 to 60"),
        (["tail", "s?x=1"], "session_id must be"),
        (["tail"], "SESSION"),
        (["sessions", "--limit", "-1"], "from 1 to"),
        (["sessions", "--json=1"], "json"),
        (["queue", "a b"], "session_id must be"),
        (["bench", "--observers", "0"], "from 1 to 10000"),
        (["bench", "--seconds", "1.5"], "from 1 to 86400"),
        (["bench", "desk"], "desk"),
        (["cancel"], "SESSION"),
        (["cancel", "s", "--batch", "a/b"], "is no batch id"),
        (["cancel", "s", "--batch", "b", "--key", "k"], "not allowed with"),
    ],
)
def test_wrong_usage_says_what_is_wrong(typed: Prompt, arguments: list[str], said: str) -> None:
    finished = typed(*arguments)

    assert (finished.code, finished.out) == (2, "")
    assert said in finished.err.splitlines()[-1]
    assert "Traceback" not in finished.err


# Nobody there


@pytest.mark.parametrize(
    "arguments", [["send", "s", "x"], ["sessions"], ["tail", "s"], ["queue", "s"], ["cancel", "s"], ["bench"]]
)
def test_a_gateway_that_is_not_there_is_one_line(typed: Prompt, nobody: str, arguments: list[str]) -> None:
    finished = typed(*arguments, url=nobody)

    assert (finished.code, finished.out) == (1, "")
    [said] = finished.err.splitlines()
    assert said.startswith(f"sightline: cannot reach {nobody}")


@pytest.mark.parametrize(
    "url", ["nonsense", "http://", "ftp://127.0.0.1", "http://[::1", "http://a..b:1", "http://127.0.0.1:99999"]
)
def test_an_address_that_cannot_be_is_one_line(typed: Prompt, url: str) -> None:
    for arguments in (["sessions"], ["tail", "s"], ["bench"]):
        finished = typed(*arguments, "--url", url)

        assert (finished.code, finished.out) == (1, "")
        [said] = finished.err.splitlines()
        assert url in said


@pytest.mark.parametrize("answer", ["<html>hello</html>", "{}", "[]", '{"sessions": 1}', "data: x\n\n"])
def test_something_else_at_the_address_is_one_line(typed: Prompt, answer: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        serving = threading.Thread(target=other.serve_forever, args=(0.01,))
        serving.start()
        try:
            finished = typed("sessions", url=f"http://127.0.0.1:{other.server_port}")
        finally:
            other.shutdown()
            serving.join()

    assert (finished.code, finished.out) == (1, "")
    [said] = finished.err.splitlines()
    assert "is not a gateway" in said


def test_the_exit_code_is_the_process_own(tmp_path: Path, nobody: str, server: Server) -> None:
    codes = [
        command("sessions", cwd=tmp_path, url=server.url).returncode,
        command("sessions", cwd=tmp_path, url=nobody).returncode,
        command("sessions", "--limit", "x", cwd=tmp_path, url=nobody).returncode,
    ]

    assert codes == [0, 1, 2]


# send


def test_a_turn_is_sent_and_its_batch_printed(typed: Prompt, server: Server) -> None:
    finished = typed("send", "sent", "echo", "two words", url=server.url)

    assert (finished.code, finished.err) == (0, "")
    batch = server.json("GET", f"/v1/sessions/sent/queue/{finished.out.strip()}")
    assert batch["items"][0]["payload"]["input"]["items"] == [{"type": "text", "text": "echo two words"}]
    assert batch["source_key"].startswith("host:")


def test_the_same_key_is_the_same_turn(typed: Prompt, server: Server) -> None:
    first, again, other = (
        typed("send", "keyed", "--key", "k", text, url=server.url) for text in ("echo a", "echo a", "echo b")
    )

    assert first.out == again.out
    assert (other.code, other.out) == (1, "")
    assert other.err.startswith("sightline: idempotency_key_reused: ")


def test_waiting_prints_the_answer(typed: Prompt, server: Server) -> None:
    finished = typed("send", "waited", "--wait", "20", "echo hello\n there", url=server.url)

    assert (finished.code, finished.out, finished.err) == (0, "hello\n there\n", "")


def test_a_turn_that_fails_fails_the_command(typed: Prompt, server: Server) -> None:
    finished = typed("send", "failed", "--wait", "20", "fail on purpose", url=server.url)

    assert (finished.code, finished.out, finished.err) == (1, "", "on purpose\n")


def test_a_turn_that_takes_longer_than_the_wait_is_said_so(typed: Prompt, server: Server) -> None:
    finished = typed("send", "slow", "--wait", "1", "sleep 5000", url=server.url)

    assert (finished.code, finished.out) == (1, "")
    assert re.fullmatch(r"\S+ is claimed\n", finished.err)
    server.http.post("/v1/sessions/slow/cancel", json={})


def test_the_queue_is_listed_in_order_and_work_in_it_cancelled(typed: Prompt, server: Server) -> None:
    for text in ("sleep 20000", "echo behind", "echo last"):
        typed("send", "busy", "--key", text.split()[1], text, url=server.url)
    server.wait_for("busy", "claimed")

    listed = typed("queue", "busy", url=server.url)
    states = [line.split()[0] for line in listed.out.splitlines()]
    assert (listed.code, states) == (0, ["claimed", "pending", "pending"])
    assert [line.split("  ")[-1] for line in listed.out.splitlines()] == ["sleep 20000", "echo behind", "echo last"]

    behind = listed.out.splitlines()[1].split()[1]
    assert typed("cancel", "busy", "--batch", behind, url=server.url).out == "cancelled\n"
    refused = typed("cancel", "busy", "--batch", behind, url=server.url)
    assert (refused.code, refused.err.split(":")[1].strip()) == (1, "batch_not_cancellable")
    assert typed("cancel", "busy", "--key", "last", url=server.url).out == "cancelled\n"
    assert typed("cancel", "busy", "--key", "never sent", url=server.url).out == "will_cancel\n"
    assert typed("cancel", "busy", "--reason", "enough", url=server.url).out == "cancel_requested\n"
    server.wait_for("busy", "cancelled")
    everything = typed("queue", "busy", "--all", "--json", url=server.url)
    assert [json.loads(line)["state"] for line in everything.out.splitlines()] == ["cancelled"] * 3
    shown = typed("queue", "busy", "--all", url=server.url).out
    assert shown.splitlines()[0].startswith("cancelled ")


def test_a_refusal_is_one_line(typed: Prompt, server: Server) -> None:
    typed("send", "refused", "echo x", url=server.url)
    server.http.delete("/v1/sessions/refused")

    for arguments in (["send", "refused", "x"], ["tail", "refused"]):
        finished = typed(*arguments, url=server.url)

        assert (finished.code, finished.out) == (1, "")
        assert finished.err == "sightline: session_deleted: session 'refused' was deleted\n"


# sessions


def test_sessions_are_listed_newest_first(typed: Prompt, tmp_path: Path) -> None:
    with serving(tmp_path, "--store", "memory:") as server:
        assert typed("sessions", url=server.url).out == ""
        for n in range(3):
            server.json("PUT", f"/v1/sessions/s{n}", {"metadata": {"n": n}})
        server.json("POST", "/v1/sessions/s1/turns", {"input": "echo first\nsecond"}, Prefer="wait=20")

        plain = typed("sessions", url=server.url).out.splitlines()
        some = typed("sessions", "--limit", "2", url=server.url).out.splitlines()
        lines = typed("sessions", "--json", url=server.url).out.splitlines()

    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", text).split() for text in plain] == [
        ["idle", "s1", "echo", "first"],
        ["idle", "s2"],
        ["idle", "s0"],
    ]
    assert some == plain[:2]
    assert [json.loads(text)["metadata"] for text in lines] == [{"n": 1}, {"n": 2}, {"n": 0}]


def test_more_sessions_than_a_page_are_listed(typed: Prompt, server: Server) -> None:
    for n in range(205):
        server.http.put(f"/v1/sessions/many-{n:03}", json={})

    listed = typed("sessions", "--limit", "203", url=server.url).out.splitlines()

    assert [text.split()[-1] for text in listed] == [f"many-{n:03}" for n in range(204, 1, -1)]


# tail


def test_a_session_is_watched_as_people_read_it(tmp_path: Path, server: Server) -> None:
    server.json("PUT", "/v1/sessions/read", {})
    server.json("POST", "/v1/sessions/read/turns", {"input": "echo before"}, Prefer="wait=20")
    with tailing(tmp_path, server.url, "read") as process:
        assert [line(process.stdout), line(process.stdout)] == ["> echo before", "before"]
        server.json("POST", "/v1/sessions/read/turns", {"input": "echo now then"}, Prefer="wait=20")
        server.json("POST", "/v1/sessions/read/turns", {"input": 'tool add {"a": 1}'}, Prefer="wait=20")
        server.json("POST", "/v1/sessions/read/turns", {"input": "fail badly"}, Prefer="wait=20")
        server.http.delete("/v1/sessions/read")

        assert process.stdout is not None
        assert process.stdout.read().splitlines() == [
            "> echo now then",
            "now then",
            '> tool add {"a": 1}',
            '· add {"a": 1}',
            "1",
            "> fail badly",
            "— failed: badly —",
            "— goodbye: session_deleted —",
        ]
        assert process.wait(20) == 0


def test_what_a_turn_asks_is_shown_with_the_id_to_answer_it_by(tmp_path: Path, server: Server) -> None:
    server.json("PUT", "/v1/sessions/asks", {})
    server.json("POST", "/v1/sessions/asks/turns", {"input": "ask Which \x1b[2Jone?"})
    with tailing(tmp_path, server.url, "asks") as process:
        shown = [line(process.stdout), line(process.stdout)][1]
        [request] = server.json("PUT", "/v1/sessions/asks", {})["requests"]
        assert shown == f"? Which \N{REPLACEMENT CHARACTER}[2Jone? — {request['request_id']}"
        body = {"request_id": request["request_id"], "answer": "this"}
        server.json("POST", "/v1/sessions/asks/answers", body)
        assert line(process.stdout) == "answered: this"
        server.http.delete("/v1/sessions/asks")
        assert process.wait(20) == 0


def test_every_frame_can_be_had_as_json(tmp_path: Path, server: Server) -> None:
    server.json("PUT", "/v1/sessions/json", {})
    with tailing(tmp_path, server.url, "json", "--json") as process:
        stream = frames(process)
        assert [next(stream)["type"], next(stream)["type"]] == ["observation", "caught_up"]
        server.json("POST", "/v1/sessions/json/turns", {"input": "echo x"}, Prefer="wait=20")
        server.http.delete("/v1/sessions/json")
        seen = list(stream)

    kinds = [frame.get("kind", frame["type"]) for frame in seen]
    assert kinds[0] == "queue_changed"
    assert kinds[-2:] == ["committed", "goodbye"]
    assert process.returncode == 0


def test_text_is_shown_as_it_is_whatever_counts_as_the_end_of_a_line_elsewhere(tmp_path: Path, server: Server) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    server.json("PUT", "/v1/sessions/lines", {})
    server.json("POST", "/v1/sessions/lines/turns", {"input": f"echo {text}"}, Prefer="wait=20")

    with tailing(tmp_path, server.url, "lines", "--json") as process:
        observation = next(frames(process))["observation"]

    assert isinstance(observation, dict)
    assert observation["read_view"]["messages"][1]["content"] == text


def test_what_a_terminal_would_obey_is_not_shown_to_it(typed: Prompt, tmp_path: Path, server: Server) -> None:
    server.json("PUT", "/v1/sessions/escape", {})
    text = "echo \x1b]0;owned\x07\x1b[2Jdone\r\x9b1m\ttab"
    server.json("POST", "/v1/sessions/escape/turns", {"input": text}, Prefer="wait=20")

    with tailing(tmp_path, server.url, "escape") as process:
        shown = line(process.stdout) + line(process.stdout)
    shown += typed("sessions", url=server.url).out
    shown += typed("send", "escape", "--wait", "20", text, url=server.url).out

    assert "done" in shown
    assert "\ttab" in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)


def test_watching_begins_behind_a_cursor(typed: Prompt, tmp_path: Path, server: Server) -> None:
    cursor = server.json("PUT", "/v1/sessions/cursor", {})["cursor"]
    server.json("POST", "/v1/sessions/cursor/turns", {"input": "echo x"}, Prefer="wait=20")

    with tailing(tmp_path, server.url, "cursor", "--json", "--cursor", cursor) as process:
        stream = frames(process)
        assert next(stream)["type"] == "resumed"
        assert next(stream)["kind"] == "queue_changed"
    with tailing(tmp_path, server.url, "cursor", "--json", "--cursor", "now") as process:
        stream = frames(process)
        assert [next(stream)["type"], next(stream)["type"]] == ["resumed", "caught_up"]
    refused = typed("tail", "cursor", "--cursor", "nonsense", url=server.url)
    assert (refused.code, refused.err) == (1, "sightline: malformed_cursor: not a cursor: prefix\n")


@pytest.mark.parametrize("end", ["drained", "killed"])
def test_watching_goes_on_over_a_restart(tmp_path: Path, end: str) -> None:
    with serving(tmp_path) as first:
        first.json("PUT", "/v1/sessions/s", {})
        first.json("POST", "/v1/sessions/s/turns", {"input": "echo before"}, Prefer="wait=20")
        with tailing(tmp_path, first.url, "s", "--json") as process:
            stream = frames(process)
            assert [next(stream)["type"], next(stream)["type"]] == ["observation", "caught_up"]
            if end == "drained":
                assert first.stop() == 0
                assert next(stream)["type"] == "goodbye"
            else:
                first.process.kill()
                first.ended()
            with serving(tmp_path, port=first.port) as second:
                second.json("POST", "/v1/sessions/s/turns", {"input": "echo after"}, Prefer="wait=20")

                seen = [next(stream)]
                while seen[-1].get("kind") != "committed" and "after" not in json.dumps(seen[0]):
                    seen.append(next(stream))

                assert seen[0]["type"] == "gap"
                second.http.delete("/v1/sessions/s")
                assert [frame["type"] for frame in stream][-1] == "goodbye"
                assert process.wait(20) == 0
                assert process.stderr is not None
                said = process.stderr.read()
                assert "Traceback" not in said
                assert ("reconnecting" in said) or end == "drained"


def test_a_session_deleted_while_nobody_could_see_it_ends_the_watch(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        first.json("PUT", "/v1/sessions/s", {})
        with tailing(tmp_path, first.url, "s", "--json") as process:
            assert next(frames(process))["type"] == "observation"
            first.process.kill()
            first.ended()
            with serving(tmp_path) as between:
                between.http.delete("/v1/sessions/s")
                assert between.stop() == 0
            with serving(tmp_path, port=first.port):
                assert process.wait(30) == 0
                assert process.stderr is not None
                assert process.stderr.read().splitlines()[-1].startswith("session_deleted")


def test_a_watch_ends_quietly_when_it_is_interrupted_or_nobody_reads_it(tmp_path: Path, server: Server) -> None:
    server.json("PUT", "/v1/sessions/quiet", {})
    with tailing(tmp_path, server.url, "quiet") as process:
        server.json("POST", "/v1/sessions/quiet/turns", {"input": "echo x"}, Prefer="wait=20")
        assert line(process.stdout) == "> echo x"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with tailing(tmp_path, server.url, "quiet") as process:
        assert line(process.stdout) == "> echo x"
        assert process.stdout is not None
        process.stdout.close()
        server.json("POST", "/v1/sessions/quiet/turns", {"input": "stream 500 size 200"}, Prefer="wait=20")
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


# processes


def external(server: Server, name: str, **body: object) -> None:
    server.json("POST", "/v1/processes", {"kind": "external", "process_id": name, **body})


def report(server: Server, name: str, verb: str, **body: object) -> None:
    server.json("POST", f"/v1/processes/{name}/{verb}", body)


def test_processes_are_listed(typed: Prompt, server: Server) -> None:
    server.json("PUT", "/v1/sessions/lister", {})
    external(server, "one", session_id="lister", descriptor={"label": "the one\x1b[2J"})
    external(server, "two", session_id="lister", input={"name": "print"})
    external(server, "three")
    report(server, "one", "events", event_type="progress", payload={"done": 1})
    report(server, "one", "cancel")
    report(server, "two", "complete", output=2)

    everything = typed("processes", url=server.url)
    seen = typed("processes", "--session", "lister", url=server.url)

    assert everything.out.splitlines()[:3] == [
        "running    external     three",
        "completed  external     two  print",
        'cancelling external     one  {"done": 1}',
    ]
    assert seen.out.splitlines() == [
        'cancelling external     one  the one�[2J  {"done": 1}',
        "completed  external     two  print",
    ]
    ended = typed("processes", "--status", "completed", "--json", "--limit", "1", url=server.url)
    assert [json.loads(text)["process_id"] for text in ended.out.splitlines()] == ["two"]
    ended = typed("processes", "--session", "lister", "--status", "completed", url=server.url)
    assert ended.out.splitlines() == ["completed  external     two  print"]


def test_what_a_process_is_called_takes_one_short_line(typed: Prompt, server: Server) -> None:
    external(server, "long", input={"name": "x" * 5_000})
    external(server, "odd", input={"argv": 7, "input": {"a": 1}})

    listed = typed("processes", "--limit", "2", url=server.url)

    assert listed.out.splitlines() == [
        "running    external     odd  {'a': 1}",
        f"running    external     long  {'x' * 200}…",
    ]


def test_a_process_is_shown_with_its_log(typed: Prompt, server: Server) -> None:
    external(server, "shown")
    report(server, "shown", "events", event_type="progress", payload={"text": "x" * 500})

    running = typed("process", "shown", url=server.url)
    report(server, "shown", "fail", code="no_paper", message="the printer is empty")
    ended = typed("process", "shown", url=server.url)
    as_json = typed("process", "shown", "--json", url=server.url)

    assert running.code == 0
    first, second, event = running.out.splitlines()
    assert first.startswith("running    external     shown")
    assert re.fullmatch(r"begun \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, externally_owned, attempts: 0", second)
    assert re.fullmatch(r"    1 \S+ \S+ progress .{200}…", event)
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "failed: no_paper: the printer is empty")
    record, *events = map(json.loads, as_json.out.splitlines())
    assert (record["process_id"], [each["sequence"] for each in events]) == ("shown", [1, 2])
    assert typed("process", "nobody", url=server.url).err.startswith("sightline: process_not_found: ")
    assert typed("process", "no/body", url=server.url).code == 2


def test_a_process_is_followed_over_a_restart_until_it_has_ended(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        external(server, "p")
        report(server, "p", "events", event_type="progress", payload=1)
        with subprocess.Popen(
            [*SIGHTLINE, "process", "p", "--follow"],
            env=clean_environment(SIGHTLINE_URL=server.url, PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as follower:
            try:
                assert [line(follower.stdout).split()[-2:] for _ in range(3)][2] == ["progress", "1"]
                server.process.kill()
                server.ended()
                assert "asking again" in line(follower.stderr)
                with serving(tmp_path, port=server.port) as again:
                    report(again, "p", "events", event_type="progress", payload=2)
                    report(again, "p", "complete", output="done")
                    out, _ = follower.communicate(timeout=30)
                    assert (follower.returncode, out.splitlines()[-1]) == (0, 'completed: "done"')
                    assert [text.split()[0] for text in out.splitlines()[:-1]] == ["2", "3"]
            finally:
                follower.kill()


# migrate


def test_a_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    first = command("migrate", "--store", "sqlite:///deep/in/s.db", cwd=tmp_path)
    again = command("migrate", "--store", "sqlite:///deep/in/s.db", cwd=tmp_path)
    nothing = command("migrate", "--store", "memory:", cwd=tmp_path)

    assert (first.returncode, again.returncode, nothing.returncode) == (0, 0, 0)
    assert re.fullmatch(r"sqlite:///deep/in/s.db is at schema version \d+, was 0\n", first.stdout)
    assert re.fullmatch(r"sqlite:///deep/in/s.db is at schema version \d+\n", again.stdout)
    assert nothing.stdout == "memory: has no schema\n"
    with serving(tmp_path, "--store", "sqlite:///deep/in/s.db") as server:
        assert server.stop() == 0


def test_a_schema_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("not a database, " * 100)

    finished = command("migrate", "--store", "sqlite:///s.db", cwd=tmp_path)

    assert (finished.returncode, finished.stdout) == (1, "")
    [said] = finished.stderr.splitlines()
    assert "s.db" in said
