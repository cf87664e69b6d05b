"""All that is measured, in the order of the page."""

from __future__ import annotations

from tests.bench import (
    curves,
    durable_posts,
    fan_out,
    group_commits,
    idle,
    latency,
    one_turn,
    overhead,
    returning,
    short_processes,
    store_cycles,
    turns,
    waiting,
)
from tests.bench.page import Section

__all__ = ["SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    store_cycles.SECTION,
    turns.SECTION,
    latency.SECTION,
    group_commits.SECTION,
    curves.SECTION,
    short_processes.SECTION,
    short_processes.LOOKING_SECTION,
    idle.MEMORY_SECTION,
    idle.WAKING_SECTION,
    fan_out.FAN_OUT_SECTION,
    fan_out.CHANNELS_SECTION,
    fan_out.DELAYS_SECTION,
    returning.RESUME_SECTION,
    returning.STORM_SECTION,
    waiting.SECTION,
    one_turn.SECTION,
    overhead.SECTION,
    durable_posts.SECTION,
)
