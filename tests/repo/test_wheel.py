"""The wheel works without the source tree: built once, installed into a fresh environment, served from there.

The fresh environment borrows the dependencies of the one that runs the tests: a `.pth` file names its folder.
The editable installation in there is not seen, because `.pth` files inside a borrowed folder are not read.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.repo.source import ROOT

STATIC = ("client", "console")


def run(*command: str | Path, cwd: Path) -> str:
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # With the build backend at hand nothing is downloaded.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    run(*pip, *isolation, "--wheel-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder far from the source tree with a virtual environment `venv` that holds the wheel."""
    folder = tmp_path_factory.mktemp("home")
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_the_wheel_holds_the_packages_and_every_file_for_the_browser(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"sightline_gateway/web/{path.relative_to(ROOT / 'web').as_posix()}"
        for folder in STATIC
        for path in (ROOT / "web" / folder).rglob("*")
        if path.is_file()
    }
    assert expected
    assert expected <= inside
    assert {"sightline/__init__.py", "sightline/py.typed", "sightline_gateway/__init__.py"} <= inside
    assert {name.partition("/")[0] for name in inside if ".dist-info/" not in name} == {
        "sightline",
        "sightline_gateway",
    }


def test_the_wheel_holds_every_statement_and_script_of_the_stores(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    core = ROOT / "core"
    data = [path for suffix in ("sql", "lua") for path in core.rglob(f"*.{suffix}")]
    assert {path.relative_to(core).as_posix() for path in data} <= inside


def test_the_installed_packages_are_the_wheels_own(home: Path) -> None:
    code = "import sightline, sightline_gateway; print(sightline.__file__, sightline_gateway.__file__)"
    files = run(home / "venv" / "bin" / "python", "-c", code, cwd=home).split()
    assert all(Path(file).is_relative_to(home / "venv") for file in files)


@pytest.mark.parametrize("verb", ["serve", "send", "tail", "sessions", "migrate"])
def test_a_verb_explains_itself(home: Path, verb: str) -> None:
    assert "usage" in run(home / "venv" / "bin" / "sightline", verb, "--help", cwd=home).lower()


def test_the_installed_server_serves_the_console(home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTLINE_", "PYTHON"))}
    command = [str(home / "venv" / "bin" / "sightline"), "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().removeprefix("listening on ").strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address + "/", timeout=10) as page:
                assert page.headers.get_content_type() == "text/html"
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
