"""Every setting, in one table: name, kind, default with unit, one sentence.

Flags, environment, help and reference come from it. The only module that reads the environment. A flag wins over its
environment twin; unknown `SIGHTLINE_*` variables are refused, because a typo must not be silent.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Literal

from msgspec import Struct

__all__ = [
    "SETTINGS",
    "URL_VARIABLE",
    "Setting",
    "Settings",
    "SettingsError",
    "add_flags",
    "gateway_url",
    "is_loopback",
    "reference_markdown",
    "resolve",
]

Role = Literal["all", "web"]
Synchronous = Literal["FULL", "NORMAL"]
WsImpl = Literal["lean", "uvicorn"]


class Settings(Struct, frozen=True, kw_only=True):
    """The values one process runs with. Durations in seconds, sizes in bytes."""

    agent: str | None = None
    host: str = "127.0.0.1"
    port: int = 8700
    store: str = "sqlite:///.sightline/sightline.db"
    replay: str = "memory:"
    attachments: str | None = None
    role: Role = "all"
    synchronous: Synchronous = "FULL"
    replay_max_events: int = 2048
    replay_max_age: float = 120.0
    replay_max_bytes: int = 8_388_608
    buffer_bytes: int = 1_048_576
    max_body: int = 1_048_576
    max_connections: int = 10_000
    max_subscriptions: int = 1_000
    max_queue: int = 1_000
    max_tasks: int = 1_000
    concurrency: int = 64
    session_lease: float = 10.0
    process_lease: float = 30.0
    command_output: int = 1_048_576
    turn_timeout: float = 0.0
    flush_window: float = 0.0
    max_attempts: int = 3
    poll_interval: float = 0.4
    retention: float = 86_400.0
    key_retention: float = 2_592_000.0
    drain_timeout: float = 20.0
    keep_alive: float = 75.0
    allow_origin: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    allow_commands: bool = False
    insecure_no_auth: bool = False
    ws_impl: WsImpl = "lean"
    ws_compression: bool = False
    log_level: str = "info"


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line and names it."""


class Setting(Struct, frozen=True):
    """One row: `verbs` are the commands that take the flag."""

    name: str
    metavar: str
    read: Callable[[str], Any]
    sentence: str
    verbs: tuple[str, ...] = ("serve",)
    repeatable: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "SIGHTLINE_" + self.name.upper()

    @property
    def default(self) -> Any:
        return getattr(Settings(), self.name)


def _text(raw: str) -> str:
    if not raw.strip():
        raise ValueError("must not be empty")
    return raw


def _integer(low: int, high: int = 2**53) -> Callable[[str], int]:
    def read(raw: str) -> int:
        if not re.fullmatch(r"[0-9]{1,16}", raw) or not low <= int(raw) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(raw)

    return read


