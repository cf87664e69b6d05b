"""Errors of processes and of background tasks. See `sightline.errors`."""

from __future__ import annotations

from sightline.errors.kinds import Conflict, InvalidInput, NotFound, Unavailable

__all__ = [
    "HandleNotGranted",
    "HandleNotVisible",
    "InvalidPayload",
    "ProcessConflict",
    "ProcessLeaseLost",
    "ProcessNotFound",
    "ProcessNotYours",
    "ProcessTerminal",
    "ProcessValueNotFound",
    "TaskConflict",
    "TaskNotFound",
    "TaskNotVisible",
    "TasksUnavailable",
    "TooManyTasks",
]


class InvalidPayload(InvalidInput):
    """`pointer` (RFC 6901) leads to the value in the payload that is wrong; it is empty for the whole."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"payload{pointer}", detail)
        self.args = (pointer, detail)
        self.pointer = pointer


class ProcessValueNotFound(NotFound):
    code = "attachment_not_found"

    def __init__(self, process_id: str, attachment_id: str) -> None:
        super().__init__(process_id, attachment_id)
        self.process_id = process_id
        self.attachment_id = attachment_id

    def __str__(self) -> str:
        return f"process {self.process_id!r} has no attachment {self.attachment_id!r}"


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


class TooManyTasks(Unavailable):
    """`limit` is the largest number of live tasks a session may list."""

    code = "too_many_tasks"

    def __init__(self, session_id: str, limit: int) -> None:
        super().__init__(session_id, limit)
        self.session_id = session_id
        self.limit = limit

    def __str__(self) -> str:
        return f"session {self.session_id!r} lists {self.limit} live tasks already"
