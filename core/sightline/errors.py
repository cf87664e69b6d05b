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


class SightlineError(Exception):
    """Base of all; never raised itself."""

    code = "internal"
    retryable = False


class InvalidInput(SightlineError):
    """A value that cannot be accepted. `field` is its path, `detail` what would have been right."""

    code = "invalid_field"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(field, detail)
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}"


class InvalidPayload(InvalidInput):
    """`pointer` (RFC 6901) leads to the value in the payload that is wrong; it is empty for the whole."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"payload{pointer}", detail)
        self.args = (pointer, detail)
        self.pointer = pointer


class CursorError(SightlineError):
    """A cursor that must not reach any store."""


class MalformedCursor(CursorError):
    """`part` says which part of the text is missing or wrong."""

    code = "malformed_cursor"

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part

    def __str__(self) -> str:
        return f"not a cursor: {self.part}"


class WrongSessionCursor(CursorError):
    """A well-formed cursor presented to a session it was not issued by."""

    code = "wrong_session_cursor"

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return f"the cursor belongs to session {self.actual!r}, not to {self.expected!r}"


class NotFound(SightlineError):
    """What was asked for does not exist."""

    code = "not_found"


class SessionNotFound(NotFound):
    code = "session_not_found"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"there is no session {self.session_id!r}"


class BatchNotFound(NotFound):
    code = "batch_not_found"

    def __init__(self, session_id: str, batch_id: str) -> None:
        super().__init__(session_id, batch_id)
        self.session_id = session_id
        self.batch_id = batch_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} has no batch {self.batch_id!r}"


class RequestNotFound(NotFound):
    """No turn of the session waits for an answer to this, nor was one given lately."""

    code = "request_not_found"

    def __init__(self, session_id: str, request_id: str) -> None:
        super().__init__(session_id, request_id)
        self.session_id = session_id
        self.request_id = request_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} has no request {self.request_id!r}"


class AttachmentNotFound(NotFound):
    """`owner_id`: the session, or the process, that does not have it."""

    code = "attachment_not_found"

    def __init__(self, owner_id: str, attachment_id: str) -> None:
        super().__init__(owner_id, attachment_id)
        self.owner_id = owner_id
        self.attachment_id = attachment_id

    def __str__(self) -> str:
        return f"{self.owner_id!r} has no attachment {self.attachment_id!r}"


class ProcessNotFound(NotFound):
    code = "process_not_found"

    def __init__(self, process_id: str) -> None:
        super().__init__(process_id)
        self.process_id = process_id

    def __str__(self) -> str:
        return f"there is no process {self.process_id!r}"


class TaskNotFound(NotFound):
    code = "task_not_found"

    def __init__(self, task: str) -> None:
        super().__init__(task)
        self.task = task

    def __str__(self) -> str:
        return f"there is no {self.task}"


class SessionDeleted(SightlineError):
    """The session was deleted; its id is fenced and never means another session."""

    code = "session_deleted"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} was deleted"


class Conflict(SightlineError):
    """The request is fine, the state it meets is not."""

    code = "conflict"


class SessionExists(Conflict):
    code = "session_exists"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} exists already"


class BatchNotCancellable(Conflict):
    """`state` is the batch's state at that moment; a pending one is between two attempts of its turn."""

    code = "batch_not_cancellable"

    def __init__(self, batch_id: str, state: str) -> None:
        super().__init__(batch_id, state)
        self.batch_id = batch_id
        self.state = state

    def __str__(self) -> str:
        why = "its turn has begun, cancel the turn" if self.state == "pending" else f"it is {self.state}"
        return f"batch {self.batch_id!r} cannot be cancelled: {why}"


class AlreadyAnswered(Conflict):
    """The first answer counts. `answer` is that one, as JSON: whoever never heard that it was taken knows it again."""

    code = "already_answered"

    def __init__(self, session_id: str, request_id: str, answer: str) -> None:
        super().__init__(session_id, request_id, answer)
        self.session_id = session_id
        self.request_id = request_id
        self.answer = answer

    def __str__(self) -> str:
        return f"request {self.request_id!r} of session {self.session_id!r} was answered already"


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"

    def __init__(self, source_key: str) -> None:
        super().__init__(source_key)
        self.source_key = source_key

    def __str__(self) -> str:
        return f"the key {self.source_key.removeprefix('host:')!r} was used with other content"


class ClaimExpired(Conflict):
    """The claim's rows are not held by its lease token any more; nothing was written."""

    code = "claim_expired"

    def __init__(self, session_id: str, claim_id: str) -> None:
        super().__init__(session_id, claim_id)
        self.session_id = session_id
        self.claim_id = claim_id

    def __str__(self) -> str:
        return f"claim {self.claim_id!r} of session {self.session_id!r} is held by somebody else"


class LeaseLost(Conflict):
    """The session lease was taken over or released; what was done under it has no place any more."""

    code = "fenced"

    def __init__(self, session_id: str, generation: int) -> None:
        super().__init__(session_id, generation)
        self.session_id = session_id
        self.generation = generation

    def __str__(self) -> str:
        return f"lease generation {self.generation} of session {self.session_id!r} does not rule any more"


class HeadConflict(Conflict):
    """The head revision is not the expected one; nothing was written."""

    code = "fenced"

    def __init__(self, session_id: str, expected: int, actual: int) -> None:
        super().__init__(session_id, expected, actual)
        self.session_id = session_id
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return f"session {self.session_id!r} is at revision {self.actual}, not {self.expected}"


class TurnCommitConflict(Conflict):
    """The turn's stamp exists with another hash; nothing was written."""

    code = "fenced"

    def __init__(self, session_id: str, turn_id: str) -> None:
        super().__init__(session_id, turn_id)
        self.session_id = session_id
        self.turn_id = turn_id

    def __str__(self) -> str:
        return f"turn {self.turn_id!r} of session {self.session_id!r} is committed with other content"


