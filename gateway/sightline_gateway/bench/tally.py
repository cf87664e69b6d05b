"""What observers of a load test saw: how much, how late, and whether it was everything and once.

A turn of the load is the demo agent's `stream COUNT …`, whose deltas say `seq=0`, `seq=1`, … and when they were made.
So every observer can tell by itself that nothing is missing and nothing came twice. Deltas may come joined.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Any

__all__ = ["Account", "Tally", "figures"]

_DELTA = re.compile(r"seq=(\d+) t=(\d+)")


class Tally:
    """Of all observers together. Times in seconds."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.lost = 0
        self.doubled = 0
        self.gaps = 0
        self.cuts = 0
        """Connections that the other side ended."""
        self.delays = array("d")
        """From a delta's making, by the gateway's clock, to its arrival, by ours."""
        self.first_frames = array("d")
        """From a turn's POST to the first frame of it at an observer."""
        self.reconnects = array("d")
        """From the beginning of a connection to `caught_up`."""


class Account:
    """What one observer has seen of each turn, over all its connections."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._next: dict[str, int] = {}
        self.ended: set[str] = set()
        """Turns whose commit it has seen."""

    def take(self, event: dict[str, Any], now_ns: int) -> str | None:
        """One `event` frame. Returns the id of a turn that begins with it."""
        turn_id = event.get("turn_id")
        if turn_id is None:
            return None
        if event["kind"] == "committed":
            if "outcome" in event["data"]:
                self.ended.add(turn_id)
        elif event["kind"] == "turn_activity":
            activity = event["data"]["event"]
            if activity["type"] == "turn_started":
                self._next[turn_id] = 0  # also when it is begun again: what was shown of the attempt before is void
                return str(turn_id)
            if activity["type"] == "assistant_prose_delta":
                self._text(turn_id, activity["text"], now_ns)
        return None

    def _text(self, turn_id: str, text: str, now_ns: int) -> None:
        wanted = self._next.get(turn_id, 0)
        for number, made in _DELTA.findall(text):
            self._tally.deliveries += 1
            self._tally.delays.append(max(0, now_ns - int(made)) / 1e9)
            if int(number) < wanted:
                self._tally.doubled += 1
                continue
            self._tally.lost += int(number) - wanted
            wanted = int(number) + 1
        self._next[turn_id] = wanted

    def settle(self, turn_ids: Sequence[str], deltas: int) -> None:
        """These turns said so many deltas each: what has not come by now is lost."""
        self._tally.lost += sum(max(0, deltas - self._next.get(turn_id, 0)) for turn_id in turn_ids)


def figures(values: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds; nothing when there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    parts = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000, 3) for name, part in parts.items()
    }
