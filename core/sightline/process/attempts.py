"""What becomes of one attempt at a process: decided before it begins, and after it has ended.

Before: a request to cancel that came in time is honoured without a run; after too many attempts the process has failed,
and says so, because one that takes its worker down each time would do so for ever.

After: an end that the process came to is its end. A worker that only ran into trouble, because the store or something
else it needs is away, or that has to go, leaves the process to the next. Then the disposition decides how:

| disposition | had the work begun | the lease |
|---|---|---|
| `rerunnable` | either way | is given back, uncharged: the next worker begins at once |
| `owner_bound` | no | the same |
| `owner_bound` | yes | is left to lapse: nobody may do it again, and that it lapsed is the evidence |
"""

from __future__ import annotations

from sightline.errors import SightlineError
from sightline.process.model import CancelledOutput, Disposition, FailureOutput, ProcessEvent, ProcessRecord

__all__ = ["GAVE_UP", "early_output", "failure_of", "gives_back", "is_trouble", "reason_of"]

GAVE_UP = "engine_gave_up"
_LONGEST_MESSAGE = 10_000
"""Characters of a failure's message: it is shown wherever the process is."""


def early_output(
    record: ProcessRecord, cancel: ProcessEvent | None, max_attempts: int
) -> CancelledOutput | FailureOutput | None:
    """What the process comes to without being run; none when it is to be run. `record` counts this attempt already."""
    if cancel is not None:
        return CancelledOutput(message=reason_of(cancel))
    if record.attempts > max_attempts:
        return FailureOutput(
            class_="infrastructure",
            code=GAVE_UP,
            message=f"{max_attempts} attempts began and none of them came to an end",
        )
    return None


def reason_of(cancel: ProcessEvent) -> str:
    return str(cancel.payload["reason"])


def is_trouble(error: BaseException) -> bool:
    """Whether an error says something of the machinery, not of the process: what it needs is away for now."""
    return isinstance(error, SightlineError) and error.retryable


def failure_of(error: BaseException) -> FailureOutput:
    """What a process came to that raised. Its own word for the trouble, a text `code`, is kept."""
    code = getattr(error, "code", None)
    text = str(error)[:_LONGEST_MESSAGE]
    return FailureOutput(
        code=code if isinstance(code, str) and code else "process_failed",
        message=f"{type(error).__name__}: {text}" if text else type(error).__name__,
    )


def gives_back(disposition: Disposition, begun: bool) -> bool:
    """Whether a worker that goes on no more frees the process for the next one."""
    return disposition == "rerunnable" or not begun
