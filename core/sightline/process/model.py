"""The shapes of processes: what is registered, what its log holds, who sees it, and who runs it.

A process is durable work that outlives the turn which began it. Its record says what it is; its log of events says what
became of it, and the record follows from the log. Sessions see it by grants.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from sightline.queue.model import Enqueued, ProcessWake
from sightline.session.model import Attachment

__all__ = [
    "PROCESS_LEASE_TTL_MS",
    "AbandonedOutput",
    "Appended",
    "AwaitOutput",
    "CancelledOutput",
    "ConstSelector",
    "Disposition",
    "EventSemantics",
    "EventType",
    "ExternalRef",
    "FailureOutput",
    "GrantHolder",
    "GrantsEnded",
    "HandleGrant",
    "HandleSummary",
    "KeptValue",
    "NewEvent",
    "NewGrant",
    "PayloadSelector",
    "PendingWake",
    "PointerSelector",
    "PresentSelector",
    "ProcessBusy",
    "ProcessEvent",
    "ProcessHandles",
    "ProcessLease",
    "ProcessPage",
    "ProcessRecord",
    "ProcessScope",
    "ProcessStatus",
    "Provenance",
    "Registered",
    "Registration",
    "Selector",
    "SuccessOutput",
    "TemplateSelector",
    "TerminalRule",
    "TerminalState",
    "WakeDelivery",
    "WakeRule",
]

PROCESS_LEASE_TTL_MS = 30_000
"""How long a worker that is not heard of any more keeps others from its process. To be renewed every third of it."""

ProcessStatus = Literal["running", "completed", "failed", "cancelled", "abandoned"]
TerminalState = Literal["completed", "failed", "cancelled"]
"""The ends that events can declare. `abandoned` is not among them: the registry alone finds that, by the lease."""

Disposition = Literal["rerunnable", "owner_bound", "externally_owned"]
"""What becomes of a process whose owner died: another worker runs it again; it is abandoned; or there is no owner here,
because somebody else does the work and reports.
"""


class ProcessScope(Struct, frozen=True):
    """Who may see a process: a session, or one agent frame of it. Compared by its parts, never by a text made of them:
    a session's id may hold whatever such a text would put between them.
    """

    session_id: str
    agent_frame_id: str = ""


# What an event means


class PayloadSelector(Struct, frozen=True, tag="payload", tag_field="type", forbid_unknown_fields=True):
    """The whole payload."""


class PointerSelector(Struct, frozen=True, tag="pointer", tag_field="type", forbid_unknown_fields=True):
    """What a JSON pointer (RFC 6901) finds in it; it has to find something."""

    pointer: str


class ConstSelector(Struct, frozen=True, tag="const", tag_field="type", forbid_unknown_fields=True):
    value: Any


class TemplateSelector(Struct, frozen=True, tag="template", tag_field="type", forbid_unknown_fields=True):
    """Text in which each `{name}` is replaced by the text of its field, once: what a value brings is not looked at."""

    template: str
    fields: dict[str, Selector] = field(default_factory=dict)


class PresentSelector(Struct, frozen=True, tag="present", tag_field="type", forbid_unknown_fields=True):
    """Whether a JSON pointer finds anything."""

    pointer: str


Selector = PayloadSelector | PointerSelector | ConstSelector | TemplateSelector | PresentSelector
"""How a value is taken from an event's payload."""


class TerminalRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event of this type is the process's end. `output` selects what it came to; a completed process without one
    came to the payload.
    """

    state: TerminalState
    output: Selector | UnsetType = UNSET


class WakeRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event of this type asks for a turn, unless `when` selects something empty.

    `input` is what the turn is told. Of wakes of one process with one `dedupe_key` the first counts, for good; without
    one each event is a wake of its own.
    """

    input: Selector
    when: Selector | UnsetType = UNSET
    dedupe_key: Selector | UnsetType = UNSET


class EventSemantics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    terminal: TerminalRule | UnsetType = UNSET
    wake: WakeRule | UnsetType = UNSET


