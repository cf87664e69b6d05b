"""What the pages say and name is there: links, paths, tests, routes, codes, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sightline.agents import demo as demo_module
from sightline_gateway.app import OPERATIONS
from sightline_gateway.cli import _parser
from sightline_gateway.http.service import LATER
from sightline_gateway.problems import CODES
from sightline_gateway.settings import SETTINGS
from tests.repo.source import ROOT, shown, tracked_files

README, CHANGELOG, DOCS = ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "docs"
PAGES = [README, CHANGELOG, ROOT / "web" / "client" / "README.md", *sorted(DOCS.glob("*.md"))]
SESSION = "/v1/sessions/{session_id}"
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=shown)
routed = pytest.mark.parametrize("page", [README, DOCS / "protocol.md"], ids=shown)


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return FENCE.sub("", text(page))


def spans(markdown: str) -> list[str]:
    """The pieces of code in a text, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", markdown)]


def fenced(page: Path, *languages: str) -> str:
    """The blocks of code in these languages, or all of them."""
    return "\n".join(block for language, block in FENCE.findall(text(page)) if language in languages or not languages)


def rows(markdown: str, first: str) -> list[list[str]]:
    """The rows of the table whose first heading is that."""
    table = re.search(rf"^\| ?{re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", markdown, re.MULTILINE)
    assert table is not None, f"there is no table that begins with {first!r}"
    lines = table[1].replace(r"\|", "\0").splitlines()
    return [[cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines]


# Links, paths and tests


@cache
def present() -> frozenset[str]:
    """Every file that a clone would hold, every folder of one, and every end of such a path."""
    files = [path.relative_to(ROOT) for path in tracked_files()]
    paths = {*files, *(folder for path in files for folder in path.parents)}
    return frozenset("/".join(path.parts[start:]) for path in paths for start in range(len(path.parts)))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        there = found.is_relative_to(ROOT) and found.exists() and (found == ROOT or shown(found) in present())
        if not there or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert not broken


@each_page
def test_every_path_that_is_named_is_there(page: Path) -> None:
    path = re.compile(r"(?:core|gateway|web|tests|docs)/[\w./-]*|\w[\w./-]*(?:\.(?:py|js|md|sql|toml)|/)")
    named = [span for span in spans(prose(page)) if path.fullmatch(span)]
    named += re.findall(r"^(\w\S*/)  ", fenced(page), re.MULTILINE)
    assert [name for name in named if name.rstrip("/") not in present()] == []


def functions(path: Path) -> set[str]:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return {name for file in files for name in re.findall(r"^(?:async )?def (\w+)\(", text(file), re.MULTILINE)}


def test_every_guarantee_is_held_by_tests_that_exist() -> None:
    """A test is in one of the files named with it; everything else that reads like a check is in the suites."""
    laws = text(DOCS / "guarantees.md").split("\n## ")[1:]
    checks = functions(ROOT / "core" / "sightline" / "testing" / "conformance")
    for law in laws:
        title, _, held_by = law.partition("\n")[0], *law.partition("**Held by**")[1:]
        named = spans(held_by)
        assert named, title
        tests = {name for span in named if span.endswith(".py") for name in functions(ROOT / span)}
        for span in named:
            if span.startswith("test_") and "." not in span:
                assert span in tests, title
            elif span.endswith("_…"):
                assert any(check.startswith(span[:-1]) for check in checks), (title, span)
            elif span.isidentifier():
                assert span in checks, title


def test_the_number_of_laws_is_the_one_promised() -> None:
    page = text(DOCS / "guarantees.md")
    assert page.count("\n## ") == 15
    assert "\nFifteen laws." in page


# Code and commands


def test_the_readmes_agent_is_the_example() -> None:
    (block,) = [block for language, block in FENCE.findall(text(README)) if language == "python"]
    _, _, code = text(DOCS / "examples" / "my_agent.py").partition("from __future__ import annotations\n\n")
    assert block == code


def test_the_agent_that_works_in_the_background_is_the_example() -> None:
    _, _, code = text(DOCS / "examples" / "background_agent.py").partition("from __future__ import annotations\n\n")
    assert f"```python\n{code}```" in text(DOCS / "standard-agent.md")


@each_page
def test_every_command_line_is_understood(page: Path) -> None:
    for line in re.findall(r"^[^#\n]*?(?<![\w.])sightline (\w.*)$", fenced(page, "sh", "console"), re.MULTILINE):
        _parser().parse_args(shlex.split(line, comments=True))


@each_page
def test_every_flag_is_one_of_ours(page: Path) -> None:
    ours = {setting.flag for setting in SETTINGS}
    named = {flag for span in spans(prose(page)) for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", span)}
    assert named <= ours


@each_page
def test_every_make_target_is_in_the_makefile(page: Path) -> None:
    named = re.findall(r"`make (\w+)|^ *make (\w+)", text(page), re.MULTILINE)
    targets = re.findall(r"^([\w-]+)(?: [\w-]+)*:", text(ROOT / "Makefile"), re.MULTILINE)
    assert {a or b for a, b in named} <= set(targets)


def test_the_demos_commands_are_those_it_understands() -> None:
    table = {row[0]: row[1] for row in rows(text(DOCS / "agents.md"), "input") if row[0] != "anything else"}
    forms = [form.strip("`") for form in table]
    assert [form.split()[0] for form in forms] == list(demo_module._COMMANDS)
    assert forms == [line.partition(" — ")[0] for line in demo_module._USAGE.splitlines()]
    tools = [span for span in spans(table["`tool NAME JSON`"]) if span.isidentifier()]
    assert tools == list(demo_module._TOOLS)


# The wire


def test_the_table_of_codes_is_the_gateways() -> None:
    page = {
        code.strip("`"): (int(status), int(close), retryable == "yes")
        for code, status, close, retryable, _ in rows(text(DOCS / "protocol.md"), "code")
    }
    assert page == {name: (code.status, code.close, code.retryable) for name, code in CODES.items()}


def routes(page: Path) -> Iterator[tuple[str, str]]:
    """(method, path) as the page names them: alone, and in requests that are to be tried. No method: not said."""
    for span in spans(prose(page)):
        match = re.fullmatch(r"(?:(GET|PUT|POST|DELETE) )?((?:…|/)[^ ?]+)(?:\?.*)?", span)
        if match and match[2] != "/v1" and not match[2].endswith("…"):
            yield match[1] or "", match[2].replace("…", SESSION)
    for line in fenced(page).replace("\\\n", " ").splitlines():
        for path in re.findall(r"""(?:8700|\$B|")(/[^\s"'?]+)""", line):
            method = re.search(r"-X (\w+)", line)
            yield method[1] if method else "POST" if " -d " in line else "GET", path


def serves(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{.*?\}", "[^/]+", template), path) is not None


@routed
def test_every_route_that_is_named_is_there_or_will_be(page: Path) -> None:
    known = {(operation.method, operation.path) for operation in OPERATIONS}
    known |= {(method, path) for path, methods in LATER for method in methods}
    named = list(routes(page))
    assert len(named) > 5
    unknown = [
        (method, path)
        for method, path in named
        if not any(method in ("", allowed) and serves(template, path) for allowed, template in known)
    ]
    assert not unknown


def test_the_protocol_names_every_route() -> None:
    named = set(routes(DOCS / "protocol.md"))
    missing = [
        (operation.method, operation.path)
        for operation in OPERATIONS
        if (operation.method, operation.path) not in named
        and not (operation.method == "GET" and ("", operation.path) in named)
    ]
    assert not missing


def test_the_protocols_list_of_what_answers_501_is_the_gateways() -> None:
    _, _, sentence = text(DOCS / "protocol.md").rpartition("answer 501:")
    everywhere, _, below = sentence.partition("below a session")
    named = {*spans(everywhere), *(f"{SESSION}/{span}" for span in spans(below))}
    assert named == {
        f"{path}…" if any(other == f"{path}/{{rest:path}}" for other, _ in LATER) else path
        for path, _ in LATER
        if not path.endswith("/{rest:path}")
    }


def test_the_readme_says_of_routes_truly_whether_they_are_there() -> None:
    table = rows(text(README), "")
    here, later = ([span for row in table for span in spans(row[column]) if span[0] == "/"] for column in (1, 2))
    assert here
    assert set(here) <= {operation.path for operation in OPERATIONS}
    assert later
    assert set(later) <= {path for path, _ in LATER}
