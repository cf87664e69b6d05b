"""The repository as data: its files, and what its Python modules name, without importing one of them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "core" / "sightline", ROOT / "gateway" / "sightline_gateway")


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def tracked_files() -> list[Path]:
    """What a clone would hold: the files git has or would take; in an unpacked archive, all of them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        hidden = {".venv", ".sightline", ".bench", "__pycache__", "node_modules"}
        return sorted(path for path in ROOT.rglob("*") if path.is_file() and not hidden & set(path.parts))
    return sorted(path for name in listing.split("\0") if name and (path := ROOT / name).is_file())


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """`core/sightline/queue/model.py` is `sightline.queue.model`; an `__init__.py` is its package."""
    package = next(package for package in PACKAGES if path.is_relative_to(package))
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def names_used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every dotted name that starts at an import, spelled in full: (line, name).

    `from time import monotonic as now` makes both the import and a later `now()` a use of `time.monotonic`.
    A chain is reported once, at its full length: `datetime.datetime.now`, not its beginnings.
    """
    meaning: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                meaning[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                meaning[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    inner = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and node not in inner:
            first, dot, rest = _dotted(node).partition(".")
            if first in meaning:
                yield node.lineno, meaning[first] + dot + rest


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            before = _dotted(value)
            return f"{before}.{attr}" if before else ""
        case _:
            return ""


def within(name: str, *roots: str) -> bool:
    """Whether a dotted name is a root or lies below one: `os.environ.get` is within `os.environ`."""
    return any(name == root or name.startswith(root + ".") for root in roots)
