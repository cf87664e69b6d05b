"""What happened in a world, line by line: the virtual time, who, what, and how it ended.

A line says as much as tells two runs apart: whoever calls one thing in another order, or gets another answer, has
another trace. A trace is kept only when somebody wants it, because making lines takes longer than the world itself.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from sightline.observation.model import SessionState
from sightline.process.model import (
    Appended,
    NewEvent,
    PendingWake,
    ProcessBusy,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    ProcessScope,
    Registered,
    Registration,
    WakeDelivery,
)
from sightline.queue.model import Batch, Cancellation, Claim, Enqueued, NothingClaimed
from sightline.session.model import MessagePage, SessionLease
from sightline.tasks.model import ChangedTask, NewTask, RegisteredTask, TaskName, TaskRecord, Transferred
from sightline.turn.commit import CommitResult, TurnCommit

if TYPE_CHECKING:
    from tests.sim.effects import Effect

__all__ = ["Trace"]


class Trace:
    """`lines` in the order in which they happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, at: float, who: str, what: str) -> None:
        self.lines.append(f"{at:10.6f}  {who:6} {what}")

    def effect(self, at: float, effect: Effect, how: str) -> None:
        asked = " ".join(
            [*(_short(value) for value in effect.args)]
            + [f"{name}={_short(value)}" for name, value in effect.kwargs.items() if name in _TOLD]
        )
        came = _short(effect.result) if effect.error is None else f"{type(effect.error).__name__}: {effect.error}"
        self.add(at, effect.life.name, f"{effect.method} {asked} → {how}{came}")

    @property
    def digest(self) -> str:
        return sha256("\n".join(self.lines).encode()).hexdigest()[:16]


_TOLD = ("charge", "now", "turn_id", "source_key", "lease", "waits")


def _short(value: Any) -> str:
    match value:
        case Claim():
            how = f" gen {value.lease.generation}" if value.lease is not None else ""
            return f"{value.claim_id}{how} {value.turn_id}#{value.attempt} {_ids(value.batches)}"
        case NothingClaimed():
            return value.reason if value.due_at_ms is None else f"{value.reason} until {value.due_at_ms}"
        case TurnCommit():
            under = f" under gen {value.lease.generation}" if value.lease is not None else ""
            return f"{value.turn_id} {value.outcome.status} on {value.expected_revision}{under}"
        case CommitResult():
            return f"revision {value.revision}"
        case Enqueued():
            return f"{'replay of ' if value.replayed else ''}{_short(value.batch)}"
        case Batch():
            return f"{value.batch_id}:{value.enqueue_seq}:{value.state}:{value.attempts}"
        case Cancellation():
            return f"{value.state} {value.turn_id or ''} {_ids(value.batches)}"
        case SessionLease():
            return f"gen {value.generation} until {value.expires_at_ms}"
        case SessionState():
            return f"revision {value.record.revision} {_ids(value.open_batches)}"
        case MessagePage():
            return f"{len(value.messages)} messages"
        case ProcessScope(session_id=session_id):
            return session_id
        case Registration():
            return value.process_id
        case Registered():
            return f"{'' if value.created else 'again '}{_short(value.record)}"
        case ProcessRecord():
            return f"{value.process_id}:{value.status}:{value.last_sequence}:{value.attempts}"
        case NewEvent():
            return f"{value.event_type} {value.payload}"
        case ProcessEvent():
            return f"{value.sequence}:{value.event_type}"
        case Appended():
            event = "nothing" if value.event is None else _short(value.event)
            return f"{'replay of ' if value.replayed else ''}{event}, {value.record.status}"
        case ProcessLease():
            return f"{value.process_id} fence {value.fencing_token} until {value.expires_at_ms}"
        case ProcessBusy():
            return f"busy: {value.owner_id} until {value.expires_at_ms}"
        case PendingWake():
            return f"wake {value.position} of {value.wake.process_id}:{value.wake.sequence}"
        case WakeDelivery():
            return f"{value.state} {'' if value.enqueued is UNSET else _short(value.enqueued)}"
        case TaskName():
            return f"{value.session_id}/{value.task_id}"
        case NewTask():
            return f"{value.task_id} under {value.attempt.idempotency_key}"
        case TaskRecord():
            said = "" if value.progress is UNSET else f" ({value.progress})"
            return f"{_short(value.name)}:{value.generation}:{value.state}{said}"
        case RegisteredTask():
            return f"{'' if value.created else 'again '}{_short(value.record)}"
        case ChangedTask():
            return f"{value.kind or 'nothing'} {_short(value.record)}"
        case Transferred():
            return f"{_short(value.before)} to {value.after.session_id}"
        case tuple():
            return f"({', '.join(_short(part) for part in value)})"
        case _ if hasattr(value, "payloads"):
            return str(value.source_key or "without a key")
        case _:
            return str(value)


def _ids(batches: tuple[Batch, ...]) -> str:
    return "[" + " ".join(f"{batch.batch_id}:{batch.state}" for batch in batches) + "]"
