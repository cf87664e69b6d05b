"""The small steps that the suites about the live log are told in. Session `s`, incarnation 7, revision 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sightline.clock import Clock
from sightline.observation.cursor import Cursor
from sightline.observation.replay import Entry, LiveReplayStore, ReplaySubscription, Reservation

__all__ = ["INCARNATION", "MakeLog", "at", "drained", "fill", "payloads", "publish", "replayed", "reserve"]

INCARNATION = 7


class MakeLog(Protocol):
    """Makes an empty live log. The bounds are per session: entries, seconds, bytes of payload."""

    def __call__(
        self,
        clock: Clock,
        incarnation: int,
        *,
        max_events: int = 1_000,
        max_age: float = 1_000.0,
        max_bytes: int = 1_000_000,
    ) -> LiveReplayStore: ...


def at(position: int, *, revision: int = 0, session_id: str = "s", incarnation: int = INCARNATION) -> Cursor:
    return Cursor(incarnation, revision, position, session_id)


def reserve(log: LiveReplayStore, count: int = 1, *, session_id: str = "s", revision: int = 0) -> Reservation:
    return log.prepare(session_id, [revision] * count)


def fill(log: LiveReplayStore, reservation: Reservation, *texts: str, kind: str = "kind") -> list[Entry]:
    """Publish one entry with each text in the reserved positions."""
    entries = [
        Entry(cursor.position, str(cursor), cursor.revision, kind, text.encode())
        for cursor, text in zip(reservation.cursors, texts, strict=True)
    ]
    log.publish(reservation, entries)
    return entries


def publish(
    log: LiveReplayStore, *texts: str, session_id: str = "s", revision: int = 0, kind: str = "kind"
) -> list[Entry]:
    return fill(log, reserve(log, len(texts), session_id=session_id, revision=revision), *texts, kind=kind)


def payloads(entries: Sequence[Entry] | str) -> list[str]:
    assert not isinstance(entries, str), entries
    return [entry.payload.decode() for entry in entries]


def replayed(log: LiveReplayStore, position: int, *, revision: int = 0, session_id: str = "s") -> list[str] | str:
    """The texts after a position, or the gap."""
    answer = log.replay_after(at(position, session_id=session_id, revision=revision), revision)
    return answer if isinstance(answer, str) else payloads(answer)


def drained(subscription: ReplaySubscription, max_bytes: int = 1_000_000) -> list[str]:
    """Everything that is there now, taken piece by piece until nothing is."""
    texts: list[str] = []
    while True:
        piece = payloads(subscription.take(max_bytes))
        if not piece:
            return texts
        texts += piece
