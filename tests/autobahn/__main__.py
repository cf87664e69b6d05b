"""Autobahn's fuzzing client against both classes that speak WebSocket: `make autobahn`.

The suite is a program for Python 2.7, which PyPI's index still has the parts of and Debian 11 the interpreter. Both are
fetched once, unpacked below `.bench/autobahn`, and installed nowhere. A case has failed unless it is OK, informational,
or non-strict, which is how the suite calls an error that was told a moment later or earlier than it could have been.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.autobahn.echo import WAYS

HOME = Path(".bench") / "autobahn"
EVERYTHING = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*")
GOOD = {"OK", "INFORMATIONAL", "NON-STRICT"}
OURS = ("lean", "detached")
"""What uvicorn's own class does wrong is shown, but it is not ours to put right."""

SUITE = "bullseye"
DEBS = ("python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libssl1.1")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
WHEELS = (
    "six==1.16.0",
    "constantly==15.1.0",
    "incremental==21.3.0",
    "Automat==20.2.0",
    "hyperlink==21.0.0",
    "attrs==21.4.0",
    "idna==2.10",
    "typing==3.10.0.0",
    "setuptools==44.1.1",
    "Jinja2==2.11.3",
    "MarkupSafe==1.1.1",
)
SOURCES = {
    "Twisted==20.3.0": "src/twisted",
    "zope.interface==5.5.2": "src/zope",
    "txaio==2.1.0": "txaio",
    "autobahn==0.10.9": "autobahn",
    "autobahntestsuite==0.8.2": "autobahntestsuite",
}
# TLS and the suite's other tools are not wanted, and what they import is not there.
CLIENT = """
import json, sys, types, unittest
import twisted.internet
sys.modules["unittest2"] = unittest
sys.modules["twisted.internet.ssl"] = twisted.internet.ssl = types.ModuleType("ssl")
from twisted.internet import reactor
from autobahntestsuite.case import case12_x_x as compressed
from autobahntestsuite.fuzzing import startClient
for case in compressed.Case12_X_X + compressed.Case13_X_X:
    case.COUNT = int(sys.argv[2])
startClient(json.loads(sys.argv[1]))
reactor.run()
"""


def install(home: Path) -> None:
    """Fetch and unpack what is not there. Linux on amd64, with Debian's tools."""
    if (home / "complete").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    print(f"fetching the suite into {home}", flush=True)
    _install_python(home)
    _install_packages(home)
    (home / "complete").touch()


def _install_python(home: Path) -> None:
    apt = home.resolve() / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    sites = _run("apt-get", "indextargets", "--format", "$(SITE)").split()
    main = next(site for site in sites if not site.endswith("-security") and site.rstrip("/").endswith("/debian"))
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {main} {SUITE} main\n", encoding="utf-8")
    options = [
        f"-o{name}={value}"
        for name, value in {
            "Dir::Etc::sourcelist": apt / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": apt / "lists",
            "Dir::State::status": apt / "status",
            "Dir::Cache": apt / "cache",
            "APT::Sandbox::User": "",
        }.items()
    ]
    _run("apt-get", "-qq", *options, "update")
    _run("apt-get", "-qq", *options, "download", *DEBS, cwd=apt / "debs")
    for deb in (apt / "debs").glob("*.deb"):
        _run("dpkg-deb", "-x", str(deb), str(home / "root"))


def _install_packages(home: Path) -> None:
    wheels, sources, site = home / "wheels", home / "sources", home / "site"
    site.mkdir()
    download = (sys.executable, "-m", "pip", "download", "-q", "--no-deps")
    python2 = ("--python-version=27", "--implementation=cp", "--abi=cp27mu", "--abi=none")
    platforms = ("--platform=manylinux1_x86_64", "--platform=any", "--only-binary=:all:")
    _run(*download, *python2, *platforms, "-d", str(wheels), *WHEELS)
    _run(*download, "--no-binary=:all:", "-d", str(sources), *SOURCES)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    for archive_path in list(sources.glob("*.tar.*")):
        with tarfile.open(archive_path) as tar:
            tar.extractall(sources, filter="data")
    for requirement, package in SOURCES.items():
        folder = sources / requirement.replace("==", "-") / package
        shutil.copytree(folder, site / folder.name)
    (site / "zope" / "__init__.py").touch()


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} … failed:\n{done.stderr or done.stdout}")
    return done.stdout


@contextmanager
def echoing(way: str) -> Iterator[int]:
    """A server that echoes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with subprocess.Popen([sys.executable, "-m", "tests.autobahn.echo", str(port), way]) as process:
        try:
            while process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            yield port
        finally:
            process.terminate()


def fuzz(home: Path, ways: Sequence[str], cases: Sequence[str], messages: int) -> bool:
    """Run these cases on each of the ways at once; whether none of ours failed."""
    reports = home / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    root = home.resolve() / "root" / "usr"
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(root / "lib" / "x86_64-linux-gnu"),
        "PYTHONHOME": str(root),
        "PYTHONPATH": str(home.resolve() / "site"),
        "PURE_PYTHON": "1",
    }
    began = time.monotonic()
    with ExitStack() as stack:
        clients = []
        for way in ways:
            asked = {
                "outdir": str(reports.resolve() / way),
                "servers": [{"agent": way, "url": f"ws://127.0.0.1:{stack.enter_context(echoing(way))}"}],
                "cases": list(cases),
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            command = [str(root / "bin" / "python2.7"), "-c", CLIENT, json.dumps(asked), str(messages)]
            log = stack.enter_context((home / f"{way}.log").open("w"))
            clients.append(stack.enter_context(subprocess.Popen(command, env=environment, stdout=log, stderr=log)))
        if {client.wait() for client in clients} != {0}:
            raise SystemExit(f"a fuzzing client failed: see the logs in {home}")
    failed = {way: _summary(way, _verdicts(reports / way, way)) for way in ways}
    print(f"{time.monotonic() - began:.0f} s; details are in {reports}")
    return not any(failed[way] for way in ways if way in OURS)


def _verdicts(reports: Path, way: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((reports / "index.json").read_text(encoding="utf-8"))[way]
    return found


def _summary(way: str, verdicts: dict[str, dict[str, str]]) -> list[str]:
    """Print how often each verdict was given, and the failures; these cases."""
    counts = Counter(verdict["behavior"] for verdict in verdicts.values())
    print(f"{way}: {len(verdicts)} cases, " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    failed = [case for case, verdict in verdicts.items() if not {verdict["behavior"], verdict["behaviorClose"]} <= GOOD]
    for case in failed:
        print(f"  {case}: {verdicts[case]['behavior']}, at the close {verdicts[case]['behaviorClose']}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="make autobahn")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"some of {', '.join(WAYS)}")
    parser.add_argument("--cases", default=",".join(EVERYTHING), help="for example 1.*,7.9.1")
    parser.add_argument(
        "--messages", type=int, default=1000, help="of each case with compression; the suite's own: 1000"
    )
    given = parser.parse_args()
    install(HOME)
    sys.exit(not fuzz(HOME, given.ways.split(","), given.cases.split(","), given.messages))


if __name__ == "__main__":
    main()
