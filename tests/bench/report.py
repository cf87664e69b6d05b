"""From measurements to the page, and the file they are kept in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from tests.bench.machine import Machine
from tests.bench.measuring import Options, Row, Rows
from tests.bench.page import Section, section_markdown, table, targets_table

__all__ = ["Measured", "Report", "page", "read", "write"]


class Measured(Struct):
    """One section's rows, and when, where and how they were taken."""

    date: str
    machine: Machine
    options: Options
    rows: dict[str, Row]
    versions: dict[str, str]

    def as_rows(self) -> Rows:
        return Rows(self.rows, self.versions)


Report = dict[str, Measured]
"""By the section's name. A run replaces the sections it measured and keeps the others."""


def read(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report) if path.exists() else {}


def write(path: Path, report: Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


_INTRODUCTION = """\
# Performance

What Sightline does in a second and what it costs, measured and not estimated, next to what others do on the same
machine in the same run. The tables and the verdicts on this page are written by the benchmarks in `tests/bench/`."""

_READING = """\
## How to read it

Every figure is the median of its rounds, with the lowest and the highest in brackets. What is compared is measured
in turn, round by round, each round beginning with another subject, and ratios are taken within a round, because a
machine is not the same from one minute to the next. Trust the ratios more than the figures; a target that is nearly
met may be met in one run and missed in the next, as the range of its rounds shows. Everything goes over
the loopback interface, without TLS; the server and all it needs has one core, the client another; data is in new
temporary folders on disk.

A peer that could not be had is listed with the reason. Where a peer does less than Sightline, its section says so."""

_AGAIN = """\
## Do it yourself

On Linux with two cores or more:

```sh
make bench                                               # everything; takes well over an hour
make bench ARGS="--only turns --rounds 3"                # one section
make bench ARGS="--short"                                # do the instruments work? Minutes; the numbers mean little
make bench ARGS="--write docs/performance.md"            # and write this page
```

The peers are installed below `.bench/`, Python's into virtual environments, Node's by npm. Redis and the PostgreSQL
server are taken from the system (`redis-server` and `postgresql` in Debian). nginx with Nchan and NATS are too if they
are there (`nginx`, `libnginx-mod-nchan`, `nats-server`); on a Debian where they are not, their packages are fetched and
unpacked below `.bench/`, and not installed. The load generator of the streams is compiled with `cc`. All are started as
child processes in temporary folders, each on a free port of the loopback interface, and stopped at the end."""


def page(sections: Sequence[Section], report: Report) -> str:
    """The whole page, from what was measured last of each section. Raises ValueError when nothing was, or when not all
    of it comes from one machine.
    """
    measured = [report[section.name] for section in sections if section.name in report]
    if not measured:
        raise ValueError("nothing was measured")
    machines = {(one.machine.cpu, one.machine.cores, one.machine.system, one.machine.python) for one in measured}
    if len(machines) > 1:
        raise ValueError(f"the sections were measured on different machines: {sorted(machines)}")
    parts = [_INTRODUCTION]
    if not all(_is_full(one.options) for one in measured):
        parts.append("**Not all of this is from a full run**: each section says how much was measured.")
    with_rows = [(section, report[section.name].as_rows() if section.name in report else None) for section in sections]
    parts += ["## Targets", targets_table(with_rows), "## The machine", _machine_table(measured), _READING]
    for section in sections:
        one = report.get(section.name)
        if one is None:
            parts.append(f"## {section.title}\n\nNot measured in this run.")
        else:
            parts.append(section_markdown(section, one.as_rows(), one.options, one.date))
    return "\n\n".join([*parts, _AGAIN]) + "\n"


def _is_full(options: Options) -> bool:
    full = Options()
    return options.rounds >= full.rounds and structs.replace(options, rounds=full.rounds) == full


def _machine_table(measured: Sequence[Measured]) -> str:
    machine = measured[-1].machine
    loads = sorted(one.machine.load for one in measured)
    syncs = sorted(one.machine.sync_us for one in measured)
    rows = [
        ["processor", f"{machine.cpu}, {machine.cores} cores"],
        ["memory", f"{machine.memory_gb} GiB"],
        ["system", machine.system],
        ["Python", f"{machine.python}, uvloop {machine.uvloop}"],
        ["SQLite", machine.sqlite],
        ["Sightline", machine.sightline],
        ["temporary folders", f"{machine.filesystem}; to write 4 KiB and wait for the disk takes {_range(syncs)} µs"],
        ["load before the runs", f"{_range([round(load, 1) for load in loads])}"],
    ]
    return table(["", ""], rows)


def _range(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if values[0] == values[-1] else f"{values[0]:g} to {values[-1]:g}"
