"""Every error the kernel raises, one tree.

SightlineError
 ├── InvalidInput               what was asked makes no sense; names the field
 │    └── InvalidPayload        an event's payload is not what its type declares
 ├── CursorError
 │    ├── MalformedCursor       not a cursor at all
 │    └── WrongSessionCursor    a cursor, but of another session
 ├── NotFound
 │    ├── SessionNotFound
 │    ├── BatchNotFound
 │    ├── RequestNotFound
 │    ├── AttachmentNotFound
 │    ├── ProcessNotFound
 │    ├── ProcessValueNotFound
 │    └── TaskNotFound
 ├── SessionDeleted             the id is fenced for good
 ├── Conflict
 │    ├── SessionExists
 │    ├── BatchNotCancellable   claimed or ended: already taken or done
 │    ├── AlreadyAnswered       somebody was faster
 │    ├── IdempotencyKeyReused  the key came back with other content
 │    ├── ClaimExpired          somebody else holds the work now
 │    ├── LeaseLost             somebody else may write to the session now
 │    ├── HeadConflict          the session moved on under this commit
 │    ├── TurnCommitConflict    this turn was committed with another content
 │    ├── ProcessConflict       the id, or the replay key, came back with other content
 │    │    └── ProcessNotYours  its end is for somebody else to tell
 │    ├── ProcessTerminal       it has ended already, and otherwise
 │    ├── ProcessLeaseLost      somebody else may run the process now
 │    ├── HandleNotVisible      the process is not granted to whoever asks
 │    │    ├── HandleNotGranted  and so is not theirs to hand over
 │    │    └── TaskNotVisible    it is no live task and no live async handle of whoever asks
 │    ├── TaskConflict          a live task has the id already, or does not go by what others say
 │    └── TasksUnavailable      nobody does background work here
 ├── CommandFailed              a session command was carried out, to a bad end
 ├── StoreCommitFailed          the session has no store that could accept work
 ├── InvalidFrame               what came from another process is not what the wire says
 ├── SubscriptionEnded          a subscription that has nothing more to say
 │    ├── SubscriberLagged      events were lost to it; begin again behind the last one seen
 │    └── SubscriptionClosed    the session, or its handle, is gone
 ├── Unavailable                try again later; always says when
 │    ├── QueueFull
 │    ├── TooManyTasks
 │    ├── Draining
 │    └── StoreUnavailable
 └── StartupError               in `startup_errors`: the process cannot begin its work

Each class carries a stable `code` (what programs match on) and `retryable`; facts are attributes, and the message is
composed from them. Errors are raised where the decision falls and travel unchanged to whoever has to answer.
"""

from __future__ import annotations

from sightline.errors.background import (
    HandleNotGranted,
    HandleNotVisible,
    InvalidPayload,
    ProcessConflict,
    ProcessLeaseLost,
    ProcessNotFound,
    ProcessNotYours,
    ProcessTerminal,
    ProcessValueNotFound,
    TaskConflict,
    TaskNotFound,
    TaskNotVisible,
    TasksUnavailable,
    TooManyTasks,
)
from sightline.errors.kinds import (
    Conflict,
    Draining,
    InvalidInput,
    NotFound,
    SightlineError,
    StoreUnavailable,
    Unavailable,
)
from sightline.errors.sessions import (
    AlreadyAnswered,
    AttachmentNotFound,
    BatchNotCancellable,
    BatchNotFound,
    ClaimExpired,
    CommandFailed,
    HeadConflict,
    IdempotencyKeyReused,
    LeaseLost,
    QueueFull,
    RequestNotFound,
    SessionDeleted,
    SessionExists,
    SessionNotFound,
    StoreCommitFailed,
    TurnCommitConflict,
)
from sightline.errors.watching import (
    CursorError,
    InvalidFrame,
    MalformedCursor,
    SubscriberLagged,
    SubscriptionClosed,
    SubscriptionEnded,
    WrongSessionCursor,
)

__all__ = [
    "AlreadyAnswered",
    "AttachmentNotFound",
    "BatchNotCancellable",
    "BatchNotFound",
    "ClaimExpired",
    "CommandFailed",
    "Conflict",
    "CursorError",
    "Draining",
    "HandleNotGranted",
    "HandleNotVisible",
    "HeadConflict",
    "IdempotencyKeyReused",
    "InvalidFrame",
    "InvalidInput",
    "InvalidPayload",
    "LeaseLost",
    "MalformedCursor",
    "NotFound",
    "ProcessConflict",
    "ProcessLeaseLost",
    "ProcessNotFound",
    "ProcessNotYours",
    "ProcessTerminal",
    "ProcessValueNotFound",
    "QueueFull",
    "RequestNotFound",
    "SessionDeleted",
    "SessionExists",
    "SessionNotFound",
    "SightlineError",
    "StoreCommitFailed",
    "StoreUnavailable",
    "SubscriberLagged",
    "SubscriptionClosed",
    "SubscriptionEnded",
    "TaskConflict",
    "TaskNotFound",
    "TaskNotVisible",
    "TasksUnavailable",
    "TooManyTasks",
    "TurnCommitConflict",
    "Unavailable",
    "WrongSessionCursor",
]