class EventType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A type of event that a process may log. `schema` is for its payload (`sightline.process.schemas`)."""

    name: str
    schema: dict[str, Any] | bool | UnsetType = UNSET
    semantics: EventSemantics | UnsetType = UNSET


# What a process came to


class SuccessOutput(Struct, frozen=True, kw_only=True, tag="success", tag_field="type"):
    value: Any = None
    control: dict[str, Any] | UnsetType = UNSET


class FailureOutput(Struct, frozen=True, kw_only=True, tag="failure", tag_field="type", rename={"class_": "class"}):
    """`class_` is the kind of trouble, `code` the stable word for it, `raw` what there is besides."""

    class_: str = "execution"
    code: str
    message: str
    raw: Any = UNSET
    control: dict[str, Any] | UnsetType = UNSET


class CancelledOutput(Struct, frozen=True, kw_only=True, tag="cancelled", tag_field="type"):
    message: str
    raw: Any = UNSET
    control: dict[str, Any] | UnsetType = UNSET


class AbandonedOutput(Struct, frozen=True, kw_only=True, tag="abandoned", tag_field="type"):
    """Nobody knows what it came to: its owner is gone. The evidence is the owner's lease, and who found it lapsed."""

    message: str
    owner_id: str
    fencing_token: int
    expired_at_ms: int
    found_by: str


AwaitOutput = SuccessOutput | FailureOutput | CancelledOutput | AbandonedOutput
"""What whoever awaits a process gets."""


# Registration


class Provenance(Struct, frozen=True, kw_only=True):
    """Who began a process, and which kind of worker can run it. A process that an operator began has no session."""

    owner_scope: ProcessScope | UnsetType = UNSET
    host_profile_id: str = "default"
    caused_by: dict[str, Any] | UnsetType = UNSET


class Registration(Struct, frozen=True, kw_only=True):
    """A process before the registry has it.

    `kind` says which engine runs it and `input` what it gets. `wake_target` is whom its wakes are for; without one,
    its owner.
    """

    process_id: str
    kind: str
    input: dict[str, Any]
    disposition: Disposition
    provenance: Provenance = Provenance()
    event_types: tuple[EventType, ...] = ()
    wake_target: ProcessScope | UnsetType = UNSET


class NewGrant(Struct, frozen=True, kw_only=True):
    """A grant to be made together with a registration. `descriptor` is how the process is called there."""

    scope: ProcessScope
    descriptor: dict[str, Any] = field(default_factory=dict)


class ExternalRef(Struct, frozen=True, kw_only=True):
    """How a process is called where it is really done."""

    backend: str
    id: str
    metadata: dict[str, Any] | UnsetType = UNSET


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """A process as it stands. It is `running` from its registration to its terminal event.

    `last_sequence` is the number of its newest event. `attempts` counts the charged leases so far, and `started_at_ms`
    is when the first was taken. `cancel_requested`: somebody wants its end. `progress` is the payload of its newest
    event `progress`, if that is small.
    """

    process_id: str
    registration_hash: str
    kind: str
    input: dict[str, Any]
    disposition: Disposition
    provenance: Provenance
    event_types: tuple[EventType, ...]
    created_at_ms: int
    updated_at_ms: int
    wake_target: ProcessScope | UnsetType = UNSET
    status: ProcessStatus = "running"
    output: AwaitOutput | UnsetType = UNSET
    external_ref: ExternalRef | UnsetType = UNSET
    cancel_requested: bool = False
    progress: Any = UNSET
    last_sequence: int = 0
    attempts: int = 0
    started_at_ms: int | UnsetType = UNSET

    @property
    def is_terminal(self) -> bool:
        return self.status != "running"


class Registered(Struct, frozen=True, kw_only=True):
    """`created` is false when the same registration was there already."""

    record: ProcessRecord
    created: bool


class ProcessPage(Struct, frozen=True):
    """Processes, the newest first. `next` is the `after` of the page that follows, or none."""

    processes: tuple[ProcessRecord, ...]
    next: str | None


# The log


class NewEvent(Struct, frozen=True, kw_only=True):
    """An event before the log has it. The same `replay_key` with the same content is the same event, once."""

    event_type: str
    payload: Any = None
    replay_key: str | UnsetType = UNSET
    caused_by: dict[str, Any] | UnsetType = UNSET


class ProcessEvent(Struct, frozen=True, kw_only=True):
    """An entry of a process's log, numbered from 1 without holes.

    `output` is there when it was the end, `wake` when it asked for a turn; both as they were found when it came.
    """

    process_id: str
    sequence: int
    event_type: str
    payload: Any
    occurred_at_ms: int
    replay_key: str | UnsetType = UNSET
    caused_by: dict[str, Any] | UnsetType = UNSET
    output: AwaitOutput | UnsetType = UNSET
    wake: ProcessWake | UnsetType = UNSET


