"""Decisions about sessions: what counts as a status, how usage adds up, what a session is called.

A status is never stored. It follows, everywhere by this one function, from what is going on: somebody is asked, a turn
runs, work waits, or nothing does.
"""

from __future__ import annotations

from sightline.session.model import Status, Usage, UsageFigures

__all__ = ["add_figures", "add_usage", "status_of", "title_from"]

_TITLE_LENGTH = 80


def status_of(*, asked: bool, live: bool, claimed: int, pending: int) -> Status:
    """`asked`: a request is open; `live`: a turn shows; `claimed`, `pending`: numbers of batches in that state."""
    if asked:
        return "waiting"
    if live or claimed:
        return "running"
    return "queued" if pending else "idle"


def add_figures(left: UsageFigures, right: UsageFigures) -> UsageFigures:
    return UsageFigures(
        left.input_tokens + right.input_tokens,
        left.output_tokens + right.output_tokens,
        left.cached_input_tokens + right.cached_input_tokens,
        left.reasoning_tokens + right.reasoning_tokens,
        left.requests + right.requests,
    )


def add_usage(usage: Usage, delta: Usage) -> Usage:
    """`usage` plus `delta`, model by model; neither is changed."""
    by_model = dict(usage.by_model)
    for model, figures in delta.by_model.items():
        by_model[model] = add_figures(by_model.get(model, UsageFigures()), figures)
    return Usage(add_figures(usage.totals, delta.totals), by_model)


def title_from(text: str) -> str:
    """The first line of what a session began with, cut to a length that fits a list."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1].rstrip() + "…"
