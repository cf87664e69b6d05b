"""The shapes of the turn queue. Names and wire strings are the field's; see the glossary."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from sightline.session.model import Failure, SessionLease

__all__ = [
    "CLAIM_TTL_MS",
    "MAX_CLAIM",
    "Batch",
    "BatchState",
    "BatchSummary",
    "Boundary",
    "CancelState",
    "Cancellation",
    "Claim",
    "CommandPayload",
    "Completion",
    "DeliveryPolicy",
    "Draft",
    "Enqueued",
    "Group",
    "ImageItem",
    "InputItem",
    "Item",
    "MergeKey",
    "NothingClaimed",
    "Payload",
    "ProcessWake",
    "Receipt",
    "RefreshToolSurface",
    "ResetSession",
    "SessionCommand",
    "SlotPolicy",
    "TaskWake",
    "TaskWakePayload",
    "TextItem",
    "TurnInput",
    "TurnInputPayload",
    "WakePayload",
]

CLAIM_TTL_MS = 15 * 60 * 1000
"""How long a claim is protected from being taken over, in milliseconds."""

MAX_CLAIM = 64
"""How many batches a turn takes at once."""


class DeliveryPolicy(StrEnum):
    """The earliest moment a batch may be delivered."""

    EARLIEST_SAFE_BOUNDARY = "earliest_safe_boundary"
    AFTER_CURRENT_TURN_COMMIT = "after_current_turn_commit"


class SlotPolicy(StrEnum):
    """Whether a batch may share a claim with its neighbours."""

    JOIN = "join"
    EXCLUSIVE = "exclusive"


class Boundary(StrEnum):
    """Where work is claimed."""

    ACTIVE_TURN_CHECKPOINT = "active_turn_checkpoint"
    IDLE = "idle"


class BatchState(StrEnum):
    """A batch is open while pending or claimed; the other three are its ends."""

    PENDING = "pending"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        return self in (BatchState.PENDING, BatchState.CLAIMED)


class Group(Struct, frozen=True):
    """Batches of equal group text may join."""

    group: str


MergeKey = Literal["never", "payload_default"] | Group


class TextItem(Struct, frozen=True, tag="text", tag_field="type"):
    text: str


class ImageItem(Struct, frozen=True, tag="image_ref", tag_field="type"):
    """A picture by its id in the input's blobs."""

    id: str


InputItem = TextItem | ImageItem


class TurnInput(Struct, frozen=True):
    """What a user says to the agent: items in order, and the bytes that image items name.

    `protocol_turn_options` are handed to the agent as they are; `trace_turn_id` is the sender's own name for the turn.
    """

    items: tuple[InputItem, ...]
    image_blobs: dict[str, bytes] | UnsetType = UNSET
    protocol_turn_options: dict[str, Any] | UnsetType = UNSET
    trace_turn_id: str | UnsetType = UNSET


class ProcessWake(Struct, frozen=True, kw_only=True):
    """A process's wish for a turn in a session, made of one event of its log.

    `wake_id` names the wish by what it is for (target and dedupe key), `process_id` and `sequence` by where it came
    from.
    """

    wake_id: str
    target_session_id: str
    target_scope_id: str
    process_id: str
    sequence: int
    event_type: str
    dedupe_key: str
    input: str
    created_at_ms: int
    event_invocation: dict[str, Any] | UnsetType = UNSET
    process_caused_by: dict[str, Any] | UnsetType = UNSET


class TaskWake(Struct, frozen=True, kw_only=True):
    """A background task's wish for a turn: what it has to say, in lines. `generation` is its registration's, `number`
    counts its wishes.
    """

    task_id: str
    target_session_id: str
    generation: int
    number: int
    input: str
    created_at_ms: int


class RefreshToolSurface(Struct, frozen=True, kw_only=True, tag="refresh_tool_surface", tag_field="kind"):
    """Read the tools anew. With `expected_generation`, only if the surface still is of that generation."""

    reason: str
    expected_generation: int | UnsetType = UNSET


class ResetSession(Struct, frozen=True, kw_only=True, tag="reset_session", tag_field="kind"):
    """Empty the transcript; policy and metadata stay."""

    reason: str


SessionCommand = RefreshToolSurface | ResetSession


class TurnInputPayload(Struct, frozen=True, tag="turn_input", tag_field="type"):
    input: TurnInput


class WakePayload(Struct, frozen=True, tag="process_wake", tag_field="type"):
    wake: ProcessWake


class TaskWakePayload(Struct, frozen=True, tag="task_wake", tag_field="type"):
    wake: TaskWake


class CommandPayload(Struct, frozen=True, tag="session_command", tag_field="type"):
    command: SessionCommand


