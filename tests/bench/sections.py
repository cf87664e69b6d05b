"""All that is measured, in the order of the page."""

from __future__ import annotations

from tests.bench import curves, group_commits, idle, latency, store_cycles, turns
from tests.bench.page import Section

__all__ = ["SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    store_cycles.SECTION,
    turns.SECTION,
    latency.SECTION,
    group_commits.SECTION,
    curves.SECTION,
    idle.MEMORY_SECTION,
    idle.WAKING_SECTION,
)
"""What streams to many observers cost will be one more."""
