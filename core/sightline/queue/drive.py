"""What a runner asks of its host, and what it may hear."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

__all__ = ["Contended", "Idle", "QueuedWorkRunOutcome", "QueuedWorkRunRequest", "Submitted"]


class QueuedWorkRunRequest(Struct, frozen=True):
    """Run what is ready in a session, or, with none named, wherever there is something.

    `reason` is text for logs; reasons that came together are joined by commas. `trace_idle`: somebody poked for this,
    so finding nothing is worth a line in a log. For a poll it would be noise.
    """

    session_id: str | None
    reason: str
    trace_idle: bool


class Submitted(Struct, frozen=True):
    """A run of this session has begun, and `complete_session` follows when it has ended.

    It may be another session than the one that was asked for. A host that has seen the run through before it answers
    calls `complete_session` first and answers then.
    """

    session_id: str


class Idle(Struct, frozen=True):
    """There is nothing to run now. `due_at_ms`: when delayed work comes due, in wall milliseconds, if that is known."""

    due_at_ms: int | None = None


class Contended(Struct, frozen=True):
    """There is work, and another owner holds a live lease on it: ask again after a while."""


QueuedWorkRunOutcome: TypeAlias = Submitted | Idle | Contended
