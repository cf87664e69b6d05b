"""Errors of cursors, of frames from other programs, and of subscriptions. See `sightline.errors`."""

from __future__ import annotations

from sightline.errors.kinds import SightlineError

__all__ = [
    "CursorError",
    "InvalidFrame",
    "MalformedCursor",
    "SubscriberLagged",
    "SubscriptionClosed",
    "SubscriptionEnded",
    "WrongSessionCursor",
]


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
