"""What only a real connection shows: bodies that are cut off, requests that stay half, bytes that are no HTTP."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.inside import Json
from tests.gateway.processes import Server, serving

MAX_BODY = 65_536
BODY = b'{"input": "echo hi"}'


@pytest.fixture(scope="module", params=["lean", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--store", "memory:", "--max-body", str(MAX_BODY), "--ws-impl", request.param) as server:
        server.json("PUT", "/v1/sessions/s", {})
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


class Connection:
    """One connection, byte by byte."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self._received = b""

    def send(self, *pieces: bytes) -> None:
        self.plain.sendall(b"".join(pieces))

    def request(self, line: str, body: bytes = b"", **headers: str) -> None:
        """A request's head and body, with a length unless one is given."""
        named = {"Host": "localhost", "Content-Type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body and "Transfer-Encoding" not in named:
            named.setdefault("Content-Length", str(len(body)))
        fields = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.send(f"{line} HTTP/1.1\r\n{fields}\r\n".encode(), body)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            more = self.plain.recv(65_536)
            assert more, f"the connection ended after {self._received!r}"
            self._received += more
        found, _, self._received = self._received.partition(mark)
        return found

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next response."""
        status, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields)
        return int(status.split(" ")[1]), headers

    def response(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = self.head()
        length = int(headers.get("content-length", "0"))
        while len(self._received) < length:
            more = self.plain.recv(65_536)
            assert more
            self._received += more
        body, self._received = self._received[:length], self._received[length:]
        return status, headers, body

    def problem(self) -> Json:
        status, headers, body = self.response()
        assert headers["content-type"] == "application/problem+json"
        problem: Json = json.loads(body)
        assert problem["status"] == status
        return problem

    def is_quiet(self) -> bool:
        """Whether nothing has come."""
        return not self._received and not select.select([self.plain], [], [], 0)[0]

    def is_ended(self) -> bool:
        """Wait for the end; false when something else comes first."""
        with contextlib.suppress(ConnectionResetError):
            return not self._received and self.plain.recv(1) == b""
        return True


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    with socket.create_connection((server.host, server.port), timeout=20) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        yield Connection(plain)


def test_a_connection_without_a_request_is_closed_after_its_time(tmp_path: Path) -> None:
    with serving(tmp_path, "--store", "memory:", "--keep-alive", "0.1") as server, connected(server) as connection:
        connection.request("GET /healthz")
        assert connection.head()[0] == 200
        while connection.plain.recv(65_536):
            pass  # the rest of the answer, then the end
        server.stop()


def works(server: Server) -> bool:
    return server.http.get("/healthz").status_code == 200


# Bodies over the limit


def test_a_length_over_the_limit_is_refused_before_a_byte_of_the_body(server: Server) -> None:
    with connected(server) as connection:
        connection.request("POST /v1/sessions/s/turns", Content_Length=str(MAX_BODY + 1))

        assert connection.problem()["code"] == "body_too_large"
        assert connection.is_ended()


def test_who_asks_before_sending_too_much_is_not_asked_for_it(server: Server) -> None:
    with connected(server) as connection:
        connection.request("POST /v1/sessions/s/turns", Content_Length="10000000", Expect="100-continue")

        assert connection.head()[0] == 413


def test_who_asks_before_sending_is_told_to_go_on(server: Server) -> None:
    with connected(server) as connection:
        connection.request("POST /v1/sessions/s/turns", Content_Length=str(len(BODY)), Expect="100-continue")
        assert connection.head()[0] == 100

        connection.send(BODY)

        assert connection.response()[0] == 202


def test_a_body_without_a_length_is_cut_off_while_it_comes(server: Server) -> None:
    chunk = b"%x\r\n%b\r\n" % (60_000, b" " * 60_000)
    sent = 0
    with connected(server) as connection:
        connection.request("POST /v1/sessions/s/turns", Transfer_Encoding="chunked")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012 - it is the loop that ends so
            while sent < 1_000_000_000:
                connection.send(chunk)
                sent += len(chunk)

        assert connection.problem()["code"] == "body_too_large"
    # What got away is what the buffers between us hold, not what a reader took.
    assert sent < 20_000_000
    assert works(server)


def test_a_refusal_comes_while_the_body_is_still_under_way(server: Server) -> None:
    with connected(server) as connection:
        connection.request("POST /v1/sessions/s/turns", Transfer_Encoding="chunked")
        connection.send(b"%x\r\n%b\r\n" % (MAX_BODY + 1, b" " * (MAX_BODY + 1)))

        assert connection.problem()["code"] == "body_too_large"
        assert connection.is_ended()


def test_a_body_in_small_chunks_is_read(server: Server) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    with connected(server) as connection:
        connection.request("POST /v1/sessions/s/turns", chunks, Transfer_Encoding="chunked")

        assert connection.response()[0] == 202


def test_a_body_that_nobody_wants_is_not_read(server: Server) -> None:
    for line in ("POST /nowhere", "PATCH /v1/sessions", "GET /healthz", "POST /v1/sessions/s/turns?x=1"):
        with connected(server) as connection:
            connection.request(line, Content_Length="1000000000")

            status, headers, _ = connection.response()

            assert status in (200, 400, 404, 405)
            assert headers["connection"] == "close"
            assert connection.is_ended()


# Half requests


def test_bodies_that_do_not_come_keep_nobody_else_waiting(server: Server) -> None:
    with ExitStack() as stack:
        halves = [stack.enter_context(connected(server)) for _ in range(100)]
        for connection in halves:
            connection.request("POST /v1/sessions/s/turns", Content_Length=str(len(BODY)))
            connection.send(BODY[:5])

        batch = server.json("POST", "/v1/sessions/s/turns", {"input": "echo meanwhile"}, Prefer="wait=20")

        assert batch["state"] == "completed"
        assert all(connection.is_quiet() for connection in halves)
        halves[0].send(BODY[5:])
        assert halves[0].response()[0] == 202


def test_heads_that_do_not_come_keep_nobody_else_waiting(server: Server) -> None:
    with ExitStack() as stack:
        halves = [stack.enter_context(connected(server)) for _ in range(100)]
        for connection in halves:
            connection.send(b"POST /v1/sessions/s/turns HTTP/1.1\r\nHost: local")

        assert works(server)
        assert all(connection.is_quiet() for connection in halves)


def test_a_client_that_leaves_in_mid_body_has_asked_for_nothing(server: Server) -> None:
    server.json("PUT", "/v1/sessions/left", {})
    for _ in range(10):
        with connected(server) as connection:
            connection.request("POST /v1/sessions/left/turns", Content_Length=str(len(BODY)))
            connection.send(BODY[:-1])

    assert server.json("GET", "/v1/sessions/left/queue?state=all") == {"batches": []}
    assert "Exception" not in server.log


def test_a_client_that_leaves_while_it_waits_leaves_its_work(server: Server) -> None:
    server.json("PUT", "/v1/sessions/away", {})
    with connected(server) as connection:
        connection.request("POST /v1/sessions/away/turns", b'{"input": "sleep 300"}', Prefer="wait=60")
        while not server.json("GET", "/v1/sessions/away/queue?state=all")["batches"]:
            pass

    batch = server.json("POST", "/v1/sessions/away/turns", {"input": "echo after"}, Prefer="wait=20")

    states = [found["state"] for found in server.json("GET", "/v1/sessions/away/queue?state=all")["batches"]]
    assert states == ["completed", "completed"]
    assert batch["state"] == "completed"


# One connection, several requests


def test_a_connection_stays_open_over_refusals(server: Server) -> None:
    with connected(server) as connection:
        for line, body, expected in [
            ("GET /v1/sessions/nobody", b"", 404),
            ("POST /v1/sessions/s/turns", b"{", 400),
            ("POST /v1/sessions/s/turns", b'{"input": 1}', 400),
            ("DELETE /healthz", b"", 405),
            ("GET /healthz", b"", 200),
        ]:
            connection.request(line, body)
            status, headers, _ = connection.response()
            assert (status, headers.get("connection")) == (expected, None)


def test_requests_sent_at_once_are_answered_in_order(server: Server) -> None:
    with connected(server) as connection:
        for name in ("one", "two", "three"):
            connection.request("GET /healthz", X_Request_Id=name)

        answers = [connection.response() for _ in range(3)]

    assert [(status, headers["x-request-id"]) for status, headers, _ in answers] == [
        (200, "one"),
        (200, "two"),
        (200, "three"),
    ]


def test_large_bodies_sent_one_after_the_other_are_each_their_own(server: Server) -> None:
    body = json.dumps({"input": "echo " + "x" * 50_000}).encode()
    with connected(server) as connection:
        for _ in range(4):
            connection.request("POST /v1/sessions/s/turns", body)
        assert [connection.response()[0] for _ in range(4)] == [202] * 4


def test_head_has_no_body(server: Server) -> None:
    with connected(server) as connection:
        connection.request("HEAD /v1/sessions/s")
        status, headers = connection.head()
        connection.request("HEAD /v1/sessions/s/events", Accept="text/event-stream")
        refused, _ = connection.head()

        assert status == 200
        assert int(headers["content-length"]) > 0
        assert refused == 405


# Bytes that are no request of ours


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        b"hello\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v1/sessions?\xff=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/caf\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_answered_by_the_parser(server: Server, raw: bytes) -> None:
    with connected(server) as connection:
        connection.send(raw)

        assert connection.head()[0] == 400
    assert works(server)


def test_a_request_without_a_host_or_with_two_is_refused(server: Server) -> None:
    for raw in (
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n",
    ):
        with connected(server) as connection:
            connection.send(raw)

            assert connection.problem()["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"x" * 50_000),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-More: " + b"x" * 50_000 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 50_000),
        (
            b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            b"X-Trailer: " + b"x" * 50_000 + b"\r\n",
        ),
    ],
    ids=["line", "headers", "header", "trailers"],
)
def test_a_head_without_end_is_cut_off(server: Server, begin: bytes, more: bytes) -> None:
    sent = 0
    with connected(server) as connection:
        connection.send(begin)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012 - it is the loop that ends so
            while sent < 1_000_000_000:
                connection.send(more)
                sent += len(more)
    assert sent < 20_000_000
    assert works(server)


# WebSockets before they are any

UPGRADE: dict[str, Any] = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"Origin": "https://evil.example"}, "origin_not_allowed"), ({"Host": "evil.example"}, "host_not_allowed")],
)
def test_a_foreign_handshake_is_answered_with_a_problem(server: Server, headers: dict[str, Any], code: str) -> None:
    with connected(server) as connection:
        connection.request("GET /v1/sessions/s/events", **UPGRADE, **headers)

        problem = connection.problem()

    assert (problem["status"], problem["code"]) == (403, code)


def test_a_handshake_of_our_own_page_is_accepted(server: Server) -> None:
    with connected(server) as connection:
        connection.request("GET /v1/sessions/s/events", **UPGRADE, Origin="http://localhost")

        assert connection.head()[0] == 101


def test_a_handshake_where_no_socket_is_finds_nothing(server: Server) -> None:
    with connected(server) as connection:
        connection.request("GET /v1/sessions", **UPGRADE)

        assert connection.problem()["code"] == "not_found"


# Elsewhere


def test_an_ipv6_address_is_shown_as_a_url_has_it(tmp_path: Path) -> None:
    with serving(tmp_path, "--store", "memory:", "--host", "::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert works(server)
        assert server.stop() == 0
