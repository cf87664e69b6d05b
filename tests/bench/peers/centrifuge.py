"""Centrifuge: a library in Go for real-time messaging, on which the server Centrifugo is built."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.generator import compiler_version
from tests.bench.measuring import Unavailable
from tests.bench.peers.packages import unpacked_from_debian
from tests.bench.processes import environment, folder, free_port, output_of, running
from tests.bench.sides import Side, Stand, lines

__all__ = ["METHOD", "NAME", "centrifuge"]

NAME = "Centrifuge library, WebSocket"

METHOD = """\
- *Centrifuge* is a library in Go; of the server that is built on it, Centrifugo, there is no binary in Debian, on PyPI
  or on npm. It is the library of 2021 that Debian 12 has, in a small program that publishes what it reads from a
  socket, and keeps nothing. Not today's Centrifugo, then. It has one core (`GOMAXPROCS=1`)."""

_PROGRAM = Path(__file__).parent / "programs" / "centrifuge.go"
_GO = "1.19"
_PACKAGES = (
    "golang-github-centrifugal-centrifuge-dev",
    # The compiler, and all that the library stands on.
    f"golang-{_GO}-go",
    f"golang-{_GO}-src",
    "golang-github-beorn7-perks-dev",
    "golang-github-centrifugal-protocol-dev",
    "golang-github-cespare-xxhash-dev",
    "golang-github-fzambia-eagle-dev",
    "golang-github-fzambia-sentinel-dev",
    "golang-github-gogo-protobuf-dev",
    "golang-github-golang-protobuf-1-3-dev",
    "golang-github-gomodule-redigo-dev",
    "golang-github-google-uuid-dev",
    "golang-github-gorilla-websocket-dev",
    "golang-github-igm-sockjs-go-dev",
    "golang-github-mna-redisc-dev",
    "golang-github-prometheus-client-golang-dev",
    "golang-github-prometheus-client-model-dev",
    "golang-github-prometheus-common-dev",
    "golang-github-prometheus-procfs-dev",
    "golang-golang-x-sys-dev",
    "golang-google-protobuf-dev",
    "golang-protobuf-extensions-dev",
)
_HELLO = '{"id":1,"params":{ }}\\n{"id":2,"method":1,"params":{"channel":"{}"}}'


def centrifuge() -> Side:
    @asynccontextmanager
    async def stand(channels: int) -> AsyncIterator[Stand]:
        program, _ = await _built()
        port, ingest = free_port(), free_port()
        with folder() as place:
            async with running(
                *(program, str(port), str(ingest)), cwd=place, env=environment(GOMAXPROCS="1"), speaks=True
            ) as process:
                await process.line()
                watch = ("--port", str(port), "--path", "/", "--hello", _HELLO, "--await", '"id":2')
                yield Stand(process, watch, lines(ingest))

    async def prepare() -> dict[str, str]:
        _, version = await _built()
        return {"Centrifuge": version, **await compiler_version()}

    return Side(NAME, stand, prepare)


async def _built() -> tuple[str, str]:
    """The program, and the library's version. Raises Unavailable."""
    root, version = await unpacked_from_debian(*_PACKAGES)
    source = await asyncio.to_thread(_PROGRAM.read_bytes)
    program = root / f"centrifuge-{hashlib.sha256(source).hexdigest()[:16]}"
    if not await asyncio.to_thread(program.exists):
        print("  compiling Centrifuge", file=sys.stderr, flush=True)
        go = root / "usr" / "lib" / f"go-{_GO}"
        settings = (
            *(f"GOROOT={go}", f"GOPATH={root / 'usr' / 'share' / 'gocode'}", f"GOCACHE={root / 'cache'}"),
            *("GO111MODULE=off", "GOFLAGS=", "CGO_ENABLED=0"),
        )
        try:
            await output_of("env", *settings, str(go / "bin" / "go"), "build", "-o", str(program), str(_PROGRAM))
        except ChildProcessError as error:
            print(error, file=sys.stderr)
            raise Unavailable("Go does not compile the program with Centrifuge") from None
    return str(program), version
