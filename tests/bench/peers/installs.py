"""Where peers live: a virtual environment for each below `.bench`, made once; and the servers they need."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

from tests.bench.measuring import Unavailable
from tests.bench.processes import ROOT, output_of

__all__ = ["environment_of", "install", "postgresql_folder", "redis_server", "versions"]

_FOLDER = ROOT / ".bench" / "venvs"


def environment_of(peer: str) -> Path:
    """The folder with the peer's executables."""
    return _FOLDER / peer / "bin"


async def install(peer: str, *requirements: str) -> None:
    """Make the peer's environment, if it is not there with exactly these. Raises Unavailable."""
    place = _FOLDER / peer
    stamp = place / "installed"
    wanted = "\n".join(requirements)
    if await asyncio.to_thread(_text, stamp) == wanted:
        return
    print(f"  installing {', '.join(requirements)}", file=sys.stderr, flush=True)
    pip = (str(place / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    try:
        await output_of(sys.executable, "-m", "venv", "--clear", str(place))
        await output_of(*pip, "install", *requirements)
    except ChildProcessError as error:
        print(error, file=sys.stderr)
        raise Unavailable(f"pip could not install {', '.join(requirements)}") from None
    await asyncio.to_thread(stamp.write_text, wanted)


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


async def versions(peer: str, *packages: str) -> dict[str, str]:
    """Of packages in the peer's environment."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    said = await output_of(str(environment_of(peer) / "python"), "-c", code, *packages)
    return dict(zip(packages, said.split(), strict=True))


async def redis_server() -> tuple[str, dict[str, str]]:
    """The server's executable and its version. Raises Unavailable."""
    found = shutil.which("redis-server")
    if found is None:
        raise Unavailable("redis-server is not on this machine")
    return found, {"Redis": _first_version(await output_of(found, "--version"))}


async def postgresql_folder() -> tuple[Path, dict[str, str]]:
    """The folder of the newest server's executables and its version. Raises Unavailable.

    Debian keeps them off the path, in a folder for each version.
    """
    found = await asyncio.to_thread(_postgres)
    if found is None:
        raise Unavailable("the PostgreSQL server is not on this machine")
    return found.parent, {"PostgreSQL": _first_version(await output_of(str(found), "--version"))}


def _postgres() -> Path | None:
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if kept:
        return kept[-1]
    on_path = shutil.which("postgres")
    return Path(on_path).resolve() if on_path else None


def _first_version(text: str) -> str:
    match = re.search(r"\d+(\.\d+)+", text)
    return match[0] if match else "?"
