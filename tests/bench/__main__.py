"""`python -m tests.bench [--only NAME]… [--rounds N] [--short] [--write PAGE] [--date DATE]`"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from msgspec import structs

from tests.bench import report
from tests.bench.machine import LOAD_CORE, look_at_the_machine
from tests.bench.measuring import SHORT, Options, collect_seldom, in_rounds
from tests.bench.page import Section
from tests.bench.processes import ROOT
from tests.bench.sections import SECTIONS

RESULTS = ROOT / ".bench" / "results.json"


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    options = SHORT if given.short else Options()
    if given.rounds is not None:
        options = structs.replace(options, rounds=given.rounds)
    wanted = [section for section in SECTIONS if not given.only or section.name in given.only]
    # The load comes from this process; what it starts is pinned to the other core.
    os.sched_setaffinity(0, {LOAD_CORE})
    # Ten thousand connections are as many open files, here and in what is started.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    collect_seldom()
    try:
        if not given.no_run:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_measure(wanted, options, given.date))
        text = report.page(SECTIONS, report.read(RESULTS))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; what was complete by then is kept", file=sys.stderr)
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if given.write is None:
        print(text)
    else:
        given.write.write_text(text, encoding="utf-8")
    return 0


async def _measure(sections: Sequence[Section], options: Options, date: str) -> None:
    measuring = asyncio.current_task()
    assert measuring is not None
    # As an interrupt does: on the way out everything that was started is stopped.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    for section in sections:
        print(f"{section.name}: {section.title}", file=sys.stderr, flush=True)
        machine = await look_at_the_machine()
        rows = await in_rounds(section.subjects(options), options.rounds)
        # Kept at once: the next section may take long, or fail.
        kept = report.read(RESULTS)
        kept[section.name] = report.Measured(date, machine, options, rows.rows, rows.versions)
        report.write(RESULTS, kept)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--only",
        action="append",
        choices=[section.name for section in SECTIONS],
        help="measure this section; can be repeated. The others keep what was measured of them before",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"default {Options().rounds}; {SHORT.rounds} with --short"
    )
    parser.add_argument("--short", action="store_true", help="see that everything works; the numbers mean little")
    parser.add_argument("--no-run", action="store_true", help="measure nothing, show what was measured before")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page there instead of to stdout")
    parser.add_argument(
        "--date",
        default=f"{datetime.now(UTC):%Y-%m-%d}",
        metavar="DATE",
        help="the day that is written beside what is measured now; default today",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