Payload = TurnInputPayload | WakePayload | TaskWakePayload | CommandPayload
"""What a batch may carry, told apart by `type`."""


class Item(Struct, frozen=True):
    """One payload of a batch; `item_id` is `<batch_id>:item:<index>`."""

    item_id: str
    payload: Payload


class Draft(Struct, frozen=True, kw_only=True):
    """A batch before the store has given it an id, a sequence and a time. `available_at_ms` 0 means now."""

    session_id: str
    payloads: tuple[Payload, ...]
    source_key: str | None = None
    delivery_policy: DeliveryPolicy = DeliveryPolicy.AFTER_CURRENT_TURN_COMMIT
    slot_policy: SlotPolicy = SlotPolicy.EXCLUSIVE
    merge_key: MergeKey = "never"
    available_at_ms: int = 0


class Batch(Struct, frozen=True, kw_only=True):
    """The unit of enqueue, order, claim and completion.

    `attempts` counts the charged claims so far. `turn_id` is there once a turn took the batch, and stays when that
    attempt died: the next attempt is the same turn with the same members.
    """

    batch_id: str
    session_id: str
    enqueue_seq: int
    state: BatchState
    delivery_policy: DeliveryPolicy
    slot_policy: SlotPolicy
    merge_key: MergeKey
    available_at_ms: int
    enqueued_at_ms: int
    items: tuple[Item, ...]
    attempts: int = 0
    source_key: str | UnsetType = UNSET
    turn_id: str | UnsetType = UNSET
    error: Failure | UnsetType = UNSET


class BatchSummary(Struct, frozen=True, kw_only=True):
    """A batch as a list shows it: no payload, only what kind of work it is and how it begins."""

    batch_id: str
    enqueue_seq: int
    state: BatchState
    kind: str
    preview: str
    delivery_policy: DeliveryPolicy
    slot_policy: SlotPolicy
    available_at_ms: int
    source_key: str | UnsetType = UNSET
    turn_id: str | UnsetType = UNSET


class Claim(Struct, frozen=True, kw_only=True):
    """A temporary, exclusive hold on a group of batches.

    The lease token proves ownership; the fencing token only orders generations. `attempt` is the number of this try,
    from 1. `cancel_requested` carries the reason when somebody asked for the turn's end before this attempt began.
    `lease` is the session lease that the claim was taken under, if it was.
    """

    session_id: str
    claim_id: str
    owner_id: str
    lease_token: str
    fencing_token: int
    claimed_at_epoch_ms: int
    expires_at_epoch_ms: int
    turn_id: str
    attempt: int
    batches: tuple[Batch, ...]
    cancel_requested: str | None = None
    lease: SessionLease | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no batch brings an item. Such a claim still has to be completed."""
        return all(not batch.items for batch in self.batches)

    def completion(self) -> Completion:
        return Completion(
            session_id=self.session_id,
            claim_id=self.claim_id,
            lease_token=self.lease_token,
            batch_ids=tuple(batch.batch_id for batch in self.batches),
        )


class Completion(Struct, frozen=True, kw_only=True):
    """The proof handed back with a commit. It covers the whole claim."""

    session_id: str
    claim_id: str
    lease_token: str
    batch_ids: tuple[str, ...]


class Receipt(Struct, frozen=True, kw_only=True):
    """A session command was accepted, not yet applied."""

    session_id: str
    batch_id: str
    source_key: str


class NothingClaimed(Struct, frozen=True):
    """Why a claim took nothing.

    * `empty`: the session has no open work, or is gone;
    * `not_yet_available`: all of it is delayed; `due_at_ms` says until when;
    * `held`: all that is ready is claimed;
    * `delivery_boundary_blocked`: the head waits for the end of the running turn;
    * `command_at_head`: the same, and the head is a session command;
    * `selection_mismatch`: the batches asked for are not exactly the next group;
    * `lane_busy`: another owner holds the session's lease, until `due_at_ms` at least;
    * `limit_zero`: no batch was asked for.
    """

    reason: Literal[
        "empty",
        "not_yet_available",
        "held",
        "delivery_boundary_blocked",
        "command_at_head",
        "selection_mismatch",
        "lane_busy",
        "limit_zero",
    ]
    due_at_ms: int | None = None


class Enqueued(Struct, frozen=True):
    """The batch in the store; `replayed` says that the source key had brought it there before."""

    batch: Batch
    replayed: bool


CancelState = Literal["cancel_requested", "cancelled", "ended", "none", "will_cancel"]


class Cancellation(Struct, frozen=True, kw_only=True):
    """The answer to a cancel request. `batches` are the ones whose state this request changed."""

    turn_id: str | None
    state: CancelState
    batches: tuple[Batch, ...] = ()
