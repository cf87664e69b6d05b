"""The shape of the house: module names that say something, modules that fit a head, nothing private."""

from __future__ import annotations

import re
from pathlib import Path

from tests.repo.source import ROOT, shown, tracked_files

CODE = {".py", ".js", ".mjs", ".css"}
ROOMS = ("core", "gateway", "web")
HARD_LIMIT = 600
SOFT_LIMIT = 400
# Names that say nothing about what is inside, singular or plural, decorated or not: `_utils`, `http_helpers`.
EMPTY_NAME = re.compile(r"(^|[_-])(util|utilit|helper|common|misc|base|manager|handler)(s|y|ies)?$")
# Absolute paths into somebody's machine, and the folders that editors and private tools leave in one.
PRIVATE = re.compile(r"(?<![\w.~-])/(home|root|work|workspace|Users)/[\w.]|(?<!\w)[.](idea|library|vscode)\b")


def code_in(*folders: str) -> list[Path]:
    return [path for path in tracked_files() if path.suffix in CODE and path.relative_to(ROOT).parts[0] in folders]


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_has_an_empty_name() -> None:
    named = [
        shown(path)
        for path in code_in(*ROOMS, "tests")
        if any(EMPTY_NAME.search(part) for part in path.relative_to(ROOT).with_suffix("").parts)
    ]
    assert named == []


def test_no_module_is_longer_than_the_hard_limit() -> None:
    assert {shown(path): length(path) for path in code_in(*ROOMS) if length(path) > HARD_LIMIT} == {}


def test_modules_beyond_the_soft_limit_are_the_exception() -> None:
    modules = code_in(*ROOMS)
    long = {shown(path): length(path) for path in modules if length(path) > SOFT_LIMIT}
    assert len(long) <= len(modules) // 10, long


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = []
    for path in tracked_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{shown(path)}:{number}" for number, line in enumerate(lines, 1) if PRIVATE.search(line)]
    assert found == []
