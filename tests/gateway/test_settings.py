"""Settings: one table, two ways to give each, and one line about whatever cannot be."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sightline_gateway.settings import (
    SETTINGS,
    Setting,
    Settings,
    SettingsError,
    add_flags,
    gateway_url,
    is_loopback,
    reference_markdown,
    resolve,
)

# A value for each setting that is not its default, as text and as what it stands for.
OTHER: dict[str, tuple[str, Any]] = {
    "agent": ("my.module:agent", "my.module:agent"),
    "host": ("127.0.0.2", "127.0.0.2"),
    "port": ("0", 0),
    "store": ("memory:", "memory:"),
    "replay": ("MEMORY:", "memory:"),
    "attachments": ("pictures", "pictures"),
    "role": ("web", "web"),
    "synchronous": ("normal", "NORMAL"),
    "replay_max_events": ("7", 7),
    "replay_max_age": ("0.5", 0.5),
    "replay_max_bytes": ("8", 8),
    "buffer_bytes": ("4096", 4096),
    "max_body": ("9", 9),
    "max_connections": ("10", 10),
    "max_subscriptions": ("10", 10),
    "max_queue": ("11", 11),
    "max_tasks": ("12", 12),
    "concurrency": ("12", 12),
    "session_lease": ("0.5", 0.5),
    "process_lease": ("1.5", 1.5),
    "command_output": ("65536", 65536),
    "turn_timeout": ("600", 600.0),
    "flush_window": ("0.02", 0.02),
    "max_attempts": ("1", 1),
    "poll_interval": ("0.01", 0.01),
    "retention": ("60", 60.0),
    "key_retention": ("61", 61.0),
    "drain_timeout": ("0", 0.0),
    "keep_alive": ("0.5", 0.5),
    "allow_origin": ("https://app.example", ("https://app.example",)),
    "allow_host": ("app.example", ("app.example",)),
    "allow_commands": ("true", True),
    "insecure_no_auth": ("true", True),
    "ws_impl": ("uvicorn", "uvicorn"),
    "ws_compression": ("true", True),
    "log_level": ("WARNING", "warning"),
}

BAD: dict[str, list[str]] = {
    "agent": ["", " "],
    "host": ["", "a b", "localhost:80", "http://localhost", "[::1", "::g"],
    "port": ["", "-1", "65536", "8700.0", "http", "+1", "１", "1_0", "9" * 5_000],
    "store": ["", "sqlite", "sqlite://", "sqlite:///", "sqlite:/x", "/tmp/x.db", "postgres://x", "memory"],
    "replay": ["", "redis://localhost", "memory"],
    "attachments": ["", " "],
    "role": ["", "worker"],
    "synchronous": ["OFF"],
    "replay_max_events": ["0", "-5", "1e3", "many"],
    "replay_max_age": ["0", "-1", "nan", "inf", "1_0", " 1", "1s", "1e2"],
    "replay_max_bytes": ["0", "1MB"],
    "buffer_bytes": ["0", "4095"],
    "max_body": ["0", "1.5"],
    "max_connections": ["0"],
    "max_subscriptions": ["0"],
    "max_queue": ["0"],
    "max_tasks": ["0"],
    "concurrency": ["0", "100001"],
    "session_lease": ["0", "0.09", "3601"],
    "process_lease": ["0", "0.09", "3601"],
    "command_output": ["-1", "1MB"],
    "turn_timeout": ["-1", "31536001"],
    "flush_window": ["-1", "10.1"],
    "max_attempts": ["0", "1001"],
    "poll_interval": ["0", "3601"],
    "retention": ["59", "-1"],
    "key_retention": ["59", "-1"],
    "drain_timeout": ["-1", "3601", "soon"],
    "keep_alive": ["0", "3601"],
    "allow_origin": [
        "",
        "*",
        "app.example",
        "https://",
        "https://app.example/",
        "https://*.example",
        "ftp://x",
        "null",
    ],
    "allow_host": ["", "*", "app.example:80", "https://app.example", "a b"],
    "allow_commands": ["maybe"],
    "insecure_no_auth": ["", "maybe", "2"],
    "ws_impl": ["", "wsproto"],
    "ws_compression": ["maybe"],
    "log_level": ["", "trace"],
}


def named(name: str) -> Setting:
    return next(setting for setting in SETTINGS if setting.name == name)


def parsed(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser, "serve")
    return vars(parser.parse_args(arguments))


def environment(name: str, raw: str) -> dict[str, str]:
    """The variable, and what else is needed to be allowed."""
    return {named(name).variable: raw}


def test_every_setting_has_a_row_and_every_row_a_test() -> None:
    names = [setting.name for setting in SETTINGS]
    assert names == list(Settings.__struct_fields__)
    assert names == list(OTHER) == list(BAD)


def test_without_flags_and_variables_everything_is_as_the_wire_says() -> None:
    assert resolve({}, {}) == Settings()
    wire = {
        "host": "127.0.0.1",
        "port": 8700,
        "store": "sqlite:///.sightline/sightline.db",
        "replay": "memory:",
        "role": "all",
        "replay_max_events": 2048,
        "replay_max_age": 120,
        "replay_max_bytes": 8_388_608,
        "buffer_bytes": 1_048_576,
        "max_body": 1_048_576,
        "max_queue": 1_000,
        "concurrency": 64,
        "max_attempts": 3,
        "poll_interval": 0.4,
        "retention": 86_400,
        "drain_timeout": 20,
    }
    assert {name: getattr(Settings(), name) for name in wire} == wire


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_can_be_given_by_its_variable(name: str) -> None:
    raw, value = OTHER[name]

    assert getattr(resolve({}, environment(name, raw)), name) == value


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_can_be_given_by_its_flag(name: str) -> None:
    raw, value = OTHER[name]
    flags = parsed(named(name).flag) if value is True else parsed(named(name).flag, raw)

    assert getattr(resolve(flags, {}), name) == value


SWITCHES = ("allow_commands", "insecure_no_auth", "ws_compression")


@pytest.mark.parametrize("name", [name for name in OTHER if name not in SWITCHES])
def test_a_flag_wins_over_its_variable_whatever_that_says(name: str) -> None:
    raw, value = OTHER[name]

    settings = resolve(parsed(named(name).flag, raw), environment(name, BAD[name][-1]))

    assert getattr(settings, name) == value


def test_a_switch_can_be_off_in_its_variable() -> None:
    for word in ("0", "false", "FALSE", "no"):
        assert resolve({}, {"SIGHTLINE_INSECURE_NO_AUTH": word}).insecure_no_auth is False


def test_several_values_come_by_several_flags_or_one_variable() -> None:
    flags = parsed("--allow-host", "a.example", "--allow-host", "[fd00::1]")
    assert resolve(flags, {}).allow_host == ("a.example", "fd00::1")
    variable = {"SIGHTLINE_ALLOW_ORIGIN": "https://a.example, http://b.example:81"}
    assert resolve({}, variable).allow_origin == ("https://a.example", "http://b.example:81")


@pytest.mark.parametrize(("name", "raw"), [(name, raw) for name, values in BAD.items() for raw in values])
def test_a_value_that_cannot_be_is_refused_in_one_line_that_names_where_it_came_from(name: str, raw: str) -> None:
    setting = named(name)
    with pytest.raises(SettingsError) as by_variable:
        resolve({}, environment(name, raw))

    assert str(by_variable.value).startswith(setting.variable + " must ")
    assert "\n" not in str(by_variable.value)
    assert len(str(by_variable.value)) < 400
    if name not in SWITCHES:
        with pytest.raises(SettingsError, match=f"^{setting.flag} must "):
            resolve({name: [raw] if setting.repeatable else raw}, {})


def test_one_bad_value_among_several_is_the_one_that_is_shown() -> None:
    with pytest.raises(SettingsError, match=r"^SIGHTLINE_ALLOW_HOST must .*, not 'x y'$"):
        resolve({}, {"SIGHTLINE_ALLOW_HOST": "a.example,x y,b.example"})


@pytest.mark.parametrize("variable", ["SIGHTLINE_PROT", "SIGHTLINE_", "SIGHTLINE_port", "SIGHTLINE_MAX_BODY_"])
def test_an_unknown_variable_is_refused_by_its_name(variable: str) -> None:
    for verb in ("serve", "migrate"):
        with pytest.raises(SettingsError, match=f"unknown environment variable {variable}$"):
            resolve({}, {variable: "1"}, verb)


def test_other_programs_variables_are_none_of_ours() -> None:
    assert resolve({}, {"PORT": "80", "SIGHT_LINE": "x", "sightline_port": "1", "SIGHTLINE_URL": "x"}) == Settings()


def test_a_command_reads_only_what_it_takes() -> None:
    shared = {"SIGHTLINE_STORE": "sqlite:///x.db", "SIGHTLINE_HOST": "0.0.0.0", "SIGHTLINE_PORT": "none"}

    assert resolve({}, shared, "migrate").store == "sqlite:///x.db"
    with pytest.raises(SettingsError):
        resolve({}, shared)


# Where to listen


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_word(host: str) -> None:
    assert is_loopback(resolve({"host": host}, {}).host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "sightline.example", "fe80::1", "localhost.example"])
def test_anything_else_is_refused_without_the_word(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^--host .* is not a loopback address: .*--insecure-no-auth"):
        resolve({"host": host}, {})
    with pytest.raises(SettingsError):
        resolve({}, {"SIGHTLINE_HOST": host, "SIGHTLINE_INSECURE_NO_AUTH": "false"})
    assert resolve({"host": host, "insecure_no_auth": True}, {}).host == host


# What is said about them


def test_the_reference_has_a_line_for_each() -> None:
    page = reference_markdown()
    for setting in SETTINGS:
        [row] = [line for line in page.splitlines() if f"`{setting.variable}`" in line]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 5
        assert setting.flag in cells[0]
        assert cells[4] == setting.sentence
        if setting.default not in (None, (), False):
            assert cells[2] == f"`{setting.default}`"


@pytest.mark.parametrize("verb", ["serve", "migrate"])
def test_the_help_of_a_command_has_its_flags_with_their_twins(verb: str) -> None:
    parser = argparse.ArgumentParser(prog="sightline")
    add_flags(parser, verb)
    text = " ".join(parser.format_help().split())
    for setting in SETTINGS:
        assert (f"[{setting.variable}]" in text) is (verb in setting.verbs)
        assert (f" {setting.flag} " in text) is (verb in setting.verbs)
        assert setting.sentence.endswith(".")


def test_the_clients_address_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTLINE_URL", raising=False)
    assert gateway_url() == "http://127.0.0.1:8700"
    monkeypatch.setenv("SIGHTLINE_URL", "http://localhost:1")
    assert gateway_url() == "http://localhost:1"


# As a process


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--port", "none"], {}, "--port must be a whole number from 0 to 65535, not 'none'"),
        ([], {"SIGHTLINE_PORT": "none"}, "SIGHTLINE_PORT must be a whole number from 0 to 65535, not 'none'"),
        ([], {"SIGHTLINE_PROT": "1"}, "unknown environment variable SIGHTLINE_PROT"),
        (["--host", "0.0.0.0"], {}, "--host 0.0.0.0 is not a loopback address"),
        (["--store", "a\nb"], {}, "--store must be sqlite:///PATH or memory:, not 'a\\nb'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], said: str
) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "sightline_gateway.cli", "serve", *arguments],
        cwd=tmp_path,
        env={"PATH": "", **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (finished.returncode, finished.stdout) == (2, "")
    [line] = finished.stderr.splitlines()
    assert line.startswith(f"sightline: {said}")
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize("arguments", [["--prot", "1"], ["--por", "1"], ["--port"], ["extra"]])
def test_flags_that_do_not_exist_are_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "sightline_gateway.cli", "serve", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (finished.returncode, finished.stdout) == (2, "")
    assert "Traceback" not in finished.stderr
    assert arguments[0] in finished.stderr