class KeptValue(Struct, frozen=True, kw_only=True):
    """A value that is too large to stand in a log. `data` is its JSON."""

    attachment: Attachment
    data: bytes


class Appended(Struct, frozen=True, kw_only=True):
    """What came of an event: the record after it, and the event; none for a request to cancel what had ended.

    `replayed`: it was in the log before, and nothing was written. `kept`: what is kept beside the log, because it is
    only named there.
    """

    record: ProcessRecord
    event: ProcessEvent | None
    replayed: bool = False
    kept: tuple[KeptValue, ...] = ()


class PendingWake(Struct, frozen=True, kw_only=True):
    """A wake that has to get into the queue of its target. `position` orders all wakes of a registry."""

    position: int
    wake: ProcessWake


class WakeDelivery(Struct, frozen=True, kw_only=True):
    """What became of a wake: it is in the queue of its target, was discarded because there is none any more, or was
    settled before.
    """

    state: Literal["enqueued", "discarded", "settled"]
    enqueued: Enqueued | UnsetType = UNSET


# Who runs it


class ProcessLease(Struct, frozen=True, kw_only=True):
    """The right to run a process and write its log. The token proves it; the fencing token orders the owners and never
    goes back. From `expires_at_ms` on another owner may take over.
    """

    process_id: str
    owner_id: str
    lease_token: str
    fencing_token: int
    claimed_at_ms: int
    expires_at_ms: int


class ProcessBusy(Struct, frozen=True):
    """Somebody else's lease is in the way: until then, or, of an owner-bound process, for good."""

    owner_id: str
    expires_at_ms: int


# Who sees it


class HandleGrant(Struct, frozen=True, kw_only=True):
    """The right of a scope to a process. `descriptor` is how it is called there, `definition` what it runs; the rest is
    as the record has it.
    """

    process_id: str
    status: ProcessStatus
    descriptor: dict[str, Any] = field(default_factory=dict)
    definition: dict[str, Any] | UnsetType = UNSET
    kind: str = ""
    created_at_ms: int = 0
    cancel_requested: bool = False
    progress: Any = UNSET


class GrantHolder(Struct, frozen=True, kw_only=True):
    """One of those who see a process, and how they call it."""

    scope: ProcessScope
    descriptor: dict[str, Any] = field(default_factory=dict)


class GrantsEnded(Struct, frozen=True, kw_only=True):
    """What came of taking grants away, all by process id.

    `revoked` lists each process once for each grant it lost. `cancelled` are those nobody sees any more and whose end
    was asked for; `preserved` those that go on, because somebody else sees them, and those that had ended.
    """

    revoked: tuple[str, ...] = ()
    cancelled: tuple[Appended, ...] = ()
    preserved: tuple[str, ...] = ()


class HandleSummary(Struct, frozen=True, kw_only=True):
    """A process as readers are shown it, with all that a list of processes needs.

    `id` is the process id once more, under the name that handles have it. `label` is what the descriptor calls it;
    without that, what it runs.
    """

    process_id: str
    status: ProcessStatus
    descriptor: dict[str, Any]
    id: str
    kind: str
    label: str
    created_at_ms: int
    cancel_requested: bool = False
    handle: Literal["process"] = field(default="process", name="__handle__")
    definition: dict[str, Any] | UnsetType = UNSET
    progress: Any = UNSET

    @classmethod
    def of(cls, grant: HandleGrant) -> HandleSummary:
        return cls(
            process_id=grant.process_id,
            id=grant.process_id,
            status=grant.status,
            descriptor=grant.descriptor,
            kind=grant.kind,
            label=_label(grant),
            created_at_ms=grant.created_at_ms,
            cancel_requested=grant.cancel_requested,
            definition=grant.definition,
            progress=grant.progress,
        )


def _label(grant: HandleGrant) -> str:
    definition = {} if isinstance(grant.definition, UnsetType) else grant.definition
    for called in (grant.descriptor.get("label"), definition.get("name")):
        if isinstance(called, str) and called:
            return called
    return grant.kind


class ProcessHandles(Struct, frozen=True):
    """The processes a session sees, by process id, each once. `errors` says which scopes could not be read: what is
    granted to those is missing.
    """

    handles: tuple[HandleSummary, ...] = ()
    errors: tuple[str, ...] = ()
