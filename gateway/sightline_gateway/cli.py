"""The command line: `serve`, `work`, `migrate` on this machine's store; `send`, `tail`, `sessions`, `queue`, `cancel`,
`processes`, `process`, `bench` against a gateway.

Exit codes: 0 done, 1 failed, 2 wrong usage. Failures are one line on stderr, never a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import get_args

from sightline.process.model import ProcessStatus
from sightline.startup_errors import (
    StartupError,
)
from sightline_gateway.settings import URL_VARIABLE, SettingsError, add_flags, gateway_url, resolve

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] | None = getattr(arguments, "run", None)
    if command is None:
        parser.print_help()
        return 2
    try:
        return command(arguments)
    except SettingsError as error:
        return _fail(str(error), 2)
    except StartupError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(text: str, code: int) -> int:
    print(f"sightline: {' '.join(text.split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline",
        description="Durable agent sessions that can be watched live, left, and resumed without missing a word.",
        epilog="`sightline COMMAND --help` tells more. Flags of a server have an environment twin, shown in brackets.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sightline {version('sightline')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, more: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=f"{text}. {more}".strip(), allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    serve = add(
        "serve",
        _serve,
        "Serve sessions, and run their turns",
        "Ready, it prints one line, `listening on http://HOST:PORT`. SIGTERM drains; a second one stops at once.",
    )
    add_flags(serve, "serve")
    work = add(
        "work",
        _work,
        "Run turns without serving anybody",
        "One process per SQLite file: where a server runs, this is refused. SIGTERM drains.",
    )
    add_flags(work, "work")
    migrate = add("migrate", _migrate, "Bring a store's schema up to date", "`serve` does this by itself.")
    add_flags(migrate, "migrate")

    send = add("send", _client("send"), "Send a turn to a session", "Creates the session if it is not there.")
    send.add_argument("session", metavar="SESSION", type=_session_id, help="session id")
    send.add_argument("text", metavar="TEXT", nargs="+", help="what to say")
    send.add_argument("--key", metavar="KEY", help="idempotency key; the same key again is the same turn")
    send.add_argument("--wait", metavar="SECONDS", type=_whole(60), help="wait for the answer, at most 60 seconds")

    tail = add(
        "tail",
        _client("tail"),
        "Watch a session",
        "Reconnects and resumes by itself until it is interrupted or the session is deleted.",
    )
    tail.add_argument("session", metavar="SESSION", type=_session_id, help="session id")
    tail.add_argument("--cursor", metavar="CURSOR", help="resume behind this cursor; `now` begins at the tail")
    tail.add_argument("--json", action="store_true", help="print every frame as one line of JSON")

    sessions = add(
        "sessions",
        _client("sessions"),
        "List sessions, newest activity first",
        "One a line: when, status, id and title.",
    )
    sessions.add_argument(
        "--limit", metavar="N", type=_whole(1_000_000), default=50, help="at most so many; default 50"
    )
    sessions.add_argument("--json", action="store_true", help="print them as JSON, one a line")

    queue = add(
        "queue",
        _client("queue"),
        "List a session's open work",
        "One a line, in order: state, batch id and how it begins.",
    )
    queue.add_argument("session", metavar="SESSION", type=_session_id, help="session id")
    queue.add_argument("--all", action="store_true", help="also what has ended, as long as it is kept")
    queue.add_argument("--json", action="store_true", help="print the batches as JSON, one a line")

    cancel = add(
        "cancel",
        _client("cancel"),
        "Ask for the end of work",
        "Without a flag: of the turn that runs. Prints what came of it. May be repeated.",
    )
    cancel.add_argument("session", metavar="SESSION", type=_session_id, help="session id")
    which = cancel.add_mutually_exclusive_group()
    which.add_argument("--batch", metavar="BATCH", type=_opaque_id("batch"), help="a batch that no turn has taken")
    which.add_argument("--turn", metavar="TURN", help="a turn")
    which.add_argument("--key", metavar="KEY", help="the work that was, or will be, sent under this idempotency key")
    cancel.add_argument("--reason", metavar="TEXT", help="why; shown to who watches")

    processes = add(
        "processes",
        _client("processes", "remote_processes"),
        "List processes, newest registration first",
        "One a line: status, kind, id, what it is called, and how far it has come.",
    )
    processes.add_argument(
        "--session", metavar="SESSION", type=_session_id, help="those that this session sees, by their ids"
    )
    processes.add_argument("--status", choices=get_args(ProcessStatus), help="only such as stand like this")
    processes.add_argument(
        "--limit", metavar="N", type=_whole(1_000_000), default=50, help="at most so many; default 50"
    )
    processes.add_argument("--json", action="store_true", help="print them as JSON, one a line")

    process = add(
        "process",
        _client("process", "remote_processes"),
        "Show a process and its log",
        "With --follow the exit code is 0 when the process was completed, and 1 when it had another end.",
    )
    process.add_argument("process", metavar="PROCESS", type=_opaque_id("process"), help="process id")
    process.add_argument("--follow", action="store_true", help="go on until it has ended, through restarts")
    process.add_argument("--json", action="store_true", help="print the process and each event as one line of JSON")

    bench = add(
        "bench",
        _bench,
        "Put load on a gateway, and see whether it holds",
        "Runs turns of the demo agent in sessions of its own, watches them over WebSockets and event streams, lets "
        "observers leave and come back, and checks that nothing is lost or comes twice. Deletes its sessions.",
    )
    bench.add_argument("--sessions", metavar="N", type=_whole(10_000), default=4, help="sessions; default 4")
    bench.add_argument("--observers", metavar="N", type=_whole(10_000), default=16, help="of all of them; default 16")
    bench.add_argument("--seconds", metavar="S", type=_whole(86_400), default=10, help="how long; default 10")
    bench.add_argument("--json", action="store_true", help="print what was found as one line of JSON")
    for command in (send, tail, sessions, queue, cancel, processes, process, bench):
        command.add_argument(
            "--url",
            metavar="URL",
            default=gateway_url(),
            help=f"the gateway; now {gateway_url()} [{URL_VARIABLE}]",
        )
    return parser


def _session_id(text: str) -> str:
    from sightline_gateway.http.operations import check_session_id
    from sightline_gateway.problems import ProblemError

    try:
        return check_session_id(text)
    except ProblemError as error:
        raise argparse.ArgumentTypeError(error.detail) from None


def _opaque_id(kind: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._~:@-]{1,200}", text):
            raise argparse.ArgumentTypeError(f"is no {kind} id")
        return text

    return read


def _whole(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}, not {text!r}")
        return int(text)

    return read


def _serve(arguments: argparse.Namespace) -> int:
    from sightline_gateway.server import run

    # An agent is looked for where the command was given, as `python -m` would.
    sys.path.insert(0, os.getcwd())
    return run(resolve(vars(arguments)))


def _work(arguments: argparse.Namespace) -> int:
    from sightline_gateway.server import work

    sys.path.insert(0, os.getcwd())
    return work(resolve(vars(arguments), verb="work"))


def _migrate(arguments: argparse.Namespace) -> int:
    from sightline.stores.sqlite import migrate
    from sightline_gateway.server import store_path

    settings = resolve(vars(arguments), verb="migrate")
    if settings.store == "memory:":
        print("memory: has no schema")
        return 0
    before, after = migrate(store_path(settings.store))
    print(f"{settings.store} is at schema version {after}" + ("" if before == after else f", was {before}"))
    return 0


def _client(name: str, module: str = "remote") -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        commands = importlib.import_module(f"sightline_gateway.{module}")
        return _against_a_gateway(getattr(commands, name), arguments)

    return run


def _bench(arguments: argparse.Namespace) -> int:
    from sightline_gateway.bench.load import bench

    return _against_a_gateway(bench, arguments)


def _against_a_gateway(verb: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    from sightline_gateway.remote import RemoteError

    try:
        return verb(arguments)
    except RemoteError as error:
        return _fail(str(error), 1)
    except (KeyError, TypeError, ValueError) as error:
        return _fail(f"what answers at {arguments.url} is not a gateway: {type(error).__name__} {error}", 1)


if __name__ == "__main__":
    sys.exit(main())
