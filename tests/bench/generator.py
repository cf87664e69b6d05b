"""The load generator and the raw broadcaster: programs in C, made when they are first needed.

Why C: a server that writes four million events a second cannot be measured by a client that reads two.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.machine import LOAD_CORE
from tests.bench.measuring import Sample, Unavailable, Wrong
from tests.bench.processes import ROOT, Process, folder, output_of, running

__all__ = ["EVENT_BYTES", "compiler_version", "generate", "program"]

EVENT_BYTES = 200

_SOURCES = Path(__file__).parent / "load"
BUILT = ROOT / ".bench" / "c"
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
_PROGRAMS = {
    "load": ("load.c", "options.c", "observers.c", "publisher.c", "measures.c"),
    "rawcast": ("rawcast.c",),
}
_MOST_SECONDS = 300.0
_WRONGS = ("gaps", "doubles", "missing", "refused", "closed")


async def program(name: str) -> str:
    """The path of `load` or `rawcast`, as the sources are now. Raises Unavailable without a C compiler."""
    sources = [_SOURCES / file for file in _PROGRAMS[name]]
    built = await asyncio.to_thread(_built, name, sources)
    if not built.exists():
        compiler = _compiler()
        # Made aside and then moved: an interrupted compiler leaves nothing that looks finished.
        aside = built.with_suffix(".new")
        try:
            await output_of(compiler, *_FLAGS, "-o", str(aside), *map(str, sources))
        except ChildProcessError as error:
            raise Unavailable(f"{Path(compiler).name} does not compile tests/bench/load: {str(error)[-300:]}") from None
        await asyncio.to_thread(aside.rename, built)
    return str(built)


def _built(name: str, sources: Sequence[Path]) -> Path:
    content = b"".join(path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]")))
    BUILT.mkdir(parents=True, exist_ok=True)
    return BUILT / f"{name}-{hashlib.sha256(content + repr(_FLAGS).encode()).hexdigest()[:16]}"


def _compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise Unavailable("there is no C compiler (cc) on this machine, and the load generator is written in C")
    return found


async def compiler_version() -> dict[str, str]:
    """For the page; also sees that the generator can be made. Raises Unavailable."""
    await program("load")
    said = await output_of(_compiler(), "--version")
    return {"C compiler": said.splitlines()[0].split()[-1]}


async def generate(work: str, server: Process, *flags: str) -> Sample:
    """Let the generator do its work against that server, on the other core. Raises Unavailable; Wrong when events were
    lost, came twice or were refused.

    What it says is in `load.c`: rates a second, delays in milliseconds, processor time in microseconds.
    """
    command = (await program("load"), work, "--pids", ",".join(map(str, server.pids)), *flags)
    with folder() as place:
        async with running(*command, cwd=place, core=LOAD_CORE, speaks=True) as process:
            try:
                found: Sample = json.loads(await process.line(_MOST_SECONDS))
                await process.ended()
            except ChildProcessError as error:
                print(error, server.log[-2000:], sep="\n", file=sys.stderr)
                raise Wrong("the load generator gave up") from None
            said = process.log.partition("\n")[0].removeprefix("load: ")
    wrongs = {name: found[name] for name in _WRONGS if found[name]}
    if wrongs:
        counted = ", ".join(f"{count:,.0f} {name}" for name, count in wrongs.items())
        raise Wrong(f"{counted} ({said})" if said else counted)
    return found
