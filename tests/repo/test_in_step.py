"""Things said twice say the same: versions, commands, the pages that are generated, the process types."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from docs.draw_turn_machine import page
from sightline_gateway.settings import reference_markdown
from tests.repo.source import ROOT


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def version() -> str:
    return str(tomllib.loads(text("pyproject.toml"))["project"]["version"])


def test_the_changelog_is_about_this_version() -> None:
    versions = re.findall(r"^## \[?v?(\d+\.\d+\.\d+[\w.+-]*)", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert versions[:1] == [version()]


@pytest.mark.parametrize("package", sorted((ROOT / "web").rglob("package.json")), ids=lambda path: path.parent.name)
def test_a_javascript_package_has_the_same_version(package: Path) -> None:
    assert json.loads(package.read_text(encoding="utf-8")).get("version", version()) == version()


@pytest.mark.parametrize("command", ["make serve", "make test"])
def test_the_readme_names_the_command(command: str) -> None:
    assert command in text("README.md")


@pytest.mark.parametrize("target", ["check", "test"])
def test_ci_runs_what_a_developer_runs(target: str) -> None:
    loop = re.search(r"^for target in (.*); do$", text(".ci/run"), flags=re.MULTILINE)
    assert loop is not None
    assert target in loop[1].split()
    assert 'make "$target"' in text(".ci/run")
    assert re.search(rf"^{target}:", text("Makefile"), flags=re.MULTILINE)


def test_the_procfile_names_the_three_kinds_of_process() -> None:
    lines = [re.fullmatch(r"(\w+): (sightline \w+.*)", line) for line in text("Procfile").splitlines()]
    assert [line and line[1] for line in lines] == ["web", "worker", "release"]


def test_the_settings_page_is_generated_from_the_table() -> None:
    assert text("docs/settings.md").strip() == reference_markdown().strip(), "make docs writes it anew"


def test_the_drawing_of_the_turn_machine_is_current() -> None:
    assert text("docs/turn-machine.md").strip() == page(), "make docs draws it anew"
