"""The shapes of a session: messages, usage, the stored record, what a store hands back."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

__all__ = [
    "INITIAL_FRAME",
    "AgentFrame",
    "Attachment",
    "Failure",
    "LaneBusy",
    "LeaseRequest",
    "Message",
    "MessagePage",
    "Metadata",
    "NewSession",
    "PersistedState",
    "Policy",
    "ReadView",
    "Request",
    "Role",
    "SessionEntry",
    "SessionLease",
    "SessionPage",
    "SessionRecord",
    "Status",
    "Tools",
    "Usage",
    "UsageFigures",
]

INITIAL_FRAME = "initial"
"""Id of the agent frame every session begins with."""

Policy = dict[str, Any]
Metadata = dict[str, Any]

Status = Literal["waiting", "running", "queued", "idle"]
Role = Literal["user", "assistant", "system"]
MessageStatus = Literal["completed", "cancelled", "failed"]


class Failure(Struct, frozen=True):
    """Why work failed: a stable code and a sentence for people."""

    code: str
    message: str


class Message(Struct, frozen=True, kw_only=True):
    """One entry of the transcript. `status` and `error` are there when the turn did not end well. `agent_frame_id` is
    there for all but those of the initial frame.
    """

    message_id: str
    role: Role
    content: str
    parts: list[dict[str, Any]] | UnsetType = UNSET
    origin: dict[str, Any] | UnsetType = UNSET
    turn_id: str | UnsetType = UNSET
    status: MessageStatus | UnsetType = UNSET
    error: Failure | UnsetType = UNSET
    agent_frame_id: str | UnsetType = UNSET
    at_ms: int


class UsageFigures(Struct, frozen=True):
    """Tokens and requests of model calls. They only grow."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0


class Usage(Struct, frozen=True):
    """What a session's model calls cost, in total, by model, and by who made them and model. `by_source` is there once
    a source was told.
    """

    totals: UsageFigures = UsageFigures()
    by_model: dict[str, UsageFigures] = field(default_factory=dict)
    by_source: dict[str, dict[str, UsageFigures]] | UnsetType = UNSET


class AgentFrame(Struct, frozen=True, kw_only=True):
    """A stretch of a session in which one transcript grew. `reason`: `initial`, `continue_as`, `compaction`, or the
    word of the agent that began it.
    """

    frame_id: str
    previous_frame_id: str | None
    reason: str
    status: Literal["active", "superseded"]
    created_at_ms: int


class ReadView(Struct, frozen=True, kw_only=True):
    """The transcript as readers see it: the newest messages, and whether older ones were left out."""

    messages: tuple[Message, ...] = ()
    agent_frame_id: str = INITIAL_FRAME
    turn_index: int = 0
    truncated: bool = False


class Tools(Struct, frozen=True, kw_only=True):
    """The tool surface; empty for agents that keep their tools to themselves."""

    generation: int = 0
    catalog: tuple[dict[str, Any], ...] = ()
    error: str | None = None


class NewSession(Struct, frozen=True, kw_only=True):
    """A session before the store has it."""

    session_id: str
    policy: Policy = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)


class SessionRecord(Struct, frozen=True, kw_only=True):
    """A session's stored head: all that is not a message, a batch or a stamp. Its size does not grow with the
    transcript.
    """

    session_id: str
    revision: int
    turn_index: int
    agent_frame_id: str
    policy: Policy
    metadata: Metadata
    usage: Usage
    title: str
    created_at_ms: int
    updated_at_ms: int
    tools: Tools = Tools()


class PersistedState(Struct, frozen=True, kw_only=True):
    """Everything about a session that outlives its turns, as of its last commit: what a running turn has said so far is
    not in it.

    `head_revision` counts the commits of its store; a session that has no store has none. `messages` are those of the
    current agent frame, the newest of them where `truncated` says so; the store has the rest.
    """

    session_id: str
    head_revision: int | None
    turn_index: int
    agent_frame_id: str
    policy: Policy
    metadata: Metadata
    usage: Usage
    messages: tuple[Message, ...]
    truncated: bool = False


class Request(Struct, frozen=True, kw_only=True):
    """What a turn asks of people and waits for. `kind`: `approval`, `question`, or a word of the agent's own.
    `options`: what is offered as an answer; an approval takes no other.
    """

    request_id: str
    turn_id: str
    kind: str
    prompt: str
    options: list[Any] | UnsetType = UNSET
    at_ms: int


class SessionLease(Struct, frozen=True, kw_only=True):
    """The right to be the session's one writer.

    The token proves it. The generation orders owners: it grows with each acquisition and never goes back, so whatever
    carries an older one was done for an owner that has been superseded. Expiry only says from when on another owner may
    take over; until one has, a late commit under the lease stands.
    """

    session_id: str
    owner_id: str
    lease_token: str
    generation: int
    expires_at_ms: int


class LeaseRequest(Struct, frozen=True, kw_only=True):
    """A session lease to be acquired together with a claim, in one transaction."""

    owner_id: str
    lease_token: str
    ttl_ms: int


class LaneBusy(Struct, frozen=True):
    """Another owner holds the session's lease, until then unless it is renewed or released."""

    owner_id: str
    expires_at_ms: int


class Attachment(Struct, frozen=True, kw_only=True):
    """A stored picture, named by its content."""

    attachment_id: str
    media_type: str
    size: int


class SessionEntry(Struct, frozen=True, kw_only=True):
    """One line of the session list. `pending` counts the batches waiting for their turn."""

    session_id: str
    status: Status
    revision: int
    updated_at_ms: int
    metadata: Metadata
    pending: int
    title: str


class SessionPage(Struct, frozen=True):
    """Sessions, newest activity first. `next` is the `after` of the page that follows, or none."""

    sessions: tuple[SessionEntry, ...]
    next: str | None


class MessagePage(Struct, frozen=True):
    """Messages, oldest first. `next` is the `before` of the next older page, or none."""

    messages: tuple[Message, ...]
    next: str | None
