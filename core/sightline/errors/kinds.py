"""What all errors of the kernel descend from, and those that any part of it may raise. See `sightline.errors`."""

from __future__ import annotations

__all__ = [
    "Conflict",
    "Draining",
    "InvalidInput",
    "NotFound",
    "SightlineError",
    "StoreUnavailable",
    "Unavailable",
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


class NotFound(SightlineError):
    """What was asked for does not exist."""

    code = "not_found"


class Conflict(SightlineError):
    """The request is fine, the state it meets is not."""

    code = "conflict"


class Unavailable(SightlineError):
    """Not now. `retry_after_ms` is a hint, not a promise."""

    code = "unavailable"
    retryable = True
    retry_after_ms = 1_000


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