def _seconds(low: float, high: float = 31_536_000.0) -> Callable[[str], float]:
    def read(raw: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", raw) or not low <= float(raw) <= high:
            raise ValueError(f"must be seconds from {low:g} to {high:.0f}, fractions allowed")
        return float(raw)

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(raw: str) -> str:
        for choice in choices:
            if raw.lower() == choice.lower():
                return choice
        raise ValueError(f"must be one of {', '.join(choices)}")

    return read


def _switch(raw: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if raw.lower() not in words:
        raise ValueError("must be true or false")
    return words[raw.lower()]


def _store(raw: str) -> str:
    if raw == "memory:" or (raw.startswith("sqlite:///") and len(raw) > len("sqlite:///")):
        return raw
    raise ValueError("must be sqlite:///PATH or memory:")


def _origin(raw: str) -> str:
    if not re.fullmatch(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", raw):
        raise ValueError("must be http://HOST[:PORT] or https://HOST[:PORT]")
    return raw


def _host(raw: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]+", raw):
        return raw
    try:
        return str(ip_address(raw[1:-1] if raw.startswith("[") and raw.endswith("]") else raw))
    except ValueError:
        raise ValueError("must be a host name or an address, without a port") from None


_SHOWN = 200
_RUN = ("serve", "work")
_STORE = ("serve", "work", "migrate")

SETTINGS: tuple[Setting, ...] = (
    Setting("agent", "MODULE:ATTR", _text, "The agent that runs turns; without it the demo agent.", _RUN),
    Setting("host", "ADDRESS", _host, "Address to listen on; anything but loopback needs --insecure-no-auth."),
    Setting("port", "PORT", _integer(0, 65_535), "Port to listen on; 0 takes a free one."),
    Setting("store", "URL", _store, "Where sessions and work are kept: sqlite:///PATH or memory:.", _STORE),
    Setting("replay", "URL", _one_of("memory:"), "Where the live log is kept: memory:.", _RUN),
    Setting(
        "attachments",
        "FOLDER",
        _text,
        "Where pictures are kept; without it beside the SQLite file, or in memory with memory:.",
        _RUN,
    ),
    Setting("role", "ROLE", _one_of("all", "web"), "all: serve and run turns; web: serve only."),
    Setting(
        "synchronous",
        "LEVEL",
        _one_of("FULL", "NORMAL"),
        "SQLite's durability: FULL survives a power cut, NORMAL only the crash of a process.",
        _RUN,
    ),
    Setting("replay_max_events", "N", _integer(1), "Events per session that a reconnect can be served from.", _RUN),
    Setting("replay_max_age", "SECONDS", _seconds(0.1), "How old such events get, in seconds.", _RUN),
    Setting("replay_max_bytes", "BYTES", _integer(1), "How many bytes of them are kept per session.", _RUN),
    Setting("buffer_bytes", "BYTES", _integer(4096), "Most bytes handed to one consumer's connection at once."),
    Setting("max_body", "BYTES", _integer(1), "Largest request body, in bytes."),
    Setting("max_connections", "N", _integer(1), "Most streams open at once; one more gets 503."),
    Setting("max_subscriptions", "N", _integer(1), "Most sessions that one stream of several shows."),
    Setting("max_queue", "N", _integer(1), "Most open batches in one session; one more gets 429."),
    Setting("max_tasks", "N", _integer(1), "Most live background tasks in one session; one more gets 429.", _RUN),
    Setting(
        "concurrency",
        "N",
        _integer(1, 100_000),
        "Most turns that run at once; those that wait for an answer not counted.",
        _RUN,
    ),
    Setting(
        "session_lease",
        "SECONDS",
        _seconds(0.1, 3600),
        "How long a running turn's owner may be silent before another may take over, in seconds; renewed by thirds.",
        _RUN,
    ),
    Setting(
        "process_lease",
        "SECONDS",
        _seconds(0.1, 3600),
        "How long the owner of a process may be silent before another may take over, in seconds; renewed by thirds.",
        _RUN,
    ),
    Setting(
        "command_output",
        "BYTES",
        _integer(0),
        "How many bytes of what a command writes are kept; the rest is read and dropped.",
        _RUN,
    ),
    Setting(
        "turn_timeout",
        "SECONDS",
        _seconds(0),
        "Seconds a turn may be at work before it has failed; waiting for people does not count. 0: no limit.",
        _RUN,
    ),
    Setting(
        "flush_window",
        "SECONDS",
        _seconds(0, 10),
        "Text an agent says within so many seconds is shown as one event. 0: every piece is one.",
        _RUN,
    ),
    Setting(
        "max_attempts",
        "N",
        _integer(1, 1_000),
        "Attempts at a turn whose owner keeps dying, before it is given up.",
        _RUN,
    ),
    Setting(
        "poll_interval",
        "SECONDS",
        _seconds(0.01, 3600),
        "How often to look for work whose poke was lost, in seconds.",
        _RUN,
    ),
    Setting("retention", "SECONDS", _seconds(60), "How long ended batches stay readable, in seconds.", _RUN),
    Setting(
        "key_retention",
        "SECONDS",
        _seconds(60),
        "How long an idempotency key is known after its last use, in seconds; never shorter than its batch.",
        _RUN,
    ),
    Setting(
        "drain_timeout",
        "SECONDS",
        _seconds(0, 3600),
        "How long running turns get to end when the server is told to stop, in seconds.",
        _RUN,
    ),
    Setting(
        "keep_alive",
        "SECONDS",
        _seconds(0.1, 3600),
        "How long a connection without a request stays open, in seconds; longer than a proxy in front keeps it.",
    ),
    Setting(
        "allow_origin",
        "ORIGIN",
        _origin,
        "A browser origin besides the server's own; may be given several times.",
        repeatable=True,
    ),
    Setting(
        "allow_host",
        "HOST",
        _host,
        "A Host header besides loopback names and the bind host; may be given several times.",
        repeatable=True,
    ),
    Setting(
        "allow_commands",
        "",
        _switch,
        "Let clients start commands of the operating system here; agents may do that without.",
    ),
    Setting("insecure_no_auth", "", _switch, "Listen beyond loopback although nobody is asked who they are."),
    Setting(
        "ws_impl",
        "NAME",
        _one_of("lean", "uvicorn"),
        "Who speaks WebSocket: lean, which is made for many idle clients, or uvicorn's own class.",
    ),
    Setting(
        "ws_compression",
        "",
        _switch,
        "Compress WebSocket messages for clients that ask for it, once for all of them; with --ws-impl lean only.",
    ),
    Setting(
        "log_level",
        "LEVEL",
        _one_of("debug", "info", "warning", "error"),
        "How much to log, on stderr.",
        _RUN,
    ),
)

URL_VARIABLE = "SIGHTLINE_URL"
"""Not a setting of a server: which gateway the client commands talk to."""

_DEFAULT_URL = "http://127.0.0.1:8700"


def gateway_url() -> str:
    """The gateway that client commands talk to unless told otherwise."""
    return os.environ.get(URL_VARIABLE, _DEFAULT_URL)


def add_flags(parser: argparse.ArgumentParser, verb: str) -> None:
    """The flags of one command."""
    for setting in SETTINGS:
        if verb not in setting.verbs:
            continue
        shown = "" if setting.default in (None, (), False) else f" Default {setting.default}."
        text = f"{setting.sentence}{shown} [{setting.variable}]".replace("%", "%%")
        if setting.read is _switch:
            parser.add_argument(setting.flag, dest=setting.name, action="store_true", default=None, help=text)
        elif setting.repeatable:
            parser.add_argument(setting.flag, dest=setting.name, action="append", metavar=setting.metavar, help=text)
        else:
            parser.add_argument(setting.flag, dest=setting.name, metavar=setting.metavar, help=text)


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, verb: str = "serve") -> Settings:
    """Flags over environment over defaults, for one command: the values of settings that it does not take are not read.

    Raises SettingsError: what is wrong, in one line, naming flag or variable; unknown variables are wrong too.
    """
    environment = os.environ if environment is None else environment
    known = {setting.variable for setting in SETTINGS} | {URL_VARIABLE}
    for name in sorted(environment):
        if name.startswith("SIGHTLINE_") and name not in known:
            raise SettingsError(f"unknown environment variable {name}")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if verb not in setting.verbs:
            continue
        given = flags.get(setting.name)
        if given is not None:
            values[setting.name] = _read_flag(setting, given)
        elif setting.variable in environment:
            raw = environment[setting.variable]
            values[setting.name] = _read(setting, setting.variable, raw.split(",") if setting.repeatable else raw)
    settings = Settings(**values)
    if not is_loopback(settings.host) and not settings.insecure_no_auth:
        raise SettingsError(
            f"--host {settings.host} is not a loopback address: nobody would be asked who they are; "
            "--insecure-no-auth accepts that"
        )
    return settings


def _read_flag(setting: Setting, given: Any) -> Any:
    return given if isinstance(given, bool) else _read(setting, setting.flag, given)


def _read(setting: Setting, source: str, raw: str | Sequence[str]) -> Any:
    if not isinstance(raw, str):
        return tuple(_read(setting, source, part.strip()) for part in raw)
    try:
        return setting.read(raw)
    except ValueError as error:
        raise SettingsError(f"{source} {error}, not {raw[:_SHOWN]!r}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def reference_markdown() -> str:
    """The settings reference, as the documentation shows it."""
    lines = [
        "# Settings",
        "",
        "Made from the settings table in `sightline_gateway/settings.py`; a test keeps the two in step. Durations are",
        "plain seconds (fractions allowed), sizes plain bytes. A flag wins over its environment variable, in which",
        "several values are separated by commas.",
        "",
        "| flag | environment | default | commands | meaning |",
        "|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        default = "—" if setting.default in (None, (), False) else f"`{setting.default}`"
        flag = f"{setting.flag} {setting.metavar}".strip()
        lines.append(
            f"| `{flag}` | `{setting.variable}` | {default} | {', '.join(setting.verbs)} | {setting.sentence} |"
        )
    return "\n".join(lines) + "\n"
