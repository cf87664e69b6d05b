"""Decisions about sessions: what counts as a status, how usage adds up, what a session is called.

A status is never stored. It follows, everywhere by this one function, from what is going on: somebody is asked, a turn
runs, work waits, or nothing does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from msgspec import UNSET

from sightline.session.model import (
    INITIAL_FRAME,
    AgentFrame,
    Attachment,
    Message,
    PersistedState,
    Status,
    Usage,
    UsageFigures,
)

__all__ = [
    "add_figures",
    "add_usage",
    "attachment_of",
    "frame_records",
    "in_frame",
    "media_type_of",
    "revision_of",
    "status_of",
    "title_from",
    "usage_since",
]

_TITLE_LENGTH = 80
_PICTURES = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
)


def status_of(*, asked: bool, live: bool, claimed: int, pending: int) -> Status:
    """`asked`: a request is open; `live`: a turn shows; `claimed`, `pending`: numbers of batches in that state."""
    if asked:
        return "waiting"
    if live or claimed:
        return "running"
    return "queued" if pending else "idle"


def revision_of(state: PersistedState) -> int:
    """What observers see as the session's revision: its store's count of commits, or, without a store, its turns."""
    return state.turn_index if state.head_revision is None else state.head_revision


def add_figures(left: UsageFigures, right: UsageFigures) -> UsageFigures:
    return UsageFigures(
        left.input_tokens + right.input_tokens,
        left.output_tokens + right.output_tokens,
        left.cached_input_tokens + right.cached_input_tokens,
        left.reasoning_tokens + right.reasoning_tokens,
        left.requests + right.requests,
    )


def add_usage(usage: Usage, delta: Usage) -> Usage:
    """`usage` plus `delta`, model by model; neither is changed."""
    by_model = dict(usage.by_model)
    for model, figures in delta.by_model.items():
        by_model[model] = add_figures(by_model.get(model, UsageFigures()), figures)
    return Usage(add_figures(usage.totals, delta.totals), by_model)


def usage_since(before: Usage, after: Usage) -> Usage:
    """What `add_usage` adds to `before` to make it `after`."""
    by_model = {
        model: _subtract_figures(figures, before.by_model.get(model, UsageFigures()))
        for model, figures in after.by_model.items()
        if figures != before.by_model.get(model)
    }
    return Usage(_subtract_figures(after.totals, before.totals), by_model)


def _subtract_figures(left: UsageFigures, right: UsageFigures) -> UsageFigures:
    return UsageFigures(
        left.input_tokens - right.input_tokens,
        left.output_tokens - right.output_tokens,
        left.cached_input_tokens - right.cached_input_tokens,
        left.reasoning_tokens - right.reasoning_tokens,
        left.requests - right.requests,
    )


def in_frame(messages: Sequence[Message], frame_id: str) -> tuple[Message, ...]:
    """Those of the messages that are the frame's. They are the newest ones of what went before them."""
    name = UNSET if frame_id == INITIAL_FRAME else frame_id
    return tuple(message for message in messages if message.agent_frame_id == name)


def frame_records(created_at_ms: int, begun: Sequence[tuple[str, str, int]]) -> tuple[AgentFrame, ...]:
    """The frames of a session that was created then, of those that were begun in it: id, reason, when; in order."""
    told = [(INITIAL_FRAME, INITIAL_FRAME, created_at_ms), *begun]
    return tuple(
        AgentFrame(
            frame_id=frame_id,
            previous_frame_id=told[index - 1][0] if index else None,
            reason=reason,
            status="active" if index == len(told) - 1 else "superseded",
            created_at_ms=at_ms,
        )
        for index, (frame_id, reason, at_ms) in enumerate(told)
    )


def title_from(text: str) -> str:
    """The first line of what a session began with, cut to a length that fits a list."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1].rstrip() + "…"


def media_type_of(data: bytes) -> str | None:
    """What kind of picture the bytes begin like, none for no picture that browsers and models agree on."""
    for media_type, pattern in _PICTURES:
        if pattern.match(data):
            return media_type
    return None


def attachment_of(data: bytes, media_type: str) -> Attachment:
    """How these bytes are called: by their content, so that the same picture is stored once in a session."""
    return Attachment(attachment_id=f"sha256:{hashlib.sha256(data).hexdigest()}", media_type=media_type, size=len(data))
