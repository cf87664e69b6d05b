"""What happened to processes, as somebody who saw every effect would have written it down: a part of the ledger.

A `Job` is a process as its log and its lease must have left it. Nothing in here decides anything: `laws_of_processes`
and `laws_of_leases` hold every new effect against it and then write the effect down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, UnsetType

from sightline.process.model import (
    AwaitOutput,
    HandleSummary,
    ProcessEvent,
    ProcessLease,
    ProcessRecord,
    ProcessScope,
    Registration,
)
from sightline.queue.model import ProcessWake

__all__ = ["CANCEL", "ENDS", "NOTE", "PROGRESS", "SIGNAL", "WAKE", "Entry", "Job", "Jobs", "Tenure", "shown_of"]

CANCEL, SIGNAL, NOTE, WAKE = "process.cancel_requested", "process.signal", "process.noted", "process.wake"
PROGRESS = "progress"
ENDS = {
    "process.completed": "completed",
    "process.failed": "failed",
    "process.cancelled": "cancelled",
    "process.abandoned": "abandoned",
}


@dataclass(slots=True)
class Entry:
    """A line of a log. `at`: in virtual seconds."""

    event_type: str
    payload: Any
    replay_key: str | UnsetType
    at: float

    def is_event(self, event: ProcessEvent) -> bool:
        return (self.event_type, self.payload, self.replay_key) == (event.event_type, event.payload, event.replay_key)


@dataclass(slots=True)
class Tenure:
    """A lease, and which life has it. `began_at`: when its process was set going; `run`: its code while it goes."""

    lease: ProcessLease
    life: str
    expires_ms: int
    taken_at: float
    was_cancelled: bool
    began_at: float | None = None
    run: object = None

    def is_of(self, lease: ProcessLease) -> bool:
        mine = self.lease
        return (mine.fencing_token, mine.owner_id, mine.lease_token) == (
            lease.fencing_token,
            lease.owner_id,
            lease.lease_token,
        )


@dataclass(slots=True)
class Job:
    """A process. `fence` is the highest token of its leases, `tries` how often somebody tried to run it and did not get
    to, `runs` how often its code was set going. `heard`: the lives that know that its end is wanted, and since when.
    """

    registration: Registration
    registered_at: float
    status: str = "running"
    output: AwaitOutput | UnsetType = UNSET
    log: list[Entry] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    grants: set[ProcessScope] = field(default_factory=set)
    tenure: Tenure | None = None
    fence: int = 0
    attempts: int = 0
    tries: int = 0
    heard: dict[str, float] = field(default_factory=dict)
    runs: int = 0
    is_left_alone: bool = False
    """It is done elsewhere, and whoever does it never says that it has ended."""

    @property
    def process_id(self) -> str:
        return self.registration.process_id

    @property
    def is_external(self) -> bool:
        return self.registration.disposition == "externally_owned"

    @property
    def has_ended(self) -> bool:
        return self.status != "running"

    @property
    def cancelled_at(self) -> float | None:
        """When its end was first asked for."""
        return next((entry.at for entry in self.log if entry.event_type == CANCEL), None)

    @property
    def shown(self) -> tuple[str, str, bool, Any]:
        """What readers see of it that changes."""
        said = [entry.payload for entry in self.log if entry.event_type == PROGRESS]
        return self.process_id, self.status, self.cancelled_at is not None, said[-1] if said else UNSET

    @property
    def notes(self) -> dict[str, Any]:
        """What it has written down, by key."""
        return {entry.payload["key"]: entry.payload["value"] for entry in self.log if entry.event_type == NOTE}

    def rules(self, lease: ProcessLease) -> bool:
        return self.tenure is not None and self.tenure.is_of(lease)

    def is_free(self, now: int) -> bool:
        return self.tenure is None or self.tenure.expires_ms <= now

    def write(self, entry: Entry) -> None:
        self.log.append(entry)
        if entry.replay_key is not UNSET:
            self.keys[entry.replay_key] = len(self.log)

    def is_seen_by(self, session_id: str) -> bool:
        return any(scope.session_id == session_id for scope in self.grants)


@dataclass(slots=True)
class Jobs:
    """All processes, and the wakes that they asked for. `pending`: those that are not settled, in their order;
    `places`: how the store calls them; `tried`: those of which a delivery went wrong.
    """

    by_id: dict[str, Job] = field(default_factory=dict)
    wakes: list[tuple[ProcessWake, float]] = field(default_factory=list)
    pending: list[ProcessWake] = field(default_factory=list)
    places: dict[int, ProcessWake] = field(default_factory=dict)
    tried: set[int] = field(default_factory=set)

    def seen_by(self, session_id: str) -> list[tuple[str, str, bool, Any]]:
        """What a session sees: that which has not ended, by id."""
        return [job.shown for _, job in sorted(self.by_id.items()) if not job.has_ended and job.is_seen_by(session_id)]

    @property
    def open(self) -> list[str]:
        """What is left to come to an end: processes, but for those that nobody here can end, and wakes."""
        running = [name for name, job in self.by_id.items() if not job.has_ended and not job.is_left_alone]
        return running + [wake.wake_id for wake in self.pending]

    def asked_at(self, wake: ProcessWake) -> float:
        return next(at for known, at in self.wakes if known is wake)


def shown_of(shown: ProcessRecord | HandleSummary) -> tuple[str, str, bool, Any]:
    """What readers see of it that changes: see `Job.shown`."""
    return shown.process_id, shown.status, shown.cancel_requested, shown.progress
