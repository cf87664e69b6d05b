"""`__all__` is exact: a package offers what it says it offers, and nobody takes from a module what it does not."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.repo.source import PACKAGES, module_name, parsed, python_files

FILES = {module_name(path): path for path in python_files(*PACKAGES)}


def declared(tree: ast.Module) -> list[str] | None:
    """The names in a literal `__all__`, or None where a module has none."""
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                return list(ast.literal_eval(value))
            case _:
                pass
    return None


def defined(tree: ast.Module) -> Iterator[str]:
    """Public names that are defined at the top of a module."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found: Iterable[str] = [name]
            case ast.Assign(targets=targets):
                found = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found = [name]
            case _:
                found = []
        yield from (name for name in found if not name.startswith("_"))


def taken(path: Path) -> Iterator[tuple[str, str]]:
    """What a module imports by name from our own modules: (module, name)."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module in FILES:
            yield from ((node.module, alias.name) for alias in node.names)


EXPORTS = {name: exports for name, path in FILES.items() if (exports := declared(parsed(path))) is not None}
PACKAGE_EXPORTS = {name: exports for name, exports in EXPORTS.items() if FILES[name].name == "__init__.py"}


def test_what_embedders_import_says_what_is_public() -> None:
    assert "sightline" in PACKAGE_EXPORTS


@pytest.mark.parametrize("package", PACKAGE_EXPORTS)
def test_a_package_hides_nothing_that_it_defines(package: str) -> None:
    # Imports need no look: ruff refuses one that is neither used nor in `__all__`.
    assert set(defined(parsed(FILES[package]))) - {"__version__"} <= set(EXPORTS[package])


@pytest.mark.parametrize("module", EXPORTS)
def test_every_name_in_all_is_there_once(module: str) -> None:
    names = EXPORTS[module]
    assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []
    assert len(names) == len(set(names))


def test_modules_take_from_each_other_only_what_is_offered() -> None:
    untold = [
        f"{importer} takes {name} from {module}"
        for importer, path in FILES.items()
        for module, name in taken(path)
        if module in EXPORTS and name not in EXPORTS[module] and f"{module}.{name}" not in FILES
    ]
    assert untold == []
