"""How a section of the page looks: what it says of the method, its table, and what it was to reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.measuring import Options, Row, Rows, Subject

__all__ = ["Column", "Section", "Target", "number", "section_markdown", "table", "targets_table"]


@dataclass(frozen=True)
class Column:
    """One metric, shown as the median of the rounds and its range. With `to` it is the ratio to that subject."""

    metric: str
    heading: str
    to: str | None = None


@dataclass(frozen=True)
class Target:
    """What a section was to reach: `found` computes the figure from the rows, or nothing when it was not measured."""

    text: str
    found: Callable[[Rows], float | None]
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    unit: str = ""

    def verdict(self, rows: Rows) -> tuple[str, str]:
        """The figure, and what it means."""
        figure = self.found(rows)
        if figure is None:
            return "", "not measured"
        met = (
            (self.at_least is None or figure >= self.at_least)
            and (self.at_most is None or figure <= self.at_most)
            and (self.below is None or figure < self.below)
        )
        return f"{number(figure)} {self.unit}".strip(), "met" if met else "**missed**"


@dataclass(frozen=True)
class Section:
    """One subject of the page, under the `name` it is asked for by. `amount` says how much one round is."""

    name: str
    title: str
    method: str
    subjects: Callable[[Options], Sequence[Subject]]
    heading: str
    columns: tuple[Column, ...]
    amount: Callable[[Options], str] = lambda options: (
        f"{options.seconds:g} s each after {options.warm_up:g} s to warm up"
    )
    targets: tuple[Target, ...] = field(default=())


def number(value: float) -> str:
    """As many digits as a noisy machine is worth."""
    size = abs(value)
    if size >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section_markdown(section: Section, rows: Rows, options: Options, date: str) -> str:
    shown = [column for column in section.columns if column.to is None or column.to in rows.rows]
    lines = [
        [_escaped(name), *(_cell(rows, name, column) for column in shown)]
        for name, row in rows.rows.items()
        if row.values(section.columns[0].metric)
    ]
    missing = [f"- {name}: not measured: {row.reason}." for name, row in rows.rows.items() if not any(row.rounds)]
    partly = [
        f"- {name}: {_rounds(row)} of {len(row.rounds)} rounds: {row.reason}."
        for name, row in rows.rows.items()
        if any(row.rounds) and not all(row.rounds)
    ]
    parts = [
        f"## {section.title}",
        section.method,
        f"Measured {date}: {options.rounds} rounds, {section.amount(options)}.",
        table([section.heading, *(column.heading for column in shown)], lines) if lines else "",
        "\n".join(missing + partly),
    ]
    if rows.versions:
        parts.append(f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(rows.versions.items()))}.")
    return "\n\n".join(part for part in parts if part)


def targets_table(sections: Sequence[tuple[Section, Rows | None]]) -> str:
    lines = []
    for section, rows in sections:
        for target in section.targets:
            figure, verdict = ("", "not measured") if rows is None else target.verdict(rows)
            lines.append([target.text, figure, verdict])
    return table(["target", "found", ""], lines)


def _cell(rows: Rows, name: str, column: Column) -> str:
    if column.to is not None:
        ratio = rows.ratio(name, column.to, column.metric)
        return "" if ratio is None or name == column.to else f"{number(ratio)} ×"
    values = rows.rows[name].values(column.metric)
    median = rows.median(name, column.metric)
    if median is None:
        return ""
    low, high = number(min(values)), number(max(values))
    return number(median) if low == high else f"{number(median)} ({low}..{high})"


def _rounds(row: Row) -> int:
    return sum(sample is not None for sample in row.rounds)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")