class ProcessConflict(Conflict):
    """What was asked contradicts what the process is; `reason` says how."""

    code = "process_conflict"

    def __init__(self, process_id: str, reason: str) -> None:
        super().__init__(process_id, reason)
        self.process_id = process_id
        self.reason = reason

    def __str__(self) -> str:
        return f"process {self.process_id!r} {self.reason}"


class ProcessNotYours(ProcessConflict):
    """Who may run a process and tell its end follows from its disposition and its lease."""


class ProcessTerminal(Conflict):
    """The process has ended; `status` is how. Whoever wanted to end it was not the first."""

    code = "process_terminal"

    def __init__(self, process_id: str, status: str) -> None:
        super().__init__(process_id, status)
        self.process_id = process_id
        self.status = status

    def __str__(self) -> str:
        return f"process {self.process_id!r} is {self.status} already"


class ProcessLeaseLost(Conflict):
    """The process lease was taken over, ended or not renewed in time; what is done under it has no place any more."""

    code = "fenced"

    def __init__(self, process_id: str, fencing_token: int) -> None:
        super().__init__(process_id, fencing_token)
        self.process_id = process_id
        self.fencing_token = fencing_token

    def __str__(self) -> str:
        return f"lease {self.fencing_token} of process {self.process_id!r} does not rule any more"


class HandleNotVisible(Conflict):
    code = "handle_not_visible"

    def __init__(self, session_id: str, process_id: str) -> None:
        super().__init__(session_id, process_id)
        self.session_id = session_id
        self.process_id = process_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} does not see process {self.process_id!r}"


class HandleNotGranted(HandleNotVisible):
    """What a scope does not see it cannot hand over; of the same request nothing was handed over."""

    code = "handle_not_granted"


class TaskNotVisible(HandleNotVisible):
    def __str__(self) -> str:
        return f"{self.process_id!r} is no live task and no live handle of session {self.session_id!r}"


class TaskConflict(Conflict):
    """`reason` says what is in the way. Nothing of the same request was done."""

    code = "task_conflict"

    def __init__(self, session_id: str, task_id: str, reason: str = "is live already") -> None:
        super().__init__(session_id, task_id, reason)
        self.session_id = session_id
        self.task_id = task_id
        self.reason = reason

    def __str__(self) -> str:
        return f"task {self.task_id!r} of session {self.session_id!r} {self.reason}"


class TasksUnavailable(Conflict):
    """Tasks that others do can be listed here, but work of one's own cannot be done here."""

    code = "tasks_unavailable"

    def __str__(self) -> str:
        return "this runtime does no background work"


class CommandFailed(SightlineError):
    """A session command that could not be done. `reason` is one of the `session_command_*` codes."""

    code = "command_failed"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class StoreCommitFailed(SightlineError):
    """Work was to be queued or cancelled in a session without a store. It would not have survived; nothing was done."""

    code = "store_commit_failed"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} has no store; queued input needs one"


class InvalidFrame(SightlineError):
    """A frame from another process that contradicts the wire or itself. `field` is the path of what is wrong."""

    code = "invalid_frame"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(field, detail)
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"not a frame of this protocol: {self.field} {self.detail}"


class SubscriptionEnded(SightlineError):
    """Nothing more comes from this subscription."""


class SubscriberLagged(SubscriptionEnded):
    """`lost` events were dropped before they were seen, exactly so many when `reason` is `trimmed`; when a publication
    was lost (`unavailable`) it is 0, because nobody knows.

    Not to be gone on from: there is a hole. Subscribe again from the cursor of the last event seen.
    """

    code = "subscriber_lagged"

    def __init__(self, session_id: str, reason: str, lost: int) -> None:
        super().__init__(session_id, reason, lost)
        self.session_id = session_id
        self.reason = reason
        self.lost = lost

    def __str__(self) -> str:
        return f"the subscription to session {self.session_id!r} lost {self.lost} events ({self.reason})"


class SubscriptionClosed(SubscriptionEnded):
    """`reason` is why: `session_deleted`, or `closed` when its own side closed it."""

    code = "subscription_closed"

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(session_id, reason)
        self.session_id = session_id
        self.reason = reason

    def __str__(self) -> str:
        return f"the subscription to session {self.session_id!r} is closed: {self.reason}"


class Unavailable(SightlineError):
    """Not now. `retry_after_ms` is a hint, not a promise."""

    code = "unavailable"
    retryable = True
    retry_after_ms = 1_000


class QueueFull(Unavailable):
    """`limit` is the largest number of open batches a session may hold."""

    code = "queue_full"

    def __init__(self, session_id: str, limit: int) -> None:
        super().__init__(session_id, limit)
        self.session_id = session_id
        self.limit = limit

    def __str__(self) -> str:
        return f"session {self.session_id!r} holds {self.limit} open batches already"


class TooManyTasks(Unavailable):
    """`limit` is the largest number of live tasks a session may list."""

    code = "too_many_tasks"

    def __init__(self, session_id: str, limit: int) -> None:
        super().__init__(session_id, limit)
        self.session_id = session_id
        self.limit = limit

    def __str__(self) -> str:
        return f"session {self.session_id!r} lists {self.limit} live tasks already"


class Draining(Unavailable):
    """The process is about to end and takes no more work."""

    code = "draining"

    def __str__(self) -> str:
        return "the server is draining"


class StoreUnavailable(Unavailable):
    """The store did not answer as it should; whether the write took place is unknown only where the port says so."""

    code = "store_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the store is unavailable: {self.reason}"
