"""Errors of sessions, their queues, their turns and what they commit. See `sightline.errors`."""

from __future__ import annotations

from sightline.errors.kinds import Conflict, NotFound, SightlineError, Unavailable

__all__ = [
    "AlreadyAnswered",
    "AttachmentNotFound",
    "BatchNotCancellable",
    "BatchNotFound",
    "ClaimExpired",
    "CommandFailed",
    "HeadConflict",
    "IdempotencyKeyReused",
    "LeaseLost",
    "QueueFull",
    "RequestNotFound",
    "SessionDeleted",
    "SessionExists",
    "SessionNotFound",
    "StoreCommitFailed",
    "TurnCommitConflict",
]


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
    code = "attachment_not_found"

    def __init__(self, session_id: str, attachment_id: str) -> None:
        super().__init__(session_id, attachment_id)
        self.session_id = session_id
        self.attachment_id = attachment_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} has no attachment {self.attachment_id!r}"


class SessionDeleted(SightlineError):
    """The session was deleted; its id is fenced and never means another session."""

    code = "session_deleted"

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"session {self.session_id!r} was deleted"


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


class QueueFull(Unavailable):
    """`limit` is the largest number of open batches a session may hold."""

    code = "queue_full"

    def __init__(self, session_id: str, limit: int) -> None:
        super().__init__(session_id, limit)
        self.session_id = session_id
        self.limit = limit

    def __str__(self) -> str:
        return f"session {self.session_id!r} holds {self.limit} open batches already"
