"""What a benchmark is made of: subjects that are measured in interleaved rounds, and sections that show them.

Machines that are shared are noisy, and the noise comes in minutes. So what is compared is measured in turn, round by
round, and every round begins with another subject; a ratio is taken within a round, and what is shown is the median of
the rounds, with the lowest and the highest beside it.
"""

from __future__ import annotations

import gc
import logging
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

__all__ = [
    "SHORT",
    "Options",
    "Row",
    "Rows",
    "Sample",
    "Subject",
    "Unavailable",
    "Wrong",
    "collect_seldom",
    "in_rounds",
]

_log = logging.getLogger("tests.bench")

Sample = dict[str, float]
"""What one measurement brought, by metric."""


class Unavailable(Exception):
    """What was to be measured cannot be had here; the message says why, for the page."""


class Wrong(Exception):
    """What came out is not right, events were lost for one: no figure then. The message is for the page."""


class Options(Struct, frozen=True, kw_only=True):
    """How much is measured. The defaults are those of a full run."""

    rounds: int = 3
    seconds: float = 5.0
    warm_up: float = 1.5
    sessions: int = 100
    """Of the closed loops."""
    observed: int = 50
    rate: int = 100
    """Turns a second of the open loop, over the observed sessions."""
    watch_seconds: float = 20.0
    peer_rate: int = 10
    """The same for the peer that could not follow."""
    callers: tuple[int, ...] = (128, 16)
    depths: tuple[int, ...] = (1, 100, 10_000)
    breadths: tuple[int, ...] = (10, 1_000, 10_000)
    requests: int = 50
    """Whose group commits are counted."""
    repeats: int = 400
    """Of each point of a curve."""
    idle: int = 10_000
    """Sessions that are left alone."""
    settle_seconds: float = 18.0
    """A little more than the kernel's housekeeping needs to come round."""
    idle_seconds: float = 15.0
    observers: int = 1_000
    """Of one stream, or of as many streams with one each."""
    deliveries: int = 40_000
    """A second, over all observers, where delays are measured."""
    missed: int = 500
    """Events that an observer comes back for."""
    waiting: int = 10_000
    """Observers to whom nothing happens."""
    waiting_seconds: float = 25.0
    """A little more than the time between two pings."""
    alone_seconds: float = 10.0
    """The same server before they come."""
    storm: int = 5_000
    """Observers who come back at the same moment."""
    deltas: int = 200_000
    """Of one turn."""


SHORT = Options(
    rounds=2,
    seconds=1.0,
    warm_up=0.5,
    watch_seconds=3.0,
    depths=(1, 100, 1_000),
    breadths=(10, 100, 1_000),
    repeats=100,
    idle=1_000,
    idle_seconds=5.0,
    waiting=2_000,
    waiting_seconds=5.0,
    alone_seconds=2.0,
    storm=1_000,
    deltas=20_000,
)
"""Shows within minutes that every instrument works. Its numbers are not worth much."""


@dataclass(frozen=True)
class Subject:
    """One thing that is measured. `measure` begins from nothing and leaves nothing behind.

    `prepare` is called once, before the rounds: it installs what is needed and returns versions for the page. Raises
    Unavailable.
    """

    name: str
    measure: Callable[[], Awaitable[Sample]]
    prepare: Callable[[], Awaitable[dict[str, str]]] | None = None


class Row(Struct):
    """What became of one subject. `rounds` has one entry a round, none where it failed."""

    rounds: list[Sample | None] = []
    reason: str | None = None
    """Why there is nothing, or why a round is missing."""

    def values(self, metric: str) -> list[float]:
        return [sample[metric] for sample in self.rounds if sample is not None and metric in sample]

    def median(self, metric: str) -> float | None:
        values = self.values(metric)
        return statistics.median(values) if values else None


@dataclass
class Rows:
    """The rows of one section, by the subject's name; and what versions took part."""

    rows: dict[str, Row] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def median(self, subject: str, metric: str) -> float | None:
        row = self.rows.get(subject)
        return None if row is None else row.median(metric)

    def ratio(self, subject: str, to: str, metric: str) -> float | None:
        """The median over the rounds of how many times as much `subject` had as `to` in the same round."""
        if subject not in self.rows or to not in self.rows:
            return None
        pairs = zip(self.rows[subject].rounds, self.rows[to].rounds, strict=False)
        ratios = [
            mine[metric] / theirs[metric]
            for mine, theirs in pairs
            if mine is not None and theirs is not None and metric in mine and theirs.get(metric)
        ]
        return statistics.median(ratios) if ratios else None


def collect_seldom() -> None:
    """Garbage collection as the gateway has it once it listens: what is there by now is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


async def in_rounds(subjects: Sequence[Subject], rounds: int) -> Rows:
    """Measure them all, once in every round. What cannot be measured gets its reason and stops nobody."""
    result = Rows({subject.name: Row(rounds=[]) for subject in subjects})
    ready = []
    for subject in subjects:
        try:
            if subject.prepare is not None:
                result.versions |= await subject.prepare()
        except Unavailable as error:
            result.rows[subject.name].reason = str(error)
            _say(f"  {subject.name}: not measured: {error}")
        else:
            ready.append(subject)
    for number in range(rounds):
        first = number % len(ready) if ready else 0
        for subject in [*ready[first:], *ready[:first]]:
            row = result.rows[subject.name]
            sample = await _measured(subject, row)
            row.rounds.append(sample)
            shown = (
                row.reason if sample is None else "  ".join(f"{name} {value:,.6g}" for name, value in sample.items())
            )
            _say(f"  round {number + 1}/{rounds}  {subject.name}: {shown}")
    return result


async def _measured(subject: Subject, row: Row) -> Sample | None:
    try:
        return await subject.measure()
    except Unavailable as error:
        row.reason = str(error)
    except Wrong as error:
        row.reason = f"a round failed: {error}"
    except Exception as error:
        # One broken round of one subject must not cost the hour that all the others took.
        _log.exception("%s", subject.name)
        row.reason = f"a round failed: {type(error).__name__}"
    return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
