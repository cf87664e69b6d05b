"""The shapes of background tasks: what is registered, how it stands, and what is told of it.

A task is work that goes on beside the turns of one session and that the session lists. Who does it makes its flavour: a
managed one is a coroutine of this program, an external one is done by somebody else, who says how it stands. Hidden
work is no task: it is not listed, only waited for.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import UNSET, Struct, UnsetType, field

__all__ = [
    "ENDS",
    "TASK_ID_LENGTH",
    "TASK_KINDS",
    "CancelPolicy",
    "CancelRequest",
    "ChangedTask",
    "ClosePolicy",
    "Ending",
    "Flavour",
    "LiveState",
    "NewTask",
    "Progress",
    "RegisteredTask",
    "TaskAttempt",
    "TaskChange",
    "TaskEnd",
    "TaskEvent",
    "TaskFailure",
    "TaskFilter",
    "TaskKind",
    "TaskName",
    "TaskNewsKind",
    "TaskRecord",
    "TaskResult",
    "TaskState",
    "TaskSummary",
    "TasksLost",
    "Transferred",
    "Unfolding",
]

TASK_ID_LENGTH = 200

TaskKind = Literal["monitor", "subagent", "observer", "other"]
TASK_KINDS: tuple[str, ...] = get_args(TaskKind)

Flavour = Literal["managed", "external"]
LiveState = Literal["running", "waiting"]
TaskEnd = Literal["completed", "failed", "cancelled"]
TaskState = Literal["pending", "running", "waiting", "completed", "failed", "cancel_requested", "cancelled"]
ENDS: frozenset[str] = frozenset(get_args(TaskEnd))
"""The states that nothing follows. `cancel_requested` is none of them: its task goes on until it has ended."""

CancelPolicy = Literal["cooperative", "abort_local", "external"]
ClosePolicy = Literal["keep", "cancel", "transfer"]
"""Both policies are the registrar's word to whoever reads the record. Nothing here goes by them."""

TaskNewsKind = Literal[
    "started",
    "progress",
    "waiting",
    "resumed",
    "cancel_requested",
    "completed",
    "failed",
    "cancelled",
    "granted",
    "revoked",
]
"""What can be told of a task. `granted`: it came to the session from another one; `revoked`: it left for another one,
or was forgotten.
"""


class TaskName(Struct, frozen=True):
    """A task as its session calls it. The same id in another session is another task."""

    session_id: str
    task_id: str


class TaskAttempt(Struct, frozen=True, kw_only=True):
    """Which try of something larger the task is, for those who count."""

    attempt: int = 1
    max_attempts: int | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET


class TaskResult(Struct, frozen=True, kw_only=True):
    summary: str


class TaskFailure(Struct, frozen=True, kw_only=True):
    """`code`: `task_failed`; `owner_lost` when it died with the program that did it; or a word of its owner's own."""

    code: str
    summary: str


class NewTask(Struct, frozen=True, kw_only=True):
    """What is registered. `state`: `pending` for work that has yet to begin."""

    task_id: str
    kind: TaskKind = "other"
    producer: str
    parent_task_id: str | UnsetType = UNSET
    child_session_id: str | UnsetType = UNSET
    state: Literal["pending", "running"] = "running"
    cancel_policy: CancelPolicy = "cooperative"
    close_policy: ClosePolicy = "keep"
    attempt: TaskAttempt = field(default_factory=TaskAttempt)


class TaskRecord(Struct, frozen=True, kw_only=True):
    """A task as it stands.

    `generation` is the registration's own number, in all sessions and for good: an id may come again, a generation does
    not, and it stays when the task is handed to another session. `incarnation` is the life of the store in which it was
    registered: a managed task of an earlier life has nobody who does it.
    """

    task_id: str
    session_id: str
    generation: int
    incarnation: int
    flavour: Flavour
    kind: TaskKind
    producer: str
    state: TaskState
    cancel_policy: CancelPolicy
    close_policy: ClosePolicy
    attempt: TaskAttempt
    created_at_ms: int
    updated_at_ms: int
    parent_task_id: str | UnsetType = UNSET
    child_session_id: str | UnsetType = UNSET
    progress: str | UnsetType = UNSET
    cancel_reason: str | UnsetType = UNSET
    result: TaskResult | UnsetType = UNSET
    failure: TaskFailure | UnsetType = UNSET
    completed_at_ms: int | UnsetType = UNSET

    @property
    def is_terminal(self) -> bool:
        return self.state in ENDS

    @property
    def name(self) -> TaskName:
        return TaskName(self.session_id, self.task_id)


class RegisteredTask(Struct, frozen=True):
    """A task, and whether this registration brought it or an earlier one with the same idempotency key."""

    record: TaskRecord
    created: bool


class TaskSummary(Struct, frozen=True, kw_only=True):
    """A task as a session's observation shows it."""

    task_id: str
    kind: TaskKind
    producer: str
    state: TaskState
    created_at_ms: int
    updated_at_ms: int
    parent_task_id: str | UnsetType = UNSET
    child_session_id: str | UnsetType = UNSET
    progress: str | UnsetType = UNSET
    cancel_reason: str | UnsetType = UNSET
    result: TaskResult | UnsetType = UNSET
    failure: TaskFailure | UnsetType = UNSET


# What may be done to a task


class Unfolding(Struct, frozen=True):
    """It is at work, or it waits."""

    state: LiveState


class Progress(Struct, frozen=True):
    """How far it has come, in words. The latest word is kept."""

    message: str


class CancelRequest(Struct, frozen=True):
    """Somebody wants its end. The first reason is kept."""

    reason: str


class Ending(Struct, frozen=True, kw_only=True):
    """It is over. `summary`: what it came to, or why it failed; `code` is for a failure."""

    state: TaskEnd
    summary: str = ""
    code: str = "task_failed"


TaskChange = Unfolding | Progress | CancelRequest | Ending


class ChangedTask(Struct, frozen=True):
    """The task after a change, and what is to be told of it: nothing when it had changed nothing."""

    record: TaskRecord
    kind: TaskNewsKind | None = None


class Transferred(Struct, frozen=True):
    """A task before and after it was handed over."""

    before: TaskRecord
    after: TaskRecord


# What is told


class TaskEvent(Struct, frozen=True, kw_only=True):
    """Something that happened to a task of a session: the record as that session has it, so a task that was handed over
    is told of twice, to each of the two.
    """

    kind: TaskNewsKind
    record: TaskRecord

    @property
    def session_id(self) -> str:
        return self.record.session_id


class TasksLost(Struct, frozen=True):
    """So many events were not kept for a reader who was too slow. List the tasks again to know how they stand."""

    lost: int


class TaskFilter(Struct, frozen=True, kw_only=True):
    """Which events a reader wants. Every event says whose it is, so none passes by a filter that names another session.

    `include_terminal`: also what happens to tasks that had ended before, which is that they are forgotten. The end of a
    task is told with and without it: whoever saw it live learns of its end.
    """

    session_id: str | None = None
    kind: TaskKind | None = None
    include_terminal: bool = True
