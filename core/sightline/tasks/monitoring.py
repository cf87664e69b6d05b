"""Monitors: commands that watch something for a session, and whose lines wake it.

    idle ──> running ──> exited | failed | stopped ──> running …

**Lines.** Each line on standard output that is not empty is an event, and asks for a turn. At most one such wish is in
the session's queue: what is written until its turn has ended is put together into the next one. Standard error is
shown and asks for nothing, and so is all of a monitor whose policy is to notify.

**Armed** is a monitor that is to run when its session next begins to work in a life of the server: one that was
declared to begin with the session, or that is running. Stopping it disarms it, and so does its own end, unless it is
declared to begin with the session. In a new life nothing runs, so what ran is idle; and what was begun by hand is
armed only if it is declared to be restarted then.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field, structs

from sightline.errors import InvalidInput
from sightline.tasks.model import TASK_ID_LENGTH
from sightline.tasks.rules import MONITOR_PREFIX, bounded

__all__ = [
    "MAX_TIMEOUT_MS",
    "RING",
    "MonitorRecord",
    "MonitorSpec",
    "MonitorState",
    "MonitorUpdate",
    "MonitorWatch",
    "Stream",
    "armed_by",
    "checked_spec",
    "ended",
    "owned_by",
    "restored",
    "task_id_of",
]

RING = 128
"""So many updates of a monitor are kept, and so many lines wait for a turn."""
MAX_TIMEOUT_MS = 3_600_000
_COMMAND_LENGTH = 16_384

MonitorState = Literal["idle", "running", "stopped", "exited", "failed"]
Stream = Literal["stdout", "stderr", "state"]


class MonitorSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a monitor is. `command` is run by a login shell. `persistent`: it has no timeout. `wake_policy`: whether its
    lines ask for turns (`queue_turn`) or are only shown (`notify`).
    """

    id: str
    command: str
    cwd: str | UnsetType = UNSET
    env: dict[str, str] = field(default_factory=dict)
    persistent: bool = False
    timeout_ms: int = 300_000
    arm_on: Literal["manual", "session_start"] = "manual"
    wake_policy: Literal["queue_turn", "notify"] = "queue_turn"
    restart_on_restore: bool = False


class MonitorRecord(Struct, frozen=True, kw_only=True):
    """A monitor as it stands. `detail` says why it failed; `incarnation`: in which life of the store that was true."""

    session_id: str
    spec: MonitorSpec
    incarnation: int
    state: MonitorState = "idle"
    armed: bool = False
    exit_code: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET

    @property
    def monitor_id(self) -> str:
        return self.spec.id


class MonitorUpdate(Struct, frozen=True, kw_only=True):
    """One line, or (`state`) what became of the monitor. Numbered from 1 in each run."""

    sequence: int
    stream: Stream
    text: str
    at_ms: int


def task_id_of(monitor_id: str) -> str:
    return f"{MONITOR_PREFIX}{monitor_id}"


def owned_by(plugin: str, name: str) -> str:
    """The id of a plugin's monitor."""
    return f"{plugin}:{name}"


def checked_spec(spec: MonitorSpec) -> MonitorSpec:
    """Raises InvalidInput for a monitor that makes no sense."""
    if not spec.id.strip():
        raise InvalidInput("id", "must not be blank")
    if len(task_id_of(spec.id)) > TASK_ID_LENGTH:
        raise InvalidInput("id", f"must have at most {TASK_ID_LENGTH - len(MONITOR_PREFIX)} characters")
    if not spec.command.strip() or "\0" in spec.command:
        raise InvalidInput("command", "must say something, without NUL")
    if len(spec.command) > _COMMAND_LENGTH:
        raise InvalidInput("command", f"must have at most {_COMMAND_LENGTH} characters")
    if not 1 <= spec.timeout_ms <= MAX_TIMEOUT_MS:
        raise InvalidInput("timeout_ms", f"must be from 1 to {MAX_TIMEOUT_MS}")
    if spec.cwd is not UNSET and (not spec.cwd.strip() or "\0" in spec.cwd):
        raise InvalidInput("cwd", "must name a folder")
    for name, value in spec.env.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidInput("env", f"{name!r} cannot be a variable of that value")
    return spec


def armed_by(spec: MonitorSpec) -> bool:
    """Whether the monitor is armed by being declared."""
    return spec.arm_on == "session_start"


def ended(
    record: MonitorRecord, state: MonitorState, *, exit_code: int | UnsetType = UNSET, detail: str | UnsetType = UNSET
) -> MonitorRecord:
    """The monitor after a run. One that was stopped was disarmed by that, or is stopped by the end of the server, and
    then stays as it is.
    """
    armed = record.armed and (state == "stopped" or armed_by(record.spec))
    return structs.replace(record, state=state, armed=armed, exit_code=exit_code, detail=detail)


def restored(record: MonitorRecord, incarnation: int) -> MonitorRecord:
    """The monitor in this life of the store."""
    if record.incarnation == incarnation:
        return record
    armed = record.armed and (record.spec.restart_on_restore or armed_by(record.spec))
    state: MonitorState = "idle" if armed or record.state == "running" else record.state
    return structs.replace(record, incarnation=incarnation, armed=armed, state=state)


class MonitorWatch:
    """One run of a monitor: its updates, and the lines that wait for a turn."""

    def __init__(self) -> None:
        self.updates: deque[MonitorUpdate] = deque(maxlen=RING)
        self._waiting: deque[str] = deque(maxlen=RING)
        self._dropped = 0
        self._count = 0

    @property
    def wants_turn(self) -> bool:
        return bool(self._waiting)

    def add(self, stream: Stream, text: str, now: int, *, wakes: bool) -> MonitorUpdate | None:
        """Something was written: the update, or none for an empty line."""
        if not text.strip():
            return None
        self._count += 1
        update = MonitorUpdate(sequence=self._count, stream=stream, text=bounded(text), at_ms=now)
        self.updates.append(update)
        if wakes and stream == "stdout":
            self._dropped += len(self._waiting) == RING
            self._waiting.append(update.text)
        return update

    def take(self) -> str:
        """The lines that waited, as one text. They wait no longer."""
        lines = list(self._waiting)
        if self._dropped:
            lines.insert(0, f"({self._dropped} earlier lines are left out)")
        self._waiting.clear()
        self._dropped = 0
        return "\n".join(lines)
