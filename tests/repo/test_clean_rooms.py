"""Where time, chance and the environment may be read: the rooms that make every other one replayable."""

from __future__ import annotations

import ast

import pytest

from tests.repo.source import PACKAGES, ROOT, module_name, names_used, parsed, python_files, shown, within

TIME_AND_CHANCE = (
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.process_time",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "random",
    "uuid",
    "secrets",
    "os.urandom",
    "os.getrandom",
)
ENVIRONMENT = ("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv")


def uses(roots: tuple[str, ...], *, readers: set[str]) -> list[str]:
    return [
        f"{shown(path)}:{line} {name}"
        for path in python_files(*PACKAGES)
        if module_name(path) not in readers
        for line, name in names_used(parsed(path))
        if within(name, *roots)
    ]


def test_only_the_settings_read_the_environment() -> None:
    # What starts programs hands it on to them and reads nothing in it.
    readers = {"sightline_gateway.settings", "sightline.turn.groups"}
    assert uses(ENVIRONMENT, readers=readers) == []


def test_only_the_clock_and_the_ids_read_time_and_chance() -> None:
    assert uses(TIME_AND_CHANCE, readers={"sightline.clock", "sightline.ids"}) == []


def test_tests_sleep_only_where_real_processes_and_browsers_are_the_subject() -> None:
    real = (ROOT / "tests" / "chaos", ROOT / "tests" / "browser")
    sleeping = [
        f"{shown(path)}:{line}"
        for path in python_files(ROOT / "tests")
        if not any(path.is_relative_to(folder) for folder in real)
        for line, name in names_used(parsed(path))
        if name == "time.sleep"
    ]
    assert sleeping == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import time\ntime.monotonic()", "time.monotonic"),
        ("import time as t\nt.time()", "time.time"),
        ("from time import time_ns", "time.time_ns"),
        ("from datetime import datetime as d, UTC\nd.now(UTC)", "datetime.datetime.now"),
        ("import os\nos.environ['HOME']", "os.environ"),
        ("import os.path\nos.environ.get('HOME')", "os.environ.get"),
        ("def f():\n    import secrets\n    return secrets.token_hex()", "secrets.token_hex"),
    ],
)
def test_the_search_sees_through_aliases_and_nesting(code: str, name: str) -> None:
    assert name in [used for _, used in names_used(ast.parse(code))]


def test_the_search_is_not_fooled_by_attributes_of_the_same_name() -> None:
    code = "from sightline.clock import Clock\n\ndef f(clock: Clock, time: float): return clock.time() + time"
    assert [name for _, name in names_used(ast.parse(code)) if within(name, *TIME_AND_CHANCE)] == []
