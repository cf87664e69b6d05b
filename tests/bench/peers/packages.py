"""Peers from Debian or npm: found on this machine, or unpacked below `.bench` without being installed."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

from tests.bench.measuring import Unavailable
from tests.bench.processes import ROOT, output_of

__all__ = ["from_debian", "from_npm", "npm_folder", "unpacked_from_debian"]

DEBIAN = ROOT / ".bench" / "debian"
NPM = ROOT / ".bench" / "npm"


async def from_debian(path: str, *packages: str) -> tuple[Path, str]:
    """A file of Debian packages, and the first package's version. Raises Unavailable.

    If it is not where the packages would install it, they are fetched and unpacked; nothing of them is run for that,
    and the system stays as it is.
    """
    installed = Path(path)
    if await asyncio.to_thread(installed.exists):
        if not shutil.which("dpkg-query"):
            return installed, "?"
        return installed, _upstream(await output_of("dpkg-query", "--showformat", "${Version}", "--show", packages[0]))
    place, version = await unpacked_from_debian(*packages)
    unpacked = place / path.lstrip("/")
    if not await asyncio.to_thread(unpacked.exists):
        raise Unavailable(f"{path} is not in Debian's {', '.join(packages)}")
    return unpacked, version


async def unpacked_from_debian(*packages: str) -> tuple[Path, str]:
    """The folder in which these packages are unpacked, as `/` would be, and the first one's version. Raises
    Unavailable.
    """
    place = DEBIAN / packages[0]
    stamp = place / "unpacked"
    if not await asyncio.to_thread(stamp.exists):
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise Unavailable(f"{packages[0]} is not on this machine, which is no Debian that it could be fetched for")
        print(f"  fetching {packages[0]} from Debian", file=sys.stderr, flush=True)
        await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
        try:
            await output_of("apt-get", "download", "--quiet", *packages, cwd=place)
            for archive in await asyncio.to_thread(lambda: sorted(place.glob("*.deb"))):
                await output_of("dpkg-deb", "--extract", str(archive), str(place))
        except ChildProcessError as error:
            print(error, file=sys.stderr)
            raise Unavailable(f"apt-get could not download {packages[0]} and what it needs") from None
        await asyncio.to_thread(stamp.touch)
    archives = await asyncio.to_thread(lambda: sorted(place.glob(f"{packages[0]}_*.deb")))
    return place, _upstream(archives[-1].name.split("_")[1])


def _upstream(version: str) -> str:
    """Without the epoch, as a package's file name writes it too, and without Debian's own count."""
    return re.sub(r"^\d+(:|%3a)", "", version)


def npm_folder(peer: str) -> Path:
    """Where the peer's packages are, in `node_modules`."""
    return NPM / peer


async def from_npm(peer: str, *packages: str) -> dict[str, str]:
    """Packages, each `NAME@VERSION`, and Node's version and theirs. Raises Unavailable."""
    node = shutil.which("node")
    if node is None or not shutil.which("npm"):
        raise Unavailable("Node.js and npm are not on this machine")
    place = npm_folder(peer)
    stamp = place / "installed"
    wanted = "\n".join(packages)
    if not await asyncio.to_thread(lambda: stamp.exists() and stamp.read_text() == wanted):
        print(f"  installing {', '.join(packages)}", file=sys.stderr, flush=True)
        await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
        quiet = ("--silent", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts")
        try:
            await output_of("npm", "install", "--prefix", str(place), *quiet, *packages)
        except ChildProcessError as error:
            print(error, file=sys.stderr)
            raise Unavailable(f"npm could not install {', '.join(packages)}") from None
        await asyncio.to_thread(stamp.write_text, wanted)
    named = dict(package.rsplit("@", 1) for package in packages)
    return {"Node.js": (await output_of(node, "--version")).lstrip("v"), **named}
